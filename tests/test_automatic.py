"""Builds that start by themselves: what decides, what wakes, and that nothing of it is felt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyjl_autoimage.base.liveness import mark_name
from pyjl_autoimage.base.settings import Settings
from pyjl_autoimage.build import automatic, machine
from pyjl_autoimage.build.automatic import BETWEEN_BUILDS, decide, discharging
from pyjl_autoimage.build.clean import prune
from pyjl_autoimage.build.measured import gain_over
from pyjl_autoimage.build.state import State
from pyjl_autoimage.profile import recordings
from pyjl_autoimage.profile.profile import Profile, Program, Run, Statement
from pyjl_autoimage.startup.ending import AFTER_A_FAILURE

from standin import World, age, buildable_world, building, ended, environ_of, julia_that_builds, start_in, wait_for

NOW = time.time()


def statement(name: str) -> str:
    return f"precompile(Tuple{{typeof(Base.{name}), Int64}})"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world on mains, with memory to spare."""
    monkeypatch.setattr(automatic, "on_battery", lambda: False)
    monkeypatch.setattr(machine, "available_gigabytes", lambda: 20.0)
    monkeypatch.setenv("PYTHONPATH", "")
    return World(tmp_path / "world")


def decision(world: World) -> tuple[bool, str]:
    builds, why, pause = decide(world.store, world.environment, Settings(home=world.store.home), {})
    assert pause > 0
    return builds, why


def ran(world: World, *runs: Run, **statements: float) -> None:
    """Let the profile say what these runs cost, and when these statements were recorded."""
    recorded = Profile(
        {statement(name): Statement(1, when, 0, {"a.py"}) for name, when in statements.items()},
        programs={"a.py": Program(1, NOW)},
        recent={f"host-{number}": run for number, run in enumerate(runs)},
    )
    world.store.ensure(world.store.environment(world.environment.id))
    Path(world.store.profile(world.environment.id)).write_text(json.dumps(recorded.to_json()))


def built(world: World, ago: float, **changes) -> None:
    world.store.ensure(world.store.environment(world.environment.id))
    finished = time.time() - ago  # when this module was imported may be an hour ago
    values = {
        "state": "done",
        "image": "i",
        "started": finished - 300,
        "finished": finished,
        "seconds": {"x": 200.0},
    }
    stands = values | changes
    if stands["state"] == "running":
        building(world.store, world.environment.id, "token", **stands)
    else:
        State("token", mark_name(), **stands).write(world.store, world.environment.id)


SLOW = Run("a.py", NOW, ready=1.2, compiled=8.0)


# -- what decides --------------------------------------------------------------------------------------------


def test_without_an_image_one_slow_run_is_enough(world):
    assert decision(world) == (False, "no recorded run was slow")
    ran(world, Run("a.py", NOW, ready=0.2, compiled=0.1))
    assert decision(world) == (False, "no recorded run was slow")
    ran(world, SLOW)
    assert decision(world) == (True, "there is no image")


def test_a_stale_image_is_built_again(world):
    ran(world, SLOW)
    world.publish()
    assert not decision(world)[0]
    world.write_manifest(version="0.5.4")
    assert decision(world) == (True, "the image is stale")


def test_an_image_that_another_one_would_not_better(world):
    ran(world, SLOW)
    image = world.publish()
    world.store.condemn(image.id, "a process died")
    assert decision(world) == (False, "another image would not help: the last one is condemned: a process died")


def test_on_an_image_the_measured_compilation_must_pay_for_a_build(world):
    image = world.publish(built_at=NOW - 8000)
    built(world, 7000)
    on_it = Run("a.py", NOW, image.id, compiled=9.0)
    ran(world, on_it, on_it, a=NOW)
    assert decision(world) == (False, "18.0 s compiled beyond the image do not pay for a build of 200 s")
    ran(world, on_it, on_it, on_it, a=NOW)
    assert decision(world) == (True, "recorded runs compiled 27.0 s beyond the image")


def test_only_what_an_image_could_hold_counts(world):
    image = world.publish(built_at=NOW - 8000)
    own = 'precompile(Tuple{Main.var"#1#2"})'
    recorded = Profile(
        {
            statement("new"): Statement(1, NOW),
            statement("old"): Statement(1, NOW - 9000),
            statement("given"): Statement(1, NOW, given=True),
            own: Statement(1, NOW),
            f"{own[:-2]}, Int}})": Statement(1, NOW),
        },
        recent={"a": Run("a.py", NOW, image.id, compiled=8.0), "b": Run("a.py", NOW, "another", compiled=100.0)},
    )
    assert gain_over(image, recorded) == 2.0
    assert gain_over(image, Profile(recent=recorded.recent)) == 0.0


@pytest.mark.parametrize(
    ("ago", "changes", "why"),
    [
        (100, {}, "the last build is not an hour old"),
        (100, {"state": "running", "finished": 0.0}, "a build is running"),
        (BETWEEN_BUILDS + 100, {"state": "failed"}, "the last build has failed"),
        (BETWEEN_BUILDS + 100, {"state": "cancelled"}, "the last build has cancelled"),
        (BETWEEN_BUILDS + 100, {}, "there is no image"),
        (90_000, {"state": "failed"}, "there is no image"),
    ],
)
def test_builds_do_not_follow_one_another(world, ago, changes, why):
    ran(world, SLOW)
    built(world, ago, **changes)
    assert decision(world) == (why == "there is no image", why)


def test_not_on_battery_and_not_when_memory_is_short(world, monkeypatch):
    ran(world, SLOW)
    monkeypatch.setattr(machine, "available_gigabytes", lambda: 2.0)
    assert decision(world) == (False, "only 2.0 GB of memory are free")
    monkeypatch.setattr(automatic, "on_battery", lambda: True)
    assert decision(world) == (False, "the machine runs on battery")


@pytest.mark.parametrize(
    ("supplies", "on_battery"),
    [
        ([], False),
        ([{"type": "Mains", "online": "0"}], False),
        ([{"type": "Battery", "status": "Charging"}], False),
        ([{"type": "Mains", "online": "0"}, {"type": "Battery", "status": "Discharging"}], True),
        ([{"type": "Battery", "status": "Discharging", "scope": "Device"}], False),
        ([{"type": "Battery", "status": "Discharging", "scope": "System"}], True),
    ],
)
def test_batteries_by_linux_account(tmp_path, supplies, on_battery):
    for number, facts in enumerate(supplies):
        (tmp_path / str(number)).mkdir()
        for name, value in facts.items():
            (tmp_path / str(number) / name).write_text(f"{value}\n")
    assert discharging(str(tmp_path)) == on_battery
    assert not discharging(str(tmp_path / "nowhere"))


# -- from the end of a program to an image --------------------------------------------------------------------

CALM = """
import sys
if "_automatic" in sys.orig_argv:
    from pyjl_autoimage.build import automatic, machine
    automatic.on_battery = lambda: False
    machine.available_gigabytes = lambda: 20.0
"""


def calm(world: World) -> World:
    """The processes of this world never see a battery."""
    (world.site / "sitecustomize.py").write_text(CALM)
    return world


def slow_program(compiled: float = 9.0) -> str:
    """A program that says, as Julia does at its end, how long it compiled."""
    return f"""
import atexit, pyjl_autoimage
def at_end():
    from pyjl_autoimage.startup.start import session
    session.recording.note("compiled {compiled}")
pyjl_autoimage.jl
atexit.register(at_end)
"""


def later(when: float) -> float:
    """When somebody may be woken again, once it has been decided; 0 before."""
    return when if when > time.time() + 1000 else 0.0


def run(world: World, code: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in environ_of(world).items() if name != "CI"}
    return subprocess.run(
        [sys.executable, *arguments, "-c", code], env={**clean, **environ}, cwd=world.root, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


def mark(world: World) -> Path:
    return Path(world.store.automatic(world.environment.id))


def test_a_program_that_ends_builds_an_image_if_that_is_wanted(tmp_path):
    world = calm(buildable_world(tmp_path))
    julia_that_builds(world)
    age(world.project, world.executable)
    result = run(world, slow_program(), PYJL_AUTOIMAGE_AUTO="1")
    assert (result.stdout, result.stderr) == ("", "")
    assert wait_for(lambda: ended(world)).state == "done"
    assert json.loads(mark(world).read_text())["why"] == "there is no image"
    age(world.project, world.executable)
    (image,) = world.store.all_images()
    assert start_in(world)["sysimage"] == image.path


def test_twenty_programs_that_end_build_one_image(tmp_path):
    world = calm(buildable_world(tmp_path))
    julia_that_builds(world, meanwhile=f'echo x >> "{world.root}/builds"')
    age(world.project, world.executable)
    environ = {name: value for name, value in environ_of(world).items() if name != "CI"} | {
        "PYJL_AUTOIMAGE_AUTO": "1"
    }
    processes = [
        subprocess.Popen([sys.executable, "-c", slow_program()], env=environ, cwd=world.root) for _ in range(20)
    ]
    assert [process.wait(120) for process in processes] == [0] * 20
    assert wait_for(lambda: ended(world)).state == "done"
    asked_again_at = wait_for(lambda: later(os.stat(mark(world)).st_mtime))
    run(world, slow_program(), PYJL_AUTOIMAGE_AUTO="1")
    assert os.stat(mark(world)).st_mtime == asked_again_at, "nobody was woken"
    assert (world.root / "builds").read_text() == "x\n"


@pytest.mark.parametrize(
    ("environ", "compiled"),
    [
        ({}, 9.0),
        ({"PYJL_AUTOIMAGE_AUTO": "0"}, 9.0),
        ({"PYJL_AUTOIMAGE_AUTO": "1", "CI": "true"}, 9.0),
        ({"PYJL_AUTOIMAGE_AUTO": "1"}, 0.1),
        ({"PYJL_AUTOIMAGE_AUTO": "1", "PYJL_AUTOIMAGE_RECORD": "0"}, 9.0),
        ({"PYJL_AUTOIMAGE_AUTO": "1", "PYJL_AUTOIMAGE": "0"}, 9.0),
    ],
)
def test_nobody_is_woken(tmp_path, environ, compiled):
    world = calm(World(tmp_path / "world"))
    code = slow_program(compiled).replace("session.recording.note", "session.recording and session.recording.note")
    run(world, code, **environ)
    assert not mark(world).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_end_of_a_forked_child_is_not_that_of_the_program(tmp_path):
    world = calm(World(tmp_path / "world"))
    code = "import os, sys\nif os.fork():\n    os.wait()\n    os._exit(0)\nsys.exit()"
    run(world, f"{slow_program()}\n{code}", PYJL_AUTOIMAGE_AUTO="1")
    assert not mark(world).exists()


def test_a_store_that_has_gone_does_not_hinder_the_end(tmp_path):
    world = calm(World(tmp_path / "world"))
    code = f"{slow_program()}\nimport shutil; shutil.rmtree({world.store.home!r})"
    assert run(world, code, PYJL_AUTOIMAGE_AUTO="1").stderr == ""


def test_why_not_is_noted_and_not_asked_again_at_once(tmp_path):
    world = calm(buildable_world(tmp_path))
    world.store.ensure(world.store.environment(world.environment.id))
    built(world, 100)
    run(world, slow_program(), PYJL_AUTOIMAGE_AUTO="1")
    wait_for(lambda: mark(world).exists() and mark(world).read_text())
    assert json.loads(mark(world).read_text())["why"] == "the last build is not an hour old"
    asked_again_at = wait_for(lambda: later(os.stat(mark(world)).st_mtime))
    run(world, slow_program(), PYJL_AUTOIMAGE_AUTO="1")
    assert os.stat(mark(world)).st_mtime == asked_again_at
    os.utime(mark(world), (NOW, NOW + 10 * AFTER_A_FAILURE))
    run(world, slow_program(), PYJL_AUTOIMAGE_AUTO="1")
    assert os.stat(mark(world)).st_mtime < NOW + AFTER_A_FAILURE, "a clock that was wrong does not stop it for ever"


# -- advice ---------------------------------------------------------------------------------------------------


def interactive(world: World, code: str) -> str:
    """What somebody at a prompt sees at the end."""
    return run(world, f"import sys; sys.ps1 = '>>> '\n{code}").stderr


def test_advice_is_given_once_until_something_changes(tmp_path):
    world = World(tmp_path / "world")
    first = interactive(world, slow_program())
    assert first == (
        "pyjl_autoimage: Julia spent 9 s on compiling here. `python -m pyjl_autoimage build` makes an image for the "
        "next start; with PYJL_AUTOIMAGE_AUTO=1 that happens by itself.\n"
    )
    assert interactive(world, slow_program()) == ""
    age(world.project)
    image = world.publish()
    trace = "open(session.recording.trace, 'w').write('precompile(Tuple{typeof(Base.f)})\\n')"
    code = slow_program().replace("session.recording.note", f"{trace}; session.recording.note")
    assert "Julia spent 9 s on code that its image lacks" in interactive(world, code)
    assert interactive(world, code) == ""
    assert start_in(world)["sysimage"] == image.path


def test_no_advice_to_programs_to_quick_sessions_or_while_a_build_runs(tmp_path):
    world = World(tmp_path / "world")
    assert run(world, slow_program()).stderr == ""
    assert interactive(world, slow_program(0.5)) == ""
    built(world, 1, state="running", finished=0.0)
    assert interactive(world, slow_program()) == ""


def test_a_notebook_is_advised_as_julia_starts(tmp_path):
    world = World(tmp_path / "world")
    code = (
        "import sys, types; sys.modules['ipykernel'] = types.ModuleType('ipykernel')\nfrom pyjl_autoimage import jl"
    )
    assert run(world, code).stderr == ""  # nothing has been recorded that an image could be built of
    assert run(world, code).stderr.startswith("pyjl_autoimage: Julia started without an image that fits. ")
    assert run(world, code).stderr == ""
    recordings.merge(world.store, world.environment.id)
    assert run(world, code, PYJL_AUTOIMAGE_AUTO="1").stderr == ""


# -- what is damaged, and what is for others -------------------------------------------------------------------


def test_an_image_that_only_its_checksum_condemns(world):
    """The newest is damaged in the middle; since an older one was condemned, starts compare checksums."""
    older, newest = world.publish(b"older", built_at=1.0), world.publish(b"newest image", built_at=2.0)
    Path(newest.path).write_bytes(b"NEWEST image")
    world.store.condemn(older.id, "a start died")
    ran(world, SLOW)
    assert decision(world) == (True, "the image is stale")


@pytest.mark.parametrize("kind", [{"flags": {"check_bounds": "yes"}}, {"cpu": "another"}])
def test_programs_of_other_flags_and_cpus_make_no_image_stale(world, kind):
    """Two kinds of programs would build in turns for ever, each finding the image of the other."""
    world.publish(b"for the others", built_at=NOW - 7200, **kind)
    ran(world, SLOW)
    assert decision(world) == (True, "there is no image")
    ours = world.publish(b"for these", built_at=NOW - 3000)
    assert decision(world)[0] is False
    kept = {image.id for image in world.store.all_images()}
    prune(world.store, keep=1, max_bytes=1e12, spare=ours.id)
    assert {image.id for image in world.store.all_images()} == kept, "each kind counts for itself"


def test_a_build_that_died_elsewhere_is_no_build_that_runs(world):
    world.store.ensure(world.store.environment(world.environment.id))
    State("t", "3f2a9c0b17d4-7-1234", started=NOW - 90_000).write(world.store, world.environment.id)
    ran(world, SLOW)
    assert decision(world) == (True, "there is no image")
