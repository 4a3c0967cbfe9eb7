"""Builds that are killed, cancelled, tidied under, or left alone by whoever asked for them: what was published counts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pyjl_autoimage.base.locks import is_held
from pyjl_autoimage.build import history, perform
from pyjl_autoimage.build.handle import Build
from pyjl_autoimage.build.state import State
from pyjl_autoimage.profile.workloads import Caller, tasks

from standin import (
    World,
    age,
    buildable_world,
    building,
    cli,
    ended,
    environ_of,
    julia_that_builds,
    python,
    reported,
    runs,
    start_in,
    until,
    wait_for,
)

BUILD = [sys.executable, "-m", "pyjl_autoimage", "build", "--json"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return buildable_world(tmp_path)


def begin(world: World, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*BUILD, *arguments], env=environ_of(world), cwd=world.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def left_by(world: World, process: str) -> None:
    """A build that died without a word: its state says that it runs, nobody holds its lock."""
    world.store.ensure(world.store.environment(world.environment.id))
    day = time.time() - 86400
    State("t" * 16, process, phase="native code", started=day, phase_started=day).write(
        world.store, world.environment.id
    )


def in_builds(world: World, code: str) -> dict[str, str]:
    """An environment in which this runs first in each process that builds."""
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    (world.root / "sitecustomize.py").write_text(
        f"import sys\nif '_build' in getattr(sys, 'orig_argv', []):\n{lines}", encoding="utf-8"
    )
    environ = environ_of(world)
    return {**environ, "PYTHONPATH": os.pathsep.join((environ["PYTHONPATH"], str(world.root)))}


# -- who is alive ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", ["3f2a9c0b17d4-7-1234", "nonsense", ""])
def test_a_build_that_died_wherever_blocks_no_other(world, process):
    """In a container that is gone, on a host that lost its power: nobody here can ask for its pid."""
    left_by(world, process)
    julia_that_builds(world)
    told = cli(environ_of(world), "build", "--json", cwd=world.root)
    assert told.returncode == 0 and json.loads(told.stdout)["state"] == "done"
    killed, done = history.read(world.store, world.environment.id)
    assert (killed.state, done.state) == ("failed", "done")


def test_cancelling_asks_the_build_and_signals_nobody(world):
    """Of a build on another host the pid is known, and is here somebody else's."""
    mine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    state = building(world.store, world.environment.id, "t" * 16, started=time.time())
    state.process = f"othernode-{mine.pid}-77-12"
    state.write(world.store, world.environment.id)
    Build(world.store, world.environment.id, "t" * 16, None).cancel()
    time.sleep(0.3)
    assert mine.poll() is None
    assert os.path.exists(world.store.cancellation(world.environment.id, "t" * 16))
    mine.kill()
    mine.wait()


def test_a_build_obeys_whoever_asks_it_to_stop(world):
    started = world.root / "started"
    julia_that_builds(world, meanwhile=f'touch "{started}"; sleep 60')
    process = begin(world)
    wait_for(started.exists)
    state = State.read(world.store, world.environment.id)
    assert state is not None
    handle = Build(world.store, world.environment.id, state.token, None)
    handle.cancel()
    process.communicate(timeout=30)
    assert process.returncode == 1 and handle.state().state == "cancelled"
    assert not os.path.exists(world.store.cancellation(world.environment.id, state.token))


# -- what was published ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", ["FileNotFoundError(2, 'No such file or directory')", "OSError(28, 'No space left')"]
)
def test_what_goes_wrong_behind_the_publication_is_a_note(world, error):
    julia_that_builds(world)
    world.publish(b"old", built_at=1.0)
    code = f"import pyjl_autoimage.build.clean as c\ndef gone(*_): raise {error}\nc.remove_image = c.sweep = gone"
    result = cli(in_builds(world, code), "build", "--json", cwd=world.root)
    told = json.loads(result.stdout)
    assert (result.returncode, told["state"]) == (0, "done")
    assert start_in(world)["sysimage"] == world.store.image_library(told["image"])
    assert any("tidying up" in note for note in told["notes"])


@pytest.mark.parametrize("before", [True, False])
def test_a_builder_killed_as_it_publishes_tells_what_is_there(world, before):
    julia_that_builds(world)
    world.publish(b"old", built_at=1.0)
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    code = (
        "import pyjl_autoimage.build.build as b\npublish = b.publish_image\n"
        f"def dies(*given):\n    {'pass' if before else 'publish(*given)'}\n    {kill}\nb.publish_image = dies"
    )
    result = cli(in_builds(world, code), "build", "--json", cwd=world.root)
    state = State.read(world.store, world.environment.id)
    assert state is not None
    uses = start_in(world)["sysimage"]
    if before:
        assert (result.returncode, state.state, state.image) == (1, "failed", None)
    else:
        assert (state.state, uses) == ("done", world.store.image_library(str(state.image)))


def test_a_signal_behind_the_publication_is_no_cancelled_build(world):
    julia_that_builds(world)
    code = "import pyjl_autoimage.build.build as b, os, signal\nb._keep_house = lambda *_: os.kill(os.getpid(), 15)"
    told = json.loads(cli(in_builds(world, code), "build", "--json", cwd=world.root).stdout)
    assert told["state"] == "done" and start_in(world)["sysimage"] == world.store.image_library(told["image"])


def test_a_layer_that_cannot_be_written_is_no_reason_to_go_without_an_image(world):
    start_in(world)
    (trace,) = Path(world.store.recordings(world.environment.id)).glob("*.jl")
    trace.write_text("precompile(Tuple{typeof(Base.sin), Float64})\n")
    julia_that_builds(world)
    Path(world.store.layers).write_text("")  # as if the disk had been full, or somebody had tidied up
    result = cli(environ_of(world), "build", "--json", cwd=world.root)
    told = json.loads(result.stdout)
    assert result.returncode == 0 and len(list(world.store.all_images())) == 1
    assert any(note.startswith("no layer for ") for note in told["notes"])


# -- which Julia built it --------------------------------------------------------------------------------


def test_an_image_says_which_julia_built_it_or_is_none(world):
    """A launcher that was given another Julia since the build began."""
    julia_that_builds(world)
    text = world.executable.read_text()
    ours = reported("julia", world.facts.version, world.facts.commit, world.facts.base_build_id)
    assert ours in text
    world.executable.write_text(text.replace(ours, reported("julia", "1.10.9", "f" * 40, "7")))
    result = cli(environ_of(world), "build", cwd=world.root)
    assert result.returncode == 1 and "Julia 1.10.9" in result.stderr and not list(world.store.all_images())


def test_facts_are_looked_at_once(world):
    """What another Julia says between two looks went into the facts of what the first one had built."""
    julia_that_builds(world)
    answer = world.root / "julia" / "answer"
    other = answer.read_bytes().replace(b"version=1.10.4", b"version=1.10.9")
    (world.root / "other").write_bytes(other)
    code = (
        "import pyjl_autoimage.build.build as b, shutil\nproject = b.builder_project\n"
        f"def update(*given):\n    shutil.copy({str(world.root / 'other')!r}, {str(answer)!r})\n"
        f"    open({str(world.libjulia)!r}, 'a').write('changed')\n    return project(*given)\nb.builder_project = update"
    )
    age(world.project)
    told = json.loads(cli(in_builds(world, code), "build", "--json", cwd=world.root).stdout)
    assert told.get("state") == "done", told
    (image,) = world.store.all_images()
    assert image.julia_version == "1.10.4"


# -- what a build leaves running -------------------------------------------------------------------------


def test_what_julia_leaves_behind_neither_holds_the_build_nor_stays(world):
    """It has the log open, as a browser or a server has that a package starts while it is loaded."""
    pid = world.root / "pid"
    julia_that_builds(world, meanwhile=f'(sleep 300 & echo $! > "{pid}")')
    began = time.monotonic()
    process = begin(world)
    process.communicate(timeout=100)
    assert process.returncode == 0 and time.monotonic() - began < 60
    assert not runs(int(pid.read_text()))


@pytest.mark.skipif(sys.platform == "win32", reason="there a job object does it, which is untried")
@pytest.mark.parametrize("deaf", ["", "trap '' TERM HUP INT; "])
def test_a_builder_that_is_killed_alone_leaves_nothing(world, deaf):
    """As the out-of-memory killer does it: neither Julia nor what that has started outlives it by five seconds."""
    pids = world.root / "pids"
    julia_that_builds(world, meanwhile=f'{deaf}sleep 300 & echo $! $$ > "{pids}.tmp"; mv "{pids}.tmp" "{pids}"; wait')
    process = begin(world)
    wait_for(pids.exists)
    state = State.read(world.store, world.environment.id)
    assert state is not None
    os.kill(state.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(runs, map(int, pids.read_text().split()))), 5)
    process.communicate(timeout=30)
    assert process.returncode == 1 and not is_held(world.store.build_lock(world.environment.id))


def test_what_a_workload_leaves_running_ends_with_it(world):
    """Also where it has left the process group, as daemons do."""
    (world.root / "prog.py").write_text(
        "import subprocess, sys\n"
        "for new in (False, True):\n"
        "    p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=new)\n"
        "    print(p.pid, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    with (world.root / "output").open("w+", encoding="utf-8") as log:
        outcome = perform.run(
            tasks(str(world.root / "prog.py"))[0], caller=Caller(str(world.root), None), token="t",
            directory=str(world.root), environ=world.environ, packages=None, limit=4, log=log,
        )  # fmt: skip
        log.seek(0)
        pids = [int(line) for line in log.read().split()]
    assert "setting time_limit" in outcome.problem and len(pids) == 2
    wait_for(lambda: not any(map(runs, pids)), 5)


# -- how long it may take --------------------------------------------------------------------------------


def test_a_phase_that_takes_too_long_is_ended(world):
    julia_that_builds(world, meanwhile="sleep 300")
    result = cli(environ_of(world, PYJL_AUTOIMAGE_PHASE_LIMIT="2"), "build", cwd=world.root)
    assert result.returncode == 1
    assert "was ended after 2" in result.stderr and "setting phase_limit" in result.stderr
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(world.root) in " ".join(p.info["cmdline"] or [])]


def test_a_statement_that_compiles_for_ever_is_left_out(world):
    """The building Julia notes which one it is at; the phase is tried once more without it."""
    lines = [f"precompile(Tuple{{typeof(Base.{name}), Float64}})" for name in ("sin", "cos", "tan")]
    start_in(world)
    (trace,) = Path(world.store.recordings(world.environment.id)).glob("*.jl")
    trace.write_text("".join(f"{line}\n" for line in lines))
    hangs = (
        'b="$(dirname "$(dirname "$a")")"; if grep -q Base.cos "$b/statements.jl"; then echo "[autoimage] statements 0/3"; '
        'grep -n Base.cos "$b/statements.jl" | cut -d: -f1 | tr -d "\\n" > "$b/report.at"; sleep 300; fi'
    )
    julia_that_builds(world, meanwhile=hangs)
    result = cli(environ_of(world, PYJL_AUTOIMAGE_PHASE_LIMIT="3"), "build", "--json", cwd=world.root)
    told = json.loads(result.stdout)
    assert told.get("state") == "done", told
    assert any("once more, without precompile(Tuple{typeof(Base.cos), Float64})" in note for note in told["notes"])


@pytest.mark.parametrize(
    "said",
    [
        "Failed to precompile Example [7876af07-990d-54b4-ab0e-23690620f79a] to /depot/compiled/x.",
        "LoadError: Declaring __precompile__(false) is not allowed\nin expression starting at {source}/src/Example.jl:1",
    ],
    ids=["precompiled", "loaded"],
)
def test_a_package_that_cannot_be_made_part_of_an_image_is_left_out_by_name(world, said):
    failed = said.format(source=world.source)
    fails = f'grep -q Example "$(dirname "$(dirname "$a")")/project/Project.toml" && {{ echo "ERROR: {failed}"; exit 1; }}'
    julia_that_builds(world, meanwhile=fails)
    text = world.executable.read_text()
    example = reported("loaded", "7876af07-990d-54b4-ab0e-23690620f79a", "Example", "0.5.3", str(world.source))
    world.executable.write_text(text.replace(example, ""))
    result = cli(environ_of(world, PYJL_AUTOIMAGE_INCLUDE="Example"), "build", "--json", cwd=world.root)
    told = json.loads(result.stdout)
    assert told.get("state") == "done", told
    assert "cannot be precompiled" in told["left_out"]["Example"]
    (image,) = world.store.all_images()
    assert [package.name for package in image.packages] == ["PythonCall"]


# -- beside others ---------------------------------------------------------------------------------------

PRUNE = """
import sys, time
from pyjl_autoimage.build.clean import prune
from pyjl_autoimage.store.places import Store
time.sleep(max(0, float(sys.argv[2]) - time.time()))
prune(Store(sys.argv[1]), keep=1, max_bytes=1e12, spare="")
"""


def test_two_builds_that_end_together_remove_old_images_without_harm(world):
    for number in range(150):
        world.publish(f"image {number}".encode(), built_at=float(number))
    at = repr(time.time() + 2)
    both = [
        subprocess.Popen([sys.executable, "-c", PRUNE, world.store.home, at], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(list(world.store.all_images())) == 1


def test_clean_all_leaves_a_build_what_it_needs(world):
    release = world.root / "release"
    julia_that_builds(world, meanwhile=f'{until(release)}; ls -d "{world.store.builder_depot}"')
    process = begin(world)
    wait_for(lambda: os.path.isdir(world.store.builder_depot))
    cleaned = json.loads(cli(environ_of(world), "clean", "--all", "--json", cwd=world.root).stdout)
    assert [entry["reason"] for entry in cleaned["kept"]] == ["a build is running"]
    release.touch()
    process.communicate(timeout=60)
    assert process.returncode == 0 and ended(world) is not None


def test_when_everything_goes_nothing_is_left(world):
    julia_that_builds(world)
    assert cli(environ_of(world), "build", cwd=world.root).returncode == 0
    image = next(world.store.all_images())
    world.publish_layer("1" * 16)
    world.store.condemn("a" * 16, "of a test")
    for path in (
        world.store.contents(image.id),
        os.path.join(world.store.root, "checked", image.id),
        world.store.hook_log,
    ):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).write_text("{}")
    start_in(world)
    python(environ_of(world), "-m", "pyjl_autoimage", "clean", "--all", cwd=world.root)
    assert [path for path in Path(world.store.root).rglob("*") if path.is_file()] == []
