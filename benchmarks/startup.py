"""Stock juliacall against the image, side by side in one run.

Runs a program (see `pyjl_autoimage.demos.tables`) in fresh Python processes, in turn on plain juliacall and
on the image, and prints medians and spread as JSON and as a table.

    python benchmarks/startup.py --runs 7 --json startup.json --plot startup.png

It needs a Julia project that juliapkg finds, with DataFrames and CSV for the default program. Images are
built in a store of the benchmark's own (``.bench``, or --store) unless it has one already.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

PHASES = {
    "import": "import",
    "load": "load packages",
    "first_call": "first call",
    "second_call": "second call",
    "first_result": "time to first result",
    "process": "whole process",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="measured processes of each kind")
    parser.add_argument("--variant", default="with-csv", choices=["with-csv", "without-csv", "standard-library"])
    parser.add_argument("--generations", type=int, default=1, help="builds, each from what runs on the last recorded")
    parser.add_argument("--store", default=str(Path(__file__).parent.parent / ".bench"))
    parser.add_argument("--dev-packages", default="skip", choices=["skip", "bake"])
    parser.add_argument("--json", dest="json_file", help="write the result here, too")
    parser.add_argument("--plot", help="write a picture here")
    parser.add_argument("--from-json", help="draw the plot of an earlier result; run nothing")
    options = parser.parse_args()
    if options.from_json:
        result = json.loads(Path(options.from_json).read_text())
    else:
        result = measure(options)
        text = json.dumps(result, indent=2)
        if options.json_file:
            Path(options.json_file).write_text(text + "\n")
        print(text)
    print(table(result), file=sys.stderr)
    if options.plot:
        plot(result, options.plot)
    return 0


def measure(options: argparse.Namespace) -> dict:
    environ = {
        **os.environ,
        "PYJL_AUTOIMAGE_HOME": options.store,
        "PYJL_AUTOIMAGE_DEV_PACKAGES": options.dev_packages,
    }
    builds = [build(environ, options.variant) for _ in range(options.generations - generations_built(environ))]
    kinds = {"stock": {"DEMO_PLAIN": "1"}, "image": {}}
    for extra in kinds.values():
        run(options.variant, {**environ, **extra})  # a first run of each reads its files from disk
    samples: dict[str, list[dict]] = {kind: [] for kind in kinds}
    for _ in range(options.runs):
        for kind, extra in kinds.items():
            samples[kind].append(run(options.variant, {**environ, **extra}))
    answers = {sample["answer"] for kind in samples.values() for sample in kind}
    if len(answers) != 1:
        raise SystemExit(f"the runs gave different answers: {answers}")
    medians = {
        kind: {phase: statistics.median(s[phase] for s in runs) for phase in PHASES} for kind, runs in samples.items()
    }
    status = command(["status", "--json"], environ)
    return {
        "program": options.variant,
        "runs": options.runs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "julia": status["environment"]["julia_version"],
        "image": {k: status["image"][k] for k in ("bytes", "statements")},
        "builds": builds,
        "median": medians,
        "spread": {
            kind: {phase: [min(s[phase] for s in runs), max(s[phase] for s in runs)] for phase in PHASES}
            for kind, runs in samples.items()
        },
        "ratio": {phase: medians["stock"][phase] / medians["image"][phase] for phase in PHASES},
        "floor": floor(status["environment"]["executable"]),
    }


def floor(julia: str) -> dict[str, float]:
    """What a bare Julia and a bare Python cost: nothing that starts both can be faster."""
    commands = {"julia": [julia, "--startup-file=no", "-e", ""], "python": [sys.executable, "-c", ""]}
    result = {}
    for name, arguments in commands.items():
        times = []
        for _ in range(6):
            began = time.perf_counter()
            subprocess.run(arguments, check=True)
            times.append(time.perf_counter() - began)
        result[name] = statistics.median(times[1:])
    return result


def generations_built(environ: dict[str, str]) -> int:
    images = Path(environ["PYJL_AUTOIMAGE_HOME"], "v1", "images")
    return len(list(images.iterdir())) if images.is_dir() else 0


def build(environ: dict[str, str], variant: str) -> dict:
    run(variant, environ)  # recorded
    print("building an image", file=sys.stderr)
    began = time.perf_counter()
    built = command(["build", "--json"], environ)
    return {"seconds": time.perf_counter() - began, "bytes": built["bytes"], "phases": built["seconds"]}


def command(arguments: list[str], environ: dict[str, str]) -> dict:
    result = subprocess.run(
        [sys.executable, "-m", "pyjl_autoimage", *arguments],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"pyjl-autoimage {' '.join(arguments)} ended with status {result.returncode}")
    return json.loads(result.stdout)


def run(variant: str, environ: dict[str, str]) -> dict:
    result = subprocess.run(
        [sys.executable, "-m", "pyjl_autoimage.demos.tables", variant],
        env={**environ, "DEMO_STARTED": repr(time.time())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def table(result: dict) -> str:
    lines = [f"{'':24}{'stock':>10}{'image':>10}{'ratio':>8}"]
    for phase, label in PHASES.items():
        stock, image = (result["median"][kind][phase] for kind in ("stock", "image"))
        lines.append(f"{label:24}{stock:>9.3f}s{image:>9.3f}s{result['ratio'][phase]:>7.1f}x")
    return "\n".join(lines)


def plot(result: dict, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parts = {"import": "#9558b2", "load": "#4063d8", "first_call": "#389826"}
    figure, axes = pyplot.subplots(figsize=(8, 2.4), layout="constrained")
    for row, kind in enumerate(("image", "stock")):
        left = 0.0
        for part, colour in parts.items():
            seconds = result["median"][kind][part]
            axes.barh(row, seconds, left=left, color=colour, height=0.6, label=PHASES[part] if row else None)
            left += seconds
        axes.text(left, row, f"  {result['median'][kind]['first_result']:.2f} s", va="center", fontweight="bold")
    axes.set_yticks([0, 1], ["with the image", "plain juliacall"])
    axes.set_xlabel("seconds from the start of the import to the first result (median)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.margins(x=0.12)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
