"""Who could have written what a start would load, and who decides where a start writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyjl_autoimage.base.files import make_private
from pyjl_autoimage.base.liveness import hostname
from pyjl_autoimage.profile import recordings
from pyjl_autoimage.startup import decide
from pyjl_autoimage.store import publish
from pyjl_autoimage.store.places import Store

from standin import World, start_in

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions of POSIX")
as_root = pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="gives files to another user")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_lies_in_a_store_that_is_ours_alone_is_not_asked_about(world):
    """umask 002 and a group that others are in, as at universities: all that is in it can be written by the group."""
    image = world.publish()
    for path in (Path(image.path), Path(image.path).parent, Path(world.store.root)):
        path.chmod(path.stat().st_mode | 0o022)
    os.chmod(world.store.home, 0o700)
    assert world.store.distrust(image.path) is None and start_in(world)["sysimage"] == image.path
    os.chmod(world.store.home, 0o755)
    assert start_in(world)["sysimage"] is None


def test_every_directory_of_a_store_is_for_its_owner_alone_whatever_the_umask_is(tmp_path):
    before = os.umask(0o002)
    try:
        make_private(str(tmp_path / "a" / "b" / "c"))
        make_private(str(tmp_path / "a" / "b" / "c"))
    finally:
        os.umask(before)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/c")} == {0o700}
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        make_private(str(tmp_path / "file"))


def test_a_link_in_a_directory_that_others_can_write_is_not_trusted(tmp_path):
    """It may lead elsewhere a moment later."""
    safe, shared = tmp_path / "safe", tmp_path / "shared"
    safe.mkdir(), shared.mkdir()
    shared.chmod(0o777)
    (shared / "store").symlink_to(safe)
    (safe / "image").write_text("")
    why = Store(str(shared / "store")).distrust(str(shared / "store" / "image"))
    assert why is not None and "can be written by other users" in why


@as_root
def test_nothing_is_written_where_another_user_decides(world):
    """Julia opens its trace file again by name, and empties it: a link there would empty a file of the user's."""
    home = world.root / "theirs"
    home.mkdir()
    home.chmod(0o777)
    os.chown(home, 4321, 4321)
    told = start_in(world, PYJL_AUTOIMAGE_HOME=str(home))
    assert told["trace_compile"] is None and list(home.iterdir()) == []
    assert any("belongs to another user" in note for note in told["notes"])


@as_root
def test_code_of_another_users_recording_is_not_built(world):
    directory = Path(world.store.ensure(world.store.recordings(world.environment.id)))
    for place in (Path(world.store.home), Path(world.store.root), directory.parent, directory):
        place.chmod(0o777)
    facts = {"name": "Planted_1", "path": "/tmp/x.py", "text": "run(`id`)", "using": [], "files": [], "deps": {}}
    log = directory / f"{hostname()}-99999001-1-deadbeef.log"
    log.write_text(json.dumps({"schema": 1, "program": "", "started": time.time()}) + f"\ncode {json.dumps(facts)}\n")
    log.with_suffix(".jl").write_text("")
    os.chown(log, 4321, 4321)
    assert "Planted_1" not in recordings.merge(world.store, world.environment.id).code


def test_a_checksum_that_held_is_not_computed_again(world, monkeypatch):
    """One condemned image has the others read whole; where plans cannot be remembered, at each start."""
    world.publish(b"bad", built_at=3.0)
    for number in range(2):
        world.publish(b"%d" % number, built_at=float(number))
    newest = next(iter(world.store.all_images()))
    world.store.condemn(newest.id, "of a test")
    read = []
    original = publish.file_sha256
    monkeypatch.setattr(publish, "file_sha256", lambda *paths: read.append(paths) or original(*paths))
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(world.site))
    chosen = {decide.decide({}, None).image for _ in range(3)}
    assert len(read) <= 2 and len(chosen) == 1 and newest.id not in chosen
    (image,) = (image for image in world.store.all_images() if image.id in chosen)
    Path(image.path).write_bytes(b"X")
    os.utime(image.path, (1, 1))
    assert decide.decide({}, None).image != image.id, "and one of a file that has changed is"


@pytest.mark.skipif(sys.platform == "win32" or not shutil.which("setpriv"), reason="makes itself another user")
@as_root
def test_a_user_whose_group_others_are_in_gets_images(tmp_path):
    """The real thing: another user, umask 002."""
    code = (
        "import os, sys; sys.path[:0] = %r\nfrom pyjl_autoimage.store.places import Store\n"
        "s = Store(%r); s.ensure(s.images); p = os.path.join(s.images, 'sys.so'); open(p, 'w').write('x')\n"
        "print(oct(os.stat(p).st_mode & 0o777), s.distrust(p))"
    )
    home = Path("/tmp") / f"pyjl-trust-{os.getpid()}"
    home.mkdir(mode=0o755)
    try:
        os.chown(home, 4321, 100)
        readable = home / "package"
        shutil.copytree(Path(publish.__file__).parents[1], readable / "pyjl_autoimage")
        for top, directories, names in os.walk(readable):
            for name in [*directories, *names, "."]:
                os.chmod(os.path.join(top, name), 0o755)
        command = ["setpriv", "--reuid", "4321", "--regid", "100", "--clear-groups", "sh", "-c"]
        shell = 'umask 002; exec /usr/bin/python3 -B -c "$0"'
        result = subprocess.run(
            [*command, shell, code % ([str(readable)], str(home / "store"))], capture_output=True, text=True
        )
        assert result.stdout == "0o664 None\n", result.stderr
    finally:
        shutil.rmtree(home)
