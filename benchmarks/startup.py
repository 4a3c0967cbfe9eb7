"""Every way to start, side by side in one run: a bare Python and Julia, juliacall, juliacall set up by hand, and us.

Runs the programs of `programs.py` in fresh processes, all kinds in turn, and prints medians and spread as JSON
and as a table.

    python benchmarks/startup.py --runs 7 --json docs/images/startup.json --plot docs/images/startup.png

It needs a Julia project that juliapkg finds, with DataFrames and CSV. Layer and image are built in stores of the
benchmark's own (below --place) unless they are there already.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import results

HERE = Path(__file__).parent
PHASES = {
    "import": "import",
    "load": "load packages",
    "first_call": "first call",
    "second_call": "second call",
    "first_result": "first result",
    "process": "whole process",
    "resident_megabytes": "resident (MB)",
}

# kind -> (program, how, which store: none, layer or image, set up by hand)
KINDS = {
    "import: juliacall": ("import", "plain", None),
    "import: juliacall, all set by hand": ("import", "plain", "hand"),
    "import: pyjl_autoimage": ("import", "ours", "image"),
    "tables: juliacall": ("tables", "plain", None),
    "tables: juliacall, all set by hand": ("tables", "plain", "hand"),
    "tables: layer": ("tables", "ours", "layer-tables"),
    "tables: image": ("tables", "ours", "image"),
    "tables as a file: juliacall": ("tables-file", "plain", None),
    "tables as a file: layer": ("tables-file", "ours", "layer-tables as a file"),
    "tables as a file: image": ("tables-file", "ours", "image"),
    "model: juliacall": ("model", "plain", None),
    "model: layer": ("model", "ours", "layer-model"),
    "model: image, model in Main": ("model", "main", "image"),
    "model: image": ("model", "ours", "image"),
}

OURS = ("tables", "tables as a file", "model")


def main() -> int:
    parser = results.parser(__doc__)
    parser.add_argument("--runs", type=int, default=7, help="measured processes of each kind")
    parser.add_argument(
        "--generations", type=int, default=2, help="image builds, each from what runs on the last recorded"
    )
    parser.add_argument("--place", default=str(HERE.parent / ".bench"))
    parser.add_argument("--plot", help="write a picture here")
    parser.add_argument("--from-json", help="show an earlier result; run nothing")
    options = parser.parse_args()
    result = json.loads(Path(options.from_json).read_text()) if options.from_json else measure(options)
    results.show(result, options, table(result))
    if options.plot:
        plot(result, options.plot)
    return 0


def measure(options: argparse.Namespace) -> dict:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    # A layer is of one program, and all of these are of one script: each has a store of its own.
    names = ("image", *(f"layer-{program}" for program in OURS))
    stores = {name: {**os.environ, "PYJL_AUTOIMAGE_HOME": str(Path(options.place, name))} for name in names}
    builds = {
        "layer": {program: build_layer(program, stores[f"layer-{program}"]) for program in OURS},
        "image": build_images(stores["image"], options.generations),
    }
    status = command(["status", "--json"], stores["image"])
    environs = {None: dict(os.environ), "hand": by_hand(status), **stores}
    for kind in KINDS:
        run(kind, environs)  # a first run of each reads its files from disk
    samples: dict[str, list[dict]] = {kind: [] for kind in KINDS}
    floors: dict[str, list[float]] = {"python": [], "julia": []}
    for _ in range(options.runs):
        for kind in KINDS:
            samples[kind].append(run(kind, environs))
        floors["python"].append(seconds([sys.executable, "-c", ""]))
        floors["julia"].append(seconds([status["environment"]["executable"], "--startup-file=no", "-e", ""]))
    for program in ("tables", "tables-file", "model"):
        answers = {s["answer"] for kind, runs in samples.items() if KINDS[kind][0] == program for s in runs}
        if len(answers) != 1:
            raise SystemExit(f"the runs of {program} gave different answers: {answers}")
    medians = {
        kind: {phase: statistics.median(s[phase] for s in runs) for phase in PHASES if phase in runs[0]}
        for kind, runs in samples.items()
    }
    floor = {name: statistics.median(times) for name, times in floors.items()}
    return {
        "runs": options.runs,
        "machine": results.machine(),
        "julia": status["environment"]["julia_version"],
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "image": {k: status["image"][k] for k in ("bytes", "statements")},
        "builds": builds,
        "floor": floor,
        "median": medians,
        "spread": {
            kind: {phase: [min(s[phase] for s in runs), max(s[phase] for s in runs)] for phase in medians[kind]}
            for kind, runs in samples.items()
        },
        "bars": bars(medians, floor),
    }


def bars(medians: dict, floor: dict) -> dict:
    """What we promise, as ratios of one run: the figure, and the limit that it is held to."""

    def ratio(one: str, other: str, phase: str) -> float:
        return medians[one][phase] / medians[other][phase]

    ours, hand, stock = "import: pyjl_autoimage", "import: juliacall, all set by hand", "import: juliacall"
    own = medians["model: image"]
    return {
        "process of an import, of one set by hand (at most 1.05)": ratio(ours, hand, "process"),
        "process of an import, of julia and python (at most 1.8)": medians[ours]["process"] / sum(floor.values()),
        "import, faster than juliacall (at least 5)": ratio(stock, ours, "import"),
        "tables, first result on the image, faster (at least 25)": ratio(
            "tables: juliacall", "tables: image", "first_result"
        ),
        "tables, first call of the string less that of the file, seconds (at most 0.15)": medians["tables: image"][
            "first_call"
        ]
        - medians["tables as a file: image"]["first_call"],
        "model, first result on the layer, faster (at least 3)": ratio(
            "model: juliacall", "model: layer", "first_result"
        ),
        "model, first result on the image, faster (at least 25)": ratio(
            "model: juliacall", "model: image", "first_result"
        ),
        "model, first call less three second calls, seconds (at most 0.02)": own["first_call"]
        - 3 * own["second_call"],
    }


def build_layer(program: str, environ: dict[str, str]) -> dict:
    if not there("layers/*/layer.json", environ):
        run(f"{program}: layer", {f"layer-{program}": environ})
        command(["build", "--quick", "--json"], environ)
    return {"seconds": there("layers/*/layer.json", environ)[-1]["build_seconds"]}


def there(pattern: str, environ: dict[str, str]) -> list[dict]:
    """The facts of what has been built in a store, oldest first."""
    found = [json.loads(path.read_text()) for path in Path(environ["PYJL_AUTOIMAGE_HOME"], "v1").glob(pattern)]
    return sorted(found, key=lambda facts: facts["built_at"])


def build_images(environ: dict[str, str], generations: int) -> list[dict]:
    built = [
        {"seconds": facts["build_seconds"], "bytes": facts["bytes"]}
        for facts in there("images/*/image.json", environ)
    ]
    for _ in range(generations - len(built)):
        for kind in OURS:
            run(f"{kind}: image", {"image": environ})
        print("building an image", file=sys.stderr)
        began = time.perf_counter()
        facts = command(["build", "--json"], environ)
        built.append({"seconds": time.perf_counter() - began, "bytes": facts["bytes"], "phases": facts["seconds"]})
    return built


def by_hand(status: dict) -> dict[str, str]:
    """juliacall told everything that it would have to find out, and the same image."""
    from pyjl_autoimage.julia.environment import Environment
    from pyjl_autoimage.julia.facts import probe

    executable, project = status["environment"]["executable"], status["environment"]["project"]
    facts = probe(Environment(executable, project))
    return {
        **os.environ,
        "PYTHON_JULIACALL_EXE": executable,
        "PYTHON_JULIACALL_PROJECT": project,
        "PYTHON_JULIACALL_LIB": facts.libjulia,
        "PYTHON_JULIACALL_BINDIR": facts.bindir,
        "PYTHON_JULIACALL_SYSIMAGE": status["image"]["path"],
        "PYTHON_JULIACALL_HANDLE_SIGNALS": "no",
    }


def command(arguments: list[str], environ: dict[str, str]) -> dict:
    result = subprocess.run(
        [sys.executable, "-m", "pyjl_autoimage", *arguments],
        cwd=HERE,  # where the programs are: juliapkg looks for juliapkg.json there, and below the current directory
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"pyjl-autoimage {' '.join(arguments)} ended with status {result.returncode}")
    return json.loads(result.stdout)


def run(kind: str, environs: dict) -> dict:
    program, how, where = KINDS[kind]
    result = subprocess.run(
        [sys.executable, str(HERE / "programs.py"), program, how],
        env={**environs[where], "BENCH_STARTED": repr(time.time())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(arguments, check=True)
    return time.perf_counter() - began


def table(result: dict) -> str:
    lines = ["".join([f"{'':36}", *(f"{label:>15}" for label in PHASES.values())])]
    for kind, medians in result["median"].items():
        cells = [f"{medians[phase]:>15.3f}" if phase in medians else f"{'':>15}" for phase in PHASES]
        lines.append(f"{kind:36}" + "".join(cells))
    lines += [f"{name:36}{'':75}{value:>15.3f}" for name, value in result["floor"].items()]
    lines += ["", *(f"{value:8.3f}  {name}" for name, value in result["bars"].items())]
    return "\n".join(lines)


def plot(result: dict, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parts = {"import": "#9558b2", "load": "#4063d8", "first_call": "#389826"}
    kinds = [kind for kind in KINDS if kind.startswith("model")][::-1]
    names = {
        "model: juliacall": "plain juliacall",
        "model: layer": "with a layer",
        "model: image, model in Main": "with an image",
        "model: image": "with an image that\nhas the program's own code",
    }
    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    for row, kind in enumerate(kinds):
        left = 0.0
        for part, colour in parts.items():
            value = result["median"][kind][part]
            axes.barh(row, value, left=left, color=colour, height=0.6, label=None if row else PHASES[part])
            left += value
        axes.text(left, row, f"  {result['median'][kind]['first_result']:.2f} s", va="center", fontweight="bold")
    axes.set_yticks(range(len(kinds)), [names[kind] for kind in kinds])
    axes.set_xlabel("seconds from the start of the import to the first result (median)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.margins(x=0.12)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
