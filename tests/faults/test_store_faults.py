"""Stores that are full, read-only, without locks, or taken away, and fifty processes at once on one store.

Disks are really filled and directories really removed; the Julia is a stand-in where it is not what is tested.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyjl_autoimage.base.liveness import mark_name
from pyjl_autoimage.build import history
from pyjl_autoimage.build.state import State
from pyjl_autoimage.profile import recordings
from pyjl_autoimage.store.publish import damage

from standin import World, buildable_world, cli, ended, environ_of, julia_that, julia_that_builds, until, wait_for
from standin import python as python_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return buildable_world(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of a hundred megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def python(world: World, code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return python_of({**world.environ, **environ}, "-c", code, cwd=world.root)


def build(world: World, **environ: str) -> subprocess.CompletedProcess[str]:
    return cli(environ_of(world, **environ), "build", cwd=world.root)


START = "from pyjl_autoimage import jl; import juliacall; print(juliacall.CONFIG['sysimage'], juliacall.CONFIG['trace_compile'])"


def fill(directory: Path) -> None:
    with open(directory / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 65536)
        except OSError:
            pass


def test_a_start_on_a_full_disk_is_a_plain_one(world, small_disk):
    fill(small_disk)
    result = python(world, START, PYJL_AUTOIMAGE_HOME=str(small_disk / "store"))
    assert (result.returncode, result.stdout) == (0, "None None\n"), result.stderr


def test_a_build_on_a_disk_that_fills_up_says_so_and_loses_nothing(world, small_disk):
    world.store.ensure(world.store.home)
    small = world.publish(b"the old image")
    state = State("t", mark_name(), "done", image=small.id, bytes=small.bytes, finished=time.time())
    world.store.ensure(world.store.environment(world.environment.id))
    history.note(world.store, world.environment.id, state)  # the next one will be as large, as far as is known
    shutil.copytree(world.store.home, small_disk / "store")
    environ = {"PYJL_AUTOIMAGE_HOME": str(small_disk / "store")}
    assert str(small_disk) in python(world, START, **environ).stdout
    julia_that(
        world,
        'for a; do case "$a" in *sys.so) dd if=/dev/zero of="$a" bs=1M count=999 2>&1 ||'
        ' { echo "ERROR: LoadError: no space left on device (ENOSPC)"; exit 1; };; esac; done',
    )
    result = build(world, **environ)
    assert result.returncode == 1
    assert "ENOSPC" in result.stderr and "Traceback" not in result.stderr
    assert str(small_disk) in python(world, START, **environ).stdout, "the old image stays in use"
    assert not list((small_disk / "store").glob("v1/environments/*/build"))


def test_a_build_that_begins_on_a_full_disk(world, small_disk):
    (small_disk / "store").mkdir(mode=0o700)
    fill(small_disk)
    result = build(world, PYJL_AUTOIMAGE_HOME=str(small_disk / "store"))
    assert result.returncode == 1
    assert "No space left" in result.stderr and "Traceback" not in result.stderr


def test_a_read_only_store(world, tmp_path):
    image = world.publish(b"an image")
    place = tmp_path / "read-only"
    shutil.copytree(world.store.home, place)
    bound = subprocess.run(["mount", "--bind", str(place), str(place)], capture_output=True, check=False)
    if bound.returncode:
        pytest.skip("nothing can be mounted read-only here (needs root)")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        environ = {"PYJL_AUTOIMAGE_HOME": str(place)}
        used = str(Path(image.path).relative_to(world.store.home))
        result = python(world, START, **environ)
        assert result.stdout == f"{place / used} None\n", result.stderr
        failed = build(world, **environ)
        assert failed.returncode == 1
        assert "Read-only file system" in failed.stderr and "Traceback" not in failed.stderr
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


NO_LOCKS = """
#include <errno.h>
int flock(int fd, int operation) { errno = ENOSYS; return -1; }
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="preloads a library")
def test_a_file_system_without_locks(world, tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a library that takes locks away")
    (tmp_path / "nolocks.c").write_text(NO_LOCKS)
    library = str(tmp_path / "nolocks.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, str(tmp_path / "nolocks.c")], check=True)
    julia_that(world, 'echo "ERROR: got to Julia"; exit 1')
    for _ in range(2):
        result = build(world, LD_PRELOAD=library)
        assert result.returncode == 1
        assert "has no locks" in result.stderr and "PYJL_AUTOIMAGE_HOME" in result.stderr
        assert "Traceback" not in result.stderr and "Warning" not in result.stderr
    assert python(world, START, LD_PRELOAD=library).returncode == 0


def test_the_recordings_directory_vanishes_while_the_program_runs(world):
    code = (
        "import os, shutil\nfrom pyjl_autoimage import jl\nimport pyjl_autoimage.startup.start as r\n"
        f"shutil.rmtree({world.store.home!r})\nprint('fine')\n"
    )
    assert python(world, code).stdout == "fine\n"
    assert python(world, START).returncode == 0


# -- many at once --------------------------------------------------------------------------------------

ONE_OF_FIFTY = """
import os, sys, time
from pyjl_autoimage import jl
import juliacall, pyjl_autoimage
number = int(sys.argv[1])
with open(juliacall.CONFIG["trace_compile"], "ab", buffering=0) as trace:
    for line in range(20):
        trace.write(b"precompile(Tuple{typeof(Base.f%d_%d), Int64})\\n" % (number, line))
handle = pyjl_autoimage.rebuild(wait=False)
handle.state()
os._exit(0)
"""


def test_fifty_processes_start_record_and_rebuild_at_once(world):
    julia_that(world, f'echo started >> "{world.root}/builds"; {until(world.root / "release")}; exit 1')
    environ = environ_of(world)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_FIFTY, str(n)], env=environ, cwd=world.root, stderr=subprocess.PIPE
        )
        for n in range(50)
    ]
    errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 50, [e for e in errors if e][:3]
    (world.root / "release").touch()
    wait_for(lambda: ended(world))
    assert (world.root / "builds").read_text() == "started\n", "one build; the others joined it"
    merged = recordings.merge(world.store, world.environment.id)
    assert len(merged.statements) == 50 * 20
    assert {s.runs for s in merged.statements.values()} == {1}
    assert merged.runs == 50
    assert os.listdir(world.store.recordings(world.environment.id)) == []


def test_no_start_waits_for_a_lock(world):
    """Every lock of the store is held by somebody who does not let go."""
    from pyjl_autoimage.base.locks import lock

    environment = world.store.ensure(world.store.environment(world.environment.id))
    with lock(world.store.build_lock(world.environment.id), 0), lock(os.path.join(environment, "profile.lock"), 0):
        began = time.monotonic()
        assert python(world, START).returncode == 0
        assert time.monotonic() - began < 30


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds that a build takes here."""
    world = buildable_world(tmp_path_factory.mktemp("usual"))
    julia_that_builds(world, meanwhile="sleep 0.3")
    began = time.monotonic()
    assert build(world).returncode == 0
    return time.monotonic() - began


@pytest.mark.parametrize("share", [0.02, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1])
def test_a_build_killed_at_any_moment_published_all_or_nothing(world, usual, share):
    old = world.publish(b"the old image", built_at=1.0)
    julia_that_builds(world, meanwhile="sleep 0.3")
    code = "import pyjl_autoimage as a; print(a.rebuild(wait=False)._process.pid)"
    pid = int(python(world, code, **environ_of(world)).stdout)
    time.sleep(usual * share)
    try:
        os.killpg(pid, 9)
    except ProcessLookupError:
        pass
    images = list(world.store.all_images())
    assert old.id in {image.id for image in images}
    assert [wrong for image in images for wrong in damage(world.store, image, thorough=True)] == []
    # The old image's facts lack PythonCall; either is valid here.
    newest = images[0].path
    assert python(world, START).stdout.startswith(f"{newest} ")
    status = json.loads(cli(environ_of(world), "status", "--json", cwd=world.root).stdout)
    assert status["build"]["state"] in (("failed", "done") if len(images) > 1 else ("none", "failed"))
    julia_that(world, 'echo "ERROR: the next build"; exit 1')
    assert "ERROR: the next build" in build(world).stderr
    assert not os.path.exists(world.store.build_directory(world.environment.id))
    assert python(world, START).stdout.startswith(f"{newest} ")
