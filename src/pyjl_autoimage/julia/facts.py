"""What a Julia says of itself, and the CPU that it runs on."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..base.call import JULIA_SOURCES
from ..base.data import typed
from ..errors import JuliaNotFoundError
from .environment import Environment
from .items import items_of
from .manifest import PROJECT_NAMES


@dataclass(frozen=True)
class JuliaFacts:
    """What a Julia says of itself. Paths are absolute."""

    version: str
    commit: str
    word_size: int
    base_build_id: str
    """Identifies the default system image: the build id of its module Base."""
    cpu_name: str
    bindir: str
    base_sysimage: str
    libjulia: str
    depots: tuple[str, ...]
    load_path: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    """The internals that we use and it has not, each with what becomes of that (`internals.jl`)."""

    @classmethod
    def from_json(cls, value: Any) -> JuliaFacts:
        """Read what `to_json` gave.

        Raises:
            ValueError: it is something else.
        """
        found: JuliaFacts = typed(cls, value)
        return found

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @property
    def minor(self) -> str:
        """Major and minor version, as Julia names directories by them: ``v1.10``."""
        return f"v{'.'.join(self.version.split('.')[:2])}"

    @property
    def stdlib(self) -> str:
        """Where the sources of the standard libraries are (`Sys.STDLIB` in Julia's ``base/sysinfo.jl``)."""
        return os.path.normpath(os.path.join(self.bindir, "..", "share", "julia", "stdlib", self.minor))


def named_environments(facts: JuliaFacts) -> list[str]:
    """Where a project of a name that Julia looks for is, or may appear, in any of its depots.

    ``@v1.10`` is one anyway; others are named by JULIA_LOAD_PATH (`load_path_expand` in ``base/initdefs.jl``).
    """
    numbers = facts.version.split("-")[0].split(".")
    names = [f"v{'.'.join(numbers[:length])}" for length in (2, 3, 1)]
    for entry in os.environ.get("JULIA_LOAD_PATH", "").split(os.pathsep):
        if entry[:1] == "@" and entry not in ("@", "@.", "@stdlib"):
            for number in numbers:
                entry = entry.replace("#", number, 1)
            names.append(entry[1:])
    return [
        os.path.join(depot, "environments", name, file)
        for depot in facts.depots
        for name in dict.fromkeys(names)
        for file in PROJECT_NAMES
    ]


def ask(command: Sequence[str]) -> bytes:
    """What a process prints."""
    return subprocess.run(command, capture_output=True, check=True, timeout=120).stdout


def probe(environment: Environment, ask: Callable[[Sequence[str]], bytes] = ask) -> JuliaFacts:
    """Ask a Julia about itself; starts one Julia process (a fifth of a second).

    Args:
        environment: whose Julia.
        ask: runs a process, and gives what that prints. (A build has a way of its own: what it runs ends with it.)

    Raises:
        JuliaNotFoundError: it cannot be started, or is no Julia.
    """
    command = [
        environment.julia,
        f"--project={environment.project}",
        "--startup-file=no",
        "-O0",
        "--compile=min",
        os.path.join(JULIA_SOURCES, "probe.jl"),
    ]
    try:
        items = items_of(ask(command))
        values = {key: value for key, value, *_ in items}
        return JuliaFacts(
            version=values["version"],
            commit=values["commit"],
            word_size=int(values["word_size"]),
            base_build_id=values["base_build_id"],
            cpu_name=values["cpu_name"],
            bindir=values["bindir"],
            base_sysimage=values["base_sysimage"],
            libjulia=values["libjulia"],
            depots=tuple(value for key, value, *_ in items if key == "depot"),
            load_path=tuple(value for key, value, *_ in items if key == "load_path"),
            lacks=tuple(value for key, value, *_ in items if key == "lacks"),
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-500:]
        raise JuliaNotFoundError(f"{environment.julia} ended with status {error.returncode}: {said}") from None
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        raise JuliaNotFoundError(f"{environment.julia} is not a usable Julia: {error}") from None


def cpu_identity() -> str:
    """Identifies the CPU by what code for it depends on: its model and its instruction sets.

    An image for ``native`` needs the CPU that it was built on: on one without its instructions Julia
    aborts the process. Two machines with the same answer can share it.
    """
    return hashlib.sha256("\n".join(_cpu_lines()).encode()).hexdigest()[:16]


_CPU_KEYS = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "flags",
    "CPU implementer",
    "CPU part",
    "Features",
)


def _cpu_lines() -> list[str]:
    lines = [sys.platform, os.uname().machine if hasattr(os, "uname") else ""]
    try:
        with open("/proc/cpuinfo", "rb") as file:
            head = file.read(16384)  # the first processor; the kernel writes no more than is read
    except OSError:
        return lines + _cpu_lines_elsewhere()
    for line in head.decode("ascii", "replace").splitlines():
        key, _, value = line.partition(":")
        if not line.strip():
            break
        if key.strip() in _CPU_KEYS:
            lines.append(f"{key.strip()}={' '.join(sorted(value.split()))}")
    return lines


def _cpu_lines_elsewhere() -> list[str]:
    if sys.platform == "darwin":
        result = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            check=False,
        )
        return [result.stdout.strip()]
    return [os.environ.get("PROCESSOR_IDENTIFIER", "")]
