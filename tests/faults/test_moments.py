"""Moments between two steps of a build, in which somebody else comes: each is made to last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyjl_autoimage.base.locks import is_held, lock
from pyjl_autoimage.base.settings import Settings
from pyjl_autoimage.build import begin, history
from pyjl_autoimage.build import clean as cleaning
from pyjl_autoimage.build.build import NOTHING_RECORDED
from pyjl_autoimage.build.state import State
from pyjl_autoimage.store import publish

from standin import (
    World,
    buildable_world,
    building,
    cli,
    environ_of,
    julia_that_builds,
    python,
    runs,
    start_in,
    wait_for,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return buildable_world(tmp_path)


def at_removal(world: World, number: int, does: str) -> None:
    """The builder does this when it is about to remove the directory of builds for that time."""
    (world.site / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "if '_build' in sys.orig_argv:\n"
        "    seen = []\n"
        "    def hook(event, arguments):\n"
        "        if event == 'shutil.rmtree' and str(arguments[0]).endswith('build'):\n"
        "            seen.append(event)\n"
        f"            if len(seen) == {number}:\n"
        f"                {does}\n"
        "    sys.addaudithook(hook)\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="there are no signals")
@pytest.mark.parametrize(("number", "said"), [(1, "cancelled"), (2, "done")])
def test_a_build_says_how_it_has_ended_at_whichever_moment_it_is_cancelled(world, number, said):
    """As it begins it is cancelled; once it knows what it has come to, that is what it says."""
    julia_that_builds(world)
    at_removal(world, number, "os.kill(os.getpid(), 15)")
    result = cli(environ_of(world), "build", "--json", cwd=world.root)
    state = State.read(world.store, world.environment.id)
    assert state is not None and state.state == said, result.stderr
    assert (result.returncode == 0) == (said == "done") == bool(list(world.store.all_images()))
    (past,) = history.read(world.store, world.environment.id)
    assert (past.token, past.state, past.image) == (state.token, said, state.image)
    if said == "done":
        assert json.loads(result.stdout)["notes"] == [NOTHING_RECORDED]


SWALLOWED = """
class Dying:
    def __del__(self):
        os.kill(os.getpid(), 15)
        time.sleep(0.01)
Dying()
"""


@pytest.mark.skipif(os.name != "posix", reason="there are no signals")
def test_a_build_is_cancelled_although_python_loses_the_exception(world):
    """As it does where it was just running a finalizer, or a callback of its own."""
    julia_that_builds(world)
    at_removal(world, 1, f"exec({SWALLOWED!r})")
    result = cli(environ_of(world), "build", "--json", cwd=world.root)
    assert result.returncode == 1 and "the build was cancelled" in result.stderr
    assert [past.state for past in history.read(world.store, world.environment.id)] == ["cancelled"]
    assert list(world.store.all_images()) == []


def test_a_julia_that_is_asked_what_it_is_ends_with_the_builder(world):
    """Also where it would never answer."""
    pid = world.root / "pid"
    hangs = f'case "$*" in *probe.jl*) echo $$ > "{pid}.tmp"; mv "{pid}.tmp" "{pid}"; exec sleep 600;; esac'
    julia_that_builds(world)
    start_in(world)  # it is known by now
    text = world.executable.read_text()
    world.executable.write_text(text.replace("case ", f"{hangs}\ncase ", 1))
    code = "import pyjl_autoimage as a; print(a.rebuild(wait=False)._process.pid)"
    builder = int(python(environ_of(world), "-c", code, cwd=world.root).stdout)
    wait_for(pid.exists)
    os.kill(builder, 9)
    wait_for(lambda: not runs(int(pid.read_text())), 10)


def test_a_build_that_is_cancelled_before_it_begins_says_so(world):
    building(world.store, world.environment.id, "another")
    code = (
        "import pyjl_autoimage as a\nh = a.rebuild(wait=False, workload='julia:1 + 1')\n"
        "h.cancel()\ntry: h.wait(60)\nexcept a.BuildError as e: print(h.progress.state, e)"
    )
    told = python(environ_of(world), "-c", code.replace("'julia:1 + 1'", "a.Workload('1 + 1', 'sum')"))
    assert told.stdout.startswith("cancelled the build was cancelled before it began"), told.stdout + told.stderr


def test_a_build_is_seen_while_it_removes_what_a_killed_one_has_left(world):
    """That takes seconds; who asks for a build meanwhile must not be told of the killed one."""
    world.store.ensure(world.store.environment(world.environment.id))
    State("of the killed one", "p").write(world.store, world.environment.id)
    here, go = world.root / "here", world.root / "go"
    julia_that_builds(world)
    wait = f"while not os.path.exists({str(go)!r}): time.sleep(0.02)"
    at_removal(world, 1, f"open({str(here)!r}, 'w').close()\n                {wait}")
    command = [sys.executable, "-m", "pyjl_autoimage", "build"]
    process = subprocess.Popen(command, env=environ_of(world), cwd=world.root, stderr=subprocess.PIPE)
    wait_for(here.exists)
    state = State.read(world.store, world.environment.id)
    go.touch()
    assert state is not None and (state.state, state.token != "of the killed one") == ("running", True)
    assert process.communicate(timeout=60) and process.returncode == 0
    assert [past.state for past in history.read(world.store, world.environment.id)] == ["failed", "done"]


def test_who_tidies_up_leaves_a_layer_that_has_no_mark_yet(world):
    directory = Path(world.store.ensure(world.store.layer("5" * 16)))
    publish.remove_debris(world.store)
    assert directory.exists()
    os.utime(directory, (1, 1))
    publish.remove_debris(world.store)
    assert not directory.exists()


@pytest.mark.parametrize("seen", ["its mark", "no mark"])
def test_who_tidies_up_leaves_a_layer_that_is_just_being_published(world, monkeypatch, seen):
    """Whoever looks at it may see the one before, and the other after."""
    made = world.publish_layer()
    facts, mark = Path(made.path, "layer.json"), Path(made.path, "somewhere-1-1.builder")
    content = facts.read_text()
    facts.unlink()
    os.utime(made.path, (1, 1))
    names_in = publish.names_in

    def published_then(directory):
        names = names_in(directory)
        if directory == made.path:
            facts.write_text(content)
            return [*names, mark.name] if seen == "its mark" else names
        return names

    monkeypatch.setattr(publish, "names_in", published_then)
    publish.remove_debris(world.store)
    assert list(world.store.all_layers()) == [made]


def test_no_build_begins_while_everything_is_removed(world, monkeypatch):
    monkeypatch.setenv("PYJL_AUTOIMAGE_HOME", world.store.home)
    directory = Path(world.store.ensure(world.store.environment(world.environment.id)))
    held = []
    remove = cleaning._remove_tree

    def look(name, path, dry_run):
        if path == str(directory):
            held.append(is_held(world.store.build_lock(world.environment.id)))
        return remove(name, path, dry_run)

    monkeypatch.setattr(cleaning, "_remove_tree", look)
    cleaning.clean(everything=True)
    assert held == [True] and not directory.exists()


def test_a_build_begins_although_everything_was_removed_since_it_was_asked_for(world, monkeypatch):
    monkeypatch.setattr(begin, "_locked_build", lambda *_: 0)
    asked = {"tasks": [], "after": None}
    assert begin._build_or_join(world.store, world.environment, Settings(), asked, threading.Event()) == 0


def test_a_lock_that_was_removed_as_it_was_taken_is_none(world, monkeypatch):
    path = world.store.build_lock(world.environment.id)
    taken = []

    @contextmanager
    def late(name, timeout):
        with lock(name, timeout):
            taken.append(name)
            if len(taken) == 1:
                os.unlink(name)
            yield

    monkeypatch.setattr(begin, "lock", late)
    monkeypatch.setattr(begin, "_locked_build", lambda *_: 0 if is_held(path) else 1)
    asked = {"tasks": [], "after": None}
    assert begin._build_or_join(world.store, world.environment, Settings(), asked, threading.Event()) == 0
    assert len(taken) == 2


def test_a_log_that_cannot_be_closed_is_no_traceback(world):
    code = (
        "import sys\nfrom pyjl_autoimage.build import begin\n"
        "def full(*_): raise OSError(28, 'No space left on device')\n"
        "begin._build_or_join = full\nsys.exit(begin.main(sys.stdin.read()))"
    )
    asked = {"home": world.store.home, "environment": {"executable": "julia", "project": "p"}, "settings": {}}
    result = python(world.environ, "-c", code, given=json.dumps({**asked, "token": "t"}))
    assert (result.returncode, result.stderr) == (1, "[Errno 28] No space left on device\n")


def test_a_quick_build_removes_the_layer_that_a_killed_one_has_left(world):
    layer = Path(world.store.layer("6" * 16))
    code = (
        "import os, sys\nfrom pyjl_autoimage.store.places import Store\nfrom pyjl_autoimage.store import publish\n"
        f"publish.new_layer(Store({world.store.home!r}), {layer.name!r}); os._exit(9)"
    )
    python(environ_of(world), "-c", code)
    assert list(layer.iterdir())
    assert cli(environ_of(world), "build", "--quick", cwd=world.root).returncode == 0
    assert not layer.exists()


def test_an_image_that_somebody_is_about_to_remove_can_still_come_back(world, monkeypatch):
    """Whoever removes it sees only then that a program has just begun to use it."""
    image = world.publish(b"an image")
    asked = []

    def users(_):
        asked.append(_)
        if len(asked) == 2:
            publish.remove_debris(world.store)
            return ["a program"]
        return []

    monkeypatch.setattr(type(world.store), "users", lambda self, image_id: users(image_id))
    assert publish.remove_image(world.store, image.id) == 0
    assert [kept.id for kept in world.store.all_images()] == [image.id]
