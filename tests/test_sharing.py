"""An image serves every environment that has the same Julia and the same packages, whichever asked for it."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pyjl_autoimage.base.liveness import boot_id, hostname
from pyjl_autoimage.build.build import NOTHING_OWN
from pyjl_autoimage.build.clean import clean, prune
from pyjl_autoimage.profile import recordings
from pyjl_autoimage.profile.neighbours import known_elsewhere
from pyjl_autoimage.profile.profile import LoadedPackage, Origin, Profile, Statement
from pyjl_autoimage.store import wants
from pyjl_autoimage.store.built import BakedPackage
from pyjl_autoimage.store.places import Store
from test_builder import julia_that_precompiles_layers

from standin import (
    EXAMPLE_TREE,
    EXAMPLE_UUID,
    World,
    age,
    buildable_world,
    cli,
    environ_of,
    julia_that_builds,
    python,
    start_in,
)

BIG = 10**9


@pytest.fixture
def other(world: World) -> World:
    """A second environment of the same store."""
    return world.neighbour("second")


def status(world: World) -> dict:
    return json.loads(cli(world.environ, "status", "--json", cwd=world.root).stdout)


def test_a_second_environment_starts_on_it_the_first_time_it_runs(world, other):
    image = world.publish()
    assert start_in(other)["sysimage"] == image.path


def test_and_the_next_time_without_a_look_at_it(world, other):
    world.publish()
    age(world.root)
    start_in(other)
    asked = other.times_started()
    assert start_in(other)["on_image"]
    assert other.times_started() == asked


def test_also_when_the_first_one_is_gone(world, other):
    image = world.publish()
    shutil.rmtree(world.project)
    assert start_in(other)["sysimage"] == image.path


def test_a_manifest_that_has_more_than_the_image(world, other):
    image = world.publish()
    more = f'[[deps.More]]\nuuid = "00000000-0000-0000-0000-00000000000a"\ngit-tree-sha1 = "{EXAMPLE_TREE}"\n'
    other.write_manifest(extra=more)
    assert start_in(other)["sysimage"] == image.path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "0.6.0"}, "Example 0.5.3 in the image, 0.6.0 in the manifest"),
        ({"tree": "0" * 40}, "Example 0.5.3 has another source in the manifest (git-tree-sha1)"),
    ],
)
def test_another_version_of_a_package_is_refused_with_that_reason(world, other, change, reason):
    world.publish()
    other.write_manifest(**change)
    assert start_in(other)["sysimage"] is None
    assert [entry["reasons"] for entry in status(other)["rejected"]] == [[reason]]
    assert status(other)["summary"]["state"] != "stale", "it was nobody's here"


def test_preferences_are_those_of_the_environment_that_starts(world, other):
    world.publish()
    (other.project / "LocalPreferences.toml").write_text("[Example]\nsize = 2\n")
    assert start_in(other)["sysimage"] is None


def test_status_says_whose_it_is(world, other):
    image = world.publish()
    start_in(other)
    assert status(other)["image"]["shared_by"] == str(world.project)
    assert status(world)["image"]["shared_by"] is None
    said = " ".join(cli(other.environ, "status", cwd=world.root).stdout.split())
    assert f"image {image.id}" in said and "of the same packages" in said


# -- the best of those that are valid ------------------------------------------------------------------


def test_the_environments_own_ranks_before_a_newer_one_of_another(world, other):
    own = world.publish(b"own", built_at=1000.0)
    other.publish(b"other", built_at=2000.0)
    assert start_in(world)["sysimage"] == own.path


def test_one_that_knows_the_program_ranks_before_the_environments_own(world, other):
    world.publish(b"own", built_at=2000.0)
    knows = other.publish(b"other", built_at=1000.0, programs=("",))  # what `python -c` is
    assert start_in(world)["sysimage"] == knows.path


def test_of_others_the_one_with_the_most_packages(world, other):
    third = world.neighbour("third")
    much = world.publish(b"much", built_at=1000.0)
    other.publish(b"little", built_at=2000.0, packages=())
    assert start_in(third)["sysimage"] == much.path


def test_the_environments_last_build_counts_though_it_holds_less(world):
    world.publish(b"much", built_at=1000.0)
    little = world.publish(b"little", built_at=2000.0, packages=())
    assert start_in(world)["sysimage"] == little.path


def test_one_that_does_not_hold_hides_none_that_does(world, other):
    world.publish(b"stale", built_at=2000.0, juliacall="0.9.35", programs=("",))
    image = other.publish(b"good", built_at=1000.0)
    assert start_in(world)["sysimage"] == image.path


def test_a_first_start_in_a_store_of_two_hundred_images_looks_at_few(world, monkeypatch):
    """None that manifest or Julia speak against costs more than the reading of its facts, nor any later start."""
    many = tuple(
        BakedPackage(f"Package{n}", f"00000000-0000-0000-0000-{n:012x}", "1.0.0", source=f"/nowhere/{n}")
        for n in range(60)
    )
    for number in range(200):
        world.publish(b"%d" % number, built_at=2000.0 + number, environment=f"{number % 30:016x}", packages=many)
    image = world.publish(b"fits", environment="f" * 16)
    age(world.root)
    assert start_in(world)["sysimage"] == image.path
    (plan,) = (world.store.root + "/launch/" + name for name in os.listdir(world.store.launches))
    kept = open(plan, "rb").read()
    assert b"/nowhere/" not in kept


# -- one that does not work in every environment -------------------------------------------------------


def died(world: World, key: str) -> None:
    """Leave the mark of a process that a fatal signal ended while it loaded an image."""
    mark = Path(world.store.ensure(world.store.booting), f"{hostname()}-99999001-{boot_id()}-00000001-{key}")
    mark.write_bytes(b"Fatal Python error: Segmentation fault\n")


def test_who_dies_of_it_condemns_it_for_its_own_environment(world, other):
    image = world.publish()
    died(other, f"{image.id}-{other.environment.id}")
    assert start_in(other)["sysimage"] is None
    assert start_in(other)["sysimage"] is None, "nor later"
    assert "condemned" in str(status(other)["rejected"])
    assert start_in(world)["sysimage"] == image.path, "what killed it there may be something of that environment's"


def test_who_dies_of_its_own_condemns_it_for_all(world, other):
    image = world.publish()
    died(world, image.id)
    assert start_in(world)["sysimage"] is None
    assert start_in(other)["sysimage"] is None


def test_a_process_says_so_of_itself(world, other):
    image = world.publish()
    killed = "from pyjl_autoimage.startup import guard\nguard.Guard.__exit__ = lambda *_: os.kill(os.getpid(), 11)"
    result = python(other.environ, "-c", f"import os\n{killed}\nfrom pyjl_autoimage import jl", cwd=other.root)
    assert result.returncode == -11
    start_in(other)
    assert os.listdir(world.store.condemnations) == [f"{image.id}-{other.environment.id}"]
    assert world.store.restore(image.id)
    assert start_in(other)["sysimage"] == image.path


# -- limits --------------------------------------------------------------------------------------------


def test_an_image_that_another_environment_starts_on_is_no_old_one(world, other):
    old = world.publish(b"old", built_at=1000.0)
    start_in(other)
    new = world.publish(b"new", built_at=2000.0, programs=("",), flags={"optimize": "3"})
    newer = world.publish(b"newer", built_at=3000.0)
    assert prune(world.store, keep=1, max_bytes=BIG, spare=newer.id) == []
    start_in(other)  # on the newer one
    assert prune(world.store, keep=1, max_bytes=BIG, spare=newer.id) == [f"image {old.id}"]
    assert os.path.exists(new.path)


def test_room_is_made_of_what_nobody_else_needs(world, other):
    wanted = world.publish(b"w" * 5000, built_at=1000.0)
    start_in(other)
    unwanted = world.publish(b"u" * 5000, built_at=2000.0, juliacall="0.9.35")
    new = world.publish(b"n" * 5000, built_at=3000.0)
    assert prune(world.store, keep=9, max_bytes=15_000, spare=new.id) == [f"image {unwanted.id}"]
    assert os.path.exists(wanted.path)


def test_clean_keeps_it_and_says_for_whom(world, other, monkeypatch):
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    image = world.publish()
    start_in(other)
    shutil.rmtree(world.project)
    removed, kept = clean()
    assert removed == []
    assert kept == [{"name": f"image {image.id}", "reason": f"programs of {other.project} start on it"}]


def test_an_environment_that_is_gone_for_long_needs_nothing_any_more(world, other):
    image = world.publish()
    start_in(other)
    assert wants.wanted_by(world.store) == {image.id: {other.environment.id: str(other.project)}}
    shutil.rmtree(other.project)
    assert image.id in wants.wanted_by(world.store), "it may be on another host"
    long_ago = time.time() - 40 * 86400
    directory = world.store.environment(other.environment.id)
    for path in (directory, *(os.path.join(directory, name) for name in os.listdir(directory))):
        os.utime(path, (long_ago, long_ago))
    assert wants.wanted_by(world.store) == {}


def test_what_a_program_starts_on_now_is_what_it_wants(world, other):
    first = world.publish(b"first", built_at=1000.0)
    start_in(other)
    shutil.rmtree(os.path.dirname(first.path))
    start_in(other)
    assert wants.wanted_by(world.store) == {}


def test_what_strangers_wrote_wants_nothing(world, other):
    directory = world.store.ensure(world.store.wants(other.environment.id))
    for name, text in {"a.json": "{", "b.json": "[]", "c.json": '{"image": 1, "project": []}'}.items():
        with open(os.path.join(directory, name), "w") as file:
            file.write(text)
    assert all(not os.path.isdir(project) for by in wants.wanted_by(world.store).values() for project in by.values())
    assert isinstance(Store(world.store.home).last_seen("no environment"), float)


def test_a_layer_of_another_environment_serves_the_same_program(world, other):
    layer = world.publish_layer()
    told = start_in(other)
    assert any(layer.path in code for code in told["evaluated"])


def test_one_that_was_made_on_another_image_does_not(world, other):
    other.publish(b"other")
    layer = replace(world.publish_layer(), image=None)
    told = start_in(other)
    assert not any(layer.path in code for code in told["evaluated"])


# -- a first build ---------------------------------------------------------------------------------------

OURS = "precompile(Tuple{typeof(Example.f), Base.Vector{Int64}})"
THEIRS = "precompile(Tuple{typeof(Example.g), Foreign.Table})"


@pytest.fixture
def neighbours(tmp_path: Path) -> tuple[World, World]:
    """Two environments that can build; a program of the first one has run."""
    world = buildable_world(tmp_path)
    known = Profile({OURS: Statement(runs=3), THEIRS: Statement(runs=3)}, {EXAMPLE_UUID: LoadedPackage("Example", 3)})
    recordings.add(world.store, world.environment.id, known, Origin.IMPORTED)
    other = world.neighbour("second")
    julia_that_builds(other)
    return world, other


def build(world: World) -> dict:
    result = cli(environ_of(world), "build", "--json", cwd=world.root)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_a_first_build_takes_what_others_know_of_the_same_packages(neighbours):
    _, other = neighbours
    told = build(other)
    assert told["notes"] == [f"{NOTHING_OWN} (1 statement)"], "the manifest has no Foreign"
    (image,) = other.store.all_images()
    assert image.statements == 1 and "Example" in [package.name for package in image.packages]
    assert OURS not in recordings.load(other.store, other.environment.id).statements, "it is none of its own"


def test_not_once_a_program_has_run_here(neighbours):
    _, other = neighbours
    other.record(str(other.root / "program.py"), 1.0, 1.0)
    assert NOTHING_OWN not in " ".join(build(other)["notes"])
    (image,) = other.store.all_images()
    assert "Example" not in [package.name for package in image.packages]


def test_what_others_know_is_taken_as_given_not_as_recorded(neighbours):
    world, other = neighbours
    found = known_elsewhere(world.store, other.environment.id, {EXAMPLE_UUID: "Example"}, {"Example"})
    assert {text: known.origin for text, known in found.statements.items()} == {OURS: Origin.IMPORTED}
    assert not found.programs and not found.runs


def test_a_layer_holds_what_a_shared_image_lacks_though_that_is_newer(neighbours):
    world, other = neighbours
    julia_that_precompiles_layers(other, meanwhile=":")
    image = world.publish(built_at=time.time() + 1e6)
    other.record("", 0.5, 5.0, image=image.id)
    result = cli(environ_of(other), "build", "--quick", "--json", cwd=other.root)
    assert result.returncode == 0, result.stderr
    assert [layer.image for layer in other.store.all_layers()] == [image.id]


@pytest.mark.parametrize("manifest", [None, "broken ="])
def test_where_no_manifest_says_what_there_is_a_start_is_plain_and_recorded(world, other, manifest):
    """PythonCall may come from an environment further down Julia's load path."""
    world.publish()
    (other.project / "Manifest.toml").unlink()
    if manifest:
        (other.project / "Manifest.toml").write_text(manifest)
    told = start_in(other)
    assert told["sysimage"] is None and told["trace_compile"]
