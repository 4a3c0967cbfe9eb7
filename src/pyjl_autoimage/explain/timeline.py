"""Drawings: what a start does, as a timeline, and how long builds took. SVG, by text alone.

No text lies on another: one that does not fit where it belongs is left out there (pointing at the bar shows it), and
everything that matters is in a legend or a list besides. Colours follow the reader's preference for light or dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..base.words import moment_text, seconds_text
from ..build.state import State
from .canvas import MARGIN, WIDTH, Canvas, text_width
from .measurement import KINDS, Explanation, Timeline

__all__ = ["draw", "draw_builds", "pieces", "shortened", "ways"]

COLOURS = {
    "python": "#8c96a3",
    "program": "#b3a58f",
    "ours": "#2da44e",
    "juliacall": "#57a5d8",
    "libjulia": "#1f7f8c",
    "image": "#5566d6",
    "pythoncall": "#a371d9",
    "packages": "#e09b2d",
    "compilation": "#cf3f32",
    "running": "#9fd3b4",
    "exit": "#d5b8d8",
    "measuring": "#d3d7dc",
}
_OF_PHASES = ("#57a5d8", "#e09b2d", "#5566d6", "#cf3f32", "#2da44e", "#a371d9", "#1f7f8c", "#b3a58f", "#8c96a3",
              "#9fd3b4", "#d5b8d8", "#c76b98")  # fmt: skip
_OF_WAYS = (COLOURS["compilation"], COLOURS["ours"])
_LIGHT_TEXT = {"libjulia", "image", "compilation"}


def ways(explanation: Explanation) -> dict[str, Timeline]:
    """What was measured, by what people call it."""
    names = {}
    for timeline in explanation.timelines:
        if timeline.way == "plain":
            name = "plain juliacall"
        elif timeline.image:
            name = f"image {timeline.image[:8]}" + (" and layer" if timeline.layer else "")
        else:
            name = f"layer {timeline.layer[:8]}" if timeline.layer else "without an image"
        names[name] = timeline
    return names


def shortened(text: str, length: int) -> str:
    """The beginning and the end of a text that is too long."""
    if len(text) <= length:
        return text
    head = (length - 1) * 2 // 3
    return f"{text[:head]}…{text[head + 1 - length :]}" if length > 8 else text[:length]


def draw(explanation: Explanation, *, rows: int = 10) -> str:
    """The timeline as an SVG document.

    Args:
        explanation: what was measured.
        rows: packages and statements that are listed, at most.
    """
    canvas = Canvas()
    _fill((canvas, canvas, canvas), explanation, rows)
    return canvas.document(f"What a start does: {explanation.program}")


def pieces(explanation: Explanation, *, rows: int = 10) -> list[str]:
    """The same as several SVG documents, one below the other, each of which fits on a page of paper."""
    whole = (Canvas(), Canvas(), Canvas())
    _fill(whole, explanation, rows)
    labels = ("What a start does", "Compilation by package", "The costliest methods compiled")
    return [
        canvas.document(f"{label}: {explanation.program}")
        for canvas, label in zip(whole, labels, strict=True)
        if canvas.parts
    ]


def _fill(on: tuple[Canvas, Canvas, Canvas], explanation: Explanation, rows: int) -> None:
    """Draw the start, the packages and the statements, each on a canvas of its own or all on one."""
    named = ways(explanation)
    _start(on[0], explanation, named)
    _packages(on[1], named, rows)
    _statements(on[2], named, rows)


def _start(canvas: Canvas, explanation: Explanation, named: Mapping[str, Timeline]) -> None:
    """What was measured, how long it took, and what happened when."""
    canvas.y += 8
    canvas.text(MARGIN, canvas.y + 6, shortened(explanation.program, 84), "title")
    canvas.y += 26
    facts = [f"{name}: {seconds_text(timeline.total)}" for name, timeline in named.items()]
    canvas.text(
        MARGIN, canvas.y, shortened(f"Julia {explanation.julia_version}  ·  {'  ·  '.join(facts)}", 125), "dim"
    )
    canvas.y += 14
    _overview(canvas, named)
    _legend(canvas, named)
    for name, timeline in named.items():
        _detail(canvas, name, timeline)


def _overview(canvas: Canvas, named: Mapping[str, Timeline]) -> None:
    """All ways on one scale: how much of each, not when."""
    left = MARGIN + max((text_width(name) for name in named), default=0) + 10
    room = WIDTH - MARGIN - left - 80
    longest = max((timeline.total for timeline in named.values()), default=0) or 1
    for name, timeline in named.items():
        canvas.text(MARGIN, canvas.y + 18, name, "strong")
        x = left
        for kind, seconds in timeline.by_kind().items():
            width = room * seconds / longest
            if width > 0.05:
                title = f"{KINDS[kind]}: {seconds_text(seconds)}"
                label = f"{KINDS[kind]}  {seconds_text(seconds)}"
                canvas.bar(x, canvas.y + 2, width, 24, COLOURS[kind], title, label, kind in _LIGHT_TEXT)
            x += width
        canvas.text(x + 8, canvas.y + 18, seconds_text(timeline.total), "strong")
        canvas.y += 34
    canvas.y += 6


def _legend(canvas: Canvas, named: Mapping[str, Timeline]) -> None:
    """Every kind with its seconds each way: three columns."""
    seconds = [timeline.by_kind() for timeline in named.values()]
    kinds = [kind for kind in KINDS if any(of[kind] > 0 for of in seconds)]
    column = (WIDTH - 2 * MARGIN) / 3
    rows = -(-len(kinds) // 3)
    canvas.text(MARGIN, canvas.y + 12, f"compilation is taken out of all else; seconds: {' → '.join(named)}", "dim")
    canvas.y += 20
    for number, kind in enumerate(kinds):
        x, y = MARGIN + column * (number // rows), canvas.y + 20 * (number % rows)
        canvas.parts.append(f'<rect x="{x:.1f}" y="{y + 3:.1f}" width="11" height="11" fill="{COLOURS[kind]}"/>')
        canvas.text(x + 17, y + 13, KINDS[kind])
        canvas.text(x + column - 18, y + 13, " → ".join(_figure(of[kind]) for of in seconds), "dim", anchor="end")
    canvas.y += 20 * rows + 14


def _figure(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 0.095 else f"{seconds:.3f}" if seconds >= 0.0005 else "0"


_LANES = {"steps": 24, "packages": 22, "calls": 16, "compilation": 22}


def _detail(canvas: Canvas, name: str, timeline: Timeline) -> None:
    """One way on a scale of its own: what happened when."""
    left = MARGIN + 92
    room = WIDTH - MARGIN - left
    scale = room / (timeline.total or 1)
    canvas.text(MARGIN, canvas.y + 12, f"{name}: what happens when, compilation included", "strong")
    if timeline.ready:
        said = f"juliacall is imported after {seconds_text(timeline.ready)}"
        canvas.text(WIDTH - MARGIN, canvas.y + 12, said, "dim", anchor="end")
    canvas.y += 22
    top, y = canvas.y, canvas.y
    for lane, height in _LANES.items():
        canvas.text(MARGIN, y + height / 2 + 4, lane, "dim")
        canvas.plain(left, y, room, height, "lane")
        y += height + 4
    for tick in _ticks(timeline.total):
        x = left + tick * scale
        canvas.parts.append(f'<line class="line" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>')
        anchor = "end" if x + 30 > WIDTH - MARGIN else "middle" if tick else "start"
        canvas.text(x, y + 12, f"{tick:g} s", "dim", anchor=anchor)
    for lane, height in _LANES.items():
        for start, end, colour, title, label, light in _bars(lane, timeline):
            canvas.bar(left + start * scale, canvas.y, (end - start) * scale, height, colour, title, label, light)
        canvas.y += height + 4
    canvas.y += 32


_Bar = tuple[float, float, str, str, str, bool]


def _bars(lane: str, timeline: Timeline) -> Iterable[_Bar]:
    if lane == "steps":
        for phase in timeline.phases:
            took = seconds_text(phase.end - phase.start)
            compiled = f", {seconds_text(phase.compiled)} of it compiling" if phase.compiled > 0.0005 else ""
            title = f"{KINDS[phase.kind]}: {took}{compiled}"
            light = phase.kind in _LIGHT_TEXT
            yield phase.start, phase.end, COLOURS[phase.kind], title, f"{KINDS[phase.kind]}  {took}", light
    elif lane == "packages":
        for root, packages in timeline.by_root().items():
            took = seconds_text(sum(package.end - package.start for package in packages))
            for package in packages:
                if package.name != root:
                    own = f"{package.name} (for {root}): {seconds_text(package.end - package.start)}"
                    yield package.start, package.end, "#f0c987", own, "", False
                else:
                    own = f"using {root}: {took}, of it itself {seconds_text(package.end - package.start)}"
                    yield package.start, package.end, COLOURS["packages"], own, root, False
    elif lane == "calls":
        for call in timeline.calls:
            title = f"{call.label}: {seconds_text(call.end - call.start)}"
            yield call.start, call.end, "#9aa7b5", title, shortened(call.label, 40), False
    else:
        for one in timeline.statements:
            if one.seconds > 0:
                took = f"{'about ' if timeline.estimated else ''}{seconds_text(one.seconds)}"
                title = f"{one.package}: {took}: {shortened(one.statement, 300)}"
                yield max(0.0, one.end - one.seconds), one.end, COLOURS["compilation"], title, one.package, True


def _ticks(total: float) -> list[float]:
    """Round numbers, some five of them, from zero on."""
    if total <= 0:
        return [0.0]
    step = next(
        factor * 10.0**power for power in range(-6, 20) for factor in (1, 2, 5) if total / (factor * 10.0**power) <= 8
    )
    return [round(number * step, 9) for number in range(int(total / step) + 1)]


def _packages(canvas: Canvas, named: Mapping[str, Timeline], rows: int) -> None:
    """Compilation by package, all ways beside each other."""
    by_way = {name: timeline.by_package() for name, timeline in named.items()}
    order: dict[str, float] = {}
    for of in by_way.values():
        for package, (_, seconds) in of.items():
            order[package] = max(order.get(package, 0.0), seconds)
    packages = sorted((package for package in order if order[package] > 0), key=lambda package: -order[package])[
        :rows
    ]
    if not packages:
        return
    canvas.text(MARGIN, canvas.y + 12, f"compilation by package{_about(named)}", "strong")
    x = WIDTH - MARGIN - sum(text_width(name) + 32 for name in by_way)
    for number, name in enumerate(by_way):
        canvas.parts.append(
            f'<rect x="{x + 16:.1f}" y="{canvas.y + 2:.1f}" width="11" height="11" fill="{_OF_WAYS[number % 2]}"/>'
        )
        canvas.text(x + 32, canvas.y + 12, name, "dim")
        x += text_width(name) + 32
    canvas.y += 22
    figures = {package: " → ".join(_of_package(of.get(package)) for of in by_way.values()) for package in packages}
    left = MARGIN + 190
    room = WIDTH - MARGIN - left - max(map(text_width, figures.values())) - 10
    longest = max(order.values())
    for package in packages:
        canvas.text(MARGIN, canvas.y + 13, shortened(package, 25))
        for number, of in enumerate(by_way.values()):
            count, seconds = of.get(package, (0, 0.0))
            height = 14 / len(by_way)
            title = f"{list(by_way)[number]}: {count} methods, {seconds_text(seconds)}"
            width = room * seconds / longest
            canvas.bar(left, canvas.y + 2 + number * height, width, height, _OF_WAYS[number % 2], title)
        canvas.text(WIDTH - MARGIN, canvas.y + 13, figures[package], "dim", anchor="end")
        canvas.y += 20
    canvas.y += 14


def _of_package(known: tuple[int, float] | None) -> str:
    return f"{known[0]} in {_figure(known[1])} s" if known else "none"


def _statements(canvas: Canvas, named: Mapping[str, Timeline], rows: int) -> None:
    """The costliest statements of each way."""
    for name, timeline in named.items():
        costly = sorted(timeline.statements, key=lambda compiled: -compiled.seconds)[:rows]
        costly = [compiled for compiled in costly if compiled.seconds >= 0.0005]
        if not costly:
            continue
        about = _about({name: timeline})
        said = f"{name}: the costliest of {len(timeline.statements)} methods compiled{about}"
        canvas.text(MARGIN, canvas.y + 12, said, "strong")
        canvas.y += 22
        for compiled in costly:
            seconds = f"{'~' if timeline.estimated else ''}{seconds_text(compiled.seconds)}"
            canvas.text(MARGIN + 70, canvas.y + 12, seconds, anchor="end")
            statement = compiled.statement.removeprefix("precompile(Tuple{").removesuffix("})")
            canvas.text(MARGIN + 82, canvas.y + 12, shortened(compiled.package, 20), "dim")
            canvas.text(MARGIN + 82 + 150, canvas.y + 12, shortened(statement, 96))
            canvas.y += 18
        canvas.y += 14


def _about(named: Mapping[str, Timeline]) -> str:
    return " (estimated)" if any(t.estimated for t in named.values()) else ""


def draw_builds(builds: Sequence[State], phases: Iterable[str]) -> str:
    """The times of builds, phase by phase, as an SVG document; the newest at the bottom.

    Args:
        builds: the oldest first.
        phases: their names, in their order.
    """
    canvas = Canvas()
    colours = dict(zip(phases, _OF_PHASES, strict=False))
    x = float(MARGIN)
    for phase, colour in colours.items():
        width = 17 + text_width(phase) + 14
        if x + width > WIDTH - MARGIN:
            x, canvas.y = float(MARGIN), canvas.y + 20
        canvas.parts.append(f'<rect x="{x:.1f}" y="{canvas.y + 3:.1f}" width="11" height="11" fill="{colour}"/>')
        canvas.text(x + 17, canvas.y + 13, phase)
        x += width
    canvas.y += 28
    left = MARGIN + 150
    room = WIDTH - MARGIN - left - 190
    longest = max((sum(build.seconds.values()) for build in builds), default=0) or 1
    for build in builds:
        canvas.text(MARGIN, canvas.y + 14, moment_text(build.started), "dim")
        at = float(left)
        for phase in sorted(build.seconds, key=lambda phase: [*colours, phase].index(phase)):
            seconds = build.seconds[phase]
            width = room * seconds / longest
            if width > 0.05:
                colour = colours.get(phase, "#8c96a3")
                canvas.bar(at, canvas.y + 2, width, 16, colour, f"{phase}: {seconds_text(seconds)}")
            at += width
        took = f"{seconds_text(build.finished - build.started)}, {build.state}"
        canvas.text(at + 8, canvas.y + 14, took, "strong" if build.state == "done" else "dim")
        canvas.y += 24
    return canvas.document("How long the latest builds took")
