"""Programs that nobody changed: packages that import juliacall themselves, stock and on an image, in one run.

Each program runs in fresh Python processes in turn: plain, under ``python -m pyjl_autoimage run``, and plain again
where the environment is enabled. Printed are the medians, as JSON and as a table: seconds from the start of Python to
the first output, to the end of the process, and to the end of one that only imports what the program does.
With --build the first step of a build alone (``build --quick``) is measured before, too.

    python benchmarks/third_party.py --build                   the programs in third_party/ that can run here
    python benchmarks/third_party.py --runs 9 mine.py
    python benchmarks/third_party.py --command tests="-m pytest tests"

Programs must print the same each time. Commands may not (a test suite prints how long it took): of them the exit
status is compared. What a program needs are the packages that it imports, and a Julia project that juliapkg finds.
Images are built in a store of the benchmark's own (``.bench``, or --store), from what the programs recorded there.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from build import measured
from startup import command

import results

HERE = Path(__file__).parent
RUN = ["-m", "pyjl_autoimage", "run"]
MEASURES = {"import": "import", "first_output": "first output", "process": "whole process"}


@dataclass(frozen=True)
class Program:
    """What to run: arguments of Python, and whether every run of it prints the same."""

    name: str
    arguments: list[str]
    repeatable: bool = True
    missing: tuple[str, ...] = ()
    imports: str = "pass"
    """Its import statements."""


@dataclass(frozen=True)
class Outcome:
    """One run."""

    status: int
    output: str
    seconds: dict[str, float]


def main() -> int:
    parser = results.parser(__doc__)
    parser.add_argument("programs", nargs="*", type=Path, help="Python files; default: those in third_party/")
    parser.add_argument(
        "--command", action="append", default=[], metavar="NAME=ARGUMENTS", help="arguments of Python"
    )
    parser.add_argument("--runs", type=int, default=5, help="measured processes of each kind")
    parser.add_argument(
        "--build", action="store_true", help="run each program once recorded, and build an image first"
    )
    parser.add_argument("--store", default=str(HERE.parent / ".bench"))
    options = parser.parse_args()
    files = options.programs or ([] if options.command else sorted((HERE / "third_party").glob("*.py")))
    programs = [from_file(file) for file in files] + [from_command(command) for command in options.command]
    result = measure(programs, options)
    results.show(result, options, table(result))
    return 0 if any("median" in row for row in result["programs"]) else 1


def from_file(file: Path) -> Program:
    """The program in a file; what it imports and this Python does not have is missing."""
    imported: set[str] = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports = "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module)
    modules = sorted({name.partition(".")[0] for name in imported})
    missing = tuple(name for name in modules if importlib.util.find_spec(name) is None)
    return Program(file.stem, [str(file)], missing=missing, imports=imports)


def from_command(command: str) -> Program:
    name, equals, arguments = command.partition("=")
    if not equals:
        raise SystemExit(f"--command wants NAME=ARGUMENTS, not {command!r}")
    return Program(name, shlex.split(arguments), repeatable=False)


def measure(programs: list[Program], options: argparse.Namespace) -> dict:
    environ = {**os.environ, "PYJL_AUTOIMAGE_HOME": options.store, "PYTHONUNBUFFERED": "1"}
    environ.pop("PYJL_AUTOIMAGE", None)
    plain = {**environ, "PYJL_AUTOIMAGE": "0"}
    kinds: dict[str, tuple[list[str], dict[str, str]]] = {"stock": ([], plain), "run": (RUN, environ)}
    if is_enabled(environ):
        kinds["enabled"] = ([], environ)
    usable = [program for program in programs if not program.missing]
    built, quick, layered = None, None, {}
    if options.build and usable:
        for program in usable:
            run(program, RUN, environ)  # recorded
        print("building layers", file=sys.stderr)
        quick = measured(lambda: {"layers": len(command(["build", "--quick", "--json"], environ)["layers"])})
        ways = {"stock": kinds["stock"], "layer": kinds["run"]}
        layered = {program.name: sample(program, ways, options.runs) for program in usable}
        print("building an image", file=sys.stderr)
        built = measured(lambda: {"bytes": command(["build", "--json"], environ)["bytes"]})
    rows: list[dict] = []
    for program in programs:
        if program.missing:
            rows.append({"program": program.name, "missing": program.missing})
        else:
            rows.append({**sample(program, kinds, options.runs), "layered": layered.get(program.name)})
    status = command(["status", "--json"], environ)
    return {
        "machine": results.machine(),
        "julia": status["environment"]["julia_version"],
        "image": {key: status["image"][key] for key in ("bytes", "statements")} if status.get("image") else None,
        "enabled": "enabled" in kinds,
        "runs": options.runs,
        "build": built,
        "quick": quick,
        "programs": rows,
    }


def sample(program: Program, kinds: dict[str, tuple[list[str], dict[str, str]]], runs: int) -> dict:
    """So many runs of each kind, in turn, and what they say."""
    # A first run of each reads its files from disk, and says whether it works at all.
    first = {kind: run(program, *how) for kind, how in kinds.items()}
    samples: dict[str, list[Outcome]] = {kind: [] for kind in kinds}
    for _ in range(runs):
        for kind, how in kinds.items():
            samples[kind].append(run(program, *how))
    return compare(program, first, samples)


def compare(program: Program, first: dict[str, Outcome], samples: dict[str, list[Outcome]]) -> dict:
    """Medians and spread of a program's runs; or how they differed, where they should not."""
    everything = [(kind, outcome) for kind in samples for outcome in (first[kind], *samples[kind])]
    expected = first["stock"]
    for kind, outcome in everything:
        if outcome.status != expected.status:
            return {"program": program.name, "differs": f"{kind} ended with {outcome.status}, not {expected.status}"}
        if program.repeatable and outcome.output != expected.output:
            return {"program": program.name, "differs": f"{kind} printed {outcome.output!r}, not {expected.output!r}"}
    row: dict = {"program": program.name, "status": expected.status, "median": {}, "spread": {}, "ratio": {}}
    for kind, outcomes in samples.items():
        seconds = {name: [outcome.seconds[name] for outcome in outcomes] for name in MEASURES}
        row["median"][kind] = {name: statistics.median(values) for name, values in seconds.items()}
        row["spread"][kind] = {name: [min(values), max(values)] for name, values in seconds.items()}
    for kind in samples:
        if kind != "stock":
            row["ratio"][kind] = {name: row["median"]["stock"][name] / row["median"][kind][name] for name in MEASURES}
    return row


def run(program: Program, through: list[str], environ: dict[str, str]) -> Outcome:
    """One process. What it prints on stderr goes to ours."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *through, *program.arguments],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first_output, lines = None, []
        for line in process.stdout:
            if not is_log(line):
                first_output = first_output or time.perf_counter() - began
                lines.append(line)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    command = [sys.executable, *through, "-c", program.imports]
    subprocess.run(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=program.repeatable
    )
    taken = {"import": time.perf_counter() - began, "first_output": first_output or seconds, "process": seconds}
    return Outcome(process.returncode, "".join(lines), taken)


def is_log(line: str) -> bool:
    """Whether juliapkg printed it: in a project that it has not resolved itself, plain juliacall lets it talk."""
    return line.startswith(("[juliapkg] ", " " * 11 + "|"))


def is_enabled(environ: dict[str, str]) -> bool:
    """Whether a fresh Python has the hook before it runs anything."""
    question = "import sys; sys.exit(not any(hasattr(finder, 'pyjl_autoimage') for finder in sys.meta_path))"
    return subprocess.run([sys.executable, "-c", question], env=environ, check=False).returncode == 0


def table(result: dict) -> str:
    kinds = ["stock", "layer", "run", *(["enabled"] if result["enabled"] else [])]
    lines = [f"{'':32}{'':16}" + "".join(f"{kind:>16}" for kind in kinds)]
    for row in result["programs"]:
        if "median" not in row:
            why = row.get("differs") or "not installed: " + ", ".join(row["missing"])
            lines.append(f"{row['program']:32}{why}")
            continue
        for name, label in MEASURES.items():
            cells = []
            for kind in kinds:
                of = row["layered"] or {} if kind == "layer" else row
                ratio = f" {of['ratio'][kind][name]:5.1f}x" if kind in of.get("ratio", {}) else ""
                cells.append(f"{of['median'][kind][name]:.2f}s{ratio}" if kind in of.get("median", {}) else "-")
            lines.append(f"{row['program']:32}{label:16}" + "".join(f"{cell:>16}" for cell in cells))
    for name in ("quick", "build"):
        if result[name]:
            cost = result[name]
            size = f", {cost['bytes'] / 1e6:.0f} MB" if "bytes" in cost else ""
            lines.append(f"{name}: {cost['wall']:.0f} s, {cost['peak_resident'] / 1e9:.1f} GB of memory{size}")
    if not result["image"]:
        lines.append("There is no image here: `run` starts as stock does, and records. Build one with --build.")
    if not result["enabled"]:
        lines.append("This environment is not enabled (python -m pyjl_autoimage enable): not measured.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
