"""An explanation in the terminal: tables that fit into 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.words import count_text, seconds_text
from ..explain.measurement import KINDS, Explanation, Timeline
from ..explain.timeline import shortened, ways

__all__ = ["advice", "show"]

ROWS = 8


def show(explanation: Explanation, console: Any) -> None:
    """Print it for a person."""
    named = ways(explanation)
    console.print(shortened(explanation.program, 78), style="bold")
    _steps(named, console)
    _loaded(named, console)
    _by_package(named, console)
    _by_statement(named, console)
    for line in advice(explanation):
        console.print(line, style="dim")


def advice(explanation: Explanation) -> list[str]:
    """What must be known to read the figures, a line each."""
    lines = []
    if any(timeline.estimated and timeline.statements for timeline in explanation.timelines):
        lines.append(
            "~: an estimate. The compilation in all is exact, but Julia "
            f"{explanation.julia_version} does not time single methods: it is shared out by when each was done."
        )
    named = ways(explanation)
    endings = {name: _ending(timeline) for name, timeline in named.items()}
    alike = len(set(endings.values())) == 1
    if alike:
        lines += [f"{said[:1].upper()}{said[1:]}" for said in next(iter(endings.values()))]
    for name, timeline in named.items():
        if timeline.asked_anew:
            lines.append(
                f"{name}: the first start since something changed, so what to start on was found out anew; "
                "the next one remembers it."
            )
        lines += [] if alike else [f"{name}: {said}" for said in endings[name]]
        if timeline.beyond_layer:
            lines.append(
                f"{name}: {count_text(timeline.beyond_layer, 'method')} of those compiled cannot be held by a layer, "
                "which was given them (Julia issue 58465); an image holds them."
            )
        if timeline.way == "image" and not timeline.image and timeline.ready:
            lines.append("There is no valid image for this program: `pyjl-autoimage build` makes one.")
    return lines


def _ending(timeline: Timeline) -> tuple[str, ...]:
    """What is to be said of how a run went."""
    failed = f"the program ended with status {timeline.status}: {_last_line(timeline.output)}"
    without = "the program did not import juliacall."
    return (*([] if timeline.ready else [without]), *([failed] if timeline.status else []))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def _table(title: str, first: str, named: Mapping[str, Timeline]) -> Any:
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False
    )
    table.add_column(first, style="dim", max_width=44, overflow="ellipsis", no_wrap=True)
    for name in named:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _steps(named: Mapping[str, Timeline], console: Any) -> None:
    from rich.text import Text

    table = _table("", "what the time is spent on", named)
    by_way = [timeline.by_kind() for timeline in named.values()]
    for kind, name in KINDS.items():
        if any(of[kind] >= 0.0005 for of in by_way):
            table.add_row(name, *(_seconds(of[kind]) for of in by_way))
    total = (Text(_seconds(timeline.total), "bold") for timeline in named.values())
    table.add_row(Text("in all", "not dim bold"), *total)
    ready = (_seconds(timeline.ready) if timeline.ready else "never" for timeline in named.values())
    table.add_row("until juliacall is imported", *ready)
    console.print(table)


def _seconds(seconds: float) -> str:
    return seconds_text(seconds) if seconds >= 0.0005 else "-"


def _loaded(named: Mapping[str, Timeline], console: Any) -> None:
    roots = list(dict.fromkeys(root for timeline in named.values() for root in timeline.by_root()))
    if not roots:
        return
    table = _table("\npackages loaded from outside the image", "using", named)
    for root in roots:
        cells = []
        for timeline in named.values():
            packages = timeline.by_root().get(root, [])
            spent = sum(package.end - package.start for package in packages)
            cells.append(f"{seconds_text(spent)} ({len(packages)})" if packages else "-")
        table.add_row(root, *cells)
    console.print(table)


def _by_package(named: Mapping[str, Timeline], console: Any) -> None:
    by_way = [timeline.by_package() for timeline in named.values()]
    costs = {package: max(of.get(package, (0, 0.0))[1] for of in by_way) for of in by_way for package in of}
    if not costs:
        return
    table = _table("\ncompilation by package", "package", named)
    for package in sorted(costs, key=lambda package: -costs[package])[:ROWS]:
        cells = []
        for of, timeline in zip(by_way, named.values(), strict=True):
            count, seconds = of.get(package, (0, 0.0))
            about = "~" if timeline.estimated and count else ""
            cells.append(f"{about}{seconds_text(seconds)} ({count})" if seconds >= 0.0005 or count else "-")
        table.add_row(package, *cells)
    if len(costs) > ROWS:
        rest = sorted(costs, key=lambda package: -costs[package])[ROWS:]
        sums = [sum(of.get(package, (0, 0.0))[1] for package in rest) for of in by_way]
        if max(sums) >= 0.0005:
            table.add_row(count_text(len(rest), "other"), *map(_seconds, sums))
    console.print(table)


def _by_statement(named: Mapping[str, Timeline], console: Any) -> None:
    from rich.text import Text

    room = max(20, console.width - 28)
    for name, timeline in named.items():
        costly = sorted(timeline.statements, key=lambda compiled: -compiled.seconds)[:ROWS]
        costly = [compiled for compiled in costly if compiled.seconds >= 0.0005]
        if not costly:
            continue
        console.print(f"\nthe costliest of {len(timeline.statements)} methods compiled, {name}", style="bold")
        for compiled in costly:
            seconds = f"{'~' if timeline.estimated else ''}{seconds_text(compiled.seconds)}"
            statement = shortened(compiled.statement.removeprefix("precompile(Tuple{").removesuffix("})"), room)
            package = shortened(compiled.package, 14)
            parts = (f"{seconds:>10}  ", (f"{package:<14}", "dim"), f"  {statement}")
            console.print(Text.assemble(*parts), no_wrap=True)
