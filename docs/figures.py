"""Write the measured figures into the pages and the README: from docs/images/*.json, between their marks.

    python docs/figures.py            after a benchmark has written its JSON
    python docs/figures.py --check    say whether the pages are as this would write them; change nothing

A page has lines ``<!-- figures: NAME -->`` and ``<!-- end -->``; what is between them is ours.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MARKS = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.S)

NAMES = {
    "import: juliacall": "*import*, plain juliacall",
    "import: juliacall, all set by hand": "*import*, all set by hand",
    "import: pyjl_autoimage": "*import*, this package",
    "tables: juliacall": "*tables*, plain juliacall",
    "tables: juliacall, all set by hand": "*tables*, all set by hand",
    "tables: layer": "*tables*, layer",
    "tables: image": "*tables*, image",
    "tables as a file: juliacall": "*tables* as a file, plain juliacall",
    "tables as a file: layer": "*tables* as a file, layer",
    "tables as a file: image": "*tables* as a file, image",
    "model: juliacall": "*model*, plain juliacall",
    "model: layer": "*model*, layer",
    "model: image, model in Main": "*model*, image, its code in `Main`",
    "model: image": "*model*, image with its code",
}
PHASES = ("import", "load", "first_call", "second_call", "first_result")


def main(arguments: Sequence[str]) -> int:
    """Write, or check; the exit status."""
    here = HERE.parent
    pages = [here / "README.md", here / "examples" / "container" / "README.md", *sorted(HERE.glob("*.md"))]
    changed = [page.name for page in pages if written(page, check="--check" in arguments)]
    if changed and "--check" in arguments:
        print(f"not up to date: {', '.join(changed)}; run python docs/figures.py")
        return 1
    return 0


def written(page: Path, *, check: bool) -> bool:
    """Write the figures into a page; whether that changed it."""
    before = page.read_text(encoding="utf-8")
    after = MARKS.sub(lambda match: f"{match[1]}\n{FIGURES[match[2]]()}\n\n{match[3]}", before)
    if after != before and not check:
        page.write_text(after, encoding="utf-8")
    return after != before


def measured(name: str) -> Any:
    """What a benchmark wrote."""
    return json.loads((HERE / "images" / f"{name}.json").read_text(encoding="utf-8"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; numbers to the right."""
    line = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, line, *rows))


def seconds(value: float | None) -> str:
    """A time in words."""
    if value is None:
        return ""
    return f"{value:.2f} s" if value >= 0.1 else f"{1000 * value:.0f} ms" if value >= 0.001 else "< 1 ms"


def times(ratio: float) -> str:
    """How many times as fast."""
    return f"{ratio:.1f}x" if ratio < 10 else f"{ratio:.0f}x"


def headline() -> str:
    """The one comparison of the front page."""
    median = measured("startup")["median"]
    plain, image = median["model: juliacall"], median["model: image"]
    rows = [
        (label, seconds(plain[phase]), seconds(median["model: layer"][phase]), seconds(image[phase]))
        for phase, label in (("import", "import"), ("first_result", "first result"), ("second_call", "second call"))
    ]
    return table(("a program with DataFrames and CSV", "plain juliacall", "a layer", "an image"), rows)


def front() -> str:
    """The README's: one program on every tier, and what that is made of."""
    result = measured("startup")
    median, floor, bars = result["median"], result["floor"], list(result["bars"].values())
    plain, layer, image = (median[f"model: {kind}"] for kind in ("juliacall", "layer", "image"))
    phases = {
        "import": "import",
        "load": "load packages and model",
        "first_call": "first call",
        "second_call": "second call",
        "first_result": "**time to the first result**",
        "process": "whole process",
    }
    rows = [
        (
            label,
            *(seconds(tier[phase]) for tier in (plain, layer, image)),
            "" if phase in ("load", "second_call") else times(plain[phase] / image[phase]),
        )
        for phase, label in phases.items()
    ]
    built = result["builds"]["layer"]["model"]["seconds"], result["builds"]["image"][-1]["seconds"] / 60
    tables = median["tables: juliacall"]["first_result"], median["tables: image"]["first_result"]
    head = ("", "plain juliacall", f"layer, built in {built[0]:.0f} s", f"image, built in {built[1]:.0f} min", "")
    told = f"""
        Medians of {result["runs"]} runs of each kind, in turn, on two cores, Julia {result["julia"]}.
        {_generation(result)} A bare `julia -e ''` takes {seconds(floor["julia"])} there, `python -c ''`
        {seconds(floor["python"])}. The process of an import through this package takes {bars[0]:.2f} times as long as
        one with juliacall told everything by hand, the same image included. Code that is not in a file of its own
        (`jl.seval("function ...")`) cannot be kept in an image, but all that it calls can: another program,
        whose function is such a string, goes from {seconds(tables[0])} to {seconds(tables[1])},
        {times(tables[0] / tables[1])}. All of it is measured by `python benchmarks/startup.py`
        ([all figures](docs/images/startup.json)).
        """
    filled = textwrap.fill(" ".join(told.split()), 118, break_long_words=False, break_on_hyphens=False)
    return f"{table(head, rows)}\n\n{filled}"


def _generation(result: dict[str, Any]) -> str:
    if len(result["builds"]["image"]) > 1:
        return "The image is of the second generation: built from what runs on a first image recorded."
    return "The image is a first one, built from one recorded run of each program."


def startup(name: str = "startup") -> str:
    """Every kind of start, phase by phase."""
    result = measured(name)
    rows = [
        (name, *(seconds(result["median"][kind].get(phase)) for phase in PHASES))
        for kind, name in NAMES.items()
        if kind in result["median"]
    ]
    floor = result["floor"]
    return (
        f"Medians of {result['runs']} runs of each kind, in turn; {result['machine']}, Julia {result['julia']}. "
        f"{_generation(result)} It has {result['image']['bytes'] / 1e6:.0f} MB and {result['image']['statements']} "
        f"statements, and took {result['builds']['image'][-1]['seconds'] / 60:.0f} min to build. "
        f"On that machine `julia -e ''` takes {seconds(floor['julia'])}, "
        f"`python -c ''` {seconds(floor['python'])}.\n\n"
        + table(("", *(phase.replace("_", " ") for phase in PHASES)), rows)
    )


def bars(name: str = "startup") -> str:
    """What is promised, and what was measured."""
    rows = [
        (re.sub(r" \((.*)\)$", "", name), f"{value:.2f}", re.search(r"\((.*)\)$", name)[1])  # type: ignore[index]
        for name, value in measured(name)["bars"].items()
    ]
    return table(("ratio", "measured", "held to"), rows)


def build() -> str:
    """Our build against a plain `create_sysimage`."""
    result = measured("build")
    names = {"plain": "`create_sysimage`, defaults", "ours": "`build`", "slim": "`build`, slim"}
    rows = [
        (
            names.get(kind, kind),
            f"{made['wall']:.0f} s",
            f"{made['cpu']:.0f} s",
            f"{made['peak_resident'] / 1e9:.1f} GB",
            f"{made['bytes'] / 1e6:.0f} MB",
        )
        for kind, made in result["builds"].items()
    ]
    return (
        f"One build each, one after the other: {len(result['packages'])} packages and what they need, "
        f"{result['statements']} statements, packages precompiled before; "
        f"{result['cores']} cores, Julia {result['julia']}.\n\n"
        + table(("", "time", "CPU", "peak memory", "image"), rows)
    )


def memory() -> str:
    """What a process keeps in memory, alone and beside another one."""
    result = measured("memory")
    names = {"stock": "plain juliacall", "image": "on the image"}
    rows = [
        (
            f"{names[kind]}, {'one process' if count == 'one' else 'each of two'}",
            *(f"{result[kind][count][what] / 1e6:.0f} MB" for what in ("resident", "proportional", "private")),
        )
        for kind in names
        for count in ("one", "two")
    ]
    sizes = [f"{result[kind]['image_bytes'] / 1e6:.0f} MB" for kind in names]
    return (
        f"With DataFrames and CSV loaded. Julia's own image is a file of {sizes[0]}, this one of {sizes[1]}.\n\n"
        + table(("", "resident", "proportional", "its own"), rows)
    )


def third_party() -> str:
    """Packages of others, plain and on an image."""
    result = measured("third_party")
    kinds = [kind for kind in ("stock", "run", "enabled") if kind != "enabled" or result["enabled"]]
    rows = []
    for row in result["programs"]:
        if "median" in row:
            first = {kind: row["median"][kind]["first_output"] for kind in kinds}
            faster = times(first["stock"] / first[kinds[-1]])
            rows.append((row["program"].replace("_", " "), *(seconds(first[kind]) for kind in kinds), faster))
    head = {"stock": "plain", "run": "under `run`", "enabled": "`enable`d"}
    return (
        f"Time to the first line of output: medians of {result['runs']} runs of each kind, in turn, on one image "
        f"that all of them share; {result['machine']}, Julia {result['julia']}.\n\n"
        + table(("", *(head[kind] for kind in kinds), ""), rows)
    )


WRAPPERS = {
    "wrapper-pysr": "PySR 1.5.10: a search, to the best equation",
    "wrapper-pyclapeyron": "pyclapeyron 0.1.1: boiling points",
    "wrapper-grizzlys": "grizzlys 0.0.1: a table, grouped",
}


def wrappers() -> str:
    """Published packages that wrap Julia, each with an image of its own."""
    names = [name for name in WRAPPERS if (HERE / "images" / f"{name}.json").exists()]
    results = {WRAPPERS[name]: measured(name) for name in names}
    rows, builds = [], []
    for label, result in results.items():
        (row,) = result["programs"]
        layer, run = row["layered"]["median"]["layer"], row["median"]["run"]
        for measure, what in (("first_output", "first output"), ("import", "import alone")):
            ways = (row["median"]["stock"], layer, run, row["median"]["enabled"])
            plain, *_, last = medians = [way[measure] for way in ways]
            rows.append(
                (label if measure == "first_output" else "", what, *map(seconds, medians), times(plain / last))
            )
        cost, quick = result["build"], result["quick"]
        took = f"{quick['wall']:.0f} s", f"{cost['wall'] / 60:.1f} min"
        size = f"{cost['peak_resident'] / 1e9:.1f} GB", f"{cost['bytes'] / 1e6:.0f} MB"
        builds.append((label.partition(":")[0], *took, *size))
    first = next(iter(results.values()))
    return (
        f"Medians of {first['runs']} processes of each kind, in turn; {first['machine']}, Julia {first['julia']}.\n\n"
        + table(("", "", "plain", "`build --quick`, `run`", "`build`, `run`", "`build`, `enable`d", ""), rows)
        + "\n\n"
        + table(("", "`build --quick`", "`build`", "memory", "image"), builds)
    )


def callers() -> str:
    """First calls with PythonCall's callers specialised for each function, and compiled once."""
    results = [measured(name) for name in ("first_call", "first_call-1.12")]
    labels = {"small": "a function of one line", "keyword": "one with a keyword", "tables": "a report on tables"}
    rows = [
        (label, *(seconds(result["median"][how][call]) for result in results for how in ("specialised", "once")))
        for call, label in labels.items()
    ]
    later = [f"{result['median'][how]['later']:.1f} µs" for result in results for how in ("specialised", "once")]
    head = [f"{result['julia']}, {how}" for result in results for how in ("as it is", "compiled once")]
    return (
        f"First calls in a plain start, medians of {results[0]['runs']} processes of each kind, in turn; "
        f"{results[0]['machine'].rpartition(',')[0]} (`python benchmarks/first_call.py`).\n\n"
        + table(("", *head), [*rows, ("a later call", *later)])
    )


def container() -> str:
    """Cold starts of the program in examples/container."""
    result = measured("container")
    names = {
        "plain": "plain juliacall",
        "baked": "on the image, where it was baked",
        "shipped": "shipped",
        "from disk": "shipped, the image on disk alone",
        "forgotten": "shipped, nothing remembered",
    }
    targets = result["targets"]
    rows = [(name, *(seconds(target["starts"][kind]) for target in targets.values())) for kind, name in names.items()]
    how = ", from one recorded run" if result["once"] else ""
    told = [
        f"The image for `{name}` has {target['baked']['bytes'] / 1e6:.0f} MB, and was baked in "
        f"{target['baked']['seconds'] / 60:.0f} minutes{how}."
        for name, target in targets.items()
    ]
    return (
        table(("a process, from its start to its end", *targets), rows)
        + f"\n\nMedians of {result['runs']} processes of each kind, {result['cores']} cores. {' '.join(told)}"
    )


FIGURES = {
    "container": container,
    "front": front,
    "headline": headline,
    "startup": startup,
    "bars": bars,
    "startup_next": partial(startup, "startup-1.12"),
    "bars_next": partial(bars, "startup-1.12"),
    "callers": callers,
    "build": build,
    "memory": memory,
    "third_party": third_party,
    "wrappers": wrappers,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
