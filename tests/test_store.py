from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyjl_autoimage.base.files import read_json, write_atomically
from pyjl_autoimage.base.layout import others_can_write
from pyjl_autoimage.base.liveness import mark_name
from pyjl_autoimage.errors import StoreError
from pyjl_autoimage.store.places import Store
from pyjl_autoimage.store.publish import damage, remove_image


def test_making_a_store_touches_nothing(tmp_path):
    Store(str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_only_its_owner_can_read_it(store):
    store.ensure(store.images)
    assert {os.stat(path).st_mode & 0o777 for path in (store.home, store.images)} == {0o700}


def test_published_images_newest_first(world):
    world.publish(b"a", built_at=1.0)
    world.publish(b"b", built_at=3.0)
    world.publish(b"c", built_at=2.0)
    assert [image.built_at for image in world.store.all_images()] == [3.0, 2.0, 1.0]


def test_publishing_the_same_content_again_renews_its_facts(world):
    first = world.publish(b"same", built_at=1.0)
    second = world.publish(b"same", built_at=2.0)
    assert first.id == second.id
    (only,) = world.store.all_images()
    assert only.built_at == 2.0
    assert damage(world.store, only) == []


def test_an_image_that_is_built_and_proved_again_is_not_condemned_any_more(world):
    image = world.publish()
    world.store.condemn(image.id, "a process died")
    assert world.store.condemned(image.id) == "a process died"
    world.publish()
    assert world.store.condemned(image.id) is None


def test_what_cannot_be_read_is_passed_over(world):
    image = world.publish()
    directory = Path(world.store.images)
    (directory / "empty").mkdir()
    (directory / "broken").mkdir()
    (directory / "broken" / "image.json").write_text("{")
    (directory / "a-copy").mkdir()
    (directory / "a-copy" / "image.json").write_text(json.dumps(image.to_json()))
    (directory / "file").write_text("")
    assert [found.id for found in world.store.all_images()] == [image.id]


def test_a_truncated_image_is_seen(world):
    image = world.publish(b"0123456789")
    os.truncate(image.path, 4)
    assert damage(world.store, image) == ["its file has 4 bytes, 10 when it was published"]


def test_an_image_in_two_files_is_one(world):
    """As Julia 1.14 can write it: the library, and the heap beside it."""
    image = world.publish(b"library", heap=b"the heap")
    library, heap = map(Path, image.files)
    assert (library, heap) == (Path(image.path), Path(image.path).with_suffix(".ji"))
    assert image.files == {str(library): 7, str(heap): 8} and image.bytes == 15
    assert list(world.store.all_images()) == [image]
    assert damage(world.store, image, thorough=True) == []
    content = heap.read_bytes()
    heap.write_bytes(content[::-1])
    assert damage(world.store, image) == [] and "checksum" in damage(world.store, image, thorough=True)[0]
    os.truncate(heap, 3)
    assert damage(world.store, image) == [f"its file {heap.name} has 3 bytes, 8 when it was published"]
    heap.unlink()
    assert damage(world.store, image) == [f"its file {heap.name} cannot be read: No such file or directory"]
    heap.write_bytes(content)
    heap.chmod(0o666)
    assert world.store.distrust(*image.files) == f"{heap} can be written by other users"
    assert remove_image(world.store, image.id) > 15
    assert os.listdir(world.store.images) == []


def test_what_lies_beside_an_image_of_one_file_is_none_of_it(world):
    image = world.publish()
    Path(image.path).with_suffix(".ji").write_bytes(b"something")
    assert list(image.files) == [image.path] and damage(world.store, image, thorough=True) == []


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    write_atomically(str(path), b"old")
    with pytest.raises(TypeError):
        write_atomically(str(path), "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_absent(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    assert read_json(str(tmp_path / "x.json")) is None
    assert read_json(str(tmp_path / "none.json")) is None


def test_uses_of_the_living_and_the_dead(world):
    image = world.publish()
    mark = world.store.mark_use(image.id)
    assert mark is not None
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from pyjl_autoimage.store.places import Store\n"
        f"print(Store({world.store.home!r}).mark_use({image.id!r}))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert os.path.exists(child.stdout.strip())
    assert world.store.users(image.id) == [mark_name()]
    assert not os.path.exists(child.stdout.strip())


def test_removing_an_image_frees_its_bytes(world):
    image = world.publish(b"x" * 1000)
    world.store.mark_use("another")
    os.makedirs(os.path.join(world.store.uses, image.id))
    assert remove_image(world.store, image.id) > 1000
    assert list(world.store.all_images()) == []
    assert os.listdir(world.store.images) == []
    assert os.listdir(world.store.uses) == ["another"]


def test_an_image_that_is_taken_while_it_is_being_removed_stays(world, monkeypatch):
    image = world.publish()
    seen = iter([[], ["somebody"]])
    monkeypatch.setattr(world.store, "users", lambda image_id: next(seen))
    assert remove_image(world.store, image.id) == 0
    assert [left.id for left in world.store.all_images()] == [image.id] and damage(world.store, image) == []


def test_an_image_that_others_could_have_written_is_not_trusted(world):
    image = world.publish()
    assert world.store.distrust(image.path) is None
    for path in (image.path, os.path.dirname(image.path), world.store.home):
        before = os.stat(path).st_mode
        for mode in (0o666, 0o777) if path == image.path else (0o777,):
            os.chmod(path, mode)
            assert "can be written by other users" in (world.store.distrust(image.path) or "")
        os.chmod(path, before)
    assert world.store.distrust(image.path) is None


def test_a_link_to_a_store_is_as_good_as_what_it_leads_to(world):
    image = world.publish()
    place = world.root / "elsewhere"
    place.mkdir(mode=0o755)
    os.rename(world.store.home, place / "store")
    os.symlink(place / "store", world.store.home)
    assert world.store.distrust(image.path) is None
    place.chmod(0o777)
    assert world.store.distrust(image.path) == f"{place} can be written by other users"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(
    ("mode", "user", "group", "of_file", "others"),
    [
        (0o664, 1000, 1000, 1000, False),  # a group of one's own, and umask 002
        (0o664, 1000, 100, 100, True),
        (0o664, 1000, 1000, 100, True),
        (0o644, 1000, 100, 100, False),
        (0o602, 1000, 1000, 1000, True),
    ],
)
def test_who_can_write_besides_the_user(monkeypatch, mode, user, group, of_file, others):
    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.setattr(os, "getgid", lambda: group)
    assert others_can_write(os.stat_result((mode, 0, 0, 1, user, of_file, 0, 0, 0, 0))) is others


def test_an_image_of_another_user_is_not_trusted(world):
    image = world.publish()
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(image.path, 12345, -1)
    assert world.store.distrust(image.path) == f"{os.path.realpath(image.path)} belongs to another user"
    os.chown(image.path, 0, -1)
    os.chown(world.store.home, 12345, -1)
    assert "belongs to another user" in (world.store.distrust(image.path) or "")


def test_a_store_that_is_a_file_is_said_to_be_one(tmp_path):
    (tmp_path / "home").write_text("")
    store = Store(str(tmp_path / "home"))
    assert store.unwritable() == f"the store {store.home} is a file, not a directory"
    with pytest.raises(StoreError, match="is a file, not a directory"):
        store.ensure(store.environment("e"))
    below = Store(str(tmp_path / "home" / "deeper"))
    assert below.unwritable().endswith(f"cannot be made: {tmp_path / 'home'} is a file, not a directory")
    assert Store(str(tmp_path / "new" / "store")).unwritable() is None
