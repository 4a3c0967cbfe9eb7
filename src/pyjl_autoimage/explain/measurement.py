"""What was measured of a start-up, as plain data: phases, packages, compilations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..base.data import typed

__all__ = ["KINDS", "OTHER", "Call", "Compiled", "Explanation", "Loaded", "Phase", "Timeline"]


SCHEMA = 1

KINDS = {
    "python": "Python itself",
    "program": "program, before Julia",
    "ours": "pyjl_autoimage",
    "juliacall": "juliacall",
    "libjulia": "libjulia",
    "image": "Julia and its image",
    "pythoncall": "PythonCall",
    "packages": "loading packages",
    "compilation": "compilation",
    "running": "running",
    "exit": "exit",
    "measuring": "this measurement",
}
"""What time is spent on, in the order in which it usually comes. ``compilation`` happens in all of them."""

OTHER = "(not by statement)"
"""Compilation that Julia's clock saw and its trace did not name."""


@dataclass(frozen=True)
class Phase:
    """A stretch of time in which one thing was done. Those of a timeline follow on each other without gaps."""

    kind: str
    """One of `KINDS`, but ``compilation``."""
    start: float
    """Seconds since the process was started; likewise below."""
    end: float
    compiled: float = 0.0
    """Seconds of it that Julia spent compiling."""


@dataclass(frozen=True)
class Loaded:
    """A package that was loaded from outside the image."""

    name: str
    start: float
    end: float
    compiled: float
    root: str
    """The package that was asked for (`using`), for which this one was loaded; its own name if it is that one."""


@dataclass(frozen=True)
class Compiled:
    """A method that was compiled."""

    statement: str
    package: str
    """Whose it is (see `pyjl_autoimage.explain.attribution.owner`)."""
    end: float
    seconds: float


@dataclass(frozen=True)
class Call:
    """A call from Python into Julia that lasted, or compiled something."""

    label: str
    start: float
    end: float
    compiled: float


@dataclass(frozen=True)
class Timeline:
    """One run of a program, from the start of its process to its end."""

    way: str
    """``plain`` (juliacall alone) or ``image`` (as the program starts with this package)."""
    total: float
    """Seconds."""
    ready: float
    """When ``import juliacall`` was done; 0 if the program never did that."""
    compiled: float
    """Seconds that Julia spent compiling: exact, by its own clock."""
    estimated: bool
    """Whether the seconds of single statements are estimates. (Julia times them from 1.12 on.)"""
    image: str | None = None
    layer: str | None = None
    asked_anew: bool = False
    """Whether what to start on was found out anew, because something had changed since it was remembered."""
    beyond_layer: int = 0
    """How many of its statements the layer was given, and could not hold."""
    status: int = 0
    """How the program ended."""
    output: str = ""
    """The last lines that it printed, where it did not end well."""
    phases: tuple[Phase, ...] = ()
    packages: tuple[Loaded, ...] = ()
    statements: tuple[Compiled, ...] = ()
    calls: tuple[Call, ...] = ()

    def by_kind(self) -> dict[str, float]:
        """Seconds by kind, compilation taken out of all others; they sum to the total."""
        seconds = dict.fromkeys(KINDS, 0.0)
        for phase in self.phases:
            compiled = min(phase.compiled, phase.end - phase.start)
            seconds[phase.kind] += phase.end - phase.start - compiled
            seconds["compilation"] += compiled
        return seconds

    def by_package(self) -> dict[str, tuple[int, float]]:
        """Number of methods compiled and seconds, by package, the costliest first."""
        found: dict[str, tuple[int, float]] = {}
        for compiled in self.statements:
            count, seconds = found.get(compiled.package, (0, 0.0))
            found[compiled.package] = (count + 1, seconds + compiled.seconds)
        rest = self.compiled - sum(seconds for _, seconds in found.values())
        if rest > 0.001:
            found[OTHER] = (0, rest)
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))

    def by_root(self) -> dict[str, list[Loaded]]:
        """The loaded packages by the one that was asked for, in the order of loading."""
        found: dict[str, list[Loaded]] = {}
        for package in self.packages:
            found.setdefault(package.root, []).append(package)
        return found


@dataclass(frozen=True)
class Explanation:
    """What was measured."""

    program: str
    """For people."""
    julia_version: str
    measured_at: float
    """Seconds since the epoch."""
    timelines: tuple[Timeline, ...] = ()

    def of(self, way: str) -> Timeline | None:
        """The timeline of one way to start."""
        return next((timeline for timeline in self.timelines if timeline.way == way), None)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Explanation | None:
        """Read what `to_json` gave; None for anything else."""
        if not value or value.get("schema") != SCHEMA:
            return None
        try:
            said = typed(cls, {name: of for name, of in value.items() if name != "schema"})
            known = all(phase.kind in KINDS for timeline in said.timelines for phase in timeline.phases)
            return said if known else None
        except ValueError:
            return None
