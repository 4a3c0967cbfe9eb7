"""Stand-ins for a Julia and for juliacall, for what can be tested without the real ones.

The stand-in Julia is a script that answers `--version` and our probe. The stand-in juliacall reads its options
just as the real one does, and keeps what it was told in CONFIG.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import psutil
from filelock import FileLock

from pyjl_autoimage.base.liveness import boot_id, hostname, mark_name
from pyjl_autoimage.build.state import State
from pyjl_autoimage.julia import manifest, sources
from pyjl_autoimage.julia.environment import Environment
from pyjl_autoimage.julia.facts import JuliaFacts, cpu_identity
from pyjl_autoimage.store.built import (
    BakedPackage,
    Image,
    Layer,
    Requirements,
    baked_package,
    content_of,
    heap_of,
    recorder_digest,
)
from pyjl_autoimage.store.places import Store, depot_of, library_name
from pyjl_autoimage.store.publish import new_layer, publish_image, publish_layer

EXAMPLE_UUID = "7876af07-990d-54b4-ab0e-23690620f79a"
EXAMPLE_TREE = "46e44e869b4d90b96bd8ed1fdcf32244fddfb6cc"

JULIACALL = """
import os, sys
from _thread import _local
__version__ = "0.9.37"
def option(name):
    value = sys._xoptions.get("juliacall-" + name.replace("_", "-"))
    variable = "PYTHON_JULIACALL_" + ("BINDIR" if name == "home" else name.upper())
    return value if value is not None else os.environ.get(variable)
CONFIG = {"inited": False, "init": option("init") != "no"}
for name in ("exe", "project", "lib", "home", "sysimage", "trace_compile", "handle_signals", "threads"):
    CONFIG[name] = option(name)
CONFIG["opt_trace_compile"] = CONFIG["trace_compile"]
CONFIG["opt_sysimage"] = CONFIG["sysimage"]
CONFIG["exepath"] = CONFIG["exe"]
if CONFIG["sysimage"] and not os.path.exists(CONFIG["sysimage"]):
    raise ValueError("path does not exist")
CONFIG["environ"] = dict(os.environ)
CONFIG["evaluated"] = []
class Main:
    def seval(self, code):
        # Just enough of a Julia for a new image to be proved in.
        for name, version in {"Example": "0.5.3", "PythonCall": "0.9.37"}.items():
            if f'"{name}"' in code:
                return version
        return {"1 + 1": 2, "collect(1:3)": [1, 2, 3]}.get(code) or (42 if "compilecache" in code else lambda f: f(20))
Main = Main()
class Lib:
    def __init__(self):
        def jl_eval_string(code):
            CONFIG["evaluated"].append(code.decode())
            return 1
        self.jl_eval_string = jl_eval_string
        first = _local()  # of the thread that starts Julia
        first.stack = 1
        self.jl_get_pgcstack, self.jl_threadid = lambda: getattr(first, "stack", None), lambda: 0
CONFIG["lib_object"] = CONFIG["lib"]
CONFIG["lib"] = Lib()
CONFIG["inited"] = CONFIG["init"]
"""


T = TypeVar("T")


def python(
    environ: dict[str, str], *arguments: str, cwd: Path | None = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run this Python."""
    return subprocess.run(
        [sys.executable, *arguments], env=environ, cwd=cwd, input=given, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip


def cli(
    environ: dict[str, str], *arguments: str, cwd: Path | None = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command of ours."""
    return python(environ, "-m", "pyjl_autoimage", *arguments, cwd=cwd, given=given)


def wait_for(condition: Callable[[], T], seconds: float = 60.0) -> T:
    """What a condition gives as soon as that is something; much longer than it takes on a busy machine is too long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found


def runs(pid: int) -> bool:
    """Whether this process still runs."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


_building: list[FileLock] = []


def building(store: Store, environment_id: str, token: str = "t", **facts: object) -> State:
    """A build that runs, until these tests end: its lock is held, and this is where it stands."""
    store.ensure(store.environment(environment_id))
    held = FileLock(store.build_lock(environment_id))
    held.acquire(5)
    _building.append(held)
    state = State(token, mark_name(), **facts)  # type: ignore[arg-type]
    state.write(store, environment_id)
    return state


def unshare(*options: str) -> list[str]:
    """A command prefix; a reason to skip where that is not permitted."""
    import pytest  # as below

    command = ["unshare", *options]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces can be made here")
    return command


class Container:
    """Namespaces of their own, and the host name that all of them have: the same pids come up in each.

    Args:
        environ: of what is run there.
        cwd: its directory.
    """

    def __init__(self, environ: dict[str, str], cwd: Path) -> None:
        self.environ, self.cwd = environ, cwd
        options = ("--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--uts")
        waits = "hostname container && echo up && exec cat"
        self._first = subprocess.Popen(
            [*unshare(*options), "sh", "-c", waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._first.stdout is not None and self._first.stdout.readline() == "up\n"
        (inside,) = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text().split()
        self._enter = ["nsenter", "-t", inside, "-U", "-p", "-m", "-u", "--preserve-credentials", f"--wd={cwd}"]

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self._first.communicate()

    def begin(self, code: str) -> subprocess.Popen[str]:
        """Start a Python process there."""
        pipe = subprocess.PIPE
        command = [*self._enter, sys.executable, "-c", code]
        return subprocess.Popen(
            command, env=self.environ, cwd=self.cwd, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def python(self, code: str) -> tuple[int, str, str]:
        """Run code there: its status, and what it printed."""
        process = self.begin(code)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err


PAUSED = """
import os, sys
from pyjl_autoimage.startup import guard
enter = guard.Guard.__enter__
def paused(self):
    enter(self)
    print(os.getpid(), flush=True)
    sys.stdin.readline() == "die\\n" and os.kill(os.getpid(), 9)
    return self
guard.Guard.__enter__ = paused
"""
"""A program that begins with this tells its pid and waits, while the mark of its start is there; told to, it dies."""


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Mounted so that nobody may write there; a reason to skip where that is not permitted."""
    import pytest

    if shutil.which("mount") is None or subprocess.run(
        ["mount", "--bind", directory, directory], capture_output=True, check=False
    ).returncode:  # fmt: skip
        pytest.skip("nothing can be mounted read-only here (needs root)")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def forbid_writing(directory: Path | str) -> None:
    """Nobody may write there; a reason to skip where that holds nobody back (root, and some file systems)."""
    import pytest  # which benchmarks, who come here as well, need not have

    os.chmod(directory, 0o500)
    if os.access(directory, os.W_OK):
        pytest.skip("whoever runs this may write everywhere (root)")


def heed_interrupts() -> None:
    """For `preexec_fn`: who runs the tests in the background ignores SIGINT, and a child inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def slug(uuid: str, tree: str) -> str:
    """What Julia calls the directory of that package."""
    content = int(uuid.replace("-", ""), 16).to_bytes(16, "little")
    return sources._slug(sources._crc32c(bytes.fromhex(tree), sources._crc32c(content)), 5)


def told_by_julia(facts: JuliaFacts) -> bytes:
    """What a Julia with these facts prints of itself (``probe.jl``)."""
    items: list[str] = []
    for name, value in facts.to_json().items():
        key = {"depots": "depot"}.get(name, name)
        items += [f"{key}={one}" for one in (value if isinstance(value, (tuple, list)) else (value,))]
    return b"".join(item.encode() + b"\0" for item in items)


def reported(kind: str, *values: object, end: str = "\\000") -> str:
    """An item of what a Julia process reports (``items.jl``); for the ``printf`` of a shell, as it stands."""
    return kind + "".join(f"={value}{end}" for value in values)


def write_report(path: Path, *items: Sequence[object]) -> str:
    """Write what a Julia process reports."""
    path.write_bytes("".join(reported(*map(str, item), end="\0") for item in items).encode())
    return str(path)


def made_of(package: BakedPackage, *named: Path) -> BakedPackage:
    """The same package, with the files that its precompile cache names as they are now."""
    return replace(package, files={str(path): content_of(str(path)) for path in named})


def named_by_its_cache(source: Path) -> list[Path]:
    """The files that Julia would name in the precompile cache of a package: its code, what that includes from beside
    it, and what ``Pkg.build`` has written."""
    code = sorted((source / "src").glob("*.jl"))
    beside = [
        source / found
        for file in code
        for found in re.findall(r'include\(joinpath\(@__DIR__, "\.\.", "([^"]+)"', file.read_text())
    ]
    return [*code, *beside, *sorted((source / "deps").glob("deps.jl"))]


class World:
    """A project, a depot with one package, a stand-in Julia and juliacall, and a store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = root / "project"
        self.depot = root / "depot"
        self.source = self.depot / "packages" / "Example" / "aqsx3"
        self.store = Store(str(root / "store"))
        self.site = root / "site"
        for directory in (self.project, self.source / "src", root / "julia" / "bin", self.site / "juliacall"):
            directory.mkdir(parents=True)
        (self.source / "src" / "Example.jl").write_text("module Example end")
        (self.site / "juliacall" / "__init__.py").write_text(JULIACALL)
        metadata = self.site / "juliacall-0.9.37.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: juliacall\nVersion: 0.9.37\n")
        self.julia = root / "julia"
        self.executable = self.julia / "bin" / "julia"
        self.libjulia = root / "julia" / "libjulia.so"
        self.libjulia.write_text("lib")
        (root / "julia" / "sys.so").write_text("sys")
        (self.project / "Project.toml").write_text(f'[deps]\nExample = "{EXAMPLE_UUID}"\n')
        self.write_manifest()
        self.facts = JuliaFacts(
            version="1.10.4",
            commit="48d4fd48430af58502699fdf3504b90589df3852",
            word_size=64,
            base_build_id="1234",
            cpu_name="znver3",
            bindir=str(root / "julia" / "bin"),
            base_sysimage=str(root / "julia" / "sys.so"),
            libjulia=str(self.libjulia),
            depots=(str(self.depot),),
            load_path=(str(self.project / "Project.toml"),),
        )
        self.write_julia(self.facts)

    def write_julia(self, facts: JuliaFacts) -> None:
        """A script that counts how often it is started, and answers like Julia."""
        self.facts = facts
        answer = self.julia / "answer"
        answer.write_bytes(told_by_julia(facts))
        self.executable.write_text(
            f'#!/bin/sh\necho "$@" >> "{self.julia}/started"\n'
            f'case "$*" in *--version*) echo "julia version {facts.version}";; *) cat "{answer}";; esac\n'
        )
        self.executable.chmod(self.executable.stat().st_mode | stat.S_IXUSR)

    def neighbour(self, name: str) -> World:
        """Another environment of this store: a project with the same packages, and a copy of the same Julia."""
        other = copy.copy(self)
        other.project = shutil.copytree(self.project, self.root / name / "project")
        other.julia = self.root / name / "julia"
        other.executable = other.julia / "bin" / "julia"
        other.executable.parent.mkdir(parents=True)
        load_path = (str(other.project / "Project.toml"),)
        other.write_julia(replace(self.facts, bindir=str(other.executable.parent), load_path=load_path))
        return other

    def times_started(self) -> int:
        try:
            return len((self.julia / "started").read_text().splitlines())
        except FileNotFoundError:
            return 0

    def write_manifest(self, version: str = "0.5.3", tree: str = EXAMPLE_TREE, extra: str = "") -> None:
        (self.project / "Manifest.toml").write_text(
            f'julia_version = "1.10.4"\nmanifest_format = "2.0"\n'
            f'[[deps.Example]]\ngit-tree-sha1 = "{tree}"\nuuid = "{EXAMPLE_UUID}"\nversion = "{version}"\n{extra}'
        )

    def install(self, name: str, uuid: str) -> str:
        """Make the source directory of a package with the example's tree; where it is."""
        source = self.depot / "packages" / name / slug(uuid, EXAMPLE_TREE)
        source.mkdir(parents=True)
        return str(source)

    def track_by_path(self, source: Path, *named: Path) -> BakedPackage:
        """Let the manifest track the example by path; what an image of it would say.

        Args:
            source: its directory.
            named: the files that its precompile cache names.
        """
        self.source = source
        entry = f'path = "{source}"\nuuid = "{EXAMPLE_UUID}"\nversion = "0.5.3"\n'
        (self.project / "Manifest.toml").write_text(f'manifest_format = "2.0"\n[[deps.Example]]\n{entry}')
        read = manifest.load_manifest(str(self.project / "Manifest.toml"))
        package = baked_package(read.packages[EXAMPLE_UUID], self.facts.depots, {})
        return made_of(package, *(named or named_by_its_cache(source)))

    @property
    def environment(self) -> Environment:
        return Environment(str(self.executable), str(self.project), managed=False)

    @property
    def environ(self) -> dict[str, str]:
        """For a Python process that lives in this world."""
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON_JULIA", "JULIA_", "PYJL_"))}
        return {
            **ours,
            "PYTHONPATH": str(self.site),
            "PYTHON_JULIACALL_EXE": str(self.executable),
            "PYTHON_JULIACALL_PROJECT": str(self.project),
            "PYJL_AUTOIMAGE_HOME": self.store.home,
        }

    def image(self, **changes: object) -> Image:
        """The facts of an image that is valid here."""
        package = BakedPackage("Example", EXAMPLE_UUID, "0.5.3", tree_sha1=EXAMPLE_TREE, source=str(self.source))
        package = made_of(package, *(file for file in named_by_its_cache(self.source) if file.parent.name == "deps"))
        facts = self.facts
        image = Image(
            id="0" * 16,
            path="",
            bytes=0,
            sha256="",
            built_at=1000.0,
            environment=self.environment.id,
            project=str(self.project),
            executable=str(self.executable),
            julia_version=facts.version,
            julia_commit=facts.commit,
            word_size=facts.word_size,
            base_build_id=facts.base_build_id,
            cpu_target="native",
            cpu=cpu_identity(),
            cpu_name=facts.cpu_name,
            juliacall="0.9.37",
            packages=(package,),
            statements=7,
            pyjl_autoimage=recorder_digest(),
        )
        return replace(image, **changes)  # type: ignore[arg-type]

    def publish(self, content: bytes = b"an image", heap: bytes = b"", **changes: object) -> Image:
        """Put an image into the store; with a `heap`, one in two files."""
        staging = Path(self.store.environment("staging")) / "image"
        staging.mkdir(parents=True)
        library = staging / library_name()
        library.write_bytes(content)
        if heap:
            Path(heap_of(str(library))).write_bytes(heap)
        sha256 = hashlib.sha256(content + heap).hexdigest()
        image = self.image(
            **{
                "id": sha256[:16],
                "sha256": sha256,
                "bytes": len(content + heap),
                "heap_bytes": len(heap),
                "path": self.store.image_library(sha256[:16]),
                **changes,
            }
        )
        publish_image(self.store, str(staging), image)
        return image

    def record(
        self, program: str, ready: float, compiled: float, *, image: str | None = None, layer: str | None = None,
        ago: float = 3600.0, statements: int = 5,
    ) -> None:  # fmt: skip
        """Leave the recording of a process that has ended."""
        directory = Path(self.store.ensure(self.store.recordings(self.environment.id)))
        number = len(list(directory.iterdir())) // 2
        name = f"{hostname()}-{99999000 + number}-{boot_id()}-{number:08x}"
        lines = (f"precompile(Tuple{{typeof(Base.f{number}_{n}), Int64}})\n" for n in range(statements))
        (directory / f"{name}.jl").write_text("".join(lines))
        header = {"schema": 1, "started": time.time() - ago, "image": image, "layer": layer, "program": program}
        header["flags"] = {}
        (directory / f"{name}.log").write_text(f"{json.dumps(header)}\nready {ready}\ncompiled {compiled}\n")

    def publish_layer(self, layer_id: str = "1" * 16, **changes: object) -> Layer:
        """Put a layer into the store, of the program that `python -c` is."""
        image = self.image()
        shared = {name: getattr(image, name) for name in Requirements.__dataclass_fields__}
        own = {"program": "", "image": None, "built_at": 1000.0, "bytes": 1}
        package = {"package": "AutoimageStatements_1a2b", "uuid": "00000000-0000-5000-8000-000000000001"}
        ids = {
            "id": layer_id,
            "path": new_layer(self.store, layer_id),
            "roots": (EXAMPLE_UUID,),
            "contents": "c",
            "caches": {},
        }
        layer = Layer(**{**shared, **own, **package, **ids, **changes})  # type: ignore[arg-type]
        os.makedirs(depot_of(self.store.layer(layer_id)), exist_ok=True)
        publish_layer(self.store, layer)
        return layer


def age(*paths: Path | str) -> None:
    """Make files look older than the clock's grain, as they are in real life."""
    for top in paths:
        for root, directories, names in os.walk(top):
            for name in [*directories, *names, ""]:
                path = os.path.join(root, name)
                status = os.lstat(path)
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 10_000_000_000), follow_symlinks=False)


REPORT = (
    "import json, juliacall; from pyjl_autoimage.startup.start import session; c = juliacall.CONFIG; "
    "print(json.dumps({k: c[k] for k in ('exe', 'project', 'lib_object', 'home', 'sysimage', 'trace_compile', "
    "'handle_signals', 'environ', 'evaluated')} | {'notes': session.notes, 'on_image': session.on_image, 'own_code': session.code}))"
)


def start_in(world: World, *arguments: str, code: str = "", **environ: str) -> dict:
    """Start a Python process there, and read what its juliacall was told."""
    code = f"{code}\nfrom pyjl_autoimage import jl\n{REPORT}"
    result = python({**world.environ, **environ}, *arguments, "-c", code, cwd=world.root)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


# -- builds --------------------------------------------------------------------------------------------

PYTHONCALL_UUID = "6099a3de-0909-46bc-b1f4-468b9a2dfc0d"
PYTHONCALL = (
    f'[[deps.PythonCall]]\nuuid = "{PYTHONCALL_UUID}"\ngit-tree-sha1 = "{EXAMPLE_TREE}"\nversion = "0.9.37"\n'
)


def buildable_world(root: Path) -> World:
    """A world in which a build gets as far as starting Julia."""
    world = World(root)
    world.write_manifest(extra=PYTHONCALL)
    world.install("PythonCall", PYTHONCALL_UUID)
    (world.root / "builder").mkdir()
    return world


def pythoncall(world: World) -> Path:
    """Where its PythonCall is installed."""
    return next((world.depot / "packages" / "PythonCall").iterdir())


def environ_of(world: World, **extra: str) -> dict[str, str]:
    """For a build in that world."""
    builder = str(world.root / "builder")
    return {**world.environ, "PYJL_AUTOIMAGE_BUILDER_PROJECT": builder, "JULIA_CC": "cc", **extra}


def path_without_compiler(world: World) -> str:
    """A PATH with what the stand-in Julia needs, and nothing that could link an image."""
    directory = world.root / "programs"
    directory.mkdir(exist_ok=True)
    for program in ("cat", "sh"):
        (directory / program).symlink_to(shutil.which(program) or "")
    return str(directory)


def until(path: Path) -> str:
    """For a stand-in Julia: wait until this file is there."""
    return f'for i in $(seq 1200); do test -e "{path}" && break; sleep 0.05; done; test -e "{path}" || exit 1'


def ended(world: World) -> State | None:
    """How its last build has ended; None while it runs."""
    state = State.read(world.store, world.environment.id)
    return state if state is not None and state.state != "running" else None


def past_build(
    token: str, started: float, took: float, state: str = "done", error: str = "", **more: object
) -> State:
    """A build that has ended, as it is remembered."""
    ends = {"started": started, "finished": started + took, "state": state, "error": error}
    return State(token, "host-1-boot-random", **{**ends, **more})  # type: ignore[arg-type]


def julia_that(world: World, does: str) -> None:
    """The stand-in Julia does this when it is to build an image."""
    world.write_julia(world.facts)
    text = world.executable.read_text()
    world.executable.write_text(text.replace("case ", f'case "$*" in *build_image.jl*) {does};; esac\ncase ', 1))


def julia_that_builds(
    world: World, *, meanwhile: str = "", content: str = "a new image", unresolved: tuple[int, ...] = (),
    inferred: tuple[int, ...] = (), made: tuple[tuple[str, ...], ...] = (),
) -> None:  # fmt: skip
    """The stand-in Julia writes a library, and reports what the manifest says (and does something else besides).

    Args:
        meanwhile: what else it does, in the language of the shell.
        content: of the library.
        unresolved: numbers of statements that it could not resolve.
        inferred: numbers of those that it could not compile, but infer.
        made: items of what it says that packages are made of.
    """
    packages = [("Example", EXAMPLE_UUID, "0.5.3", world.source)]
    packages.append(("PythonCall", PYTHONCALL_UUID, "0.9.37", pythoncall(world)))
    report = reported("julia", world.facts.version, world.facts.commit, world.facts.base_build_id)
    report += "".join(reported("loaded", uuid, name, version, source) for name, uuid, version, source in packages)
    report += "".join(reported("unresolved", number) for number in unresolved)
    report += "".join(reported("inferred", number) for number in inferred)
    said = "".join(reported(*item) for item in made)
    julia_that(
        world,
        f'for a; do case "$a" in *bake.jl) printf "{report}{reported("end", "")}" > "$(dirname "$a")/report"; '
        f'printf "{said}" > "$(dirname "$a")/made";; '
        f'*sys.so) printf "half" > "$a"; {meanwhile or ":"}; printf "{content}" > "$a";; esac; done',
    )
