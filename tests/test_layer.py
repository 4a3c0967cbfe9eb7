"""Layers: which one a start uses, what it holds, and what is said of it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyjl_autoimage.base.call import JULIA_SOURCES
from pyjl_autoimage.base.reads import load_toml
from pyjl_autoimage.build import layer
from pyjl_autoimage.build.layer import Parts
from pyjl_autoimage.build.made import Made
from pyjl_autoimage.errors import BuildError
from pyjl_autoimage.profile.profile import Code
from pyjl_autoimage.startup import code, start
from pyjl_autoimage.store.built import Layer, OwnCode, cache_header
from pyjl_autoimage.store.places import depot_of
from pyjl_autoimage.store.publish import new_layer, remove_debris
from pyjl_autoimage.store.validity import reasons_against_layer, situation_of

from standin import EXAMPLE_UUID, age, cli, python, start_in, write_report


def told_of(told: dict) -> list[str]:
    return [text for text in told["evaluated"] if "use_layer" in text]


def test_a_start_uses_the_layer_of_its_program(world):
    made = world.publish_layer()
    world.publish_layer("2" * 16, program="/another.py", built_at=2000.0)
    told = start_in(world)
    assert told["environ"]["JULIA_DEPOT_PATH"].endswith(f"::{depot_of(world.store.layer(made.id))}")
    (text,) = told_of(told)
    assert made.id in text


def test_a_program_beside_another_does_not_get_its_layer(world):
    programs = [world.root / name for name in ("one.py", "other.py")]
    for path in programs:
        path.write_text("from pyjl_autoimage import jl\nimport juliacall\nprint(juliacall.CONFIG['evaluated'])")
    made = world.publish_layer(program=str(programs[0]))
    age(world.root)
    for path, uses in [*zip(programs, (True, False), strict=True)] * 2:
        assert (made.id in python(world.environ, str(path)).stdout) is uses


def test_no_layer_no_trace_of_one(world):
    told = start_in(world)
    assert not told_of(told)
    assert "JULIA_DEPOT_PATH" not in told["environ"]


def test_the_newest_layer_is_used_and_a_newer_one_noticed(world):
    world.publish_layer()
    age(world.root)
    for _ in range(2):
        assert "1" * 16 in told_of(start_in(world))[0]
    world.publish_layer("2" * 16, built_at=2000.0)
    assert "2" * 16 in told_of(start_in(world))[0]


@pytest.mark.parametrize("change", ["gone", "replaced", "touched"])
def test_a_layer_stands_on_caches_of_julia(world, tmp_path, change):
    cache = tmp_path / "compiled" / "Example.ji"
    cache.parent.mkdir()
    cache.write_bytes(b"build id 1" + bytes(5000))
    age(cache.parent)
    made = world.publish_layer(caches={str(cache): cache_header(str(cache))})
    assert made.id in told_of(start_in(world))[0]
    if change == "gone":
        cache.unlink()
    elif change == "replaced":
        cache.write_bytes(b"build id 2" + bytes(5000))
    else:  # as Julia does when it loads it
        cache.touch()
    situation = situation_of(world.environment, world.store, {})
    reasons = reasons_against_layer(made, None, situation, world.store)
    if change == "touched":
        assert reasons == []
        assert made.id in told_of(start_in(world))[0]
    else:
        assert str(cache) in reasons[0]
    if change == "gone":
        assert not told_of(start_in(world))


def test_a_layer_counts_only_on_the_image_that_it_was_made_for(world):
    world.publish_layer()
    image = world.publish()
    told = start_in(world)
    assert (told["sysimage"], told_of(told)) == (image.path, [])
    world.publish_layer("2" * 16, image=image.id)
    told = start_in(world)
    assert told["sysimage"] == image.path
    assert "2" * 16 in told_of(told)[0]


@pytest.mark.parametrize("changes", [{"julia_version": "1.9.0"}, {"cpu": "another"}, {"juliacall": "0.9.30"}])
def test_a_layer_for_another_situation_is_not_used(world, changes):
    world.publish_layer(**changes)
    assert not told_of(start_in(world))


def test_a_layer_goes_with_an_image_that_vanishes_at_the_last_moment(world):
    image = world.publish()
    world.publish_layer(image=image.id, code=(OwnCode("model_1a2b", "u-1", "/p/model.jl", {"/p/model.jl": "1"}),))
    assert told_of(start_in(world))
    late = (
        "import os, pyjl_autoimage.startup.start as r\nplan = r.plan_for\n"
        "def late(*given):\n    made = plan(*given); os.unlink(made.image_path); return made\nr.plan_for = late\n"
    )
    told = start_in(world, code=late)
    assert (told["sysimage"], told_of(told), told["own_code"]) == (None, [], [])


def test_a_layer_that_julia_cannot_set_up_is_done_without(world):
    stub = world.site / "juliacall" / "__init__.py"
    stub.write_text(stub.read_text().replace("return 1\n", "return None if b'use_layer' in code else 1\n"))
    made = world.publish_layer(code=(OwnCode("model_1a2b", "u-1", "/p/model.jl", {"/p/model.jl": "1"}),))
    told = start_in(world)
    assert f"layer {made.id} is not used: Julia could not set it up" in told["notes"]
    assert told["own_code"] == []


def test_a_changed_package_makes_the_layer_stale(world):
    world.publish_layer()
    assert told_of(start_in(world))
    world.write_manifest(version="0.5.4", tree="0" * 40)
    assert not told_of(start_in(world))


def test_a_layer_that_others_can_write_is_not_used_even_if_it_was_before(world):
    made = world.publish_layer()
    age(world.root)
    assert told_of(start_in(world))
    os.chmod(made.path, 0o777)
    assert told_of(start_in(world)), "below a directory that is ours alone"
    os.chmod(world.store.home, 0o755)
    told = start_in(world)
    assert not told_of(told)
    assert any("written by other users" in note for note in told["notes"])
    (layer,) = json.loads(cli(world.environ, "status", "--json", cwd=world.root).stdout)["layers"]
    assert layer["reasons"] == [f"not trusted: {made.path} can be written by other users"]


def test_a_layer_that_is_not_published_yet_does_not_count_and_goes_when_its_builder_is_dead(world):
    directory = Path(new_layer(world.store, "3" * 16))
    assert not told_of(start_in(world))
    remove_debris(world.store)
    assert directory.exists(), "this process builds it"
    (mark,) = directory.glob("*.builder")
    mark.unlink()
    mark.touch()  # as if it had never been held
    remove_debris(world.store)
    assert not directory.exists()


def test_a_layer_that_a_former_version_builds_stays_for_a_day(world):
    directory = Path(world.store.layer("4" * 16))
    directory.mkdir(parents=True)
    mark = directory / "builder"
    mark.write_text("somewhere-1-1")
    remove_debris(world.store)
    assert directory.exists()
    os.utime(mark, (1, 1))
    remove_debris(world.store)
    assert not directory.exists()


@pytest.mark.parametrize("preload", ["1", "0"])
def test_when_a_layer_is_loaded_is_a_setting(world, preload):
    world.publish_layer()
    (text,) = told_of(start_in(world, PYJL_AUTOIMAGE_PRELOAD=preload))
    assert ("start" if preload == "1" else "use") in text


def test_what_is_written_of_a_layer_is_read_again(world):
    own = OwnCode("model_1a2b", "u-1", "/p/model.jl", {"/p/model.jl": "1234"}, "it has an __init__")
    made = world.publish_layer(code=(own,), image="5" * 16)
    assert list(world.store.all_layers()) == [made]


@pytest.mark.parametrize(
    "change", [{"roots": "x"}, {"image": 3}, {"schema": 99}, {"code": [{"name": "x"}]}, {"more": 1}]
)
def test_a_layer_that_is_not_one_of_ours_is_passed_over(world, change):
    made = world.publish_layer()
    path = Path(made.path, "layer.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert not list(world.store.all_layers())
    with pytest.raises(ValueError, match=r".+"):
        Layer.from_json(path.read_text(), made.path)


def test_a_copy_of_a_layer_is_none(world):
    made = world.publish_layer()
    shutil.copytree(made.path, Path(made.path).with_name("a-copy"))
    assert list(world.store.all_layers()) == [made]


# -- what is in it ---------------------------------------------------------------------------------------


def parts(**changes) -> Parts:
    own = {
        "model_1a2b": Code("/p/model.jl", deps={"Example": EXAMPLE_UUID}),
        "code_3c": Code("/p/a.py", "f() = 1", ["Example"]),
    }
    return replace(
        Parts("AutoimageStatements_1a", {"Example": EXAMPLE_UUID}, ["precompile(Tuple{f})"], own), **changes
    )


def test_the_packages_of_a_layer_are_julia_packages(tmp_path):
    layer.write_packages(str(tmp_path), parts())
    manifest = load_toml(str(tmp_path / "Manifest.toml"))["deps"]
    assert set(manifest) == {"AutoimageStatements_1a", "model_1a2b", "code_3c"}
    for name, (entry,) in manifest.items():
        project = load_toml(str(Path(entry["path"], "Project.toml")))
        assert (project["name"], project["uuid"]) == (name, entry["uuid"]) == (name, code.module_uuid(name))
        assert project["deps"] == entry["deps"]
        assert Path(entry["path"], "src", f"{name}.jl").is_file()
    statements = manifest["AutoimageStatements_1a"][0]
    assert set(statements["deps"]) == {"Example", "model_1a2b", "code_3c"}
    assert 'include("/p/model.jl")' in (tmp_path / "packages/model_1a2b/src/model_1a2b.jl").read_text()
    assert (tmp_path / "packages/code_3c/src/text.jl").read_text() == "f() = 1"


def test_code_is_compiled_at_the_version_of_the_syntax_that_it_was_evaluated_at(tmp_path):
    own = {"model_1a2b": Code("/p/model.jl", syntax="1.14.0"), "code_3c": Code("/p/a.py", "f() = 1")}
    made = parts(code=own)
    layer.write_packages(str(tmp_path), made)
    manifest = load_toml(str(tmp_path / "Manifest.toml"))["deps"]
    projects = {name: load_toml(str(Path(entry["path"], "Project.toml"))) for name, (entry,) in manifest.items()}
    for said in (manifest["model_1a2b"][0], projects["model_1a2b"]):
        assert said["syntax"] == {"julia_version": "1.14.0"}
    assert not any("syntax" in said for said in (manifest["code_3c"][0], projects["code_3c"]))
    newer = replace(own["model_1a2b"], syntax="1.15.0")
    assert made.contents != replace(made, code={**own, "model_1a2b": newer}).contents


def test_what_is_ours_is_parsed_alike_by_every_julia(tmp_path):
    """Julia 1.14 parses a package at the oldest version that it says it is compatible with."""
    layer.write_packages(str(tmp_path), parts())
    recorder = Path(JULIA_SOURCES, "AutoimageRecorder")
    for directory in (recorder, tmp_path / "packages" / "AutoimageStatements_1a"):
        assert load_toml(str(directory / "Project.toml"))["compat"] == {"julia": "1.10"}


def test_the_same_parts_have_the_same_digest_whatever_their_order(tmp_path):
    one = parts(statements=["a", "b"])
    assert one.contents == parts(statements=["b", "a"]).contents
    assert one.contents != parts(statements=["a"]).contents
    assert one.contents != parts(statements=["a", "b"], code={}).contents


def test_a_report_is_read_whole_or_not_at_all(tmp_path):
    path, end = tmp_path / "report", ("end", "")
    code = ("code", "m", "", "/p/a b.jl", "/p/\\x.jl")
    items = [code, ("failed", "n", "at its top\tlevel"), ("statements", 7), ("cache", "/d/M/a.ji")]
    report = layer.read_report(write_report(path, *items, end))
    assert report.files == {"m": ("/p/a b.jl", "/p/\\x.jl")}
    assert report.failed == {"n": "at its top\tlevel"}
    assert (report.statements, report.not_for_images, report.caches) == (7, {}, ("/d/M/a.ji",))
    assert report.made == ()
    made = [("made", "u", "A", "/d/A.ji", "/p/A.jl"), ("read", "u", "A", "v", "size"), ("made", "v", "B", "/d/B.ji")]
    assert layer.read_report(write_report(path, *made, end)).made == (
        Made("u", "A", "/d/A.ji", ("/p/A.jl",), (("v", "size"),)),
        Made("v", "B", "/d/B.ji", (), ()),
    )
    with pytest.raises(BuildError):
        layer.read_report(write_report(path, code, ("statements", 7)))


# -- own code --------------------------------------------------------------------------------------------


def test_namesakes_have_names_of_their_own_that_julia_can_spell(tmp_path):
    names = [code._name_of_file(path) for path in ("/a/model.jl", "/b/model.jl", "/a/größe 2.jl", "/a/2.jl")]
    assert len(set(names)) == 4
    assert all(name.isascii() and name.isidentifier() for name in names)
    assert names[0].startswith("model_")


@pytest.mark.parametrize("syntax", ["1.14.0", ""])
def test_what_an_evaluation_used_is_noted(tmp_path, monkeypatch, syntax):
    path = tmp_path / "a.jl"
    path.write_text("using Example")
    said = (f"syntax={syntax}" if syntax else "", f"package=Example={EXAMPLE_UUID}", "", f"file={path}")
    evaluator = SimpleNamespace(evaluate=lambda *given: "a module", facts=lambda: "\0".join(said))
    noted: list[str] = []
    monkeypatch.setattr(start.session, "evaluator", evaluator)
    monkeypatch.setattr(start.session, "recording", SimpleNamespace(note=noted.append))
    files, module = code._evaluate(None, "a_1", str(path), None, ())
    assert module == "a module" and files == code.fingerprints([str(path)])
    facts = json.loads(noted[0].removeprefix("code "))
    assert (facts["syntax"], facts["deps"], facts["files"]) == (syntax, {"Example": EXAMPLE_UUID}, [str(path)])


def test_a_file_that_changed_is_seen_whatever_its_times_say(tmp_path):
    path = tmp_path / "a.jl"
    path.write_text("f() = 1")
    known = code.fingerprints([str(path)])
    status = path.stat()
    path.write_text("f() = 2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not code.unchanged(known)
    path.write_text("f() = 1")
    assert code.unchanged(known)
    path.unlink()
    assert not code.unchanged(known)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ('include("b.jl")', False),
        ("include(name)", True),
        ('include(joinpath(d, "b.jl"))', True),
        ("f(x) = x", False),
    ],
)
def test_a_new_file_counts_where_includes_are_computed(tmp_path, text, counts):
    (tmp_path / "a.jl").write_text(text)
    known = code.fingerprints([str(tmp_path / "a.jl")])
    (tmp_path / "new.txt").write_text("")
    assert code.unchanged(known)
    (tmp_path / "new.jl").write_text("")
    assert code.unchanged(known) is not counts


def test_a_file_that_does_not_exist_is_an_error_that_names_the_places(world):
    script = world.root / "program.py"
    script.write_text("from pyjl_autoimage import include\ninclude('nothing.jl')\n")
    result = python(world.environ, str(script), cwd=Path("/"))
    assert "CodeError" in result.stderr
    assert str(world.root / "nothing.jl") in result.stderr
    assert "/nothing.jl" in result.stderr
