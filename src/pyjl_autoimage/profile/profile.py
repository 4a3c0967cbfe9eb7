"""A profile: the union of an environment's recordings. What every build starts from.

One file, replaced whole, says for each statement in how many runs, and by which programs, it was compiled and
when last; for each program what it loads; for the latest runs what they cost; and for each recording how many
of its bytes have been counted. A recording is deleted only when its process is
dead and a profile on disk has counted it to its last newline, so every complete line counts exactly once,
whatever is killed when.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from ..base.call import RECORDER
from ..base.files import read_json, write_json
from ..base.layout import belongs_to_us
from ..base.liveness import is_dead
from ..base.locks import lock
from ..errors import StoreError
from ..store.places import Store
from .ageing import compact, is_of_main

__all__ = [
    "Code",
    "LoadedPackage",
    "Profile",
    "Program",
    "Run",
    "Statement",
    "load",
    "merge",
    "parse_statement",
    "peek",
    "split_timing",
]

SCHEMA = 5
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
        return [text for text in self.statements if text not in refused and not is_of_main(text)]

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
    def from_json(cls, value: Mapping[str, Any] | None) -> Profile:
        """Read what `to_json` gave; anything else is an empty profile."""
        if not value or value.get("schema") != SCHEMA:
            return cls()
        try:
            names = [str(name) for name, _ in value["programs"]]
            return cls(
                {
                    str(text): Statement(
                        int(runs), float(last), float(ms), {names[n] for n in programs}, bool(given), bool(inferred)
                    )
                    for text, (runs, last, ms, programs, given, inferred) in value["statements"].items()
                },
                {
                    str(uuid): LoadedPackage(str(name), int(runs), float(last))
                    for uuid, (name, runs, last) in value["packages"].items()
                },
                {str(name): Program(**program) for name, program in value["programs"]},
                {str(name): Code(**code) for name, code in value["code"].items()},
                {str(name): Run(**run) for name, run in value["recent"].items()},
                {str(name): [int(a), int(b)] for name, (a, b) in value["consumed"].items()},
                {str(name): str(flag) for name, flag in value["flags"].items()},
                float(value["flags_from"]),
                int(value["runs"]),
                {str(text) for text in value["refused"]},
                str(value["refused_by"]),
                float(value.get("saved", 0.0)),
                int(value.get("saved_runs", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            return cls()


_OF_OURS = re.compile(rf"\b(?:{RECORDER}|AutoimageCode|AutoimageStatements_)")
_TIMING = re.compile(r"^#=\s*([0-9.]+)\s*ms\s*=#\s*")


def split_timing(line: str) -> tuple[str, float]:
    """A line of Julia's trace without what 1.12 adds, the time before it and ``# recompile`` behind; milliseconds."""
    milliseconds = 0.0
    timing = _TIMING.match(line)
    if timing:
        try:
            milliseconds = float(timing.group(1))
        except ValueError:
            return line, 0.0
        line = line[timing.end() :]
    return line.strip().removesuffix("# recompile").rstrip(), milliseconds


def parse_statement(line: str) -> tuple[str, float] | None:
    """The statement in a line of Julia's trace and its milliseconds (0 if not timed); None for anything else."""
    line, milliseconds = split_timing(line)
    if not (line.startswith("precompile(Tuple{") and line.endswith("})")) or "\0" in line:
        return None
    if len(line) > LONGEST_STATEMENT or _OF_OURS.search(line):
        return None
    return line, milliseconds


def load(store: Store, environment_id: str) -> Profile:
    """The profile as it was last written; empty if there is none."""
    return Profile.from_json(read_json(store.profile(environment_id)))


@contextmanager
def locked(store: Store, environment_id: str, timeout: float = 60.0) -> Iterator[None]:
    """Hold the lock that merging, importing and compacting share.

    Raises:
        StoreError: the store cannot be written, or somebody holds the lock for longer than `timeout` seconds.
    """
    directory = store.ensure(store.environment(environment_id))
    try:
        with lock(os.path.join(directory, "profile.lock"), timeout):
            yield
    except TimeoutError:
        raise StoreError(f"another process has been merging recordings in {directory} for {timeout:.0f} s") from None


def merge(store: Store, environment_id: str) -> Profile:
    """Count what is new in the recordings, write the profile, remove the recordings that are used up.

    Raises:
        StoreError: the store cannot be written; then nothing was removed.
    """
    with locked(store, environment_id):
        profile = load(store, environment_id)
        directory = store.recordings(environment_id)
        names = _recordings(directory)
        # Who is dead now writes nothing any more; who dies while we read may have written since.
        dead = [name for name in names if is_dead(os.path.join(directory, f"{name}.log"))]
        for name in names:
            _consume(profile, directory, name)
        for name in set(profile.consumed).difference(names):
            del profile.consumed[name]  # removed by an earlier merge that got no further
        ended = sorted((run.started, name) for name, run in profile.recent.items() if name not in profile.consumed)
        for _, name in ended[:-RUNS_KEPT]:
            del profile.recent[name]
        compact(profile, time.time())
        _write(store, environment_id, profile)
        for name in dead:
            _remove(directory, name)
        return profile


def add(store: Store, environment_id: str, other: Profile) -> Profile:
    """Add the statements, packages and programs of a profile that was made elsewhere.

    Adding the same one twice is adding it once.

    Returns:
        The whole profile.

    Raises:
        StoreError: the store cannot be written.
    """
    now = float(round(time.time()))
    with locked(store, environment_id):
        profile = load(store, environment_id)
        for text, statement in other.statements.items():
            kept = profile.statements.setdefault(text, Statement(inferred=statement.inferred))
            kept.inferred = kept.inferred and statement.inferred
            kept.runs = max(kept.runs, statement.runs)
            kept.last = now
            kept.milliseconds = max(kept.milliseconds, statement.milliseconds)
            kept.programs |= statement.programs
        for uuid, package in other.packages.items():
            of_uuid = profile.packages.setdefault(uuid, LoadedPackage(package.name))
            of_uuid.runs, of_uuid.last = max(of_uuid.runs, package.runs), now
        for name, program in other.programs.items():
            of_name = profile.programs.setdefault(name, Program())
            of_name.last = now
            of_name.packages.update((uuid, now) for uuid in program.packages)
        _write(store, environment_id, profile)
        return profile


def note_image(
    store: Store, environment_id: str, given: Iterable[str], refused: Iterable[str], packages: str
) -> None:
    """Note what an image was built of, and forget what could not be resolved and no run needs any more.

    Args:
        store: where.
        environment_id: whose profile.
        given: the statements that the build was given. Whoever still compiles one is not helped by another image.
        refused: those that did not resolve. They are left out of images until the packages change.
        packages: identifies what the image consists of.

    Raises:
        StoreError: the store cannot be written.
    """
    with locked(store, environment_id):
        profile = load(store, environment_id)
        for text in given:
            if text in profile.statements:
                profile.statements[text].given = True
        if packages != profile.refused_by:
            profile.refused.clear()
        profile.refused.update(refused)
        profile.refused_by = packages
        compact(profile, time.time())
        _write(store, environment_id, profile)


def _write(store: Store, environment_id: str, profile: Profile) -> None:
    try:
        write_json(store.profile(environment_id), profile.to_json(), durable=True)
    except OSError as error:
        raise StoreError(f"the profile cannot be written: {error.strerror or error}") from error


def peek(store: Store, environment_id: str) -> Profile:
    """The profile as a merge would make it now, without writing anything."""
    profile = load(store, environment_id)
    directory = store.recordings(environment_id)
    for name in _recordings(directory):
        _consume(profile, directory, name)
    return profile


def of_workload(store: Store, environment_id: str, token: str) -> Profile:
    """What the processes of one workload have recorded so far, as a profile of its own. Writes nothing."""
    own = Profile()
    directory = store.recordings(environment_id)
    for name in _recordings(directory):
        try:
            with open(os.path.join(directory, f"{name}.log"), encoding="utf-8", errors="replace") as file:
                header = _object(file.readline())
        except OSError:
            continue
        if header.get("workload") == token:
            _consume(own, directory, name)
    return own


def _recordings(directory: str) -> list[str]:
    """Names of recordings. Not of those that somebody else has put there: builds run what they say."""
    try:
        with os.scandir(directory) as entries:
            ours = [e for e in entries if e.name.endswith((".jl", ".log"))]
            theirs = {os.path.splitext(e.name)[0] for e in ours if not belongs_to_us(e.stat(follow_symlinks=False))}
    except OSError:
        return []
    return sorted({os.path.splitext(e.name)[0] for e in ours} - theirs)


def _remove(directory: str, name: str) -> None:
    for suffix in (".jl", ".log"):
        try:
            os.unlink(os.path.join(directory, name + suffix))
        except OSError:
            pass


def _new_lines(path: str, offset: int) -> tuple[list[str], int]:
    """The complete lines after `offset`, and the offset behind them. A torn last line waits for its rest."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read()
    except OSError:
        return [], offset
    end = content.rfind(b"\n") + 1
    return content[:end].decode("utf-8", "replace").splitlines(), offset + end


def _consume(profile: Profile, directory: str, name: str) -> None:
    statements_end, log_end = profile.consumed.get(name, [0, 0])
    unseen = not (statements_end or log_end)  # it may have been there, and empty
    path = os.path.join(directory, name)
    log, log_end = _new_lines(f"{path}.log", log_end)
    lines, statements_end = _new_lines(f"{path}.jl", statements_end)
    now = float(round(time.time()))
    if log and log[0].startswith("{") and name not in profile.recent:
        profile.recent[name] = _begin(profile, log.pop(0), now)
    run = profile.recent.get(name) or Run("", now)
    for line in log:
        _note(profile, run, line, now)
    found = 0
    for line in lines:
        inferred = line.startswith(INFERRED)
        parsed = parse_statement(line.removeprefix(INFERRED))
        if parsed is None or (inferred and is_of_main(parsed[0])):
            continue
        text, milliseconds = parsed
        statement = profile.statements.setdefault(text, Statement(inferred=inferred))
        statement.inferred = statement.inferred and inferred
        statement.runs += 1
        statement.last = now
        statement.milliseconds = max(statement.milliseconds, milliseconds)
        if run.program in profile.programs:
            statement.programs.add(run.program)
        found += not inferred
    run.statements += found
    if unseen and (statements_end or log_end):
        profile.runs += 1
    profile.consumed[name] = [statements_end, log_end]


def _begin(profile: Profile, line: str, now: float) -> Run:
    """Read the first line of a recording: which program, started when and on what."""
    header = _object(line)
    started = _number(header.get("started"), now)
    flags = header.get("flags")
    if isinstance(flags, dict) and started >= profile.flags_from:
        profile.flags = {str(key): str(value) for key, value in flags.items()}
        profile.flags_from = started
    run = Run(str(header.get("program", "")), started, _text(header.get("image")), _text(header.get("layer")))
    run.workload = bool(header.get("workload"))
    if header.get("workload") == BARE_START:
        run.program = OURS
        return run
    program = profile.programs.setdefault(run.program, Program())
    program.runs += 1
    program.last = max(program.last, started)
    if run.image is None and run.layer is None:
        program.plain = max(program.plain, started)
    return run


_LINE = re.compile(
    r"package (?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) (?P<name>\S+)"
    r"|ready (?P<ready>[0-9.]+)|compiled (?P<compiled>[0-9.]+)|code (?P<code>\{.*\})"
)


def _note(profile: Profile, run: Run, line: str, now: float) -> None:
    """Read a further line of a recording's log."""
    match = _LINE.fullmatch(line)
    if match is None:
        return
    if match["uuid"] and not _OF_OURS.match(match["name"]):
        package = profile.packages.setdefault(match["uuid"], LoadedPackage(match["name"]))
        package.runs += 1
        package.last = now
        if run.program in profile.programs:
            profile.programs[run.program].packages[match["uuid"]] = now
    elif match["ready"]:
        run.ready = _float(match["ready"])
    elif match["compiled"]:
        run.compiled, run.ended = _float(match["compiled"]), True
        _reckon(profile, run)
    elif match["code"]:
        _note_code(profile, run, _object(match["code"]), now)


def _reckon(profile: Profile, run: Run) -> None:
    """Count what a run that ends has cost, or saved. What it says last is read once, so it counts once."""
    program = profile.programs.get(run.program)
    if program is None or not run.ready:
        return
    cost = run.ready + run.compiled
    if run.image is None and run.layer is None:
        program.costs = [*program.costs, round(cost, 3)][-COSTS_KEPT:]
    elif program.costs and run.program and not run.workload:  # two interactive sessions are no two runs of a program
        profile.saved += median(program.costs) - cost
        profile.saved_runs += 1


def _note_code(profile: Profile, run: Run, facts: dict[str, Any], now: float) -> None:
    name, path, text = facts.get("name"), facts.get("path"), _text(facts.get("text"))
    files, deps = facts.get("files"), facts.get("deps")
    if not (isinstance(name, str) and name.isidentifier() and isinstance(path, str)):
        return
    if isinstance(files, list) and isinstance(deps, dict):  # it was evaluated, not loaded
        files, deps = [str(file) for file in files], {str(key): str(uuid) for key, uuid in deps.items()}
        using = facts.get("using")
        using = [str(package) for package in using] if isinstance(using, list) else []
        profile.code[name] = Code(path, text, using, files, deps, syntax=_text(facts.get("syntax")) or "")
    if name in profile.code:
        profile.code[name].last = now
        program = profile.programs.get(run.program)
        if program is not None and name not in program.code:
            program.code.append(name)


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
