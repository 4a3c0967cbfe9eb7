"""What a start does, measured: a program is run to its end, plain and on the image, and each step timed.

The measuring children are started with a ``sitecustomize`` of ours (`observe/`), which notes the steps, and Julia
writes what it compiles into a file that is read as it grows. They run what the program would run: the same question
is asked at their start, so the same image is chosen. What they compile goes into a directory that is thrown away.

`read` makes a `Timeline` of the notes; it needs no Julia, and neither does what shows it (`timeline`, `page`).
"""

from __future__ import annotations

import glob
import marshal
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any

from ..base import settings
from ..base.call import INTERPRETED, JULIA_SOURCES, julia_string
from ..base.files import read_json, write_json
from ..base.program import PACKAGE
from ..base.reads import load_toml
from ..build.layer import statements_of
from ..errors import AutoimageError, WorkloadError
from ..hook import run
from ..julia.environment import locate
from ..julia.manifest import Manifest, Package, load_manifest, manifest_file, project_file
from ..profile import profile
from ..profile.profile import Profile
from ..startup.options import user_options
from ..store import validity
from ..store.places import Store
from .attribution import owner

__all__ = ["KINDS", "Compiled", "Explanation", "Loaded", "Phase", "Timeline", "explain", "last", "read"]

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

ASKED_ANEW = "which Julia, which image: asked anew"
"""How ``observe/sitecustomize.py`` calls a start for which no answer was remembered."""

AGAIN = 20.0
"""Seconds of a run up to which one that is untypical is repeated."""

PAUSE = 0.001
"""Seconds between two looks at what Julia has compiled: how exactly it is known when."""


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
            timelines = tuple(_timeline_from(timeline) for timeline in value["timelines"])
            if any(phase.kind not in KINDS for timeline in timelines for phase in timeline.phases):
                return None
            return cls(str(value["program"]), str(value["julia_version"]), float(value["measured_at"]), timelines)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def _timeline_from(value: Mapping[str, Any]) -> Timeline:
    kinds: dict[str, Any] = {"phases": Phase, "packages": Loaded, "statements": Compiled, "calls": Call}
    parts: dict[str, Any] = {name: tuple(kind(**one) for one in value[name]) for name, kind in kinds.items()}
    return Timeline(**{**value, **parts})


def last(store: Store, environment_id: str) -> Explanation | None:
    """What was measured the last time; None if nothing was."""
    return Explanation.from_json(read_json(store.explanation(environment_id)))


def explain(
    program: Sequence[str] = (), ways: Sequence[str] = ("plain", "image"), tell: Any = lambda text: None
) -> Explanation:
    """Run a program once each way, and say what its time was spent on.

    A short one whose start was the first since something changed is run once more: that is the usual start.

    Args:
        program: as Python takes it: a script, ``-m module`` or ``-c code``, and its arguments. Empty: a bare
            ``import juliacall``, and the packages that the program which ran last has loaded.
        ways: ``plain`` and ``image``.
        tell: called with a line about what is being done.

    Raises:
        AutoimageError: the program cannot be run, or Python was started so that it cannot be watched.
        JuliaNotFoundError: there is no usable Julia, or its project cannot be set up.
        SettingsError: a setting has an unknown name or a bad value.
        WorkloadError: there is no such script.
    """
    if program and program[0] not in ("-m", "-c", "-") and not os.path.exists(program[0]):
        raise WorkloadError(f"there is no file {program[0]}")
    if sys.flags.ignore_environment or sys.flags.no_site:
        raise AutoimageError("with -E, -I and -S Python leaves out what watching a program needs (PYTHONPATH, site)")
    store = Store(settings.settle().home)
    options = user_options()
    with _where_it_looks(program):
        environment = locate(options)
    facts = validity.julia_facts(environment, store)
    packages = _packages(environment.project, facts.version)
    if program:
        name = " ".join(os.path.basename(part) if number == 0 else part for number, part in enumerate(program))
    else:
        roots = _roots(profile.peek(store, environment.id), packages)
        program = ["-c", _bare_start(roots, packages, environment.project)]
        name = ", ".join(["import juliacall", *(f"using {packages[uuid].name}" for uuid in roots)])
    timed = tuple(map(int, facts.version.split(".")[:2])) >= (1, 12)
    timelines = []
    for way in ways:
        tell(f"running it {'on plain juliacall' if way == 'plain' else 'as it starts with pyjl_autoimage'}")
        timeline = _measure(way, program, timed, packages)
        if timeline.asked_anew and timeline.total < AGAIN:
            tell("running it once more, now that it is remembered what to start on")
            timeline = _measure(way, program, timed, packages)
        used = next((one for one in store.all_layers() if one.id == timeline.layer), None)
        beyond = _beyond(timeline, statements_of(used)) if used else 0
        timelines.append(replace(timeline, beyond_layer=beyond))
    found = Explanation(name[:200], facts.version, round(time.time(), 3), tuple(timelines))
    try:
        store.ensure(store.environment(environment.id))
        write_json(store.explanation(environment.id), found.to_json())
    except (OSError, AutoimageError):
        pass  # `report` measures again
    return found


@contextmanager
def _where_it_looks(program: Sequence[str]) -> Iterator[None]:
    """juliapkg looks for what a project needs where Python looks for modules: first where the program is, not we."""
    before = list(sys.path)
    script = program[:1] and program[0] not in ("-m", "-c", "-")
    if not getattr(sys.flags, "safe_path", False):
        sys.path[:1] = [os.path.dirname(os.path.abspath(program[0])) if script else os.getcwd()]
    try:
        yield
    finally:
        sys.path[:] = before


# -- what to run ---------------------------------------------------------------------------------------


def _packages(project: str, julia_version: str) -> Mapping[str, Package]:
    path = manifest_file(project, julia_version)
    try:
        return load_manifest(path).packages if path else {}
    except (OSError, ValueError):
        return {}


def _roots(recorded: Profile, packages: Mapping[str, Package]) -> list[str]:
    """The uuids of what the program that ran last has loaded, but for what comes with something else it loaded."""
    ran = max(recorded.programs.values(), key=lambda program: program.last, default=None)
    loaded = {uuid for uuid in ran.packages if uuid in packages} if ran else set()
    needed = {uuid for package in loaded for uuid in _closure(package, packages) if uuid != package}
    roots = [
        uuid for uuid in loaded - needed if packages[uuid].name not in ("PythonCall", "CompilerSupportLibraries_jll")
    ]
    return sorted(roots, key=lambda uuid: packages[uuid].name)


def _closure(uuid: str, packages: Mapping[str, Package]) -> set[str]:
    return Manifest("", None, packages).closure([uuid])


def _bare_start(roots: Iterable[str], packages: Mapping[str, Package], project: str) -> str:
    lines = ["import juliacall"]
    try:
        direct = load_toml(project_file(project) or "").get("deps", {})
    except (OSError, ValueError):
        direct = {}
    for uuid in roots:
        name = packages[uuid].name
        identity = f"Base.PkgId(Base.UUID({julia_string(uuid)}), {julia_string(name)})"
        code = f"using {name}" if name in direct else f"Base.require({identity})"
        lines.append(f"juliacall.Main.seval({code!r})")
    return "\n".join(lines)


# -- running it ----------------------------------------------------------------------------------------


def _measure(way: str, program: Sequence[str], timed: bool, packages: Mapping[str, Package]) -> Timeline:
    with tempfile.TemporaryDirectory(prefix="pyjl-autoimage-explain-") as directory:
        recordings = os.path.join(directory, "recordings")
        os.mkdir(recordings)
        trace = os.path.join(recordings, "plain.jl")
        request = {"timed": timed, "trace": trace, "recordings": recordings, "julia": _julia_code(directory)}
        with open(os.path.join(directory, "request"), "wb") as file:
            file.write(marshal.dumps(request))
        places = [os.path.join(PACKAGE, "explain", "observe")]
        places += [] if way == "plain" else [os.path.join(PACKAGE, "hook", "handover")]
        search = os.environ.get("PYTHONPATH")
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*places, *([search] if search else [])]),
            "_PYJL_AUTOIMAGE_OBSERVE": directory,
        }
        if way == "plain":
            environ["PYJL_AUTOIMAGE"] = "0"
            open(trace, "w").close()
        command = [sys.executable, *run.python_options(sys.orig_argv[1:]), *program]
        output = os.path.join(directory, "output")
        with open(output, "wb") as file:
            began = time.perf_counter_ns()
            process = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
            try:
                lines = _follow(process, recordings)
            except BaseException:
                process.kill()
                process.wait()
                raise
        notes = {"began": began, "ended": time.perf_counter_ns(), "status": process.returncode}
        said = _text(output)[-2000:] if process.returncode else ""
        steps, loaded = (_text(os.path.join(directory, name)).splitlines() for name in ("notes", "packages"))
        if not steps:
            raise AutoimageError(f"the program could not be watched: Python ended before it began\n{said}".rstrip())
        return read(way, notes, steps, loaded, lines, packages, timed=timed, output=said)


def _julia_code(directory: str) -> str:
    """What Julia evaluates as soon as it is up. PYTHON_CLOCK is replaced by that clock's nanoseconds."""
    with open(os.path.join(JULIA_SOURCES, "observe.jl"), encoding="utf-8") as file:
        source = file.read()
    log = julia_string(os.path.join(directory, "packages"))
    # The text itself, and no `include`: that would have to be compiled.
    return f"""
    let observer = Module(:AutoimageObserver)
        {INTERPRETED.format("observer")}
        Core.eval(observer, Expr(:toplevel, quote
            const LOG = {log}
            {source}
        end))
    end
    """


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _follow(process: subprocess.Popen[bytes], directory: str) -> list[tuple[int, str]]:
    """Read what Julia says it compiles, as it does, until the process ends: each line with its nanoseconds."""
    found: list[tuple[int, str]] = []
    file = None
    rest = b""
    try:
        while True:
            ended = process.poll() is not None
            if file is None:
                names = glob.glob(os.path.join(directory, "*.jl"))
                file = open(names[0], "rb") if names else None  # noqa: SIM115
            content = rest + (file.read() if file is not None else b"")
            now = time.perf_counter_ns()
            *lines, rest = content.split(b"\n")
            found += [(now, line.decode("utf-8", "replace")) for line in lines]
            if ended:
                return found
            time.sleep(PAUSE)
    finally:
        if file is not None:
            file.close()


# -- what it comes to ----------------------------------------------------------------------------------


@dataclass
class _Step:
    kind: str
    start: float
    end: float
    before: float
    after: float
    """Seconds that had been compiled when it began, and when it ended."""
    label: str = ""


@dataclass
class _Notes:
    """Everything that was noted, in seconds since the process was started."""

    steps: list[_Step] = field(default_factory=list)
    packages: list[tuple[float, float, str, str]] = field(default_factory=list)
    """When a package was there, what had been compiled by then, uuid and name."""
    lines: list[tuple[float, str]] = field(default_factory=list)
    total: float = 0.0

    def of(self, *kinds: str) -> list[_Step]:
        return [step for step in self.steps if step.kind in kinds]


def read(
    way: str,
    facts: Mapping[str, int],
    steps: Iterable[str],
    loaded: Iterable[str],
    lines: Iterable[tuple[int, str]],
    packages: Mapping[str, Package],
    *,
    timed: bool,
    output: str = "",
) -> Timeline:
    """Make a timeline of what was noted.

    Args:
        way: ``plain`` or ``image``.
        facts: ``began`` and ``ended`` (nanoseconds) and ``status`` of the process.
        steps: what ``observe/sitecustomize.py`` noted.
        loaded: what ``julia/observe.jl`` noted.
        lines: what Julia said it compiled, and when that was read (nanoseconds).
        packages: those of the project, by uuid.
        timed: whether Julia says how long each took.
        output: the last lines of the program, if it did not end well.
    """
    notes = _notes(facts, steps, loaded, lines)
    ready = max((s.end for s in notes.of("juliacall", "ours") if s.label != "import"), default=0.0)
    if not notes.of("juliacall"):
        ready = 0.0
    clock = _clock(notes)
    found = _loaded(notes, packages, clock)
    compiled = clock[-1][1]
    plan = next((step.label.split() for step in notes.of("plan")), [])
    image, layer = (None if name == "-" else name for name in (plan if len(plan) == 2 else ["-", "-"]))
    return Timeline(
        way=way,
        total=notes.total,
        ready=ready,
        compiled=compiled,
        estimated=not timed,
        image=image,
        layer=layer,
        asked_anew=way != "plain" and any(step.label == ASKED_ANEW for step in notes.of("ours")),
        status=facts["status"],
        output=output,
        phases=tuple(_phases(notes, ready, found, clock)),
        packages=tuple(found),
        statements=tuple(_timed_statements(notes, clock) if timed else _estimated_statements(notes, clock)),
        calls=tuple(Call(step.label, step.start, step.end, step.after - step.before) for step in notes.of("call")),
    )


def _notes(
    facts: Mapping[str, int], steps: Iterable[str], loaded: Iterable[str], lines: Iterable[tuple[int, str]]
) -> _Notes:
    began = facts["began"]

    def since(nanoseconds: str | int) -> float:
        return max(0.0, (int(nanoseconds) - began) / 1e9)

    notes = _Notes(total=since(facts["ended"]))
    for line in steps:
        kind, start, end, before, after, label = [*line.split("\t"), "", "", "", "", ""][:6]
        if start.isdigit() and end.isdigit() and before.isdigit() and after.isdigit():
            step = _Step(kind, since(start), since(end), int(before) / 1e9, int(after) / 1e9, label)
            notes.steps.append(step)
    for line in loaded:
        parts = line.split("\t")
        if len(parts) == 4 and parts[0].isdigit() and parts[1].isdigit():
            notes.packages.append((since(parts[0]), int(parts[1]) / 1e9, parts[2], parts[3]))
    notes.lines = [
        (since(moment), line)
        for moment, line in lines
        if "precompile(" in line and not line.startswith(profile.INFERRED)
    ]
    notes.steps.sort(key=lambda step: (step.start, -step.end))
    notes.packages.sort()
    return notes


def _clock(notes: _Notes) -> list[tuple[float, float]]:
    """Julia's clock of compilation at all moments when it was looked at: (moment, seconds compiled by then)."""
    points = {(0.0, 0.0)}
    for step in notes.steps:
        points |= {(step.start, step.before), (step.end, step.after)} if step.after else set()
    points |= {(moment, compiled) for moment, compiled, _, _ in notes.packages}
    clock: list[tuple[float, float]] = []
    for moment, compiled in sorted(points):
        clock.append((moment, max(compiled, clock[-1][1] if clock else 0.0)))
    return clock


def _compiled_by(clock: Sequence[tuple[float, float]], moment: float) -> float:
    return clock[max(0, bisect_right(clock, (moment, float("inf"))) - 1)][1]


def _loaded(notes: _Notes, packages: Mapping[str, Package], clock: list[tuple[float, float]]) -> list[Loaded]:
    """Each package with its time: from the end of the one before, or from the beginning of the call that loads it.

    What that call had to compile before it came to its first package is no part of loading it: the clock gets another
    point there.
    """
    calls = notes.of("call", "evaluate", "ours")
    found: list[tuple[str, float, Loaded]] = []  # with its uuid, and when the outermost call around it began
    before, compiled_before = 0.0, 0.0
    for end, compiled, uuid, name in notes.packages:
        around = [call for call in calls if call.start <= end <= call.end]
        start, compiled_at_start = before, compiled_before
        for call in around:
            if call.start > start:
                start, compiled_at_start = call.start, call.before
                prepared = [moment for moment, line in notes.lines if start < moment < end and owner(line) != name]
                if prepared:
                    start, compiled_at_start = prepared[-1], compiled
                    insort(clock, (start, compiled))
        if not around and not found:
            start, compiled_at_start = end, compiled
        began = min((call.start for call in around), default=0.0)
        found.append((uuid, began, Loaded(name, start, end, max(0.0, compiled - compiled_at_start), name)))
        before, compiled_before = end, compiled
    needs = {uuid: _closure(uuid, packages) for uuid, _, _ in found}
    named = []
    for number, (uuid, began, package) in enumerate(found):
        later = [(other, one.name) for other, with_call, one in found[number + 1 :] if with_call == began]
        named.append(replace(package, root=_root(uuid, package.name, later, needs, packages)))
    return named


def _root(
    uuid: str, name: str, later: Sequence[tuple[str, str]], needs: Mapping[str, set[str]], listed: Container[str]
) -> str:
    """What was asked for when this package was loaded: the first of the later ones in the same call that needs it and
    that no other needs; itself if there is none."""
    while uuid not in listed and later:
        # An extension, which no manifest lists as a package: it comes with what triggers it, which is loaded next.
        (uuid, name), later = later[0], later[1:]
    above = [other for other in later if uuid in needs[other[0]]]
    if not above:
        return name
    return next(
        root
        for number, (other, root) in enumerate(above)
        if not any(other in needs[further] for further, _ in above[number + 1 :])
    )


def _phases(
    notes: _Notes, ready: float, loaded: Sequence[Loaded], clock: Sequence[tuple[float, float]]
) -> Iterable[Phase]:
    """All the time there is, each moment put down to the innermost step around it."""
    steps: list[tuple[float, float, str]] = []  # start, end, kind
    observers = notes.of("observer")
    begins = observers[0].start if observers else 0.0
    steps.append((0.0, notes.total, "program"))
    steps.append((0.0, begins, "python"))
    steps += [(step.start, step.end, "measuring") for step in observers]
    leaves = next((step.start for step in notes.of("exit")), notes.total)
    if ready:
        steps.append((ready, leaves, "running"))
        steps.append((leaves, notes.total, "exit"))
    for step in notes.of("ours", "juliacall", "libjulia", "image", "measuring"):
        steps.append((step.start, step.end, step.kind))
    for step in notes.of("evaluate"):
        if step.end <= ready:
            steps.append((step.start, step.end, "pythoncall" if step.label == "juliacall" else "ours"))
    steps += [(package.start, package.end, "packages") for package in loaded if ready and package.start >= ready]
    # The one that began last is the innermost: steps are nested, and a package's begins in its call.
    edges = sorted({edge for start, end, _ in steps for edge in (start, end) if 0 <= edge <= notes.total})
    order = sorted(enumerate(steps), key=lambda item: (item[1][0], item[0]))
    phases: list[Phase] = []
    for start, end in pairwise(edges):
        kind = next(kind for _, (begins, ends, kind) in reversed(order) if begins <= start and end <= ends)
        if phases and phases[-1].kind == kind:
            start = phases.pop().start
        compiled = _compiled_by(clock, end) - _compiled_by(clock, start)
        phases.append(Phase(kind, start, end, min(compiled, end - start)))
    return phases


def _beyond(timeline: Timeline, given: Collection[str]) -> int:
    """How many statements were compiled although the layer had been given them.

    A layer is loaded when all is that it is about, so what was compiled before the last package was there does not
    tell. Nor does anything where most is compiled again: Julia has found the layer's cache stale.
    """
    loaded = max((package.end for package in timeline.packages), default=timeline.ready)
    again = sum(one.end > loaded and one.statement in given for one in timeline.statements)
    return again if again <= len(given) / 2 else 0


def _compiled(moment: float, line: str, seconds: float | None = None) -> Compiled:
    """What a line of Julia's trace says, also of what no profile keeps (our own methods, and very long lines)."""
    text, milliseconds = profile.split_timing(line)
    return Compiled(text, owner(text), moment, milliseconds / 1e3 if seconds is None else seconds)


def _timed_statements(notes: _Notes, clock: Sequence[tuple[float, float]]) -> Iterable[Compiled]:
    """Where Julia times statements. What is compiled on the way to a method counts in its time and in the other's, so
    that all together may come to more than Julia's clock of compilation says: each gets less then, in proportion."""
    found = [_compiled(*line) for line in notes.lines]
    together = sum(one.seconds for one in found)
    share = min(1.0, clock[-1][1] / together) if together else 1.0
    return [replace(one, seconds=one.seconds * share) for one in found]


def _estimated_statements(notes: _Notes, clock: Sequence[tuple[float, float]]) -> Iterable[Compiled]:
    """Where Julia does not time statements: what its clock of compilation says of a stretch of time is shared out
    among those of that stretch, each getting its part by the time that passed since the one before it."""
    gaps: list[float] = []
    before = 0.0
    for moment, group in _together(notes.lines):
        known = clock[max(0, bisect_left(clock, (moment, 0.0)) - 1)][0]
        gaps += [max(1e-6, moment - max(before, known)) / group] * group
        before = moment
    shares: dict[int, list[int]] = {}
    for number, (moment, _) in enumerate(notes.lines):
        # It was read a little after it was written, which may be after somebody looked at the clock.
        shares.setdefault(bisect_left(clock, (moment - PAUSE, 0.0)), []).append(number)
    seconds = [0.0] * len(notes.lines)
    for stretch, numbers in shares.items():
        if 0 < stretch < len(clock):
            spent = clock[stretch][1] - clock[stretch - 1][1]
            weight = sum(gaps[number] for number in numbers)
            for number in numbers:
                seconds[number] = spent * gaps[number] / weight
    return [_compiled(*line, share) for line, share in zip(notes.lines, seconds, strict=True)]


def _together(lines: Sequence[tuple[float, str]]) -> Iterable[tuple[float, int]]:
    """How many lines were read at each moment."""
    return [(moment, len(list(group))) for moment, group in groupby(lines, key=lambda line: line[0])]
