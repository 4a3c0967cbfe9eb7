"""Many builds, each hurt once at a random moment; and after each what must hold still holds.

    python tests/campaign.py --builds 300 --seed 1
    python tests/campaign.py --seed 1 --only 17         # one of them again
    python tests/campaign.py --real --builds 5 --seed 1 # layers of a real Julia (--images: whole images)

The Julia is a stand-in whose phases take a little while each, and whoever builds or cleans is slowed down just before
each rename, each removal and each mark: where one process could come between two steps of another, it does.

What must hold:

- no process of it lives on, and no lock is held;
- what was recorded is in the recordings or in the profile;
- a build says that it is done with an image if and only if that image was published by it, the next start is on the
  newest, and no half image can be chosen; history says the same;
- the next build, which nobody hurts, succeeds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pyjl_autoimage.base.files import read_json
from pyjl_autoimage.base.locks import lock
from pyjl_autoimage.build import history
from pyjl_autoimage.build.handle import Build
from pyjl_autoimage.build.state import State
from pyjl_autoimage.julia.environment import Environment
from pyjl_autoimage.profile import recordings
from pyjl_autoimage.store.places import Store
from pyjl_autoimage.store.publish import damage

from standin import (
    World,
    buildable_world,
    cli,
    environ_of,
    heed_interrupts,
    julia_that_builds,
    python,
    reported,
    start_in,
)

SETTLED = 90.0
"""Seconds after which a build that was hurt, and all that ran beside it, must have ended."""

GONE = 5.0
"""Seconds after that until no process is left."""

PHASES = (
    "prepare",
    "builder",
    "precompile",
    "load",
    "statements",
    "native code",
    "link",
    "outside",
    "prove",
    "publish",
)

# -- a world that takes its time ---------------------------------------------------------------------------

SLOW = """
import os, sys, time
if {"_build", "clean"} & set(sys.orig_argv) and not os.path.exists(FAST):
    def slow(event, arguments):
        if event in ("os.rename", "shutil.rmtree"):
            published = event == "os.rename" and os.path.basename(os.path.dirname(str(arguments[1]))) == "images"
            time.sleep(0.3 if published else 0.02)
        elif event == "open" and str(arguments[0]).endswith((".builder.tmp", "build.log")):
            time.sleep(0.05)
        elif event == "os.remove" and str(arguments[0]).endswith(".builder"):
            time.sleep(0.05)
    sys.addaudithook(slow)
"""

NAPPING = """
import os, time
if CONFIG["sysimage"] and os.environ.get("PYJL_AUTOIMAGE") == "0" and not os.path.exists(FAST):
    time.sleep(0.2)  # this is the proof of a new image
"""


def slow_world(root: Path) -> World:
    """A world in which each phase of a build takes a little while, until there is a file `fast`."""
    root.mkdir(parents=True)
    world = buildable_world(root)
    fast = root / "fast"
    (world.site / "sitecustomize.py").write_text(SLOW.replace("FAST", repr(str(fast))))
    stub = world.site / "juliacall" / "__init__.py"
    stub.write_text(stub.read_text() + NAPPING.replace("FAST", repr(str(fast))))
    marks = (
        "ensurecompiled: running", "running precompilation execution script", "[autoimage] statements 1/2",
        "[autoimage] native code", "[autoimage] linking",
    )  # fmt: skip
    julia_that_builds(
        world,
        meanwhile="; ".join(f'echo "{mark}"; nap' for mark in marks),
        content="image $(cat /proc/sys/kernel/random/uuid)",
    )
    whole = reported("statements", 1) + reported("end", "")
    layer = f'nap; nap; for a; do case "$a" in */report) printf "{whole}" > "$a";; esac; done; exit 0'
    text = world.executable.read_text().replace(
        "case ",
        f'nap() {{ test -e "{fast}" || sleep 0.2; }}\n'
        f'case "$*" in *precompile_layer.jl*) {layer};; *outside.jl*) nap; exit 0;; *probe.jl*) nap;; esac\ncase ',
        1,
    )
    world.executable.write_text(text)
    return world


REAL_PROGRAM = """
from pyjl_autoimage import jl
print(jl.seval("sum(sqrt, 1:10)"), jl.seval("join(sort([3, 1, 2]), '-')"), jl.seval("string(Dict(1 => 2.5))"))
"""

REAL_START = """
from pyjl_autoimage import jl, started
import json, juliacall
print(json.dumps({"sysimage": juliacall.CONFIG.get("opt_sysimage"), "notes": str(started())}))
"""


class RealWorld:
    """The same with the Julia and the project that juliapkg finds, one program recorded."""

    def __init__(self, root: Path) -> None:
        from importlib.util import module_from_spec, spec_from_file_location

        spec = spec_from_file_location("integration", Path(__file__).parent / "integration" / "conftest.py")
        assert spec is not None and spec.loader is not None
        tests = sys.modules["integration"] = module_from_spec(spec)
        spec.loader.exec_module(tests)
        given = os.environ.get("PYTHON_JULIAPKG_PROJECT")
        prepared = Path(given) if given else Path.home() / ".julia" / "environments" / "pyjuliapkg"
        place = tests.make_place(root, prepared)
        self.root, self.environ = root, place.environ
        self.store = Store(place.environ["PYJL_AUTOIMAGE_HOME"])
        (root / "program.py").write_text(REAL_PROGRAM)
        result = python(self.environ, str(root / "program.py"), cwd=root)
        assert result.returncode == 0, result.stderr
        (self._id,) = self.store.environment_ids()

    @property
    def environment(self) -> RealWorld:
        return self

    @property
    def id(self) -> str:
        return self._id


def mine(root: Path) -> list[int]:
    """Every process whose command, environment or directory is of that world, but this one."""
    found = []
    sign = os.fsencode(str(root))
    for name in filter(str.isdigit, os.listdir("/proc")):
        if int(name) == os.getpid():
            continue
        with suppress(OSError):
            if Path(f"/proc/{name}/stat").read_bytes().rpartition(b") ")[2][:1] == b"Z":
                continue
            told = Path(f"/proc/{name}/environ").read_bytes() + b"\0" + Path(f"/proc/{name}/cmdline").read_bytes()
            if any(part.partition(b"=")[2].startswith(sign) or sign in part for part in told.split(b"\0")):
                found.append(int(name))
    return found


def command_of(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    return []


def children_of(pid: int) -> list[int]:
    found = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def family_of(pid: int) -> list[int]:
    """A process and all that it has started, the eldest first."""
    found = [pid]
    for one in found:
        found += children_of(one)
    return found


def until(condition: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def kill(*pids: int, number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, number)


# -- a case ------------------------------------------------------------------------------------------------


@dataclass
class Asker:
    """Somebody who asked for a build, and was told what became of it."""

    process: subprocess.Popen[str]
    environment: str
    interrupted: bool = False
    out: str = ""
    err: str = ""

    @property
    def told(self) -> dict:
        lines = self.out.splitlines()
        return json.loads(lines[-1]) if lines and self.process.returncode == 0 else {}


@dataclass
class Case:
    """One build, and how it is hurt."""

    number: int
    seed: int
    kind: str
    world: World
    rng: random.Random
    quick: bool = False
    moment: str = ""
    hit: str = ""
    """Where the build was then."""
    outcome: str = ""
    violations: list[str] = field(default_factory=list)
    askers: list[Asker] = field(default_factory=list)
    others: list[subprocess.Popen[str]] = field(default_factory=list)
    after: ExitStack = field(default_factory=ExitStack)
    extra: set[str] = field(default_factory=set)
    """Statements that somebody has recorded meanwhile."""
    real: str = ""
    """``layers`` or ``images`` of a real Julia."""
    usual: float = 0.0
    """Seconds that a build takes."""
    seconds: float = 0.0
    checks: list[Callable[[], None]] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.world.store

    @property
    def environment(self) -> str:
        return self.world.environment.id

    @property
    def environ(self) -> dict[str, str]:
        """Of who asks for builds."""
        return self.world.environ if self.real else environ_of(self.world)

    @property
    def patience(self) -> float:
        """Seconds after which a build, and all that runs beside it, must have ended."""
        return {"layers": 6, "images": 20}.get(self.real, 1) * SETTLED

    def next_start(self) -> dict:
        """What a program is on that starts now."""
        if not self.real:
            return start_in(self.world)
        result = python(self.environ, "-c", REAL_START, cwd=self.world.root)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    def wrong(self, text: str) -> None:
        self.violations.append(text)

    def ask(self, *, prefix: Sequence[str] = (), project: Path | None = None) -> Asker:
        """Ask for a build as a person would, and wait for it in a process of its own."""
        environ = dict(self.environ)
        environment = self.world.environment
        if project is not None:
            environ["PYTHON_JULIACALL_PROJECT"] = str(project)
            environment = Environment(str(self.world.executable), str(project), managed=False)
        command = [*prefix, sys.executable, "-m", "pyjl_autoimage", "build", "--json"]
        command += ["--quick"] if self.quick and project is None else []
        asker = Asker(self.start(command, environ), environment.id)
        self.askers.append(asker)
        return asker

    def start(self, command: Sequence[str], environ: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            list(command),
            env=environ,
            cwd=self.world.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        )

    def beside(self, *arguments: str) -> None:
        """Something that runs beside the build."""
        self.others.append(self.start([sys.executable, *arguments], self.environ))

    # -- whom to hurt ----------------------------------------------------------------------------------

    def builders(self) -> list[int]:
        return [pid for pid in mine(self.world.root) if command_of(pid)[-1:] == ["_build"]]

    def minders(self) -> list[int]:
        return [pid for pid in mine(self.world.root) if any("minder.py" in part for part in command_of(pid)[3:4])]

    def julias(self) -> list[int]:
        return [child for minder in self.minders() for child in children_of(minder)]

    def one_of(self, whom: Callable[[], list[int]]) -> list[int]:
        """One of them; there is not always one, so a moment is waited."""
        found: list[int] = []
        until(lambda: found.extend(whom()) or found or self.askers[0].process.poll() is not None, 2)
        return [self.rng.choice(sorted(found))] if found else []


def kill_builder(case: Case) -> None:
    kill(*case.one_of(case.builders))


def kill_julia(case: Case) -> None:
    kill(*case.one_of(case.julias))


def kill_minder(case: Case) -> None:
    kill(*case.one_of(case.minders))


def kill_group(case: Case) -> None:
    for pid in case.one_of(case.builders):
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def kill_all(case: Case) -> None:
    for pid in case.one_of(case.builders):
        kill(*family_of(pid))


def terminate(case: Case) -> None:
    kill(*case.one_of(case.builders), number=signal.SIGTERM)


def cancel(case: Case) -> None:
    until(lambda: State.read(case.store, case.environment) or case.askers[0].process.poll() is not None, 5)
    state = State.read(case.store, case.environment)
    if state is not None:
        Build(case.store, case.environment, state.token, None).cancel()


def interrupt(case: Case) -> None:
    """Ctrl-C where the build was asked for."""
    case.askers[0].interrupted = True
    kill(case.askers[0].process.pid, number=signal.SIGINT)


def kill_asker(case: Case) -> None:
    case.askers[0].interrupted = True
    kill(case.askers[0].process.pid)


def mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


def unmount(path: str) -> None:
    subprocess.run(["umount", "-l", path], capture_output=True, check=False)


def on_a_small_disk(case: Case) -> None:
    os.makedirs(case.store.home, mode=0o700)
    assert mount("-t", "tmpfs", "-o", "size=500m,mode=700", "tmpfs", case.store.home)
    case.after.callback(unmount, case.store.home)


def fill(case: Case) -> None:
    """The disk shrinks to what is on it, for a while or until the build has ended."""
    home = case.store.home
    used = shutil.disk_usage(home).used
    if mount("-o", f"remount,size={max(used, 4096)}", home):
        if case.rng.random() < 0.5:
            time.sleep(case.rng.uniform(0.05, 1.0))
        else:
            until(lambda: case.askers[0].process.poll() is not None, case.patience)
        mount("-o", "remount,size=500m", home)


def forbid(case: Case) -> None:
    """Nobody may write the store, for a while."""
    home = case.store.home
    seconds = case.rng.uniform(0.05, 1.5)
    if os.geteuid() == 0:
        if mount("--bind", home, home):
            mount("-o", "remount,bind,ro", home)
            time.sleep(seconds)
            unmount(home)
        return
    modes = {path: os.stat(path).st_mode for path in (case.store.environment(case.environment), case.store.images)
             if os.path.isdir(path)}  # fmt: skip
    for path in modes:
        os.chmod(path, 0o500)
    time.sleep(seconds)
    for path, mode in modes.items():
        os.chmod(path, mode)


def rival(case: Case) -> None:
    case.ask()


def rival_elsewhere(case: Case) -> None:
    """A build of another environment in the same store."""
    other = case.world.root / "another project"
    shutil.copytree(case.world.project, other)
    case.ask(project=other)


PROGRAM = """
import os, sys, time
from pyjl_autoimage import jl
import juliacall
image, trace = juliacall.CONFIG["sysimage"], juliacall.CONFIG["trace_compile"]
for number in range(4):
    if trace and os.path.isdir(os.path.dirname(trace)):
        with open(trace, "ab", buffering=0) as file:
            line = f"precompile(Tuple{{typeof(Base.of{os.getpid()}_{number}), Int64}})"
            file.write(f"{line}\\n".encode())
            print(line, flush=True)
    time.sleep(0.3)
if image and not os.path.exists(image):
    sys.exit("its image is gone")
if os.environ["DIES"]:
    os.kill(os.getpid(), 9)
"""


def start_program(case: Case) -> None:
    """It records, and uses the image that is there."""
    dies = case.rng.choice(["", "1"])
    process = case.start([sys.executable, "-c", PROGRAM], {**case.environ, "DIES": dies})
    case.others.append(process)

    def look() -> None:
        out, err = process.communicate(timeout=case.patience)
        case.extra.update(out.splitlines())
        if process.returncode != (-9 if dies else 0):
            case.wrong(f"a program beside it failed: {err[-500:]}")

    case.checks.append(look)


def clean(case: Case) -> None:
    case.beside("-m", "pyjl_autoimage", "clean")


def clean_all(case: Case) -> None:
    case.beside("-m", "pyjl_autoimage", "clean", "--all")


NAMESPACES = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts")


def rival_in_namespaces(case: Case) -> None:
    case.ask(prefix=NAMESPACES)


def kill_namespaces(case: Case) -> None:
    kill(*children_of(case.askers[0].process.pid))
    case.askers[0].interrupted = True


def nothing(case: Case) -> None:
    """For comparison."""


HURTS: dict[str, Callable[[Case], None]] = {
    "SIGKILL: builder": kill_builder,
    "SIGKILL: its Julia": kill_julia,
    "SIGKILL: minder": kill_minder,
    "SIGKILL: group": kill_group,
    "SIGKILL: all": kill_all,
    "SIGKILL: who asked": kill_asker,
    "SIGTERM: builder": terminate,
    "cancel": cancel,
    "Ctrl-C": interrupt,
    "disk full": fill,
    "read-only": forbid,
    "rival": rival,
    "rival elsewhere": rival_elsewhere,
    "program": start_program,
    "clean": clean,
    "clean --all": clean_all,
    "namespaces: rival": rival_in_namespaces,
    "namespaces: SIGKILL": kill_namespaces,
    "nothing": nothing,
}

STANDIN_ONLY = {"disk full", "rival elsewhere", "program", "namespaces: rival", "namespaces: SIGKILL"}

CANCELS = {"cancel", "Ctrl-C", "SIGTERM: builder"}


def skipped() -> dict[str, str]:
    """Kinds that cannot be made here, and why."""
    found = {}
    if subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode:
        found |= {kind: "no namespaces can be made here" for kind in HURTS if kind.startswith("namespaces")}
    with tempfile.TemporaryDirectory() as place:
        if not mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", place):
            found["disk full"] = "no small file system can be mounted here"
        unmount(place)
    return found


# -- the course of one ---------------------------------------------------------------------------------------


def make_case(
    number: int, seed: int, root: Path, kinds: Sequence[str], usual: float, real: str = "", moment: str = ""
) -> Case:
    rng = random.Random(f"{seed}:{number}")
    kind = kinds[number % len(kinds)]
    world = World.__new__(World)  # made when its turn comes
    case = Case(number, seed, kind, world, rng, real=real, usual=usual)
    case.quick = real == "layers" or (not real and rng.random() < 0.15)
    if rng.random() < 0.6 and not case.quick:
        phase = rng.choice([*PHASES, "ended"])
        case.moment = f"{phase} + {rng.uniform(0, 0.35):.3f}"
    else:
        case.moment = f"{rng.uniform(0, 1.15) * (0.5 if case.quick and not real else 1.0):.3f}"
    world.root = root / f"case-{number}"
    world.store = Store(str(world.root / "store"))
    if moment:
        case.moment = moment
    return case


def wait_for_the_moment(case: Case) -> None:
    """A share of what a build takes, or so many seconds after a phase has begun."""
    path = case.store.build_state(case.environment)
    asker = case.askers[0].process
    phase, _, later = case.moment.rpartition(" + ")
    if not phase:
        time.sleep(float(later) * case.usual)
    else:

        def reached() -> bool:
            state = read_json(path) or {}
            return (
                asker.poll() is not None or state.get("state") != "running"
                if phase == "ended"
                else (state.get("phase") == phase or asker.poll() is not None)
            )

        deadline = time.monotonic() + case.patience
        until(lambda: os.path.exists(path) or asker.poll() is not None, 30)
        while not reached() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(float(later))
    state = read_json(path) or {}
    case.hit = "starting" if not state else state["phase"] if state["state"] == "running" else "ended"


def run_case(case: Case) -> Case:
    began = time.monotonic()
    try:
        with case.after:
            _run(case)
    except Exception as error:  # a fault of the campaign is one, too
        import traceback

        case.wrong(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    finally:
        kill(*mine(case.world.root))
    case.seconds = time.monotonic() - began
    if not case.violations:
        shutil.rmtree(case.world.root, ignore_errors=True)
    return case


def _run(case: Case) -> None:
    old = None
    shutil.rmtree(case.world.root, ignore_errors=True)  # of an earlier campaign
    if case.real:
        case.world.root.mkdir(parents=True)
        case.world = RealWorld(case.world.root)
    else:
        case.world = slow_world(case.world.root)
        if case.kind == "disk full":
            on_a_small_disk(case)
        for program in ("/programs/a.py", "/programs/b.py"):
            case.world.record(program, 1.0, 2.0)
        case.world.store.ensure(case.store.home)
        old = case.world.publish(b"image of old", built_at=1.0) if case.rng.random() < 0.6 else None
    recorded = set(recordings.peek(case.store, case.environment).statements)
    assert recorded
    before = {image.id for image in case.store.all_images()}
    namespaces = case.kind.startswith("namespaces")
    case.ask(prefix=NAMESPACES if namespaces else ())
    wait_for_the_moment(case)
    HURTS[case.kind](case)
    settle(case)
    for check in case.checks:
        check()
    look(case, before, recorded, old.id if old else None)
    again(case, recorded)


def held(case: Case) -> list[str]:
    """Environments whose lock somebody holds."""
    found = []
    for environment in case.store.environment_ids():
        try:
            with lock(case.store.build_lock(environment), 0):
                pass
        except TimeoutError:
            found.append(environment)
    return found


def settle(case: Case) -> None:
    """Wait for the end of everything; nobody may be left."""
    deadline = time.monotonic() + case.patience
    for asker in case.askers:
        try:
            asker.out, asker.err = asker.process.communicate(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            case.wrong(
                f"a build has not ended after {case.patience:.0f} s: {list(map(command_of, mine(case.world.root)))}"
            )
            kill(*mine(case.world.root))
            asker.out, asker.err = asker.process.communicate()
    for other in case.others:
        with suppress(subprocess.TimeoutExpired):
            other.wait(max(1.0, deadline - time.monotonic()))
    if not until(lambda: not case.builders() and not held(case), max(1.0, deadline - time.monotonic())):
        case.wrong(f"a build, or its lock, is left: {case.builders()}, {held(case)}")
    if not until(lambda: not mine(case.world.root), GONE):
        case.wrong(f"left behind: {[shlex.join(command_of(pid)[:6]) for pid in mine(case.world.root)]}")
        kill(*mine(case.world.root))


def builds_of(case: Case, environment: str) -> dict[str, tuple[str, str | None, str]]:
    """token -> result, image and error of every build that is known of."""
    found = {b.token: (b.state, b.image, b.error) for b in history.read(case.store, environment)}
    state = State.read(case.store, environment)
    if state is not None:
        said = (state.state, state.image)
        if state.token in found and found[state.token][:2] != said:
            case.wrong(f"state says {said}, history {found[state.token]}")
        found[state.token] = (*said, state.error)
    return found


def look(case: Case, before: set[str], recorded: set[str], old: str | None) -> None:
    """What was said is what is."""
    emptied = case.kind == "clean --all"
    images = list(case.store.all_images())
    for image in images:
        wrong = damage(case.store, image, thorough=True)
        if wrong or not (case.real or Path(image.path).read_text().startswith("image ")):
            case.wrong(f"image {image.id} is half: {wrong}")
    for environment in {asker.environment for asker in case.askers}:
        builds = builds_of(case, environment)
        mine_now = {image.id for image in images if image.environment == environment} - before
        said = {image for result, image, _ in builds.values() if result == "done" and image}
        if not emptied and mine_now != said:
            case.wrong(f"published: {mine_now}, said: {builds}")
        askers = [asker for asker in case.askers if asker.environment == environment]
        for asker in askers:
            _compare(case, asker, builds, said, alone=len(askers) == 1)
        if environment == case.environment:
            results = [result for result, _, _ in builds.values()]
            case.outcome = results[-1] if results else "not begun"
    newest = next((image for image in images if image.environment == case.environment), None)
    told = case.next_start()
    if told["sysimage"] != (newest.path if newest else None):
        case.wrong(
            f"the next start is on {told['sysimage']}, not on {newest.path if newest else None}: {told['notes']}"
        )
    elif not emptied and old is not None and newest is None:
        case.wrong("the old image is gone")
    _nothing_lost(case, recorded)


def _compare(
    case: Case, asker: Asker, builds: dict[str, tuple[str, str | None, str]], said: set[str], *, alone: bool
) -> None:
    status, told = asker.process.returncode, asker.told
    if "Traceback" in asker.err and not asker.interrupted:
        case.wrong(f"it said: {asker.err[-1500:]}")
    if status == 0 and not told:
        case.wrong(f"exit status 0, and nothing was said: {asker.err[-500:]}")
    elif status == 0:
        if told["state"] != "done" or (told["image"] not in {*said, None} and case.kind != "clean --all"):
            case.wrong(f"{told['state']} with {told['image']} was said; what there is: {builds}")
        if not case.quick and told["image"] is None and case.kind != "clean --all":
            case.wrong("done, without an image")
    elif alone and not asker.interrupted and any(result == "done" for result, _, _ in builds.values()):
        case.wrong(f"exit status {status} ({asker.err[-300:]}), but {builds}")
    if case.kind in CANCELS and case.hit in PHASES[:-3] and any(result == "done" for result, _, _ in builds.values()):
        case.wrong(
            f"it was cancelled in phase {case.hit}, and went on ({asker.process.returncode}: {asker.err[-300:]})"
        )
    if case.kind in CANCELS and any(result == "failed" for result, _, _ in builds.values()):
        case.wrong(f"cancelled, but it says {builds}")


def _nothing_lost(case: Case, recorded: set[str]) -> None:
    lost = (recorded | case.extra) - set(recordings.peek(case.store, case.environment).statements)
    if lost and case.kind != "clean --all":
        case.wrong(f"{len(lost)} statements are lost, such as {sorted(lost)[0]}")


def again(case: Case, recorded: set[str]) -> None:
    """The next build, which nobody hurts."""
    (case.world.root / "fast").touch()
    known = builds_of(case, case.environment)
    case.quick = case.real == "layers"
    asker = case.ask()
    asker.out, asker.err = asker.process.communicate(timeout=case.patience)
    if asker.process.returncode:
        case.wrong(f"the next build failed: {asker.err[-1500:]}")
        return
    image = next((image for image in case.store.all_images() if image.environment == case.environment), None)
    if case.quick:
        if not list(case.store.all_layers()):
            case.wrong(f"the next build says {asker.told}, and there is no layer")
    elif image is None or asker.told["image"] != image.id or case.next_start()["sysimage"] != image.path:
        case.wrong(f"the next build says {asker.told}, and the newest image is {image.id if image else None}")
    past = {b.token: (b.state, b.image) for b in history.read(case.store, case.environment)}
    for token, (result, built, _) in known.items():
        if past.get(token) != (result, built):
            case.wrong(f"build {token} was {result} with {built}; history remembers {past.get(token)}")
    if os.path.exists(case.store.build_directory(case.environment)):
        case.wrong("the next build has left something half done")
    for layer in os.listdir(case.store.layers) if os.path.isdir(case.store.layers) else []:
        if os.listdir(case.store.layer(layer)) and not os.path.exists(
            os.path.join(case.store.layer(layer), "layer.json")
        ):
            case.wrong(f"layer {layer} is half, and the next build has left it")
    if not until(lambda: not mine(case.world.root), GONE):
        case.wrong("the next build has left processes")
    _nothing_lost(case, recorded)


def usual_seconds(root: Path, workers: int, real: str = "") -> float:
    """What a build takes here, with as many at once as there will be."""
    if real == "images":
        return 400.0  # not to be built for that alone

    def one(number: int) -> float:
        place = root / f"usual-{number}"
        shutil.rmtree(place, ignore_errors=True)
        if real:
            place.mkdir(parents=True)
            environ, quick = RealWorld(place).environ, ["--quick"]
        else:
            world = slow_world(place)
            world.record("/programs/a.py", 1.0, 2.0)
            environ, quick = environ_of(world), []
        began = time.monotonic()
        result = cli(environ, "build", *quick, cwd=place)
        assert result.returncode == 0, result.stderr
        took = time.monotonic() - began
        shutil.rmtree(place)
        return took

    with ThreadPoolExecutor(workers) as pool:
        return max(pool.map(one, range(workers)))


def campaign(
    root: Path, numbers: Sequence[int], seed: int, *, workers: int = 2, kinds: Sequence[str] | None = None,
    real: str = "", moment: str = "",
) -> Iterator[Case]:  # fmt: skip
    """Run these cases; each as it ends."""
    unfit = {*skipped(), *(STANDIN_ONLY if real else ())}
    chosen = [kind for kind in kinds or HURTS if kind not in unfit]
    usual = usual_seconds(root, workers, real)
    cases = [make_case(number, seed, root, chosen, usual, real, moment) for number in numbers]
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(run_case, cases)


def table(cases: Sequence[Case]) -> str:
    outcomes = ["done", "failed", "cancelled", "not begun"]
    counts = Counter((case.kind, case.outcome) for case in cases)
    lines = [f"{'hurt':22}" + "".join(f"{name:>11}" for name in (*outcomes, "violations"))]
    for kind in dict.fromkeys(case.kind for case in sorted(cases, key=lambda case: [*HURTS].index(case.kind))):
        wrong = sum(bool(case.violations) for case in cases if case.kind == kind)
        lines.append(f"{kind:22}" + "".join(f"{counts[kind, name]:11}" for name in outcomes) + f"{wrong:11}")
    lines.append(f"{'all':22}" + "".join(f"{sum(c.outcome == n for c in cases):11}" for n in outcomes)
                 + f"{sum(bool(case.violations) for case in cases):11}")  # fmt: skip
    hit = Counter(case.hit for case in cases)
    lines += ["", "hit in: " + ", ".join(f"{name} {count}" for name, count in hit.most_common())]
    return "\n".join(lines)


@contextmanager
def a_place(given: str | None) -> Iterator[Path]:
    root = Path(given) if given else Path(tempfile.mkdtemp(prefix="campaign-"))
    root.mkdir(parents=True, exist_ok=True)
    yield root
    if not any(root.glob("case-*")):
        shutil.rmtree(root, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--builds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, action="append", help="only the case of this number (again)")
    parser.add_argument(
        "--kind", action="append", choices=HURTS, help="only this kind of hurt (changes the numbering)"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--moment", help="hurt it then: a share of what a build takes, or 'PHASE + SECONDS'")
    parser.add_argument("--real", action="store_true", help="layers of a real Julia, one at a time")
    parser.add_argument("--images", action="store_true", help="with --real: whole images (minutes each)")
    parser.add_argument("--place", help="where: worlds with violations stay there")
    options = parser.parse_args()
    for kind, why in skipped().items():
        print(f"skipped: {kind}: {why}")
    cases = []
    began = time.monotonic()
    with a_place(options.place) as root:
        numbers = options.only or range(options.builds)
        real = ("images" if options.images else "layers") if options.real else ""
        workers = 1 if real else options.workers
        wanted = {"kinds": options.kind, "real": real, "moment": options.moment or ""}
        for case in campaign(root, numbers, options.seed, workers=workers, **wanted):
            cases.append(case)
            seconds = case.seconds
            what = f"{case.number:4} {case.kind:20} {'quick' if case.quick else ''} at {case.moment} ({case.hit})"
            print(f"{what}: {case.outcome}, {seconds:.0f} s", flush=True)
            for asker in case.askers if options.only else []:
                print(f"     exit status {asker.process.returncode}: {asker.out[-300:]} {asker.err[-600:]}")
            for text in case.violations:
                text = text if options.only else text[:300].replace("\n", " ")
                print(f"     VIOLATION (--seed {case.seed} --only {case.number}): {text}", flush=True)
    print(f"\n{table(cases)}\n\n{len(cases)} builds in {time.monotonic() - began:.0f} s, seed {options.seed}")
    return 1 if any(case.violations for case in cases) else 0


if __name__ == "__main__":
    sys.exit(main())
