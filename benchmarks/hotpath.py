"""What start-up itself costs, from ``import pyjl_autoimage`` to the hand-over to juliacall, and after it.

No Julia is needed: stand-ins take the places of Julia and juliacall (`tests/standin.py`). Fresh Python
processes start in turn in three stores: an empty one, one with a single image of a single package, and a full
one (by default 10,000 recordings, 200 images of 500 packages each, a manifest of 500 packages). The time must
not grow with any of them.

    python benchmarks/hotpath.py --runs 30 --json hotpath.json

All times are milliseconds. `needed` is the import of ctypes, which juliacall does anyway and we do before it;
the sum does not count it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import results
from standin import World, age

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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hotpath-") as directory:
        result = measure(options, Path(directory))
    results.show(result, options, table(result))
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


if __name__ == "__main__":
    sys.exit(main())
