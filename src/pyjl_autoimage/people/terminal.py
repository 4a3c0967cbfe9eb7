"""How things stand, for people: colours and tables in a terminal, plain lines in a pipe."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..base.words import (
    about_text,
    ago_text,
    bytes_text,
    count_text,
    error_line,
    path_text,
    program_text,
    seconds_text,
)
from ..build.measured import TIERS

if TYPE_CHECKING:
    from .doctor import Check

__all__ = ["console", "say", "show_check", "show_rows", "show_status", "working"]

PROGRAMS_SHOWN = 3
IMAGES_SHOWN = 3
LAYERS_SHOWN = 3
MUCH_LEFT = 1.0
"""Seconds that another build would save each run: from here on a start on an image is not called fast."""

REASONS_SHOWN = 3

MOST_FOR_PROGRAM, FOR_TIMES = 40, 38
"""Columns of the terminal that the table of times takes: the programs' names at most, and the times."""

_TABLE_HEADING = "medians of the last runs"
_TIER_TEXTS = {"plain": "plain", "layer": "with a layer", "image": "on an image"}


def console(*, stderr: bool = False) -> Any:
    """Where to print: as wide as the terminal. Lines in a pipe are as long as they are. No text is markup."""
    from rich.console import Console

    found = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    found.soft_wrap = not (found.is_terminal or found.is_jupyter)
    return found


def say(console: Any, *parts: str | tuple[str, str]) -> None:
    """Print a line of parts: texts, and texts with their style."""
    from rich.text import Text

    console.print(Text.assemble(*parts))


@contextmanager
def working(console: Any, doing: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done until it is; to what this gives, a further text can be told."""
    from rich.text import Text

    with console.status(Text(doing)) as shown:
        yield lambda text: shown.update(Text(text))


def show_rows(rows: Iterable[tuple[str, Any]], console: Any) -> None:
    """Print labels and what belongs to them, in two columns; what is too long goes on under its beginning.

    Args:
        rows: a label, and a text or a rich Text. Nothing in either is markup.
        console: of rich.
    """
    from rich.table import Table
    from rich.text import Text

    rows = [(label, Text(text) if isinstance(text, str) else text) for label, text in rows]
    width = max((len(label) for label, _ in rows), default=0)
    if not console.is_terminal and not console.is_jupyter:
        for label, text in rows:
            for line, part in enumerate(text.split("\n")):
                console.print(Text.assemble(("" if line else label).ljust(width), "  ", part))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(Text(label), text)
    console.print(table)


def show_status(data: dict[str, Any], console: Any) -> None:
    """Print what `pyjl_autoimage.status` gave for a person."""
    if data["unwritable"]:
        _say(console, "Nothing can be recorded or built:", "yellow", f"{data['unwritable']}.")
    _show_verdict(data, console)
    _show_build(data["build"], console)
    _show_prospect(data, console)
    if data["times"]:
        console.print()
        _show_times(data, console)
    console.print()
    show_rows(_facts(data), console)
    _show_rejected(data, console)


def show_check(check: Check, console: Any) -> None:
    """Print one line of `doctor`, and below it the remedy."""
    from rich.table import Table
    from rich.text import Text

    mark, colour = ("bad ", "bold red") if not check.ok else ("note", "yellow") if check.remedy else ("ok  ", "green")
    text = Text.assemble((check.what, "bold"), ": ", path_text(check.found))
    if check.remedy:
        text.append(f"\n-> {check.remedy}", style="dim" if check.ok else "")
    if not console.is_terminal:
        console.print(Text.assemble(mark, " ", Text("\n     ").join(text.split("\n"))))
        return
    row = Table.grid(padding=(0, 1))
    row.add_column(no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row(Text(mark, style=colour), text)
    console.print(row)


# -- at a glance ---------------------------------------------------------------------------------------


def _show_verdict(data: dict[str, Any], console: Any) -> None:
    summary, image = data["summary"], data["image"]
    state, why = summary["state"], summary["why"]
    if state == "image":
        shared = f" for {path_text(image['shared_by'])}, of the same packages" if image["shared_by"] else ""
        uses = f"The next start uses image {image['id']}, built {ago_text(image['built_at'])}{shared}"
        estimate = data["estimate"]
        if estimate and estimate["seconds"] >= MUCH_LEFT:
            still = f"{_short_name(estimate['program'])} still compiles {about_text(estimate['seconds'])} on it"
            _say(console, "Fast start.", "yellow", f"{uses}, but {still}.")
        else:
            _say(console, "Fast.", "green", f"{uses}.")
    elif state == "layer":
        programs = sorted({_short_name(layer["program"]) for layer in data["layers"] if not layer["reasons"]})
        _say(console, "Faster.", "green", f"No image fits, but a layer does, for {', '.join(programs)}.")
    elif state == "stale":
        what = "image" if any(entry["reasons"] == why for entry in data["rejected"]) else "layer"
        _say(console, "Slow.", "yellow", f"No {what} fits any more, so starts are plain ones:")
    elif state == "recorded":
        runs = count_text(data["profile"]["recordings"], "recorded run")
        _say(console, "Slow.", "yellow", f"There is no image yet; {runs} can go into one.")
    elif state == "nothing":
        _say(console, "Slow.", "yellow", "Nothing has been recorded, and there is no image.")
    else:
        _say(console, "Off.", "yellow", f"{why[0]}.")
    if state in ("stale", "layer"):
        for reason in _first(why):
            console.print(f"  {reason}")


def _say(console: Any, word: str, colour: str, rest: str) -> None:
    say(console, (word, f"bold {colour}"), f" {rest}")


def _first(reasons: list[str], shown: int = REASONS_SHOWN) -> list[str]:
    more = len(reasons) - shown
    return [*reasons[:shown], *([f"and {count_text(more, 'more reason')}"] if more > 0 else [])]


def _show_build(build: dict[str, Any], console: Any) -> None:
    progress = build["progress"]
    if progress:
        at = f"{progress['phase']} {progress['detail']}".strip()
        left = f"{about_text(progress['left_seconds'])} left" if progress["left_seconds"] >= 1 else "almost done"
        memory = f", {bytes_text(progress['memory_bytes'])} of memory" if progress["memory_bytes"] else ""
        said = f" {at}, {100 * progress['fraction']:.0f} %, {left}{memory}"
        say(console, ("Building:", "bold cyan"), said)
        _hint(console, "pyjl-autoimage log --follow", "shows what it does")
    elif build["state"] == "failed":
        when = ago_text(build["finished"] or build["started"])
        _say(console, f"The last build failed {when}:", "red", error_line(build["error"]))
        _hint(console, "pyjl-autoimage log", "shows all that it said")


def _show_prospect(data: dict[str, Any], console: Any) -> None:
    """What a build would bring, and how to start one."""
    state, estimate = data["summary"]["state"], data["estimate"]
    if state == "off" or data["build"]["state"] == "running":
        return
    if state == "nothing":
        _hint(console, "pyjl-autoimage run script.py", "runs a program and records it")
        _hint(console, "pyjl-autoimage build", "then makes its next start fast")
    elif estimate is None:
        if state == "image":
            of = f" of {_short_name(data['times'][0]['program'])}" if data["times"] else ""
            console.print(f"No recorded run{of} on it has ended yet.", style="dim")
        else:
            _hint(console, "pyjl-autoimage build", "makes the next start fast")
    else:
        takes, program = about_text(estimate["build_seconds"]), _short_name(estimate["program"])
        if estimate["seconds"] >= 0.05:
            saves = f"saves {about_text(estimate['seconds'])} per run of {program}"
            _hint(console, "pyjl-autoimage build", f"{saves}, takes {takes}")
        elif state == "image":
            console.print("Another build would bring nothing to speak of.", style="dim")
        else:
            _hint(console, "pyjl-autoimage build", f"saves next to nothing, takes {takes}")


def _short_name(program: str) -> str:
    return os.path.basename(program) or program_text(program)


def _hint(console: Any, command: str, does: str) -> None:
    say(console, (command, "bold"), f" {does}")


# -- measured ------------------------------------------------------------------------------------------


def _show_times(data: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    width = max(len(_TABLE_HEADING), min(MOST_FOR_PROGRAM, console.width - FOR_TIMES))
    table.add_column(_TABLE_HEADING, no_wrap=True)
    for heading in ("runs", "start", "compiling", "together"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in data["times"][:PROGRAMS_SHOWN]:
        table.add_row(_shortened(program_text(entry["program"]), width))
        for tier in TIERS:
            if entry[tier]:
                table.add_row(f"  {_TIER_TEXTS[tier]}", *_cells(entry[tier]), style=_style(tier))
    console.print(table)
    for entry in data["times"][:PROGRAMS_SHOWN]:
        if entry["theirs"]:
            console.print(
                f"{_short_name(entry['program'])} chooses its image itself: {path_text(entry['theirs'])}", style="dim"
            )
    more = len(data["times"]) - PROGRAMS_SHOWN
    if more > 0:
        console.print(f"and {count_text(more, 'more program')}", style="dim")
    saved = data["saved"]
    if saved["seconds"] > 0:
        console.print(f"Saved so far: {seconds_text(saved['seconds'])} in {count_text(saved['runs'], 'run')}.")


def _cells(times: dict[str, Any]) -> list[str]:
    ready, compiled = times["ready_seconds"], times["compile_seconds"]
    if compiled is None:
        return [str(times["runs"]), _cell(ready), "-", "-"]
    return [str(times["runs"]), _cell(ready), _cell(compiled), _cell(ready + compiled)]


def _cell(seconds: float) -> str:
    return f"{seconds:.1f} s" if 10 <= seconds < 60 else seconds_text(seconds)


def _style(tier: str) -> str:
    return "green" if tier == "image" else ""


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"...{text[3 - width :]}"


# -- the facts -----------------------------------------------------------------------------------------


_HOW_TO_KEEP = "give it to `pyjl_autoimage.include`, or make it a Julia package (docs/libraries.md)"


def _facts(data: dict[str, Any]) -> Iterable[tuple[str, str]]:
    environment, image, recorded, build = (data[k] for k in ("environment", "image", "profile", "build"))
    yield "Julia", f"{environment['julia_version']}  {path_text(environment['executable'])}"
    yield "project", path_text(environment["project"])
    if image:
        packages = count_text(len(image["packages"]), "package")
        text = f"{bytes_text(image['bytes'])}, {packages}, {count_text(image['statements'], 'statement')}"
        yield "image", text + _changed_text(image)
    layers = [layer for layer in data["layers"] if layer["used"]]
    for layer in layers[:LAYERS_SHOWN]:
        what = ", ".join([count_text(layer["statements"], "statement"), *map(os.path.basename, layer["code"])])
        text = f"for {_short_name(layer['program'])}, built {ago_text(layer['built_at'])}: {what}"
        yield "layer", text + _changed_text(layer)
    if len(layers) > LAYERS_SHOWN:
        yield "", f"and {count_text(len(layers) - LAYERS_SHOWN, 'more layer')}"
    if recorded["recordings"]:
        runs = count_text(recorded["recordings"], "recorded run")
        names = [name for name in recorded["packages"] if not name.endswith(("_jll", "Ext"))]
        loaded = f"; loaded: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else ""
        yield "profile", f"{count_text(recorded['statements'], 'statement')} from {runs}{loaded}"
    for file in recorded["included"]:
        size = count_text(file["lines"], "line")
        yield "not kept", f"{path_text(file['path'])} ({size}) is compiled in each process: {_HOW_TO_KEEP}"
    for path in recorded["aside"]:
        yield "", f"{path_text(path)} is a profile that could not be read: what it holds counts no more"
    for run in data["runs"][:1]:
        yield "last run", _run_text(run)
    if data["slow_start"]:
        slow = data["slow_start"]
        yield "looked anew", f"{ago_text(slow['when'])}, {_short_name(slow['program'])}: {path_text(slow['why'])}"
    yield "build", _build_text(build)
    if build["automatic"]:
        why = build["automatic_decision"]
        yield "automatic", f"on{f'; last decision: {why}' if why else ''}"
    for name, why in build["left_out"].items():
        yield "left out", f"{name}: {why}"
    yield "hook", _hook_text(data["hook"])
    disk = data["disk"]
    parts = [f"{name} {bytes_text(disk[name])}" for name in ("images", "layers", "recordings") if disk[name]]
    yield "disk", ", ".join([*parts, f"the whole store {bytes_text(disk['store'])}"])
    yield "store", path_text(data["store"])


def _changed_text(holder: dict[str, Any]) -> str:
    """Own code that is not compiled there as it is now."""
    names = " and ".join(map(os.path.basename, holder["changed"]))
    return f"; {names} changed since, and is evaluated" if names else ""


def _run_text(run: dict[str, Any]) -> str:
    """What the last run compiled in spite of image and layer, and what that cost."""
    on = f"on image {run['image']}" if run["image"] else "with a layer" if run["layer"] else "without an image"
    cost = f" in {seconds_text(run['compile_seconds'])}" if run["compile_seconds"] else ""
    methods = count_text(run["statements"], "method")
    return f"{ago_text(run['started'])}, {_short_name(run['program'])}, {on}; it compiled {methods}{cost}"


def _hook_text(hook: dict[str, Any]) -> str:
    text = f"enabled by {path_text(hook['enabled'])}" if hook["enabled"] else "not enabled"
    if hook["error"]:
        lines = hook["error"].splitlines()
        text += f"\nlast error ({lines[0]}): {lines[-1]}"
    return text


def _build_text(build: dict[str, Any]) -> str:
    if build["state"] == "none":
        return "none yet"
    if build["state"] == "running":
        return f"running since {ago_text(build['started'])}; log: {path_text(build['log'])}"
    took = f" in {seconds_text(build['finished'] - build['started'])}" if build["finished"] else ""
    text = f"{build['state']} {ago_text(build['finished'] or build['started'])}{took}"
    if build["state"] != "done":
        return f"{text}; log: {path_text(build['log'])}"
    return f"{text}: {count_text(len(build['layers']), 'layer')}" if build["layers"] and not build["image"] else text


def _show_rejected(data: dict[str, Any], console: Any) -> None:
    """The reasons against images that are not used, as far as they have not been told yet."""
    older = [entry for entry in data["rejected"] if entry["superseded"]]
    if older:
        size = bytes_text(sum(entry["bytes"] for entry in older))
        console.print(
            f"\n{count_text(len(older), 'older image')}, {size}: `clean` removes what is not used", style="dim"
        )
    rest = [entry for entry in data["rejected"] if entry["reasons"] != data["summary"]["why"] and entry not in older]
    for entry in rest[:IMAGES_SHOWN]:
        console.print(f"\nImage {entry['id']} is not used:", style="dim")
        for reason in _first(entry["reasons"]):
            console.print(f"  {reason}", style="dim")
    if len(rest) > IMAGES_SHOWN:
        console.print(f"\nand {count_text(len(rest) - IMAGES_SHOWN, 'more image')}", style="dim")
    other = data["unreadable"]
    if other["images"]:
        size = f"{count_text(other['images'], 'image')}, {bytes_text(other['bytes'])}"
        what = "only another version of pyjl_autoimage can read; `clean` removes what nobody has used for a month"
        console.print(f"\n{size}, that {what}", style="dim")
