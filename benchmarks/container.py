"""Cold starts of the program in `examples/container`, in fresh processes, as a serverless platform starts it.

Bakes it in a plain directory as its Dockerfile does, then *ships* the directory as a registry does: packed with times
in whole seconds, removed, unpacked at the same place. Every measured process finds the directory as it was unpacked,
and one kind of them the image on the disk alone, not in memory. Prints JSON and a table.

    python benchmarks/container.py --targets portable native --json container.json

It needs a Julia project that juliapkg finds, with DataFrames. Docker is not needed, and what it takes to start a
container is not in the figures.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from pyjl_autoimage.julia import environment
from pyjl_autoimage.startup.options import user_options

import results

EXAMPLE = Path(__file__).parent.parent / "examples" / "container"
ANSWER = {"bread": 18.0, "milk": 5.0}
KINDS = {
    "plain": "plain juliacall",
    "baked": "where it was baked",
    "shipped": "shipped",
    "from disk": "shipped, image not in memory",
    "forgotten": "shipped, nothing remembered",
}


def main() -> int:
    parser = results.parser(__doc__)
    parser.add_argument("--targets", nargs="+", default=["portable"], help="CPU targets to bake for, in turn")
    parser.add_argument("--once", action="store_true", help="one image, of one recorded run: quicker than --train")
    parser.add_argument("--runs", type=int, default=5, help="measured processes of each kind")
    parser.add_argument("--directory", help="where everything is written and kept; default: a temporary directory")
    options = parser.parse_args()
    result: dict = {"cores": len(os.sched_getaffinity(0)), "runs": options.runs, "once": options.once, "targets": {}}
    with nullcontext(options.directory) if options.directory else tempfile.TemporaryDirectory() as directory:
        for target in options.targets:
            result["targets"][target] = measure(
                Container(Path(directory, target), target), options.runs, once=options.once
            )
    results.show(result, options, table(result))
    return 0


class Container:
    """A directory in place of /app."""

    def __init__(self, directory: Path, target: str) -> None:
        self.app = directory / "app"
        self.packed = directory / "packed.tar"
        if not self.app.exists():
            shutil.copytree(EXAMPLE, self.app)
            located = environment.locate(user_options())
            shutil.copytree(located.project, self.app / "julia_env")
        given = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTHON_JULIACALL_", "PYJL_AUTOIMAGE_HOME"))
        }
        self.environ = {
            **given,
            "PYTHON_JULIAPKG_PROJECT": str(self.app / "julia_env"),
            "PYJL_AUTOIMAGE_HOME": str(self.app / ".autoimage"),
        }
        self.bake_environ = {**self.environ, "PYJL_AUTOIMAGE_CPU_TARGET": target}
        self.environ["PYJL_AUTOIMAGE_RECORD"] = "0"

    @property
    def images(self) -> Path:
        return self.app / ".autoimage" / "v1" / "images"

    def bake(self, once: bool) -> dict:
        """Build as the Dockerfile does; how long it took, and the image's size."""
        began = time.perf_counter()
        if once:
            self.start(PYJL_AUTOIMAGE_RECORD="1")
        train = [] if once else ["--train", "app.py"]
        command = [sys.executable, "-m", "pyjl_autoimage", "build", *train, "--json"]
        built = subprocess.run(
            command, cwd=self.app, env=self.bake_environ, check=True, stdout=subprocess.PIPE, text=True
        )
        said = json.loads(built.stdout.splitlines()[-1])
        return {"seconds": round(time.perf_counter() - began, 1), "bytes": said["bytes"], "notes": said["notes"]}

    def pack(self) -> None:
        """What a registry keeps of everything but the images, which stay where they are to save time."""
        with tarfile.open(self.packed, "w", format=tarfile.GNU_FORMAT) as archive:
            archive.add(self.app, ".", filter=self._in_whole_seconds)
        for image in (self.images, *self.images.rglob("*")):
            os.utime(image, (int(image.stat().st_mtime),) * 2)

    def _in_whole_seconds(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.mtime = int(member.mtime)
        return None if member.name.startswith("./.autoimage/v1/images/") else member

    def unpack(self) -> None:
        """A new container: nothing is left of what processes before it have written."""
        kept = self.packed.with_name("images")
        os.rename(self.images, kept)
        shutil.rmtree(self.app)
        with tarfile.open(self.packed) as archive:
            archive.extractall(self.app, filter="fully_trusted")
        self.images.rmdir()
        os.rename(kept, self.images)

    def forget(self) -> None:
        """Drop the images from memory."""
        for image in self.images.rglob("*"):
            if image.is_file():
                with image.open("rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def start(self, **environ: str) -> float:
        """Run the program on its event; seconds until it has ended."""
        with (self.app / "event.json").open() as event:
            began = time.perf_counter()
            result = subprocess.run(
                [sys.executable, "app.py"],
                cwd=self.app,
                env={**self.environ, **environ},
                stdin=event,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            took = time.perf_counter() - began
        answer = json.loads(result.stdout.splitlines()[-1])
        assert answer == ANSWER, answer
        return took


def measure(container: Container, runs: int, *, once: bool) -> dict:
    baked = container.bake(once)
    container.start()  # as the Dockerfile's last RUN: start-up remembers its answers
    container.start(PYJL_AUTOIMAGE="0")
    time.sleep(3)  # answers are not remembered while files have only just changed
    container.start()
    samples: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(runs):
        samples["plain"].append(container.start(PYJL_AUTOIMAGE="0"))
        samples["baked"].append(container.start())
    container.pack()
    for _ in range(runs):
        container.unpack()
        samples["shipped"].append(container.start())
        container.unpack()
        container.forget()
        samples["from disk"].append(container.start())
        container.unpack()
        shutil.rmtree(container.app / ".autoimage" / "v1" / "launch")  # as on another CPU, whose answers are others
        samples["forgotten"].append(container.start())
    return {"baked": baked, "starts": {kind: round(statistics.median(s), 3) for kind, s in samples.items()}}


def table(result: dict) -> str:
    targets = result["targets"].values()
    rows = {label: [f"{target['starts'][kind]:.2f}" for target in targets] for kind, label in KINDS.items()}
    rows["image, MB"] = [f"{target['baked']['bytes'] / 1e6:.0f}" for target in targets]
    rows["baked in"] = [f"{target['baked']['seconds']:.0f}" for target in targets]
    lines = [f"{label:32}" + "".join(f"{cell:>12}" for cell in cells) for label, cells in rows.items()]
    return "\n".join([f"{'seconds':32}" + "".join(f"{name:>12}" for name in result["targets"]), *lines])


if __name__ == "__main__":
    sys.exit(main())
