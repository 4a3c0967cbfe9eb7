"""What this machine can do for a build: link, host Python in Julia, and compile with so many threads.

It is known before minutes pass.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

import psutil

from ..base.words import bytes_text
from ..errors import BuildError, StoreError
from ..julia.facts import JuliaFacts
from ..julia.manifest import Package
from ..julia.sources import source_directory
from ..store.places import Store
from . import linking
from .state import State

__all__ = [
    "affordable_threads",
    "available_gigabytes",
    "can_host_python",
    "check_compiler",
    "check_disk",
    "find_libpython",
]


# Measured with a 300 MB image: 5.5 GB with one compiling thread, 7.7 GB with two.
GIGABYTES_FIRST_THREAD = 5.5


GIGABYTES_PER_THREAD = 2.2


LEAST_IMAGE_BYTES = 150_000_000

LAYER_BYTES = 50_000_000

# The object file, the library made of it, and caches beside them; the object file goes when it is linked.
PER_IMAGE_BYTE = 2.3


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
    """Memory that can be had without swapping, within every limit of this process; None if unknown."""
    limits = list(_left_in_control_groups())
    try:
        limits.append(float(psutil.virtual_memory().available))
    except (OSError, KeyError):
        pass  # a /proc that hides it
    if sys.platform != "win32":
        import resource

        limits += [
            soft for soft, _ in map(resource.getrlimit, (resource.RLIMIT_AS, resource.RLIMIT_DATA)) if soft >= 0
        ]
    return min(limits) / 2**30 if limits else None


_GROUPS = "/sys/fs/cgroup"
# Limit, use, and which part of the use the kernel gives back when it is asked for: version 2 and 1.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _left_in_control_groups() -> Iterator[float]:
    """What each group that this process is in may still have, from its own up to the outermost (cgroups(7))."""
    for line in _read("/proc/self/cgroup").splitlines() or ["0::/"]:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = os.path.join(_GROUPS, "memory") if controllers else _GROUPS
        limit, use, given_back = _FILES[bool(controllers)]
        place = os.path.normpath(f"{top}/{path}")  # in a container it may be that of another mount, so not there
        while place.startswith(top):
            figures = dict(line.split() for line in _read(os.path.join(place, "memory.stat")).splitlines())
            try:
                most, used = (int(_read(os.path.join(place, name))) for name in (limit, use))
                yield float(most - used + int(figures.get(given_back, 0)))
            except ValueError:
                pass  # no such file, or "max"
            place = os.path.dirname(place)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def check_disk(store: Store, builds: Sequence[State], *, quick: bool = False) -> None:
    """Know before anything takes time whether there is room for what is built, and whether it can be loaded.

    Args:
        store: where it will be.
        builds: earlier ones of the environment.
        quick: whether layers are all that is built.

    Raises:
        StoreError: there is not, or it cannot.
    """
    unfit = next((text for text in (os.pathsep, "\n") if text in store.home), None)
    if unfit:  # Julia's lists of paths have no way to write it
        raise StoreError(
            f"Julia can load nothing from a path with {unfit!r} in it, and the store is {store.home!r}. "
            "Put it elsewhere with PYJL_AUTOIMAGE_HOME"
        )
    flags = os.statvfs(store.home).f_flag if hasattr(os, "statvfs") else 0
    if flags & getattr(os, "ST_NOEXEC", 0):
        raise StoreError(
            f"the store {store.home} is on a file system that is mounted noexec: no image can be loaded from there. "
            "Put it elsewhere with PYJL_AUTOIMAGE_HOME"
        )
    last = next((build.bytes for build in reversed(builds) if build.bytes), LEAST_IMAGE_BYTES)
    needed = LAYER_BYTES if quick else PER_IMAGE_BYTE * last
    free = shutil.disk_usage(store.home).free
    if free < needed:
        raise StoreError(
            f"No space left for {'a layer' if quick else 'an image'}: {bytes_text(free)} are free where the store "
            f"{store.home} is, and a build needs {bytes_text(needed)}. Free some, or put the store elsewhere with "
            "PYJL_AUTOIMAGE_HOME"
        )
