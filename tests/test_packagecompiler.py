"""Which PackageCompiler a build gets: of the store's project, and of a given one; with stand-ins for Pkg and Julia."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pyjl_autoimage.build import packagecompiler
from pyjl_autoimage.build.packagecompiler import (
    least_packagecompiler,
    packagecompiler_problem,
    packagecompiler_version,
)

from standin import World, buildable_world, cli, environ_of, julia_that_builds, until, wait_for


def manifest(version: str) -> str:
    uuid = f'uuid = "{packagecompiler.PACKAGECOMPILER_UUID}"'
    return f'manifest_format = "2.0"\n[[deps.PackageCompiler]]\n{uuid}\nversion = "{version}"\n'


@pytest.fixture
def world(tmp_path: Path) -> World:
    return buildable_world(tmp_path)


def on_julia(world: World, version: str) -> None:
    world.write_julia(replace(world.facts, version=version))
    julia_that_builds(world)


def pkg(world: World, does: str) -> None:
    """What the stand-in Julia does when it is to install PackageCompiler; `$project` is where."""
    text = world.executable.read_text()
    project = 'for a; do case "$a" in --project=*) project="${a#--project=}";; esac; done'
    noted = f'echo "$project" >> "{world.root}/installed"'
    does = f'case "$*" in *Pkg.add*) {project}; {noted}; {does}; exit $?;; esac\n'
    world.executable.write_text(text.replace("case ", f"{does}case ", 1))


def gives(version: str) -> str:
    return f"printf '{manifest(version)}' > \"$project/Manifest.toml\""


def installed(world: World) -> list[str]:
    """Where Pkg was asked to install PackageCompiler, each time."""
    path = world.root / "installed"
    return path.read_text().splitlines() if path.exists() else []


def environ_without_builder(world: World) -> dict[str, str]:
    environ = environ_of(world)
    del environ["PYJL_AUTOIMAGE_BUILDER_PROJECT"]
    return environ


def notes(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert result.returncode == 0, result.stderr
    return [note for note in json.loads(result.stdout)["notes"] if "PackageCompiler" in note]


def build(world: World, environ: dict[str, str]) -> list[str]:
    """What the build notes of PackageCompiler."""
    return notes(cli(environ, "build", "--json", cwd=world.root))


@pytest.mark.parametrize(
    ("julia", "least"),
    [
        ("1.10.4", "2.1.18"),
        ("1.12.7", "2.1.18"),
        ("1.13.0", "2.4.5"),
        ("1.14.0-DEV.2155", "2.4.5"),
        ("2.0.0", "2.4.5"),
    ],
)
def test_what_each_julia_needs(julia, least):
    assert least_packagecompiler(julia) == least


@pytest.mark.parametrize(
    ("has", "fine"), [("2.4.5", True), ("2.4.10", True), ("2.5.0-DEV", True), ("2.4.4", False), ("2.2.5", False)]
)
def test_versions_are_compared_as_numbers(tmp_path, has, fine):
    (tmp_path / "Manifest.toml").write_text(manifest(has))
    assert packagecompiler_version(str(tmp_path)) == has
    assert (packagecompiler_problem(str(tmp_path), "1.13.1") is None) == fine
    assert packagecompiler_problem(str(tmp_path), "1.12.7") is None


def test_the_manifest_of_this_very_julia_counts(tmp_path):
    (tmp_path / "Manifest.toml").write_text(manifest("2.4.5"))
    (tmp_path / "Manifest-v1.13.toml").write_text(manifest("2.2.5"))
    assert packagecompiler_version(str(tmp_path), "1.13.0") == "2.2.5"
    assert packagecompiler_version(str(tmp_path), "1.14.0") == "2.4.5"


@pytest.mark.parametrize("text", [None, "", "not TOML ["])
def test_a_project_that_says_nothing_of_it(tmp_path, text):
    """Julia may find one elsewhere on its load path; if not, it says so itself."""
    if text is not None:
        (tmp_path / "Manifest.toml").write_text(text)
    assert packagecompiler_version(str(tmp_path)) is None
    assert packagecompiler_problem(str(tmp_path), "1.13.0") is None


def test_the_store_has_a_project_of_its_own_set_up_once(world):
    on_julia(world, "1.13.0")
    pkg(world, gives("2.4.5"))
    environ = environ_without_builder(world)
    assert build(world, environ) == build(world, environ) == []
    assert installed(world) == [packagecompiler.own_builder_project(world.store, world.facts)]


def test_one_that_has_become_too_old_is_brought_up_to_date_once(world):
    on_julia(world, "1.13.0")
    pkg(world, gives("2.2.5"))
    environ = environ_without_builder(world)
    (note,) = build(world, environ)
    assert "PackageCompiler 2.2.5" in note and "2.4.5 or later" in note, "there was no newer one"
    pkg(world, gives("2.4.6"))
    assert build(world, environ) == []
    assert build(world, environ) == []
    assert len(installed(world)) == 2


def test_one_that_was_set_up_for_other_depots_is_set_up_again(world):
    """The package lies in the depots of that time."""
    on_julia(world, "1.10.4")
    pkg(world, gives("2.4.5"))
    environ = environ_without_builder(world)
    build(world, environ)
    (world.root / "other depot").mkdir()
    world.facts = replace(world.facts, depots=(*world.facts.depots, str(world.root / "other depot")))
    on_julia(world, "1.10.4")
    pkg(world, gives("2.4.5"))
    build(world, environ)
    assert len(installed(world)) == 2


def test_without_network_an_old_one_builds_on_with_a_note(world):
    on_julia(world, "1.13.0")
    pkg(world, gives("2.2.5"))
    environ = environ_without_builder(world)
    build(world, environ)
    pkg(world, "echo 'ERROR: could not resolve host'; false")
    (note,) = build(world, environ)
    assert "too old for Julia 1.13.0" in note
    pkg(world, gives("2.4.5"))
    assert build(world, environ) == [], "with network again"


def test_without_network_and_without_any_the_build_fails(world):
    on_julia(world, "1.13.0")
    pkg(world, "echo 'ERROR: could not resolve host'; false")
    result = cli(environ_without_builder(world), "build", cwd=world.root)
    assert result.returncode == 1
    assert "PackageCompiler could not be installed" in result.stderr and "could not resolve host" in result.stderr
    assert "PYJL_AUTOIMAGE_BUILDER_PROJECT" in result.stderr


def test_a_given_project_is_left_as_it_is(world):
    on_julia(world, "1.13.0")
    pkg(world, gives("2.4.5"))
    given = world.root / "builder" / "Manifest.toml"
    given.write_text(manifest("2.3.0"))
    (note,) = build(world, environ_of(world))
    assert f"PackageCompiler 2.3.0 in {given.parent}" in note
    assert installed(world) == [] and given.read_text() == manifest("2.3.0")


def test_one_that_no_image_can_be_built_with_is_an_error_before_it_is_started(world):
    on_julia(world, "1.10.4")
    (world.root / "builder" / "Manifest.toml").write_text(manifest("2.1.17"))
    result = cli(environ_of(world), "build", cwd=world.root)
    assert result.returncode == 1
    assert "PackageCompiler 2.1.17" in result.stderr and "2.1.18 or later" in result.stderr
    assert "build_image.jl" not in (world.root / "julia" / "started").read_text()


def test_two_first_builds_install_it_one_after_the_other(world):
    """Of two projects with one Julia: the second finds what the first has installed while it waited."""
    began, release = world.root / "began", world.root / "release"
    on_julia(world, "1.13.0")
    pkg(world, f'touch "{began}"; {until(release)}; {gives("2.4.5")}')
    environ = environ_without_builder(world)
    other = world.root / "other project"
    other.mkdir()
    for name in ("Project.toml", "Manifest.toml"):
        (other / name).write_text((world.project / name).read_text())
    command = [sys.executable, "-m", "pyjl_autoimage", "build"]
    first = subprocess.Popen(command, env=environ, cwd=world.root)
    wait_for(began.exists)
    second = subprocess.Popen(command, env={**environ, "PYTHON_JULIACALL_PROJECT": str(other)}, cwd=other)
    log = Path(world.store.build_log(replace(world.environment, project=str(other)).id))
    wait_for(lambda: log.exists() and "phase: builder" in log.read_text(), 60)
    assert installed(world) == [packagecompiler.own_builder_project(world.store, world.facts)], "the second one waits"
    release.touch()
    assert [first.wait(60), second.wait(60)] == [0, 0]
    assert len(installed(world)) == 1
