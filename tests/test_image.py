from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjl_autoimage.julia.facts import cpu_identity
from pyjl_autoimage.julia.manifest import ManifestError
from pyjl_autoimage.store import built
from pyjl_autoimage.store.built import Image, preference_digest
from pyjl_autoimage.store.validity import OTHER_RECORDER, Situation, mismatches, reasons_against

from standin import EXAMPLE_UUID, World, made_of


def situation(world, **changes):
    now = Situation.of(world.facts, str(world.project), juliacall="0.9.37", flags={}, cpu=cpu_identity())
    return replace(now, **changes)


def test_an_image_is_valid_where_everything_is_as_it_was(world):
    assert mismatches(world.image(), situation(world)) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"julia_version": "1.9.4"}, "built for Julia 1.9.4, this is Julia 1.10.4"),
        ({"julia_commit": "abc"}, "built for another build of Julia 1.10.4 (abc)"),
        ({"base_build_id": "5"}, "built on top of another default system image"),
        ({"word_size": 32}, "built for 32 bits, this Julia has 64"),
        ({"juliacall": "0.9.35"}, "juliacall 0.9.35 in the image, 0.9.37 installed"),
        ({"cpu": "other", "cpu_name": "skylake"}, "built for another CPU (skylake), this is znver3"),
        ({"flags": {"check_bounds": "yes"}}, "--check-bounds is default, yes in the image"),
    ],
)
def test_each_difference_is_a_reason(world, changes, reason):
    assert mismatches(world.image(**changes), situation(world)) == [reason]


def test_flags_that_this_start_gives(world):
    assert mismatches(world.image(), situation(world, flags={"optimize": "3"})) == [
        "--optimize is 3, default in the image"
    ]


def test_an_image_for_several_targets_does_not_need_this_cpu(world):
    image = world.image(cpu="other", cpu_target="generic;haswell,clone_all")
    assert mismatches(image, situation(world)) == []


def test_all_reasons_at_once(world):
    world.write_manifest(version="0.6.0")
    image = world.image(juliacall="0.9.35", cpu="other")
    assert len(mismatches(image, situation(world))) == 3


def test_another_version_in_the_manifest(world):
    world.write_manifest(version="0.6.0")
    assert mismatches(world.image(), situation(world)) == ["Example 0.5.3 in the image, 0.6.0 in the manifest"]


def test_the_same_version_from_another_source(world):
    world.write_manifest(tree="0" * 40)
    assert mismatches(world.image(), situation(world)) == [
        "Example 0.5.3 has another source in the manifest (git-tree-sha1)"
    ]


def test_a_package_that_left_the_manifest(world):
    (world.project / "Manifest.toml").write_text('manifest_format = "2.0"\n[deps]\n')
    assert mismatches(world.image(), situation(world)) == ["Example is in the image, not in the manifest"]


def test_packages_outside_the_image_come_and_go(world):
    world.write_manifest(extra='[[deps.Other]]\nuuid = "00000000-0000-0000-0000-000000000001"\nversion = "1.0.0"\n')
    assert mismatches(world.image(), situation(world)) == []


def test_a_package_found_elsewhere(world, tmp_path):
    other = tmp_path / "other depot"
    (other / "packages" / "Example" / "aqsx3").mkdir(parents=True)
    now = situation(world, facts=replace(world.facts, depots=(str(other), *world.facts.depots)))
    (reason,) = mismatches(world.image(), now)
    assert reason.startswith("Example was at ") and reason.endswith("aqsx3 now")


def test_the_same_depot_by_another_name_is_no_difference(world, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(world.depot)
    assert mismatches(world.image(), situation(world, facts=replace(world.facts, depots=(str(link),)))) == []


def test_a_source_that_is_gone(world):
    import shutil

    shutil.rmtree(world.source)
    assert mismatches(world.image(), situation(world)) == ["the source of Example is not installed"]


def test_preferences(world):
    (world.project / "LocalPreferences.toml").write_text("[Example]\na = 1\n")
    assert mismatches(world.image(), situation(world)) == ["the preferences of Example have changed"]


def test_a_package_that_would_be_parsed_otherwise(world):
    """From Julia 1.14 on the manifest says at which version of the syntax."""
    path = world.project / "Manifest.toml"
    path.write_text(path.read_text() + 'syntax.julia_version = "1.14.0"\n')
    assert mismatches(world.image(), situation(world)) == [
        "Example was parsed as Julia 1.13 and before in the image, the manifest says 1.14 now"
    ]
    (package,) = world.image().packages
    assert mismatches(world.image(packages=(replace(package, syntax="1.14"),)), situation(world)) == []


def test_a_load_path_that_does_not_begin_with_the_project(world):
    facts = replace(world.facts, load_path=("/elsewhere/Project.toml", *world.facts.load_path))
    assert "JULIA_LOAD_PATH does not begin with the project" in mismatches(
        world.image(), situation(world, facts=facts)
    )


def by_path(world):
    source = world.root / "dev" / "Example"
    (source / "src").mkdir(parents=True)
    (source / "src" / "Example.jl").write_text("module Example end")
    return source, world.image(packages=(world.track_by_path(source),))


def test_a_package_tracked_by_path_is_known_by_its_sources(world):
    source, image = by_path(world)
    assert mismatches(image, situation(world)) == []
    (source / "src" / "Example.jl").write_text("module Example; f() = 1; end")
    edited = os.path.join(source, "src", "Example.jl")
    assert mismatches(image, situation(world)) == [f"the source of Example has changed: {edited}"]


def test_a_package_is_known_by_the_files_that_its_cache_names(world, tmp_path):
    """Also where they were not there when it was compiled (`include_dependency`), and where they are directories."""
    table, later, data = tmp_path / "table.csv", tmp_path / "later.csv", tmp_path / "data"
    table.write_text("1,2")
    data.mkdir()
    image = world.image(packages=(made_of(world.image().packages[0], table, later, data),))
    os.utime(table, (1, 1))
    assert mismatches(image, situation(world)) == []
    later.write_text("")
    assert mismatches(image, situation(world)) == [f"the source of Example has changed: {later}"]
    table.write_text("1,3")
    assert mismatches(image, situation(world)) == [f"the source of Example has changed: {table} and 1 more"]
    later.unlink(), table.write_text("1,2"), (data / "new.csv").touch()
    assert mismatches(image, situation(world)) == [f"the source of Example has changed: {data}"]


def test_a_package_is_known_by_the_preferences_of_others_that_it_reads(world):
    (package,) = world.image().packages
    other = "00000000-0000-0000-0000-00000000000a"
    (world.project / "Project.toml").write_text(f'[extras]\nOther = "{other}"\n')
    image = world.image(packages=(replace(package, others={f"{other} size": "", f"{EXAMPLE_UUID} a": ""}),))
    (world.project / "LocalPreferences.toml").write_text("[Other]\nlength = 1\n")
    assert mismatches(image, situation(world)) == [], "it reads another one"
    (world.project / "LocalPreferences.toml").write_text("[Other]\nsize = 1\n")
    (reason,) = mismatches(image, situation(world))
    assert reason == f"the preference size of {other}, which Example reads, has changed"
    set_then = replace(package, others={f"{other} size": preference_digest({other: {"size": 1}}, other, "size")})
    assert mismatches(world.image(packages=(set_then,)), situation(world)) == []


def test_from_a_registry_to_a_path(world):
    by_path(world)
    (reason,) = mismatches(world.image(), situation(world))
    assert reason.startswith("Example comes from a registry in the image, from ")


def test_no_manifest(world):
    (world.project / "Manifest.toml").unlink()
    with pytest.raises(ManifestError):
        situation(world)


def test_what_is_written_is_read_back(world):
    image = world.image(path="/x/sys.so")
    assert Image.from_json(json.dumps(image.to_json()), "/x/sys.so") == image
    package = replace(image.packages[0], files={"/x/deps.jl": "a"}, others={"uuid name": ""})
    image = world.image(path="/x/sys.so", packages=(package,))
    assert Image.from_json(json.dumps(image.to_json()), "/x/sys.so") == image
    broken = json.dumps(image.to_json()).replace('{"/x/deps.jl": "a"}', '["/x/deps.jl"]')
    with pytest.raises(ValueError, match="is no "):
        Image.from_json(broken, "/x/sys.so")


@pytest.mark.parametrize("number", ["1e999", "NaN", "9" * 30])
def test_a_number_that_cannot_be(world, number):
    text = json.dumps({**world.image().to_json(), "built_at": "NUMBER"}).replace('"NUMBER"', number)
    with pytest.raises(ValueError, match="large"):
        Image.from_json(text, "/x/sys.so")


@pytest.mark.parametrize("left_out", ["packages", "pyjl_autoimage", "digest"])
def test_facts_that_are_not_all_there(world, left_out):
    facts = world.image().to_json()
    del (facts if left_out in facts else facts["packages"][0])[left_out]
    with pytest.raises(ValueError, match="is no "):
        Image.from_json(json.dumps(facts), "/x/sys.so")


def test_our_own_code_in_an_image_is_that_of_now(world, tmp_path, monkeypatch):
    """An upgrade that changes none of it costs no image, wherever it lies."""
    image = world.publish()
    assert reasons_against(image, situation(world), world.store) == []
    sources = shutil.copytree(built.JULIA_SOURCES, tmp_path / "another")
    monkeypatch.setattr(built, "JULIA_SOURCES", str(sources))
    assert reasons_against(image, situation(world), world.store) == []
    for changed in ("callers.jl", f"{built.RECORDER}/src/layer.jl"):
        path = sources / changed
        text = path.read_text()
        path.write_text(text + "\n# another version\n")
        assert reasons_against(image, situation(world), world.store) == [OTHER_RECORDER]
        path.write_text(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(data=st.data())
def test_strangers_facts_are_refused_or_harmless(tmp_path_factory, data):
    world = World(tmp_path_factory.mktemp("world"))
    facts = world.image().to_json()
    for key in data.draw(st.lists(st.sampled_from(sorted(facts)), max_size=3)):
        facts[key] = data.draw(JSON)
    try:
        image = Image.from_json(json.dumps(facts), "/x")
    except ValueError:
        return
    mismatches(image, situation(world))


@given(st.text(max_size=100))
def test_noise_is_refused(text):
    with pytest.raises(ValueError):
        Image.from_json(text, "/x")
