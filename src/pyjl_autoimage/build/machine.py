"""What this machine can do for a build: link, host Python in Julia, and compile with so many threads.

It is known before minutes pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from ..errors import BuildError
from ..julia.facts import JuliaFacts
from ..julia.manifest import Package
from ..julia.sources import source_directory
from . import linking

__all__ = ["affordable_threads", "available_gigabytes", "can_host_python", "check_compiler", "find_libpython"]


# Measured with a 300 MB image: 5.5 GB with one compiling thread, 7.7 GB with two.
GIGABYTES_FIRST_THREAD = 5.5


GIGABYTES_PER_THREAD = 2.2


def check_compiler(facts: JuliaFacts | None = None) -> None:
    """Know before anything takes time whether an image can be linked.

    Args:
        facts: of the Julia that builds; None if there is none.

    Raises:
        BuildError: there is neither a linker in Julia nor a C compiler.
    """
    if os.environ.get("JULIA_CC") or sys.platform == "win32":
        return
    if not (facts and linking.lld(facts.bindir)) and not linking.compiler():
        raise BuildError(
            "no C compiler: an image is linked with the lld that comes with Julia (on Linux), or with gcc or clang, "
            "and none is there. Install gcc or clang (Debian: gcc, macOS: xcode-select --install), or name a C "
            "compiler with JULIA_CC"
        )


def can_host_python(pythoncall: Package, depots: Sequence[str]) -> bool:
    """Whether a Julia process can host this Python, known before minutes pass.

    With PythonCall in an image every Julia that starts on it hosts a Python, the one that builds it included.
    A Python without a shared library of itself cannot be hosted.
    """
    return find_libpython(pythoncall, depots) != ""


def find_libpython(pythoncall: Package, depots: Sequence[str]) -> str | None:
    """This Python's shared library, by PythonCall's own search for it; empty if there is none.

    None if that search is not where it should be (another version of PythonCall): the build will show.
    """
    search = os.path.join(source_directory(pythoncall, depots) or "", "src", "C", "find_libpython.py")
    if not os.path.isfile(search):
        return None
    command = [sys.executable, search, "--list-all"]
    found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return next((line.strip() for line in found.stdout.splitlines() if line.strip()), "")


def affordable_threads() -> int:
    """How many threads may compile the image: as many as there are cores, and memory for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    available = available_gigabytes()
    if available is None:
        return min(cores, 2)
    return max(1, min(cores, 1 + int((available - GIGABYTES_FIRST_THREAD) / GIGABYTES_PER_THREAD)))


def available_gigabytes() -> float | None:
    """Memory that can be had without swapping, within this control group's limit; None if unknown."""
    limits: list[float] = []
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            limits += [int(line.split()[1]) / 2**20 for line in file if line.startswith("MemAvailable:")]
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = file.read().strip()
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
            used = int(file.read())
        if limit != "max":
            limits.append((int(limit) - used) / 2**30)
    except (OSError, ValueError, IndexError):
        pass
    return min(limits) if limits else None
