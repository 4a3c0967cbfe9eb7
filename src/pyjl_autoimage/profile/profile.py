"""A profile: the union of an environment's recordings. What every build starts from.

One file, replaced whole, says for each statement in how many runs, and by which programs, it was compiled and
when last; for each program what it loads; for the latest runs what they cost; and for each recording how many
of its bytes have been counted. A recording is deleted only when its process is
dead and a profile on disk has counted it to its last newline, so every complete line counts exactly once,
whatever is killed when.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from itertools import accumulate
from typing import Any

from ..base.call import RECORDER
from ..base.data import typed

__all__ = ["Code", "LoadedPackage", "Origin", "Profile", "Program", "Run", "Statement", "is_of_main"]

SCHEMA = 7
FILES_KEPT = 20
RUNS_KEPT = 60
"""Enough to tell what the last runs cost, with and without an image; the profile does not grow with them."""

COSTS_KEPT = 5

BARE_START = "bare-start"
"""The token of the workload that only starts Julia. It is no program, neither in statistics nor for layers."""

OURS = "-m pyjl_autoimage"
"""The program of workloads that are nobody else's: Julia code, a bare start."""

INFERRED = "#= inferred =# "
"""What the recorder writes before a statement of what a run inferred but did not compile (`inferred.jl`)."""

LONGEST_STATEMENT = 20_000
"""Characters. A longer one spells out some data (the columns of a wide table), and helps with no other."""

DEEPEST_STATEMENT = 50
"""Brackets in brackets. Julia's parser would spend minutes on some thousands (``bake.jl`` is as strict)."""


class Origin(IntEnum):
    """Where a statement is from; the first counts."""

    RECORDED = 0
    """Runs of this machine compiled it."""
    IMPORTED = 1
    """The user gave a file that has it."""
    LIBRARY = 2
    """An installed package did."""


@dataclass
class Statement:
    """What is known of one precompile statement."""

    runs: int = 0
    """In how many recorded processes it was compiled."""
    last: float = 0.0
    """When it was last recorded, in seconds since the epoch."""
    milliseconds: float = 0.0
    """The longest that its compilation took, where Julia timed it (1.12 and later); else 0."""
    programs: set[str] = field(default_factory=set)
    """The programs that compiled it."""
    given: bool = False
    """Whether a build has tried to put it into an image."""
    inferred: bool = False
    """Whether runs only inferred it: it was inlined, or is reached from what no image can hold."""
    origin: Origin = Origin.RECORDED


@dataclass
class LoadedPackage:
    """A package that recorded processes loaded from outside their image."""

    name: str
    runs: int = 0
    last: float = 0.0


@dataclass
class Program:
    """One Python program of the environment (see `pyjl_autoimage.base.program.program_name`)."""

    runs: int = 0
    last: float = 0.0
    packages: dict[str, float] = field(default_factory=dict)
    """uuid -> when a run last loaded it from outside its image."""
    code: list[str] = field(default_factory=list)
    """The modules of its own Julia code, by name, in the order in which they were first asked for."""
    included: list[str] = field(default_factory=list)
    """Julia files of its latest run that became part of no package, and so are compiled in each."""
    plain: float = 0.0
    """When it last ran with neither image nor layer, and so recorded all that it compiled."""
    costs: list[float] = field(default_factory=list)
    """Seconds that its latest such runs spent on their start and on compilation."""


@dataclass
class Code:
    """Julia code of a program's own: a file, or a text (see `pyjl_autoimage.startup.code`)."""

    path: str
    """The Julia file, or the Python file that holds the text."""
    text: str | None = None
    """The text, when it is not a file."""
    using: list[str] = field(default_factory=list)
    """Names of the packages that it was defined with."""
    files: list[str] = field(default_factory=list)
    """Every file that the evaluated code included."""
    deps: dict[str, str] = field(default_factory=dict)
    """name -> uuid of the packages that it loads."""
    last: float = 0.0
    syntax: str = ""
    """The version of Julia's syntax that it was parsed at (1.14 and later); empty: that of Julia 1.13 and before."""


@dataclass
class Run:
    """One recorded process."""

    program: str
    started: float
    image: str | None = None
    layer: str | None = None
    ready: float = 0.0
    """Seconds that its start took, from our first line to a running Julia; 0 if it never came up."""
    statements: int = 0
    """How many methods it compiled."""
    compiled: float = 0.0
    """Seconds that it spent compiling after its start; 0 if it did not live to say so."""
    ended: bool = False
    """Whether it lived to say so."""
    workload: bool = False
    """Whether a build ran it: nobody waited for it."""


@dataclass
class Profile:
    """Statements by their text, packages by their uuid, programs and code by name, runs by recording."""

    statements: dict[str, Statement] = field(default_factory=dict)
    packages: dict[str, LoadedPackage] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    code: dict[str, Code] = field(default_factory=dict)
    recent: dict[str, Run] = field(default_factory=dict)
    consumed: dict[str, list[int]] = field(default_factory=dict)
    """recording -> bytes counted of its statements, bytes counted of its log."""
    flags: dict[str, str] = field(default_factory=dict)
    """The code generation flags of the latest recording."""
    flags_from: float = 0.0
    runs: int = 0
    """How many recordings have gone into it."""
    refused: set[str] = field(default_factory=set)
    """Statements that did not resolve when the last image was built."""
    refused_by: str = ""
    """Identifies what that image consisted of (see `pyjl_autoimage.build.recipe.identity`)."""
    saved: float = 0.0
    """Seconds that runs on images and layers have saved, each against the usual plain run of its program."""
    saved_runs: int = 0
    """How many runs that is the sum of."""

    def bakeable(self, packages: str | None = None) -> list[str]:
        """The statements that can be compiled ahead of time: those that name nothing of a program's own Main.

        Args:
            packages: identifies what an image consists of; what did not resolve in such a one is left out.
        """
        refused = self.refused if packages is not None and packages == self.refused_by else frozenset()
        return [
            text
            for text, statement in self.statements.items()
            if text not in refused and not is_of_main(text) and not _of_an_installation(text, statement)
        ]

    def untried(self) -> list[str]:
        """The statements that can be compiled ahead of time and that no image was built with yet."""
        return [text for text in self.bakeable() if not self.statements[text].given]

    def to_json(self) -> dict[str, Any]:
        """As plain data. Programs are numbered, because every statement names some."""
        numbers = {program: number for number, program in enumerate(self.programs)}
        return {
            "schema": SCHEMA,
            "statements": {
                text: [
                    s.runs,
                    round(s.last),
                    s.milliseconds,
                    sorted(numbers[p] for p in s.programs if p in numbers),
                    int(s.given),
                    int(s.inferred),
                    int(s.origin),
                ]
                for text, s in self.statements.items()
            },
            "packages": {uuid: [p.name, p.runs, round(p.last)] for uuid, p in self.packages.items()},
            "programs": [[name, asdict(program)] for name, program in self.programs.items()],
            "code": {name: asdict(code) for name, code in self.code.items()},
            "recent": {name: asdict(run) for name, run in self.recent.items()},
            "consumed": self.consumed,
            "flags": self.flags,
            "flags_from": self.flags_from,
            "runs": self.runs,
            "refused": sorted(self.refused),
            "refused_by": self.refused_by,
            "saved": round(self.saved, 3),
            "saved_runs": self.saved_runs,
        }

    @classmethod
    def from_json(cls, value: Any) -> Profile:
        """Read what `to_json` gave.

        Raises:
            ValueError: it is something else.
        """
        try:
            if value["schema"] != SCHEMA:
                raise ValueError(f"a profile of schema {value['schema']!r:.20}, not {SCHEMA}")
            names = [str(name) for name, _ in value["programs"]]
            return cls(
                {
                    text: Statement(
                        *(int(runs), float(last), float(ms), {names[n] for n in programs}),
                        *(bool(given), bool(inferred), Origin(origin)),
                    )
                    for text, (runs, last, ms, programs, given, inferred, origin) in value["statements"].items()
                },
                {
                    uuid: LoadedPackage(str(name), int(runs), float(last))
                    for uuid, (name, runs, last) in value["packages"].items()
                },
                {str(name): typed(Program, program) for name, program in value["programs"]},
                typed(dict[str, Code], value["code"]),
                typed(dict[str, Run], value["recent"]),
                {name: [int(a), int(b)] for name, (a, b) in value["consumed"].items()},
                typed(dict[str, str], value["flags"]),
                float(value["flags_from"]),
                int(value["runs"]),
                {str(text) for text in value["refused"]},
                str(value["refused_by"]),
                float(value["saved"]),
                int(value["saved_runs"]),
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"no profile: {type(error).__name__}: {error}") from None


_OF_MAIN = re.compile(r"(?<![\w.])Main\b")


def _of_an_installation(text: str, statement: Statement) -> bool:
    """Whether it was compiled because one run installed packages. (There are programs that ask Pkg at each start.)"""
    return statement.runs < 2 and statement.origin is Origin.RECORDED and bool(_OF_PKG.search(text))


_OF_PKG = re.compile(r"\b(Pkg|LibGit2|Downloads|LibCURL|Tar|p7zip_jll)\.")


def is_of_main(statement: str) -> bool:
    """Whether a statement names something of a program's own Main, which no image can hold."""
    return _OF_MAIN.search(statement) is not None


_OF_OURS = re.compile(rf"\b(?:{RECORDER}|AutoimageCode|AutoimageStatements_)")
_TIMING = re.compile(r"^#=\s*([0-9.]+)\s*ms\s*=#\s*")


_LINE = re.compile(
    r"package (?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) (?P<name>\S+)"
    r"|ready (?P<ready>[0-9.]+)|compiled (?P<compiled>[0-9.]+)|code (?P<code>\{.*\})|included (?P<included>.+)"
)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def _float(text: str) -> float:
    """A time in a recording; 0 for what is no number, or no time that anything takes."""
    try:
        return float(text) if float(text) < 1e9 else 0.0
    except ValueError:
        return 0.0


def _is_deep(text: str) -> bool:
    if text.count("{") + text.count("(") <= DEEPEST_STATEMENT:
        return False
    steps = (1 if bracket in "{(" else -1 for bracket in re.findall(r"[(){}]", text))
    return max(accumulate(steps)) > DEEPEST_STATEMENT
