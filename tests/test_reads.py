"""What a plan depends on: content decides, and whatever was looked at is noted by who looked."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pyjl_autoimage.base.reads import Reads, content, is_file
from pyjl_autoimage.base.unchanged import difference
from pyjl_autoimage.startup import decide, plan
from test_launch import Managed

from standin import World, age, start_in


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def remembered(world: World, **environ: str) -> None:
    image = world.publish()
    age(world.root)
    for _ in range(2):
        assert start_in(world, **environ)["sysimage"] == image.path


# -- noted by who reads --------------------------------------------------------------------------------


def test_what_is_read_and_what_is_looked_for_is_noted_and_the_first_difference_named(tmp_path):
    read, looked_for, there = tmp_path / "read", tmp_path / "looked for", tmp_path / "there"
    read.write_text("1"), there.write_text("")
    with Reads() as reads, Reads() as inner:
        assert content(str(read)) == b"1" and not is_file(str(looked_for)) and is_file(str(there))
    assert not reads.to_data()["contents"], "the innermost notes"
    noted = inner.to_data()
    assert difference(noted) == ""
    os.utime(read, (1, 1))
    assert difference(noted) == "", "content decides"
    read.write_text("2")
    assert difference(noted) == str(read)
    read.write_text("1"), looked_for.write_text("")
    assert difference(noted) == str(looked_for)
    looked_for.unlink(), there.unlink()
    assert difference(noted) == str(there)
    content(str(read))  # nobody notes any more


def test_a_file_that_became_another_of_its_size_and_time_is_another(tmp_path):
    """``cp -p``, ``rsync -t``, ``mv`` and a switched link keep both; what is too long to read is told by its inode."""
    file, other = tmp_path / "libjulia.so", tmp_path / "other"
    for path, byte in ((file, b"1"), (other, b"2")):
        path.write_bytes(byte * 1_000_001)
        os.utime(path, (1, 1))
    reads = Reads()
    reads.file(str(file))
    assert reads.settled and difference(reads.to_data()) == ""
    other.replace(file)
    assert difference(reads.to_data()) == str(file)


# -- what decides a start ------------------------------------------------------------------------------


def test_another_manifest_of_the_same_size_and_time(world):
    """Layers of containers and deployments that can be reproduced give every file one time."""
    manifest = world.project / "Manifest.toml"
    age(world.root)
    os.utime(manifest, (1_000_000_000, 1_000_000_000))
    world.publish()
    age(world.store.root)
    for _ in range(2):
        assert start_in(world)["sysimage"]
    world.write_manifest(version="0.5.4")
    os.utime(manifest, (1_000_000_000, 1_000_000_000))
    assert start_in(world)["sysimage"] is None


def test_a_manifest_that_is_moved_into_place_while_the_plan_is_made(world, monkeypatch):
    image = world.publish()
    other = world.root / "next.toml"
    other.write_text((world.project / "Manifest.toml").read_text().replace("0.5.3", "0.5.4"))
    age(world.root)
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(world.site))
    original = decide.best_valid

    def meanwhile(*arguments):
        found = original(*arguments)
        os.replace(other, world.project / "Manifest.toml")
        return found

    monkeypatch.setattr(decide, "best_valid", meanwhile)
    question = plan.question({})
    assert decide.decide({}, question).image == image.id, "the old manifest was read: as it should be, this once"
    assert plan.recall(world.store, question) is None


@pytest.mark.parametrize("where", ["locked/Manifest.toml", "../Project.toml"])
def test_a_file_that_appears_where_one_was_looked_for(world, where):
    project = world.project / "Project.toml"
    project.write_text('manifest = "locked/Manifest.toml"\n')
    if where == "../Project.toml":  # of a workspace, which only Julia 1.12 knows
        facts = world.root / "julia" / "answer"
        facts.write_bytes(facts.read_bytes().replace(b"1.10.4", b"1.12.5"))
        world.publish(julia_version="1.12.5")
    else:
        world.publish()
    age(world.root)
    for _ in range(2):
        assert start_in(world)["sysimage"]
    made = world.project / where
    made.parent.mkdir(exist_ok=True)
    made.write_text(
        '[workspace]\nprojects = ["project"]\n'
        if "Project" in where
        else (world.project / "Manifest.toml").read_text().replace("0.5.3", "0.5.4")
    )
    assert start_in(world)["sysimage"] is None


# -- which Julia ---------------------------------------------------------------------------------------


def julia_with(world: World, script: str) -> None:
    """A stand-in Julia whose answers depend on more than its own file."""
    world.executable.write_text(f"#!/bin/sh\n{script}\n")
    world.executable.chmod(0o755)


def test_a_relative_depot_is_another_one_in_another_directory(world):
    answer = world.root / "julia" / "answer"
    answer.write_bytes(answer.read_bytes().replace(b"depot=" + bytes(world.depot), b"depot=@PWD@/depot"))
    julia_with(world, f'sed "s|@PWD@|$PWD|" "{answer}"')
    world.publish()
    (world.root / "elsewhere").mkdir()
    age(world.root)

    def sysimage(directory):
        code = f"import os; os.chdir({str(directory)!r})"
        return start_in(world, code=code, JULIA_DEPOT_PATH="depot")["sysimage"]

    assert sysimage(world.root) is not None
    assert sysimage(world.root / "elsewhere") is None, "the package is not installed there"


def test_a_launcher_that_is_a_script_is_asked_which_julia_it_starts(tmp_path):
    """asdf's and mise's `julia`: it stands in ``.tool-versions``, or in a variable. juliapkg asks at each start, too."""
    world = Managed(tmp_path)
    chosen = tmp_path / "tool-versions"
    chosen.write_text("1.10.4")
    answer = world.root / "julia" / "answer"
    other = world.root / "julia" / "answer-1.11"
    other.write_bytes(answer.read_bytes().replace(b"1.10.4", b"1.11.1"))
    julia_with(
        world,
        f'version=$(cat "{chosen}")\ncase "$*" in *--version*) echo "julia version $version";; '
        f'*) if [ "$version" = 1.10.4 ]; then cat "{answer}"; else cat "{other}"; fi;; esac',
    )
    remembered(world)
    assert not world.asks()
    chosen.write_text("1.11.1")
    assert world.asks() and start_in(world)["sysimage"] is None


def test_an_image_is_for_the_libjulia_that_is_loaded(tmp_path):
    """Whatever the executable says: here a variable of juliaup's leads to another one."""
    world = Managed(tmp_path)
    second = tmp_path / "juliaup2" / "juliaup"
    second.mkdir(parents=True)
    (second / "juliaup.json").write_text("{}")
    other_library = tmp_path / "julia-1.11" / "libjulia.so"
    other_library.parent.mkdir()
    other_library.write_text("lib of 1.11")
    package = world.site / "juliapkg" / "__init__.py"
    package.write_text(
        f"{package.read_text()}\ndef libjulia():\n    second = os.environ['JULIAUP_DEPOT_PATH'].endswith('2')\n"
        f"    return {str(other_library)!r} if second else {str(world.libjulia)!r}\n"
    )
    remembered(world)
    told = start_in(world, JULIAUP_DEPOT_PATH=str(tmp_path / "juliaup2"))
    assert told["lib_object"] == str(other_library) and told["sysimage"] is None


@pytest.mark.parametrize(
    ("load_path", "name"),
    [
        (None, "v1.10"),
        ("@:@v#.#:@stdlib", "v1.10"),
        ("@:@shared", "shared"),
        ("@:@v#.#.#-mine:@stdlib", "v1.10.4-mine"),
    ],
)
def test_a_project_that_appears_under_a_name_that_julia_looks_for(world, load_path, name):
    """``@v1.10`` of the load path, in an earlier depot: its preferences count from then on."""
    environ = {"JULIA_LOAD_PATH": load_path} if load_path else {}
    remembered(world, **environ)
    started = world.times_started()
    named = world.depot / "environments" / name
    named.mkdir(parents=True)
    (named / "Project.toml").write_text("")
    start_in(world, **environ)
    assert world.times_started() == started + 1, "Julia is asked for its load path again"


@pytest.mark.parametrize("name", ["JULIA_DEPOT_PATH", "JULIA_LOAD_PATH"])
def test_an_empty_variable_is_not_one_that_is_not_set(world, name):
    remembered(world)
    started = world.times_started()
    start_in(world, **{name: ""})
    assert world.times_started() == started + 1, "Julia has no depot, or no load path, then"


def test_a_package_that_appears_in_an_earlier_depot(world):
    """Julia takes the first that there is."""
    earlier = world.root / "earlier"
    world.write_julia(replace(world.facts, depots=(str(earlier), str(world.depot))))
    remembered(world)
    (earlier / "packages" / "Example" / world.source.name).mkdir(parents=True)
    told = start_in(world)
    assert told["sysimage"] is None, told["notes"]


# -- and what does not ---------------------------------------------------------------------------------


def test_plans_of_another_version_of_this_package_are_none(world, monkeypatch):
    """A release that mends what makes an image valid must not go on with what was found before."""
    before = plan.question({})
    monkeypatch.setattr(plan, "__version__", "0.0.0")
    assert plan.question({}) != before


def test_threads_are_no_part_of_the_question(monkeypatch):
    before = plan.question({})
    monkeypatch.setenv("JULIA_NUM_THREADS", "3")
    assert plan.question({}) == before
