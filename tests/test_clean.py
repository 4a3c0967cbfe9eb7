"""What is removed when images are too many or too large, and what never is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pyjl_autoimage.base.files import tree_size
from pyjl_autoimage.base.words import bytes_text
from pyjl_autoimage.build.clean import clean, prune, prune_caches
from pyjl_autoimage.store import publish
from pyjl_autoimage.store.publish import remove_image

from standin import World, building, cli

BIG = 10**9


def ids(world):
    return {image.id for image in world.store.all_images()}


def test_the_oldest_go_when_there_are_too_many(world):
    images = [world.publish(str(n).encode(), built_at=float(n)) for n in range(5)]
    removed = prune(world.store, keep=2, max_bytes=BIG, spare=images[-1].id)
    assert removed == [f"image {image.id}" for image in images[:3]]
    assert ids(world) == {images[3].id, images[4].id}


def test_the_oldest_go_when_they_are_too_large(world):
    images = [world.publish(bytes([n]) * 10_000, built_at=float(n)) for n in range(5)]
    assert prune(world.store, keep=99, max_bytes=25_000, spare=images[-1].id) == [f"image {i.id}" for i in images[:3]]


def test_images_whose_julia_or_project_is_gone_go_first(world):
    gone = world.publish(b"g" * 9000, built_at=9.0, executable="/nowhere/julia", environment="e" * 16)
    old = world.publish(b"old", built_at=1.0)
    new = world.publish(b"new", built_at=2.0)
    assert prune(world.store, keep=99, max_bytes=BIG, spare=new.id) == [], "it may be on another host"
    assert prune(world.store, keep=99, max_bytes=9000, spare=new.id) == [f"image {gone.id}"]
    assert ids(world) == {old.id, new.id}


def test_images_in_use_and_the_newest_stay_whatever_the_limits(world):
    images = [world.publish(str(n).encode(), built_at=float(n)) for n in range(4)]
    world.store.mark_use(images[0].id)
    removed = prune(world.store, keep=0, max_bytes=0, spare=images[-1].id)
    assert set(removed) == {f"image {images[1].id}", f"image {images[2].id}"}
    assert os.path.exists(images[0].path) and os.path.exists(images[3].path)


def test_each_environment_counts_for_itself(world):
    other = world.root / "other"
    other.mkdir()
    ours = [world.publish(f"a{n}".encode(), built_at=float(n)) for n in range(2)]
    theirs = [
        world.publish(f"b{n}".encode(), built_at=float(n), environment="b" * 16, project=str(other)) for n in range(2)
    ]
    assert prune(world.store, keep=2, max_bytes=BIG, spare=ours[1].id) == []
    assert prune(world.store, keep=0, max_bytes=BIG, spare=ours[1].id) == [
        f"image {ours[0].id}",
        f"image {theirs[0].id}",
    ]
    assert ids(world) == {ours[1].id, theirs[1].id}, "each keeps one at least"


def test_debris_of_a_killed_removal_is_removed(world, monkeypatch):
    monkeypatch.setattr(publish, "_MOMENT", 0.0)
    image = world.publish()
    shutil.copytree(Path(image.path).parent, Path(world.store.images) / f"{image.id}.abcd.gone")
    prune(world.store, keep=3, max_bytes=BIG, spare=image.id)
    assert os.listdir(world.store.images) == [image.id]


USER = """
import sys
sys.path[:0] = {path!r}
import os
from pyjl_autoimage.store.places import Store
store = Store({home!r})
for image in store.all_images():
    store.mark_use(image.id)
    if os.path.exists(image.path):
        print(image.path, flush=True)
        sys.stdin.read(1)
        print(os.path.exists(image.path), flush=True)
    break
"""


def test_no_image_vanishes_under_a_process_that_took_it(world):
    """Processes take the image in the way that a start does while others remove it, again and again."""
    code = USER.format(path=sys.path, home=world.store.home)
    for _ in range(15):
        image = world.publish(os.urandom(8), built_at=2e9)
        users = [
            subprocess.Popen(
                [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        remover = threading.Thread(target=lambda: [remove_image(world.store, i.id) for i in world.store.all_images()])
        remover.start()
        for user in users:
            taken, _ = user.communicate("x", timeout=60)
            assert taken in ("", f"{image.path}\nTrue\n")
        remover.join()
        for left in world.store.all_images():
            shutil.rmtree(Path(left.path).parent)


def layers(world):
    return {layer.id for layer in world.store.all_layers()}


def test_layers_go_with_the_image_that_they_were_made_for(world):
    old, new = world.publish(b"old", built_at=1.0), world.publish(b"new", built_at=2.0)
    world.publish_layer("1" * 16, image=old.id)
    world.publish_layer("2" * 16, image=new.id)
    world.publish_layer("3" * 16)
    prune(world.store, keep=1, max_bytes=BIG, spare=new.id)
    assert layers(world) == {"2" * 16, "3" * 16}


def test_layers_go_with_their_julia(world):
    image = world.publish()
    world.publish_layer("1" * 16)
    world.publish_layer("2" * 16, executable="/nowhere/julia", built_at=time.time())
    world.publish_layer("3" * 16, executable="/nowhere/julia", built_at=time.time() - 40 * 86400)
    prune(world.store, keep=1, max_bytes=BIG, spare=image.id)
    assert layers(world) == {"1" * 16, "2" * 16}, "it may be on another host, for a month"


@pytest.fixture
def here(world, monkeypatch) -> World:
    """A world that this very process lives in."""
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    return world


def everything(world) -> set[str]:
    return {str(path.relative_to(world.store.root)) for path in Path(world.store.root).rglob("*") if path.is_file()}


def test_when_everything_goes_nothing_is_left_and_a_dry_run_leaves_all(here):
    here.publish()
    here.publish_layer()
    here.record("p.py", 1.0, 2.0)
    here.store.ensure(here.store.launches)
    (Path(here.store.launches) / "a.plan").touch()
    (Path(here.store.ensure(here.store.builder_depot)) / "cache.ji").touch()
    os.makedirs(os.path.join(here.store.uses, "gone"))
    before = everything(here)
    told, kept = clean(everything=True, dry_run=True)
    assert everything(here) == before and kept == []
    removed, _ = clean(everything=True)
    assert [item["name"] for item in removed] == [item["name"] for item in told]
    assert everything(here) == set()


def test_what_a_running_build_and_a_running_program_need_stays(here):
    image = here.publish()
    mark = here.store.mark_use(image.id)
    here.record("p.py", 1.0, 2.0)
    building(here.store, here.environment.id)
    _, kept = clean(everything=True)
    assert {item["reason"] for item in kept} == {"1 running process uses it", "a build is running"}
    assert os.path.exists(mark) and os.path.exists(here.store.build_state(here.environment.id))
    assert os.listdir(here.store.recordings(here.environment.id)) != []


def test_what_is_taken_at_the_last_moment_is_kept_and_said_to_be(here, monkeypatch):
    image = here.publish()
    monkeypatch.setattr("pyjl_autoimage.build.clean.remove_image", lambda store, image_id: 0)
    removed, (kept,) = clean(everything=True)
    assert kept == {"name": f"image {image.id}", "reason": "a process has just begun to use it"}
    assert image.id not in str(removed)


def test_clean_removes_layers_that_are_stale_or_superseded_and_says_why(here):
    world = here
    world.publish_layer("1" * 16)
    world.publish_layer("2" * 16, built_at=2000.0)
    world.publish_layer("3" * 16, program="/other.py", juliacall="0.9.1")
    removed, kept = clean(dry_run=True)
    assert layers(world) == {"1" * 16, "2" * 16, "3" * 16}
    assert {item["name"] for item in removed} == {"layer " + "1" * 16, "layer " + "3" * 16}
    assert any("newer" in item["reason"] for item in removed)
    assert any("juliacall" in item["reason"] for item in removed)
    assert [item["name"] for item in kept] == ["layer " + "2" * 16]
    clean()
    assert layers(world) == {"2" * 16}
    image = world.publish()
    world.publish_layer("4" * 16, image=image.id)
    remove_image(world.store, image.id)
    removed, _ = clean()
    assert removed[0] | {"bytes": 0} == {
        "name": f"layer {'4' * 16}", "bytes": 0, "reason": "the image that it was precompiled for is gone",
    }  # fmt: skip
    clean(everything=True)
    assert not layers(world)


def test_layers_count_as_images_do(world):
    """Two for each name that a program ever had: of those that are in temporary directories, none is ever used again."""
    image, now = world.publish(b"image"), time.time()
    for number in range(20):
        layer = world.publish_layer(f"{number:016x}", program=f"/tmp/tmp{number}/script.py", built_at=now + number)
        (Path(layer.path) / "depot" / "cache.so").write_bytes(b"x" * 100_000)
    removed = prune(world.store, keep=1, max_bytes=550_000, spare=image.id)
    assert sorted(layers(world)) == [f"{number:016x}" for number in range(15, 20)]
    assert len(removed) == 15


def test_only_caches_are_pruned_as_caches(world):
    """What a package made in that depot while it was loaded into an image, the image refers to by its path."""
    depot = Path(world.store.builder_depot)
    paths = [
        depot / "scratchspaces" / "uuid" / "weights.bin",
        depot / "artifacts" / "a" / "gcc",
        depot / "compiled" / "a.ji",
    ]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text("w")
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    prune_caches(world.store)
    assert [path.exists() for path in paths] == [True, True, False]


# -- what another version has built ----------------------------------------------------------------------


def built_by_another_version(world, days):
    """An image and a layer of a schema that this version does not know, used so many days ago."""
    image, layer = world.publish(b"another version's"), world.publish_layer("a" * 16)
    for path in (Path(image.path).with_name("image.json"), Path(layer.path, "layer.json")):
        path.write_text(path.read_text().replace('"schema": 3', '"schema": 99').replace('"schema":3', '"schema":99'))
    for path in (Path(image.path), Path(layer.path)):
        os.utime(path, (time.time() - days * 86400,) * 2)
    return Path(image.path), Path(layer.path)


def test_what_another_version_has_built_stays_while_it_may_use_it(here):
    image, layer = built_by_another_version(here, 20)
    assert prune(here.store, keep=1, max_bytes=BIG, spare="") == []
    _, kept = clean()
    assert image.exists() and layer.exists()
    assert "only another version of pyjl_autoimage can read it, and it was used within a month" in str(kept)


def test_and_goes_after_long_disuse(here):
    image, layer = built_by_another_version(here, 40)
    assert prune(here.store, keep=1, max_bytes=BIG, spare="") == [f"image {image.parent.name}"]
    assert not image.exists() and not layer.exists()


def test_status_says_so(here):
    image, _ = built_by_another_version(here, 20)
    size = bytes_text(tree_size(str(image.parent)))
    told = cli(here.environ, "status", cwd=here.root)
    assert f"1 image, {size}, that only another version of pyjl_autoimage can read" in told.stdout.replace("\n", " ")
