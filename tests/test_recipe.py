"""Which packages go into an image, and the project that PackageCompiler gets, on real manifests."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from pyjl_autoimage.base.reads import load_toml
from pyjl_autoimage.base.settings import Settings
from pyjl_autoimage.build import recipe
from pyjl_autoimage.build.recipe import Recipe
from pyjl_autoimage.errors import BuildError
from pyjl_autoimage.julia.facts import JuliaFacts
from pyjl_autoimage.julia.manifest import load_manifest
from pyjl_autoimage.julia.preferences import preferences
from pyjl_autoimage.profile.profile import Code, LoadedPackage, Profile
from pyjl_autoimage.store.built import BakedPackage
from pyjl_autoimage.store.validity import Situation

from standin import EXAMPLE_UUID, slug, write_report

DATAFRAMES = "a93c6f00-e57d-5684-b7b6-d8193f3e46c0"
CSV = "336ed68f-0bac-5ca0-87d4-7b16caf5d00b"
FACTS = JuliaFacts("1.10.4", "c", 64, "1", "znver3", "/j/bin", "/j/sys.so", "/j/libjulia.so", ("/depot",), ())


@pytest.fixture
def situation(fixtures, tmp_path):
    """The real manifest, with every package where its path says."""
    text = (fixtures / "julia-1.10" / "Manifest-paths.toml").read_text(encoding="utf-8")
    (tmp_path / "p").mkdir()
    path = tmp_path / "p" / "Manifest.toml"
    path.write_text(text.replace("/home/me/dev", str(tmp_path / "dev")), encoding="utf-8")
    manifest = load_manifest(str(path))
    for package in manifest.packages.values():
        if package.path:
            os.makedirs(os.path.join(package.path, "src"))
    (tmp_path / "p" / "Project.toml").write_text(f'[deps]\nDataFrames = "{DATAFRAMES}"\n')
    return Situation(FACTS, str(tmp_path / "p"), manifest, {}, "0.9.37", {}, "cpu")


def loaded(situation, *names):
    packages = {situation.manifest.by_name(name)[0].uuid: LoadedPackage(name, 1) for name in names}
    return Profile(packages=packages)


def names(chosen):
    return {package.name for package in chosen.packages}


BAKE = Settings(dev_packages="bake")


def test_pythoncall_and_what_runs_loaded(situation):
    chosen = recipe.choose(situation, loaded(situation, "DataFrames", "Tables"), BAKE)
    assert names(chosen) == {"PythonCall", "DataFrames", "Tables"}
    assert chosen.left_out == {}
    everything = {situation.manifest.packages[uuid].name for uuid in chosen.closure}
    assert {"CondaPkg", "Compat", "Statistics"} <= everything and "CSV" not in everything
    assert set(chosen.expected) == set(chosen.closure)


def test_jlls_that_come_with_julia_are_known_by_their_source(situation, tmp_path):
    stdlib = tmp_path / "julia" / "share" / "julia" / "stdlib" / "v1.10"
    for name in ("Zlib_jll", "Dates"):
        (stdlib / name / "src").mkdir(parents=True)
        (stdlib / name / "src" / f"{name}.jl").write_text(name)
    situation = replace(situation, facts=replace(FACTS, bindir=str(tmp_path / "julia" / "bin")))
    chosen = recipe.choose(situation, loaded(situation, "CSV"), BAKE)
    known = {baked.name for baked in chosen.expected.values() if baked.in_julia and baked.digest}
    assert known == {"Zlib_jll"}, "the others go by the build of Julia"


def registered_but(situation, depot, *by_path):
    """The same project with every package from a registry, installed in a depot, but for these."""
    tree = "0" * 40
    packages = dict(situation.manifest.packages)
    for uuid, package in packages.items():
        if package.path and package.name not in by_path:
            (depot / "packages" / package.name / slug(uuid, tree)).mkdir(parents=True)
            packages[uuid] = replace(package, path=None, tree_sha1=tree)
    facts = replace(FACTS, depots=(str(depot),))
    return replace(situation, facts=facts, manifest=replace(situation.manifest, packages=packages))


def test_packages_tracked_by_path_are_left_out_and_named_with_what_depends_on_them(situation, tmp_path):
    some = registered_but(situation, tmp_path / "depot", "InlineStrings")
    profile = loaded(situation, "CSV", "InlineStrings", "Tables")
    chosen = recipe.choose(some, profile, Settings())
    assert names(chosen) == {"PythonCall", "Tables"}
    assert chosen.left_out == {
        "CSV": "it depends on InlineStrings: the manifest tracks it by path",
        "InlineStrings": "the manifest tracks it by path",
    }
    assert names(recipe.choose(some, profile, BAKE)) == {"PythonCall", "Tables", "CSV", "InlineStrings"}


def test_pythoncall_cannot_be_left_out(situation, tmp_path):
    some = registered_but(situation, tmp_path / "depot", "Tables")
    with pytest.raises(BuildError, match="PythonCall cannot be left out of an image, but it depends on Tables: "):
        recipe.choose(some, Profile(), Settings())


def test_what_is_not_installed_is_an_error_that_names_it(situation, tmp_path):
    some = registered_but(situation, tmp_path / "depot", "Tables")
    shutil.rmtree(tmp_path / "depot" / "packages" / "CSV")
    with pytest.raises(BuildError, match="not installed: CSV; "):
        recipe.choose(some, loaded(situation, "CSV", "DataFrames"), BAKE)


def test_why_something_is_left_out(situation):
    profile = loaded(situation, "DataFrames", "CSV", "Tables")
    profile.packages["00000000-0000-0000-0000-000000000001"] = LoadedPackage("Plots", 1)
    profile.packages["00000000-0000-0000-0000-000000000002"] = LoadedPackage("CompatLinearAlgebraExt", 1)
    chosen = recipe.choose(situation, profile, BAKE.with_values(exclude=["InlineStrings"]))
    assert names(chosen) == {"PythonCall", "Tables"}
    assert chosen.left_out == {
        "CSV": "it depends on InlineStrings: it is excluded",
        "DataFrames": "it depends on InlineStrings: it is excluded",
        "Plots": "not in the project's manifest",
    }


def test_included_and_direct_packages(situation):
    chosen = recipe.choose(situation, Profile(), BAKE.with_values(include=["CSV"]))
    assert names(chosen) == {"PythonCall", "CSV"}
    chosen = recipe.choose(situation, Profile(), BAKE.with_values(all_direct=True))
    assert names(chosen) == {"PythonCall", "DataFrames"}
    with pytest.raises(BuildError, match="Nowhere cannot be included"):
        recipe.choose(situation, Profile(), BAKE.with_values(include=["Nowhere"]))


def test_the_generated_project(situation, tmp_path):
    preferred = replace(
        situation,
        preferences={situation.manifest.by_name("CondaPkg")[0].uuid: {"backend": "Null", "n": {"a": [1]}}},
    )
    chosen = recipe.choose(preferred, loaded(situation, "DataFrames"), BAKE)
    directory = tmp_path / "generated"
    recipe.write_project(str(directory), chosen, preferred)
    project = load_toml(str(directory / "Project.toml"))
    assert set(project["deps"]) == {"PythonCall", "DataFrames", "AutoimageRecorder"}
    assert project["preferences"] == {"CondaPkg": {"backend": "Null", "n": {"a": [1]}}}
    assert set(project["extras"]) == {"CondaPkg"}
    written = load_manifest(str(directory / "Manifest.toml"))
    assert set(written.packages) == {*chosen.closure, recipe.RECORDER_UUID}
    for uuid in chosen.closure:
        before, after = situation.manifest.packages[uuid], written.packages[uuid]
        assert (after.path, after.version, after.deps) == (before.path, before.version, before.deps)
        assert after.weakdeps_by_name == (before.weakdeps_by_name if before.extensions else {})
        assert after.extensions == before.extensions
    recorder = written.packages[recipe.RECORDER_UUID]
    assert os.path.isfile(os.path.join(recorder.path, "src", "AutoimageRecorder.jl"))


def test_preferences_of_packages_that_are_not_there_are_heard(situation, tmp_path):
    """Another package may read them."""
    csv, unknown = situation.manifest.by_name("CSV")[0].uuid, "00000000-0000-0000-0000-00000000000a"
    preferred = replace(situation, preferences={csv: {"a": 1}, unknown: {"b": 2}})
    chosen = recipe.choose(preferred, loaded(situation, "Tables"), BAKE)
    assert csv not in chosen.closure
    recipe.write_project(str(tmp_path / "generated"), chosen, preferred)
    assert preferences([str(tmp_path / "generated")]) == preferred.preferences


def test_every_package_is_parsed_at_the_version_of_the_syntax_that_the_manifest_says(situation, tmp_path):
    tables = situation.manifest.by_name("Tables")[0].uuid
    path = situation.manifest.path
    with open(path, encoding="utf-8") as file:
        text = file.read().replace(
            "[[deps.Tables]]", '[[deps.Tables]]\nsyntax.julia_version = "1.14"\nentryfile = "src/T.jl"'
        )
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    newer = replace(situation, manifest=load_manifest(path))
    profile = loaded(newer, "Tables")
    profile.code = {"model_1a": Code("/p/model.jl", syntax="1.14.0"), "old_1a": Code("/p/old.jl")}
    chosen = recipe.choose(newer, profile, BAKE, code=profile.code)
    recipe.write_project(str(tmp_path / "generated"), chosen, newer)
    said = load_toml(str(tmp_path / "generated" / "Manifest.toml"))["deps"]
    with_it = {name: entry["syntax"] for name, (entry,) in said.items() if "syntax" in entry}
    assert with_it == {"Tables": {"julia_version": "1.14"}, "model_1a": {"julia_version": "1.14.0"}}
    assert said["Tables"][0]["entryfile"] == "src/T.jl", "nor is anything else lost that Julia reads there"
    assert chosen.expected[tables].syntax == "1.14"


# What each report ends with: which Julia wrote it.
END = [("julia", FACTS.version, FACTS.commit, FACTS.base_build_id), ("end", "")]


def test_what_the_image_really_holds(situation, tmp_path):
    chosen = recipe.choose(situation, Profile(), BAKE)
    items = [("loaded", b.uuid, b.name, b.version or "", b.source or "/stdlib") for b in chosen.expected.values()]
    items = [("unresolved", 3), ("inferred", 4), *items, ("loaded", "0-0", "SomeExt", "", ""), *END]
    packages, unresolved, inferred = recipe.held(write_report(tmp_path / "report", *items), chosen, FACTS)
    assert {package.uuid for package in packages} == set(chosen.closure)
    assert (unresolved, inferred) == ([3], [4])


@pytest.mark.parametrize("name", ['a"b', "a\\b", "na\u00adme", "a\tb\nc=", "family \U0001f468\u200d\U0001f469"])
def test_a_depot_may_be_called_anything(tmp_path, name):
    source = tmp_path / name / "packages" / "Example" / "aqsx3"
    source.mkdir(parents=True)
    baked = BakedPackage("Example", EXAMPLE_UUID, "0.5.3", source=str(source))
    report = write_report(tmp_path / "report", ("loaded", baked.uuid, "Example", "0.5.3", source), *END)
    packages, *_ = recipe.held(report, Recipe((), frozenset(), {}, {baked.uuid: baked}), FACTS)
    assert packages == (baked,)


def test_an_image_never_claims_what_it_does_not_hold(situation, tmp_path):
    chosen = recipe.choose(situation, Profile(), BAKE)
    path = tmp_path / "report"
    (tables,) = (b for b in chosen.expected.values() if b.name == "Tables")
    for version, source in (("0.0.1", tables.source), (tables.version, "/elsewhere")):
        report = write_report(path, ("loaded", tables.uuid, "Tables", version, source), *END)
        with pytest.raises(BuildError, match="the manifest says"):
            recipe.held(report, chosen, FACTS)
    for report in (write_report(path, ("unresolved", 1)), str(tmp_path / "none")):
        with pytest.raises(BuildError, match="did not say what the image holds"):
            recipe.held(report, chosen, FACTS)


def test_an_image_that_another_julia_made_is_refused(situation, tmp_path):
    chosen, path = recipe.choose(situation, Profile(), BAKE), tmp_path / "report"
    for which in [("1.9.0", FACTS.commit, FACTS.base_build_id), (FACTS.version, FACTS.commit, "another build")]:
        with pytest.raises(BuildError, match=f"Julia {which[0]} .* built the image, and it is for Julia"):
            recipe.held(write_report(path, ("julia", *which), END[-1]), chosen, FACTS)
    with pytest.raises(BuildError, match="did not say which one it is"):
        recipe.held(write_report(path, END[-1]), chosen, FACTS)


def test_sources_that_change_during_a_build(situation):
    chosen = recipe.choose(situation, Profile(), BAKE)
    assert recipe.changed_sources(chosen, situation, FACTS.depots) == []
    path = situation.manifest.by_name("Tables")[0].path
    with open(os.path.join(path, "src", "Tables.jl"), "w", encoding="utf-8") as file:
        file.write("changed")
    assert recipe.changed_sources(chosen, situation, FACTS.depots) == ["Tables"]
