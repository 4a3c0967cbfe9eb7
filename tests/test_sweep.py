"""Nothing grows for ever: what a run leaves at its end, what starts sweep, and a year of starts."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyjl_autoimage.base import liveness
from pyjl_autoimage.base.liveness import DAY, boot_id, hold, hostname, mark_name
from pyjl_autoimage.base.locks import lock
from pyjl_autoimage.base.reads import Reads
from pyjl_autoimage.profile import recordings
from pyjl_autoimage.startup import ending, guard, plan, recording, start
from pyjl_autoimage.store import sweep as sweeping
from pyjl_autoimage.store.publish import remove_image
from pyjl_autoimage.store.sweep import ENVIRONMENTS_KEPT, PLANS_KEPT, RECORDINGS_KEPT, sweep

from standin import World, age, python, start_in


def dead(number: int) -> str:
    return f"{hostname()}-{number}-{boot_id()}-{number:08x}"


def names(directory: str) -> list[str]:
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def old(path: Path | str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


# -- what a run leaves -------------------------------------------------------------------------------------


def test_runs_that_learn_nothing_leave_nothing(world):
    image = world.publish()
    age(world.root)
    for _ in range(6):
        assert start_in(world)["sysimage"] == image.path
    assert names(os.path.join(world.store.uses, image.id)) == []
    assert len(names(world.store.recordings(world.environment.id))) == 2 * ending.ALWAYS_KEPT


@pytest.mark.parametrize(
    ("trace", "log", "stays"),
    [
        ("precompile(Tuple{typeof(Base.f), Int64})\n", "", True),
        ("#= inferred =# precompile(Tuple{typeof(Base.f), Int64})\n", "", True),
        ('precompile(Tuple{Main.var"#1#2", Int64})\n', "compiled 0.01\n", False),
        ("", "package a93c6f00-e57d-5684-b7b6-d8193f3e46c0 DataFrames\n", True),
        ("", 'code {"name": "x"}\n', True),
        ("", "", False),
    ],
)
def test_what_a_run_has_learned_stays(world, monkeypatch, trace, log, stays):
    world.publish()
    monkeypatch.setattr(ending, "ALWAYS_KEPT", 0)
    code = (
        "import pyjl_autoimage.startup.ending as e; e.ALWAYS_KEPT = 0\nfrom pyjl_autoimage import jl\n"
        "from pyjl_autoimage.startup.start import session as s\n"
        f"open(s.recording.trace, 'a').write({trace!r}); open(s.recording.log, 'a').write({log!r})\n"
    )
    assert python(world.environ, "-c", code, cwd=world.root).returncode == 0
    assert bool(names(world.store.recordings(world.environment.id))) is stays


def test_a_run_without_an_image_and_one_that_a_build_has_asked_for_leave_their_recordings(world):
    start_in(world, code="import pyjl_autoimage.startup.ending as e; e.ALWAYS_KEPT = 0")
    assert len(names(world.store.recordings(world.environment.id))) == 2
    world.publish()
    variables = {recording.WORKLOAD_VARIABLE: "token"}
    start_in(world, code="import pyjl_autoimage.startup.ending as e; e.ALWAYS_KEPT = 0", **variables)
    assert len(names(world.store.recordings(world.environment.id))) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_fork_that_goes_on_keeps_the_marks_that_its_parent_leaves(world):
    """A daemon: what started Julia ends, its child goes on with image and recording."""
    image = world.publish()
    code = (
        "import pyjl_autoimage.startup.ending as e; e.ALWAYS_KEPT = 0\nimport os, sys, time\n"
        "from pyjl_autoimage import jl\nchild = os.fork()\n"
        "if not child:\n    os.dup2(os.open(os.devnull, os.O_RDWR), 1); os.dup2(1, 2); time.sleep(600)\nprint(child)"
    )
    result = python(world.environ, "-c", code, cwd=world.root)
    try:
        assert len(world.store.users(image.id)) == 1 and remove_image(world.store, image.id) == 0
        assert len(names(world.store.recordings(world.environment.id))) == 2
    finally:
        os.kill(int(result.stdout), signal.SIGKILL)


# -- plans -------------------------------------------------------------------------------------------------


def test_there_are_never_more_plans_than_the_limit(store, monkeypatch):
    monkeypatch.setattr(sweeping, "PLANS_KEPT", 20)
    for number in range(70):
        assert plan.remember(plan.Plan(home=store.home), f"question {number}", Reads())
        assert len(names(store.launches)) <= 20
    assert plan.recall(store, "question 69") is not None


# -- what starts sweep -------------------------------------------------------------------------------------


def test_what_is_dead_goes_and_what_is_alive_stays(world):
    store, image = world.store, world.publish()
    mark = store.mark_use(image.id)
    gone = Path(store.uses, "f" * 16)  # of a store that the user trusted
    for path in (Path(store.uses, image.id, dead(1)), gone / dead(2), gone / "x.tmp", Path(store.booting, "a.alive")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for path in (gone / "x.tmp", Path(store.booting, "a.alive")):
        old(path, 2 * DAY)
    world.store.condemn("a" * 16, "of a store that is gone")
    world.store.condemn(image.id, "of a test")
    for name in ("a" * 16, image.id):
        old(os.path.join(store.condemnations, name), 400 * DAY)
    for name in (
        "0123abcd.cancel",
        "profile.json.99.0123abcd.tmp",
    ):  # whoever was to read, or to complete it, was killed
        path = Path(store.ensure(store.environment("e")), name)
        path.touch()
        sweep(store)
        assert path.exists(), "it may be about it"
        old(path, 2 * DAY)
    sweep(store)
    assert names(store.uses) == [image.id] and names(os.path.dirname(mark)) == [os.path.basename(mark)]
    assert names(store.booting) == names(store.environment("e")) == []
    assert names(store.condemnations) == [image.id]


def test_marks_of_another_boot_and_what_may_be_under_way_stay(world):
    store = world.store
    paths = [
        Path(store.uses, "f" * 16, "host-1-another-00000001"),
        Path(store.uses, "f" * 16, "host-1-another-00000002.tmp"),
        Path(store.booting, f"host-1-another-00000001-{'f' * 16}"),
        Path(store.booting, "x.alive"),
        Path(store.booting, "x.once"),
    ]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    sweep(store)
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize(("count", "size", "left"), [(RECORDINGS_KEPT + 7, 10, RECORDINGS_KEPT), (30, 1_000_000, 10)])
def test_the_oldest_recordings_go_where_nobody_builds(store, count, size, left):
    directory = Path(store.ensure(store.recordings("e")))
    for number in range(count):
        for kind, length in ((".jl", size), (".log", 0)):
            path = directory / f"{dead(number)}{kind}"
            path.touch()
            os.truncate(path, length)
            old(path, count - number)
    living = directory / f"{dead(0)}x.log"
    hold(str(living))
    old(living, 10 * DAY)
    sweep(store)
    kept = {path.stem for path in directory.glob("*.jl")}
    assert kept == {dead(number) for number in range(count - left, count)}
    assert living.exists(), "that process writes it still"


def test_what_status_reads_is_bounded_where_nobody_builds(store, monkeypatch):
    directory = Path(store.ensure(store.recordings("e")))
    for number in range(RECORDINGS_KEPT + 300):
        (directory / f"{dead(number)}.log").write_text('{"program": "p"}\n')
        (directory / f"{dead(number)}.jl").write_text("precompile(Tuple{typeof(Base.f), Int64})\n")
    sweep(store)
    assert recordings.peek(store, "e").runs == RECORDINGS_KEPT
    living = directory / f"{dead(RECORDINGS_KEPT + 300)}x.log"
    hold(str(living))
    recordings.merge(store, "e")
    read = []
    monkeypatch.setattr(recordings, "_new_lines", lambda path, offset: (read.append(path) or [], offset))
    recordings.peek(store, "e")
    assert {Path(path).stem for path in read} == {living.stem}, "what has been counted is not read again"


def test_a_sweep_ends_in_time_and_the_next_ones_go_on(store):
    directory = Path(store.uses, "f" * 16)
    directory.mkdir(parents=True)
    for number in range(3000):
        (directory / dead(number)).touch()
    began = time.monotonic()
    sweep(store, 0.01)
    assert time.monotonic() - began < 1 and names(str(directory))
    for _ in range(3000):
        sweep(store, 0.01)
        if not directory.exists():
            break
    assert not directory.exists()


def test_a_start_sweeps_now_and_then_and_never_fails_of_it(world, monkeypatch):
    image = world.publish()
    left = Path(world.store.uses, image.id, dead(1))
    left.parent.mkdir(parents=True)
    left.touch()
    fixed = "import os, pyjl_autoimage.base.liveness as l; l._own_names[os.getpid()] = 'host-1-boot-000000%s'"
    start_in(world, code=fixed % "01")
    assert left.exists()
    start_in(world, code=fixed % "40")
    assert not left.exists()
    broken = "import pyjl_autoimage.store.sweep as s; s.sweep = lambda *given: 1 / 0\n"
    assert start_in(world, code=broken + fixed % "40")["sysimage"] == image.path


def test_environments_that_lived_for_one_run_do_not_pile_up(world):
    """``uv run --with`` makes a virtual environment for each run, so each has a Julia project, and a name, of its own."""
    image = world.publish()
    for number in range(ENVIRONMENTS_KEPT + 20):
        directory = Path(world.store.ensure(world.store.recordings(f"{number:016x}"))).parent
        old(directory / "recordings", 3 * DAY - number)
        old(directory, 3 * DAY - number)
    old(world.store.ensure(world.store.environment(image.environment)), 9 * DAY)
    hold(os.path.join(world.store.recordings(f"{2:016x}"), f"{mark_name()}.log"))  # a server that began long ago
    old(world.store.recordings(f"{2:016x}"), 3 * DAY)
    building = os.path.join(world.store.environment(f"{1:016x}"), "recordings")
    with lock(world.store.build_lock(f"{0:016x}"), 0):
        old(world.store.build_lock(f"{0:016x}"), 9 * DAY)
        old(world.store.environment(f"{0:016x}"), 9 * DAY)
        assert os.path.isdir(building)
        sweep(world.store)
    left = world.store.environment_ids()
    assert {f"{0:016x}", f"{2:016x}", image.environment, f"{ENVIRONMENTS_KEPT + 19:016x}"} <= {*left}
    assert not os.path.exists(building) and len(left) == ENVIRONMENTS_KEPT + 2


# -- a year ------------------------------------------------------------------------------------------------

STARTS = 10_000
OFTEN = "precompile(Tuple{typeof(Base.f), Int64})\n" * 100


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is one: a hundred thousand small files are made and removed."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as directory:
        yield Path(directory)


def test_a_year_of_starts_leaves_little(quick, monkeypatch):
    """By the calls that a start makes: on an image and without, new questions, ends, kills and crashes."""
    world = World(quick)
    store, image = world.store, world.publish()
    directory = store.recordings(world.environment.id)
    now, real = time.time() - 365 * DAY, time.time
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(liveness, "_held", {})
    monkeypatch.setattr(guard, "_remove_at_c_exit", lambda path: None)
    most = 0
    for number in range(STARTS):
        now += 365 * DAY / STARTS
        monkeypatch.setattr(liveness, "_own_names", {os.getpid(): dead(number)})
        if number % 10 == 0:  # a job with a directory of its own
            plan.remember(plan.Plan(home=store.home), f"question {number}", Reads())
        on_image = number % 3 > 0
        session = start.Session()
        session.on_image = on_image
        list(guard.verdicts(store.booting))
        if on_image:
            session.use = store.mark_use(image.id if number % 2 else f"{number % 50:016x}")
        session.recording = recording.create(directory, image=image.id if on_image else None, flags={})
        assert session.recording is not None
        with open(session.recording.trace, "a") as trace:
            trace.write("" if on_image else OFTEN)
        stand = guard.Guard(store.booting, image.id if on_image else None, watch=False)
        stand.__enter__()
        killed_at = number % 5  # 0: while it starts, 1: while it runs
        if killed_at != 0:
            stand.__exit__(None)
        if killed_at > 1:
            ending.leave(session.use, session.recording, on_image=on_image)
        for descriptor in liveness._held.values():
            os.close(descriptor)
        liveness._held.clear()
        if number % start.SWEEPS == 0:
            sweep(store, 10 * start.SWEEP_SECONDS)
        if number % 500 == 499:
            files = [path for path in Path(store.root).rglob("*") if path.is_file()]
            most = max(most, len(files))
            assert len(files) <= 2000 and sum(path.stat().st_size for path in files) <= 20_000_000
    assert most > PLANS_KEPT, "it does come to something"
    assert real() > now - DAY
