"""What the observer noted of a start-up becomes a timeline."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise

from ..julia.manifest import Manifest, Package
from ..profile import profile, recordings
from .attribution import owner
from .measurement import Call, Compiled, Loaded, Phase, Timeline

__all__ = ["read"]


ASKED_ANEW = "which Julia, which image: asked anew"
"""How ``observe/sitecustomize.py`` calls a start for which no answer was remembered."""

PAUSE = 0.001
"""Seconds between two looks at what Julia has compiled: how exactly it is known when."""


def _closure(uuid: str, packages: Mapping[str, Package]) -> set[str]:
    return Manifest("", None, packages).closure([uuid])


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
    text, milliseconds = recordings.split_timing(line)
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
