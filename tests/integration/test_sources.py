"""What packages are made of, Julia's own caches say: whatever of it changes is seen by the next start."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from conftest import Place, make_place
from pyjl_autoimage.base.settings import Settings
from pyjl_autoimage.build import recipe
from pyjl_autoimage.profile.profile import Profile
from pyjl_autoimage.store.validity import Situation

from standin import EXAMPLE_TREE, slug

UUIDS = {"ByPath": "7d1f0d65-5b0e-4b8a-9a3e-0c7a3f1f2b21", "Built": "7d1f0d65-5b0e-4b8a-9a3e-0c7a3f1f2b22"}

OTHER = "7d1f0d65-5b0e-4b8a-9a3e-0c7a3f1f2b23"

# Its directory src is a link; what it is made of lies in many places.
BY_PATH = f"""
module ByPath
using Built
include(joinpath(@__DIR__, "..", "..", "shared", "common.jl"))
include("../test/helper.jl")
const TABLE = normpath(@__DIR__, "..", ".data", "table.csv")
include_dependency(TABLE)
const SUM = sum(x -> parse(Int, x), split(read(TABLE, String), ','))
const OTHER = Base.UUID("{OTHER}")
const SIZE = (u -> (Base.record_compiletime_preference(u, "size"); get(Base.get_preferences(u), "size", 0)))(OTHER)
total(x) = common() + helper() + SUM + Built.place() + SIZE + x
end
"""
BUILT = """
module Built
include(joinpath(@__DIR__, "..", "deps", "deps.jl"))
place() = LIBRARY
end
"""
PROGRAM = """
import json, os
from pyjl_autoimage import jl
from pyjl_autoimage.startup.start import session
total = None
if "ONLY_START" not in os.environ:
    jl.seval("using ByPath")
    total = jl.ByPath.total(0)
print(json.dumps({"total": total, "layer": session.plan.layer is not None}))
"""


def write_package(directory: Path, name: str, text: str, deps: str = "") -> None:
    (directory / "src").mkdir(parents=True)
    (directory / "src" / f"{name}.jl").write_text(text)
    about = f'name = "{name}"\nuuid = "{UUIDS[name]}"\nversion = "0.1.0"\n'
    (directory / "Project.toml").write_text(f"{about}[deps]\n{deps}")


@dataclass
class Layered:
    """A program that has run, and for which a layer was built."""

    place: Place
    files: dict[str, Path]
    """What the packages are made of, besides `Built`'s own source."""

    def run(self, **environ: str) -> dict:
        return json.loads(self.place.run_file(self.place.root / "program.py", **environ).stdout.splitlines()[-1])

    def reasons(self) -> list[str]:
        (layer,) = json.loads(self.place.cli("status", "--json").stdout)["layers"]
        return layer["reasons"]

    def packages(self) -> dict[str, dict]:
        """What the layer says of its packages, by name."""
        (path,) = self.place.store.glob("v1/layers/*/layer.json")
        return {package["name"]: package for package in json.loads(path.read_text())["packages"]}


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Layered:
    place = make_place(tmp_path_factory.mktemp("made"), prepared)
    depot, by_path, source = place.root / "depot", place.root / "ByPath", place.root / "monorepo" / "src"
    built = depot / "packages" / "Built" / slug(UUIDS["Built"], EXAMPLE_TREE)
    write_package(by_path, "ByPath", BY_PATH, f'Built = "{UUIDS["Built"]}"\n')
    write_package(built, "Built", BUILT)
    source.parent.mkdir()
    (by_path / "src").rename(source)
    (by_path / "src").symlink_to(source)
    files = {
        "source": (source / "ByPath.jl", BY_PATH),
        "common": (place.root / "shared" / "common.jl", "common() = 1\n"),
        "helper": (by_path / "test" / "helper.jl", "helper() = 10\n"),
        "table": (by_path / ".data" / "table.csv", "40,60"),
        "library": (built / "deps" / "deps.jl", "const LIBRARY = 1000\n"),
    }
    for path, text in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    project = Path(place.environment.project, "Project.toml")
    text = project.read_text().replace("[deps]\n", f'[deps]\nByPath = "{UUIDS["ByPath"]}"\n', 1)
    project.write_text(f'{text}\n[extras]\nOther = "{OTHER}"\n')
    entry = '\n[[deps.{}]]\nuuid = "{}"\nversion = "0.1.0"\n'
    with open(place.manifest.path, "a", encoding="utf-8") as manifest:
        manifest.write(entry.format("ByPath", UUIDS["ByPath"]) + f'path = "{by_path}"\ndeps = ["Built"]\n')
        manifest.write(entry.format("Built", UUIDS["Built"]) + f'git-tree-sha1 = "{EXAMPLE_TREE}"\n')
    place.environ["JULIA_DEPOT_PATH"] = os.pathsep.join((str(depot), *place.facts.depots))
    (place.root / "program.py").write_text(PROGRAM)
    layered = Layered(place, {name: path for name, (path, _) in files.items()})
    assert layered.run() == {"total": 1111, "layer": False}
    built_layers = json.loads(place.cli("build", "--quick", "--json").stdout.splitlines()[-1])
    assert built_layers["layers"] and not built_layers["notes"], built_layers
    return layered


def test_a_layer_knows_what_its_packages_are_made_of(layered: Layered) -> None:
    assert layered.run() == {"total": 1111, "layer": True}
    assert layered.reasons() == []
    packages = layered.packages()
    found = {os.path.realpath(file) for file in packages["ByPath"]["files"]}
    assert found == {os.path.realpath(layered.files[name]) for name in ("source", "common", "helper", "table")}
    assert list(packages["Built"]["files"]) == [str(layered.files["library"])]
    others = [package["name"] for package in packages.values() if package["files"]]
    assert others == ["ByPath", "Built"], "of the others the tree hash says all"


@pytest.mark.parametrize("which", ["source", "common", "helper", "table", "library"])
def test_each_file_is_looked_at_by_the_next_start(layered: Layered, which: str) -> None:
    path = layered.files[which]
    before, status = path.read_text(), path.stat()
    assert layered.run(ONLY_START="1")["layer"]
    try:
        path.write_text(before + " ")
        assert not layered.run(ONLY_START="1")["layer"]
        (reason,) = layered.reasons()
        assert reason.startswith("the source of ") and path.name in reason
    finally:
        path.write_text(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert layered.run(ONLY_START="1")["layer"]


def test_a_preference_of_a_package_that_is_not_there_counts_as_it_does_in_plain_julia(layered: Layered) -> None:
    """Julia 1.10 to 1.12 take a cache for fresh whatever was preferred of another package when it was made."""
    preferred = Path(layered.place.environment.project, "LocalPreferences.toml")
    before = preferred.read_text() if preferred.exists() else ""
    try:
        preferred.write_text(f"{before}\n[Other]\nsize = 10000\n")
        totals = [layered.run(**environ)["total"] for environ in ({}, {}, {"PYJL_AUTOIMAGE": "0"})]
        assert len(set(totals)) == 1, totals
        assert totals[0] == (11111 if layered.packages()["ByPath"]["others"] else 1111)
    finally:
        preferred.write_text(before)
    assert layered.run() == {"total": 1111, "layer": True}


def test_a_preference_of_a_package_that_is_not_there_is_looked_at_by_the_next_start(layered: Layered) -> None:
    if not layered.packages()["ByPath"]["others"]:
        pytest.skip("this Julia's caches name a package's own preferences alone")
    preferred = Path(layered.place.environment.project, "LocalPreferences.toml")
    before = preferred.read_text() if preferred.exists() else ""
    try:
        preferred.write_text(f"{before}\n[Other]\nsize = 10000\n")
        assert not layered.run(ONLY_START="1")["layer"]
        assert layered.reasons() == [f"the preference size of {OTHER}, which ByPath reads, has changed"]
    finally:
        preferred.write_text(before)
    assert layered.run(ONLY_START="1")["layer"]


def test_a_package_that_pkg_builds_anew_runs_anew(layered: Layered) -> None:
    layered.files["library"].write_text("const LIBRARY = 2000\n")
    assert layered.run() == {"total": 2111, "layer": False}


def test_the_building_julia_hears_preferences_of_packages_that_are_not_in_the_image(
    place: Place, tmp_path: Path
) -> None:
    """A package of the image may read them."""
    now = Situation(place.facts, place.environment.project, place.manifest, {}, "", {}, "")
    now = replace(now, preferences={OTHER: {"size": 7}})
    chosen = recipe.choose(now, Profile(), Settings(dev_packages="bake"))
    recipe.write_project(str(tmp_path / "project"), chosen, now)
    code = f"""
        using Pkg
        println(Pkg.Types.EnvCache().project.extras)
        println(Base.get_preferences(Base.UUID("{OTHER}"))["size"])
        """
    command = [place.environment.executable, f"--project={tmp_path / 'project'}", "--startup-file=no", "-e", code]
    said = subprocess.run(command, env=place.environ, capture_output=True, text=True, check=False)
    assert said.stdout.splitlines()[-1:] == ["7"] and OTHER in said.stdout, said.stderr
