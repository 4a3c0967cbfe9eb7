"""Our build against a plain `create_sysimage`: same packages, same statements, one after the other in one go.

Records a program once (see `people/demos/tables.py`), builds an image by hand with PackageCompiler's defaults,
then with pyjl_autoimage, then with its setting `slim`; starts the program on each image; prints JSON and a table.

    PYJL_AUTOIMAGE_BUILDER_PROJECT=... python benchmarks/build.py --json build.json

Each build finds its packages precompiled (what that took once is measured first): both keep those caches, the plain
one in the user's depot. CPU seconds are those of all processes of a build; they and the load average say how far the
wall time can be trusted on a machine that does other work, too.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pyjl_autoimage.base import settings
from pyjl_autoimage.build import recipe
from pyjl_autoimage.julia import environment
from pyjl_autoimage.profile import recordings
from pyjl_autoimage.startup.options import user_options
from pyjl_autoimage.store import validity
from pyjl_autoimage.store.places import Store

import results

DEMO = "pyjl_autoimage.people.demos.tables"
KINDS = {
    "plain": "create_sysimage with its defaults",
    "ours": "pyjl_autoimage",
    "slim": "pyjl_autoimage, slim",
}

# What a user would write.
PLAIN = """
using PackageCompiler
create_sysimage(PACKAGES; project = PROJECT, sysimage_path = LIBRARY, precompile_statements_file = STATEMENTS)
"""
PLAIN_PHASES = (
    (re.compile(r"ensurecompiled: running"), "precompile"),
    (re.compile(r"running precompilation execution script"), "load, statements, native code"),
    (re.compile(r"Debug: running .* -shared "), "link"),
)


def main() -> int:
    parser = results.parser(__doc__)
    parser.add_argument("--variant", default="with-csv", choices=["with-csv", "without-csv", "standard-library"])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--runs", type=int, default=5, help="measured processes on each image")
    parser.add_argument("--directory", help="where everything is written and kept; default: a temporary directory")
    parser.add_argument("--lock", help="a file to lock during each build, where others build, too")
    options = parser.parse_args()
    if not os.environ.get("PYJL_AUTOIMAGE_BUILDER_PROJECT"):
        parser.error("PYJL_AUTOIMAGE_BUILDER_PROJECT must name a Julia project that has PackageCompiler")
    with nullcontext(options.directory) if options.directory else tempfile.TemporaryDirectory() as directory:
        result = measure(options, Path(directory))
    results.show(result, options, table(result))
    return 0


def measure(options: argparse.Namespace, directory: Path) -> dict:
    bench = Bench(options.variant, directory)
    bench.record()
    result: dict = {
        "program": options.variant,
        "cores": len(os.sched_getaffinity(0)),
        "julia": bench.facts.version,
        "statements": len(bench.statements),
        "packages": bench.packages,
    }
    result["first_precompile"] = measured(bench.precompile)
    result["builds"], result["starts"] = {}, {}
    for kind in options.kinds:
        print(f"building: {KINDS[kind]}", file=sys.stderr)
        with locked(options.lock):
            build = measured(lambda kind=kind: bench.plain() if kind == "plain" else bench.ours(kind))
        build["bytes"] = bench.image(kind).stat().st_size
        result["builds"][kind] = build
        result["starts"][kind] = bench.starts(kind, options.runs)
    if "plain" in result["builds"]:
        plain = result["builds"]["plain"]
        result["ratio"] = {
            kind: {what: round(build[what] / plain[what], 3) for what in ("wall", "cpu", "bytes")}
            for kind, build in result["builds"].items()
        }
    return result


class Bench:
    """One program, what it needs, and the places of its images."""

    def __init__(self, variant: str, directory: Path) -> None:
        self.variant = variant
        self.directory = directory
        self.environ = {**os.environ, "PYJL_AUTOIMAGE_HOME": str(directory / "recorded")}

    def record(self) -> None:
        """Run the program once, and settle what goes into every image."""
        self.run(self.environ)
        located = environment.locate(user_options())
        store = Store(str(self.directory / "recorded"))
        self.facts = validity.julia_facts(located, store, fresh=True)
        recorded = recordings.merge(store, located.id)
        situation = validity.situation_of(located, store, {})
        settled = settings.from_everywhere({"home": store.home})
        chosen = recipe.choose(situation, recorded, settled)
        recipe.write_project(str(self.directory / "project"), chosen, situation)
        self.project = located.project
        direct = set(recipe._direct_dependencies(located.project))
        self.packages = sorted(package.name for package in chosen.packages if package.uuid in direct)
        self.statements = recorded.bakeable()
        (self.directory / "statements.jl").write_text("".join(f"{line}\n" for line in self.statements))
        self.julia = os.path.join(self.facts.bindir, "julia")

    def store(self, kind: str) -> Path:
        return self.directory / kind

    def image(self, kind: str) -> Path:
        if kind == "plain":
            return self.directory / "plain" / "sys.so"
        (library,) = self.store(kind).glob("v1/images/*/sys.so")
        return library

    def depot(self, directory: Path) -> dict[str, str]:
        return {**os.environ, "JULIA_DEPOT_PATH": os.pathsep.join((str(directory), *self.facts.depots))}

    def precompile(self) -> dict:
        """What PackageCompiler does first; for every build the same, so done once and copied."""
        warm = self.directory / "warm"
        environ = {**self.depot(warm), "JULIA_LOAD_PATH": f"{self.directory / 'project'}{os.pathsep}@stdlib"}
        environ["JULIA_PYTHONCALL_EXE"] = sys.executable
        command = [self.julia, "--startup-file=no", "--pkgimages=no", "-e", "using Pkg; Pkg.precompile()"]
        subprocess.run(command, env=environ, check=True, stdout=sys.stderr)
        for kind in KINDS:
            place = self.store(kind) / ("depot" if kind == "plain" else "v1/builder/depot")
            shutil.copytree(warm, place, dirs_exist_ok=True)
        return {}

    def plain(self) -> dict:
        """Build by hand; seconds of each phase."""
        values = {
            "PACKAGES": json.dumps(self.packages),
            "PROJECT": json.dumps(self.project),
            "LIBRARY": json.dumps(str(self.image("plain"))),
            "STATEMENTS": json.dumps(str(self.directory / "statements.jl")),
        }
        script = re.sub(r"\b[A-Z]{7,}\b", lambda match: values.get(match.group(), match.group()), PLAIN)
        builder = os.environ["PYJL_AUTOIMAGE_BUILDER_PROJECT"]
        environ = {**self.depot(self.store("plain") / "depot"), "JULIA_DEBUG": "PackageCompiler"}
        environ["JULIA_PYTHONCALL_EXE"] = sys.executable
        process = subprocess.Popen(
            # At the low priority that our builds give themselves: what else runs here must slow all the same.
            ["nice", "-n", "10", self.julia, "--startup-file=no", f"--project={builder}", "-e", script],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        phases, phase, began = {}, "start", time.perf_counter()
        assert process.stdout is not None
        with (self.directory / "plain.log").open("w") as log:
            for line in process.stdout:
                log.write(line)
                for mark, name in PLAIN_PHASES:
                    if mark.search(line):
                        phases[phase], phase, began = time.perf_counter() - began, name, time.perf_counter()
        phases[phase] = time.perf_counter() - began
        if process.wait():
            raise SystemExit(f"create_sysimage failed: {self.directory / 'plain.log'}")
        return {"phases": {name: round(seconds, 1) for name, seconds in phases.items()}}

    def ours(self, kind: str) -> dict:
        """Build from the same recording, in a store of its own."""
        shutil.copytree(self.directory / "recorded", self.store(kind), dirs_exist_ok=True)
        environ = {**self.of(kind), "PYJL_AUTOIMAGE_SLIM": "1" if kind == "slim" else "0"}
        command = [sys.executable, "-m", "pyjl_autoimage", "build", "--json"]
        built = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True)
        return {"phases": json.loads(built.stdout)["seconds"]}

    def of(self, kind: str) -> dict[str, str]:
        """The environment of a program that starts on that image."""
        if kind == "plain":
            return {**self.environ, "DEMO_PLAIN": "1", "PYTHON_JULIACALL_SYSIMAGE": str(self.image("plain"))}
        return {**self.environ, "PYJL_AUTOIMAGE_HOME": str(self.store(kind)), "PYJL_AUTOIMAGE_RECORD": "0"}

    def run(self, environ: dict[str, str]) -> dict:
        command = [sys.executable, "-m", DEMO, self.variant]
        result = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(result.stdout.splitlines()[-1])

    def starts(self, kind: str, runs: int) -> dict:
        """Median times of the program on that image, and how many methods it still compiles."""
        trace = self.directory / f"{kind}.trace"
        self.run({**self.of(kind), "PYTHON_JULIACALL_TRACE_COMPILE": str(trace)})
        samples = [self.run(self.of(kind)) for _ in range(runs)]
        medians = {name: statistics.median(s[name] for s in samples) for name in ("import", "load", "first_result")}
        return {**medians, "answer": samples[0]["answer"], "compiled": len(trace.read_text().splitlines())}


def measured(work: Callable[[], dict]) -> dict:
    """Do it, and say what it cost: seconds by the wall clock and of all processors, bytes at their peak."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            peak[0] = max(peak[0], sum(map(resident, descendants(os.getpid()))))

    watcher = threading.Thread(target=watch, daemon=True)
    before, began, load = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), os.getloadavg()[0]
    watcher.start()
    extra = work()
    stop.set()
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall": round(time.perf_counter() - began, 1),
        "cpu": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "of_that_kernel": round(after.ru_stime - before.ru_stime, 1),
        "peak_resident": peak[0],
        "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
        **extra,
    }


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process started, and theirs."""
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from descendants(child)
    except OSError:
        return


def resident(pid: int) -> int:
    """Bytes of a process that are in memory; 0 if it has gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


@contextmanager
def locked(path: str | None) -> Iterator[None]:
    """Hold that lock, if there is one."""
    if path is None:
        yield
        return
    with Path(path).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def table(result: dict) -> str:
    rows = {
        "wall": ("wall, s", 1),
        "cpu": ("CPU, s", 1),
        "peak_resident": ("peak memory, GB", 1e9),
        "bytes": ("image, MB", 1e6),
    }
    builds, starts = result["builds"], result["starts"]
    lines = [f"{'':24}" + "".join(f"{kind:>12}" for kind in builds)]
    for key, (label, unit) in rows.items():
        lines.append(f"{label:24}" + "".join(f"{build[key] / unit:>12.1f}" for build in builds.values()))
    lines.append(f"{'load average':24}" + "".join(f"{build['load_average'][1]:>12.1f}" for build in builds.values()))
    for key, label in (("import", "import, s"), ("first_result", "first result, s")):
        lines.append(f"{label:24}" + "".join(f"{start[key]:>12.2f}" for start in starts.values()))
    lines.append(f"{'still compiled':24}" + "".join(f"{start['compiled']:>12}" for start in starts.values()))
    for phase in dict.fromkeys(name for build in builds.values() for name in build["phases"]):
        cells = (build["phases"].get(phase) for build in builds.values())
        lines.append(
            f"  {phase:30}"[:24].ljust(24) + "".join(f"{'' if c is None else f'{c:.1f}':>12}" for c in cells)
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
