"""What the hook costs in a program without Julia, enabled against not, side by side in one run.

Starts ``python -c ''`` many times in turn, in two virtual environments that differ in nothing but `enable` (and, for
comparison, under `run`), and prints quartiles and differences as JSON, in milliseconds.

    python benchmarks/hook.py --runs 300 --json hook.json

It needs no Julia. The virtual environments are made without network, and removed at the end. `elapsed` is what a
clock says, `processor` how long the processor worked, `line` what Python's `site` spends on the line of the .pth
file, `lookups` what it takes to ask the finder for a thousand other modules, `imports` how many more modules a
program has.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import pyjl_autoimage

import results

IN_PROCESS = """
import json, sys, timeit
path = sys.argv[1]
line = open(path).read().splitlines()[1]
ours = lambda finder: hasattr(finder, "pyjl_autoimage")
finder = next(f for f in sys.meta_path if ours(f))
def first():
    sys.meta_path[:] = [f for f in sys.meta_path if not ours(f)]
    exec(line)
again = lambda: exec(line)
best = lambda f, n: min(timeit.repeat(f, number=n, repeat=9)) / n
look = lambda: [finder.find_spec("numpy") for _ in range(1000)]
# `site` of a virtual environment executes each .pth file twice.
print(json.dumps({"line": best(first, 100) + best(again, 100), "lookups": best(look, 5)}))
"""


def main() -> int:
    parser = results.parser(__doc__)
    parser.add_argument("--runs", type=int, default=300, help="measured starts of each kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        result = measure(Path(directory), options.runs)
    results.show(result, options)
    return 0


def measure(root: Path, runs: int) -> dict:
    environ = {**os.environ, "PYJL_AUTOIMAGE_HOME": str(root / "store")}
    environ.pop("PYTHONPATH", None)
    plain, enabled = environment(root / "plain"), environment(root / "enabled")
    subprocess.run([enabled, "-m", "pyjl_autoimage", "enable"], env=environ, check=True, stdout=subprocess.DEVNULL)
    (pth,) = (root / "enabled").rglob("pyjl_autoimage_hook.pth")
    commands = {
        "plain": [plain, "-c", ""],
        "enabled": [enabled, "-c", ""],
        "run": [plain, "-m", "pyjl_autoimage", "run", "-c", ""],
    }
    samples: dict[str, list[tuple[float, float]]] = {kind: [] for kind in commands}
    for number in range(runs + 3):
        # In turn, and not always in the same order: what one leaves in the caches is there for each.
        for kind in sorted(commands, key=lambda kind: (number + list(commands).index(kind)) % len(commands)):
            times = start(commands[kind], environ)
            if number >= 3:
                samples[kind].append(times)
    modules = {
        kind: int(output([commands[kind][0], "-c", "import sys; print(len(sys.modules))"], environ))
        for kind in ("plain", "enabled")
    }
    inside = json.loads(output([enabled, "-c", IN_PROCESS, str(pth)], environ))
    return {
        "runs": runs,
        "machine": results.machine(),
        **{
            what: {kind: spread(times[index] for times in taken) for kind, taken in samples.items()}
            for index, what in enumerate(("elapsed", "processor"))
        },
        "enabled_costs": {
            **costs(samples["plain"], samples["enabled"]),
            "line": round(1000 * inside["line"], 4),
            "lookups": round(1000 * inside["lookups"], 4),
            "imports": modules["enabled"] - modules["plain"],
        },
        "run_costs": costs(samples["plain"], samples["run"]),
    }


def start(command: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Start a process; milliseconds that passed, and that its processor worked (0 where that is not known)."""
    before, began = processor(), time.perf_counter()
    subprocess.run(command, env=environ, check=True)
    return 1000 * (time.perf_counter() - began), 1000 * (processor() - before)


def processor() -> float:
    if sys.platform == "win32":
        return 0.0
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def spread(values: Iterable[float]) -> list[float]:
    """Quartiles; the one in the middle is the median."""
    return [round(value, 3) for value in statistics.quantiles(values, n=4)]


def costs(plain: list[tuple[float, float]], other: list[tuple[float, float]]) -> dict[str, float]:
    """Medians of the differences between starts of the same turn, and the ratio of the medians."""
    result = {}
    for index, what in enumerate(("elapsed", "processor")):
        differences = [b[index] - a[index] for a, b in zip(plain, other, strict=True)]
        result[what] = round(statistics.median(differences), 3)
    middle = [statistics.median(times[0] for times in kind) for kind in (plain, other)]
    return {**result, "ratio": round(middle[1] / middle[0], 4)}


def environment(root: Path) -> str:
    """A virtual environment that sees this package and what it needs; its Python."""
    import sysconfig

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    windows = sys.platform == "win32"
    site = sysconfig.get_path("purelib", "nt_venv" if windows else "posix_prefix", {"base": str(root)})
    paths = {
        str(Path(pyjl_autoimage.__file__).parent.parent),
        *(sysconfig.get_path(n) for n in ("purelib", "platlib")),
    }
    Path(site, "paths.pth").write_text("\n".join(sorted(paths)) + "\n")
    return str(root / ("Scripts/python.exe" if windows else "bin/python"))


def output(command: list[str], environ: dict[str, str]) -> str:
    return subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
