"""What start-up itself costs, from ``import pyjl_autoimage`` to the hand-over to juliacall, and after it.

No Julia is needed: stand-ins take the places of Julia and juliacall (`tests/standin.py`). Fresh Python
processes start in turn in three stores: an empty one, one with a single image of a single package, and a full
one (by default 10,000 recordings, 200 images of 500 packages each, a manifest of 500 packages). The time must
not grow with any of them.

    python benchmarks/hotpath.py --runs 30 --json hotpath.json

All times are milliseconds. `needed` is the import of ctypes, which juliacall does anyway and we do before it;
the sum does not count it.

    python benchmarks/hotpath.py --distributions 500 --against COMMIT

compares with another commit instead, in the same run, one start of each in turn: in a store with one image, in a
stand-in virtual environment with so many installed distributions, where juliapkg (a stand-in, too) says which Julia.
Our own work is there all that a start takes longer than a plain ``import juliacall``, from before ``import
pyjl_autoimage`` to the first line of juliacall, and from its last one to the first line of the program. System calls
are counted by strace, of the whole process less those of a plain one; where there is none, they are left out.
"""

from __future__ import annotations

import argparse
import compileall
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import results
from standin import World, age

ROOT = Path(__file__).parent.parent

PARTS = {
    "needed": "import ctypes (juliacall does, too)",
    "import": "import pyjl_autoimage",
    "prepare": "the plan, the image, the recording",
    "guard": "guard and options",
    "finish": "after juliacall",
    "sum": "all our own",
}

MEASURED = """
import sys, json
from time import perf_counter as now
stamps = {}
began = now()
import ctypes, faulthandler
needed = now()
import pyjl_autoimage
from pyjl_autoimage.startup import start as runtime
imported = now()
def stamped(function, name):
    def call(*arguments):
        began = now()
        result = function(*arguments)
        stamps[name] = began, now()
        return result
    return call
runtime.prepare = stamped(runtime.prepare, "prepare")
runtime.finish = stamped(runtime.finish, "finish")
runtime._options = stamped(runtime._options, "options")
pyjl_autoimage.start()
times = {
    "needed": needed - began,
    "import": imported - needed,
    "prepare": stamps["prepare"][1] - stamps["prepare"][0],
    "guard": stamps["options"][1] - stamps["prepare"][1],
    "finish": stamps["finish"][1] - stamps["finish"][0],
}
times["sum"] = sum(times.values()) - times["needed"]
print(json.dumps({"image": runtime.session.on_image, "times": {k: 1000 * v for k, v in times.items()}}))
"""


def main() -> int:
    parser = results.parser(__doc__)
    parser.add_argument("--runs", type=int, default=30, help="measured processes of each kind")
    parser.add_argument("--recordings", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--packages", type=int, default=500)
    parser.add_argument("--distributions", type=int, default=500, help="(--against) installed ones, on sys.path")
    parser.add_argument("--against", metavar="COMMIT", help="compare with this commit, in the same run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hotpath-") as directory:
        result = compare(options, Path(directory)) if options.against else measure(options, Path(directory))
    results.show(result, options, comparison(result) if options.against else table(result))
    return 0


def measure(options: argparse.Namespace, directory: Path) -> dict:
    worlds = {
        "empty": world(directory / "empty", images=0, packages=1, recordings=0),
        "one": world(directory / "one", images=1, packages=1, recordings=0),
        "full": world(
            directory / "full", images=options.images, packages=options.packages, recordings=options.recordings
        ),
    }
    for kind in worlds.values():
        for _ in range(3):  # the answer is made, remembered, and read once; bytecode is compiled
            start(kind)
    samples: dict[str, list[dict]] = {name: [] for name in worlds}
    for _ in range(options.runs):
        for name, kind in worlds.items():
            samples[name].append(start(kind))
    medians = {
        name: {part: statistics.median(run[part] for run in runs) for part in PARTS} for name, runs in samples.items()
    }
    return {
        "runs": options.runs,
        "full": {name: getattr(options, name) for name in ("recordings", "images", "packages")},
        "machine": results.machine(),
        "median": medians,
        "spread": {
            name: {part: [min(run[part] for run in runs), max(run[part] for run in runs)] for part in PARTS}
            for name, runs in samples.items()
        },
        "ratio": {
            "full to empty": medians["full"]["sum"] / medians["empty"]["sum"],
            "full to one": medians["full"]["sum"] / medians["one"]["sum"],
        },
    }


def world(root: Path, *, images: int, packages: int, recordings: int) -> World:
    """A store of that size, and a project with that many packages."""
    root.mkdir()
    place = World(root)
    template = place.image().packages[0]
    baked, manifest = [template], ""
    for number in range(1, packages):
        name, uuid = f"Package{number}", f"00000000-0000-4000-8000-{number:012x}"
        manifest += f'[[deps.{name}]]\ngit-tree-sha1 = "{template.tree_sha1}"\nuuid = "{uuid}"\nversion = "1.0.0"\n'
        baked.append(replace(template, name=name, uuid=uuid, version="1.0.0", source=place.install(name, uuid)))
    place.write_manifest(extra=manifest)
    for number in range(images):
        place.publish(b"image %d" % number, built_at=float(number), packages=tuple(baked))
    directory = Path(place.store.recordings(place.environment.id))
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(recordings):
        for suffix in (".jl", ".log"):
            (directory / f"host-{number}-{number}-00000000{suffix}").write_text("")
    age(root)
    return place


def start(place: World) -> dict:
    """One start in a fresh process; milliseconds."""
    environ = {k: v for k, v in place.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = str(place.root / "bytecode")  # as installed: compiled
    result = subprocess.run(
        [sys.executable, "-c", MEASURED], env=environ, cwd=place.site, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(result.stdout.splitlines()[-1])["times"]


def table(result: dict) -> str:
    kinds = ("empty", "one", "full")
    lines = [f"{'milliseconds (median)':40}" + "".join(f"{kind:>9}" for kind in kinds)]
    for part, label in PARTS.items():
        lines.append(f"{label:40}" + "".join(f"{result['median'][kind][part]:>9.2f}" for kind in kinds))
    lines += [f"{name}: {ratio:.2f}" for name, ratio in result["ratio"].items()]
    return "\n".join(lines)


# -- against another commit ----------------------------------------------------------------------------

JULIAPKG = """
import os
from .state import STATE
def resolve(julia_args=None, dry_run=False):
    return True
def executable():
    return {executable!r}
def project():
    return {project!r}
def libjulia():
    return {libjulia!r}
def bindir():
    return {bindir!r}
"""

# Run with the stand-ins of either tree: in the one argument a world is made, which is told as JSON.
MADE = """
import json, sys
from pathlib import Path
from standin import World, age
world = World(Path(sys.argv[1]))
world.publish()
environ = {k: v for k, v in world.environ.items() if not k.startswith(("PYTHON", "JULIA", "PYJL"))}
environ["PYJL_AUTOIMAGE_HOME"] = world.store.home
where = {"executable": world.executable, "project": world.project, "libjulia": world.libjulia}
where = {name: str(path) for name, path in where.items()} | {"bindir": world.facts.bindir}
print(json.dumps({"site": str(world.site), "environ": environ, "where": where, "store": world.store.home}))
"""

# A program. What it asks of the package every tree has.
PROGRAM = """
import json, sys
from time import perf_counter as now
sys.path += {path!r}
import atexit, ctypes, faulthandler, shutil, subprocess, warnings  # which juliacall imports by itself
sys.stamps = []
if sys.argv[1:] == ["plain"]:
    began = now()
    import juliacall
    ended = now()
else:
    if sys.argv[1:] == ["first"]:
        try:  # the stand-in Julia is a script only because it is a stand-in
            from pyjl_autoimage.julia.environment import Environment
            Environment.is_script = lambda self: False
        except ImportError:
            pass
    began = now()
    from pyjl_autoimage import jl
    ended = now()
    import juliacall, pyjl_autoimage
    assert juliacall.CONFIG["sysimage"], "not on the image"
    assert sys.argv[1:] or "juliapkg" not in sys.modules, "the plan was not remembered"
    assert pyjl_autoimage.__file__.startswith({site!r}), pyjl_autoimage.__file__
before, after = sys.stamps
print(json.dumps(1000 * (before - began + ended - after)))
"""


def compare(options: argparse.Namespace, directory: Path) -> dict:
    old = directory / "old-tree"
    archive = subprocess.run(["git", "archive", options.against], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
        tree.extractall(old, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    commands = {
        name: installed(tree, directory / name, options.distributions) for name, tree in (("old", old), ("new", ROOT))
    }
    plain = [*commands["new"][0], "plain"], commands["new"][1]
    for command, environ in commands.values():
        for argument in ("first", "second", "third"):
            timed([*command, argument], environ)
    samples: dict[str, list[float]] = {"plain": [], "old": [], "new": []}
    for _ in range(options.runs):
        for name, (command, environ) in {"plain": plain, **commands}.items():
            samples[name].append(timed(command, environ))
    calls = {name: counted(*how) for name, how in {"plain": plain, **commands}.items()}
    return {
        "runs": options.runs,
        "against": options.against,
        "distributions": options.distributions,
        "machine": results.machine(),
        # On a machine that has other things to do the least says more than the median.
        "median": ours({name: statistics.median(times) for name, times in samples.items()}),
        "least": ours({name: min(times) for name, times in samples.items()}),
        "measured": {name: sorted(times) for name, times in samples.items()},
        "calls": None if None in calls.values() else ours(calls) | {"of the whole process": calls},
    }


def ours(measured: dict[str, float]) -> dict:
    """What is more than a plain ``import juliacall`` takes."""
    old, new = (measured[name] - measured["plain"] for name in ("old", "new"))
    return {"old": old, "new": new, "ratio": new / old}


def installed(tree: Path, root: Path, distributions: int) -> tuple[list[str], dict[str, str]]:
    """A program in a virtual environment in which that tree and so many others are installed: how to run it."""
    root.mkdir()
    path = os.pathsep.join((str(tree / "src"), str(tree / "tests")))
    world = json.loads(
        subprocess.run(
            [sys.executable, "-c", MADE, root / "world"],
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=made(root / "world"),
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    )
    site = root / "venv" / "lib" / "python" / "site-packages"
    site.parent.mkdir(parents=True)
    shutil.move(world["site"], site)
    for number in range(distributions):
        distribution(site, f"distribution{number}", entry_points=number % 5 == 0)
    (site / "juliapkg").mkdir()
    (site / "juliapkg" / "__init__.py").write_text(JULIAPKG.format(**world["where"]))
    (site / "juliapkg" / "state.py").write_text(
        "STATE = {'project': None, 'override_executable': None, 'offline': False}\n"
    )
    juliacall = site / "juliacall" / "__init__.py"
    stamp = "\nimport sys, time; getattr(sys, 'stamps', []).append(time.perf_counter())\n"
    juliacall.write_text(f"{stamp}{juliacall.read_text()}{stamp}")
    (Path(world["where"]["project"]) / "pyjuliapkg").mkdir()
    (Path(world["where"]["project"]) / "pyjuliapkg" / "meta.json").write_text("{}")
    shutil.copytree(
        tree / "src" / "pyjl_autoimage", site / "pyjl_autoimage", ignore=shutil.ignore_patterns("__pycache__")
    )
    program = made(root / "program") / "main.py"
    also = [sysconfig.get_path("purelib")] if sys.version_info < (3, 11) else []  # TOML is read with what is there
    program.write_text(PROGRAM.format(path=[str(site), *also], site=str(site)))
    age(root)
    compileall.compile_dir(site, quiet=2)
    for top, _, _ in os.walk(site):
        os.utime(top, (1, 1))
    return [sys.executable, "-S", str(program)], {**world["environ"], "PYTHONDONTWRITEBYTECODE": "1"}


def made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def distribution(site: Path, name: str, *, entry_points: bool) -> None:
    """Install one that does nothing, as pip would."""
    made(site / name)
    made(site / f"{name}-1.0.dist-info")
    files = {f"{name}/__init__.py": "", f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\n"}
    files[f"{name}-1.0.dist-info/INSTALLER"] = "pip\n"
    if entry_points:
        files[f"{name}-1.0.dist-info/entry_points.txt"] = f"[console_scripts]\n{name} = {name}:main\n"
    record = f"{name}-1.0.dist-info/RECORD"
    for file, text in {**files, record: "".join(f"{file},,\n" for file in [*files, record])}.items():
        (site / file).write_text(text)


def timed(command: list[str], environ: dict[str, str]) -> float:
    done = subprocess.run(command, env=environ, cwd=Path(command[2]).parent, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def counted(command: list[str], environ: dict[str, str]) -> int | None:
    """System calls of a process and all that it starts: the least of three; None where nothing counts them."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    counts = []
    for _ in range(3):
        with tempfile.NamedTemporaryFile("r") as file:
            traced = subprocess.run(
                [strace, "-f", "-qq", "-o", file.name, *command],
                env=environ,
                cwd=Path(command[2]).parent,
                capture_output=True,
                check=False,
            )
            if traced.returncode:
                return None  # it may not trace here
            counts.append(sum("resumed>" not in line and "(" in line for line in file))
    return min(counts)


def comparison(result: dict) -> str:
    head = f"{result['distributions']} distributions"
    lines = [f"{head:24}{result['against'][:12]:>14}{'this tree':>14}{'ratio':>8}"]
    rows = [("milliseconds (median)", "median", ".2f"), ("milliseconds (least)", "least", ".2f")]
    for label, key, form in [*rows, ("system calls", "calls", ".0f")][: 3 if result["calls"] else 2]:
        found = result[key]
        lines.append(f"{label:24}{found['old']:>14{form}}{found['new']:>14{form}}{found['ratio']:>8.2f}")
    if not result["calls"]:
        lines.append("system calls are not counted: there is no strace, or it may not trace")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
