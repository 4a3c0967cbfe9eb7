"""The build journey from end to end, with a stand-in for the Julia that builds."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from pyjl_autoimage.base.locks import lock
from pyjl_autoimage.base.settings import Settings
from pyjl_autoimage.build import begin
from pyjl_autoimage.build.build import NOTHING_RECORDED, _project_lock
from pyjl_autoimage.errors import BuildError
from pyjl_autoimage.profile import recordings
from pyjl_autoimage.profile.profile import INFERRED
from pyjl_autoimage.store.built import Image, recorder_digest
from pyjl_autoimage.store.publish import damage, remove_image

from standin import (
    EXAMPLE_UUID,
    PYTHONCALL,
    PYTHONCALL_UUID,
    World,
    buildable_world,
    cli,
    environ_of,
    julia_that_builds,
    python,
    reported,
    runs,
    start_in,
    until,
    wait_for,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return buildable_world(tmp_path)


def build(world: World, *arguments: str, **environ: str) -> dict:
    result = cli(environ_of(world, **environ), "build", "--json", *arguments, cwd=world.root)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def only_image(world: World) -> Image:
    (image,) = world.store.all_images()
    return image


def status(world: World) -> dict:
    return json.loads(cli(environ_of(world), "status", "--json", cwd=world.root).stdout)


def test_a_build_makes_an_image_that_the_next_start_uses(world):
    julia_that_builds(world)
    told = build(world, PYJL_AUTOIMAGE_INCLUDE="Example")
    image = only_image(world)
    assert told["state"] == "done" and told["image"] == image.id
    assert [p.name for p in image.packages] == ["Example", "PythonCall"]
    assert image.julia_version == "1.10.4" and image.juliacall == "0.9.37"
    assert start_in(world)["sysimage"] == image.path
    assert os.stat(Path(image.path).parent).st_mode & 0o022 == 0


def test_an_image_that_julia_writes_as_two_files_is_published_whole(world):
    julia_that_builds(world, meanwhile='printf "its heap" > "${a%.so}.ji"')
    build(world)
    image = only_image(world)
    heap = Path(image.path).with_suffix(".ji")
    assert (Path(image.path).read_text(), heap.read_text()) == ("a new image", "its heap")
    assert image.files == {image.path: 11, str(heap): 8} and image.bytes == 19
    assert image.id == image.sha256[:16] == hashlib.sha256(b"a new imageits heap").hexdigest()[:16]
    assert damage(world.store, image, thorough=True) == []
    assert start_in(world)["sysimage"] == image.path


def test_a_manifest_that_moves_while_the_image_is_built(world):
    """The image claims what it was built from, and no start takes it for anything else."""
    julia_that_builds(world, meanwhile=f'sed -i s/0.5.3/0.5.4/ "{world.project}/Manifest.toml"')
    build(world, PYJL_AUTOIMAGE_INCLUDE="Example")
    image = only_image(world)
    assert {p.name: p.version for p in image.packages}["Example"] == "0.5.3"
    assert start_in(world)["sysimage"] is None
    (entry,) = status(world)["rejected"]
    assert entry["reasons"] == ["Example 0.5.3 in the image, 0.5.4 in the manifest"]
    world.write_manifest(extra=(world.project / "Manifest.toml").read_text().split('version = "0.5.4"\n')[1])
    assert start_in(world)["sysimage"] == image.path


def test_a_manifest_that_is_deleted_while_the_image_is_built(world):
    julia_that_builds(world, meanwhile=f'mv "{world.project}/Manifest.toml" "{world.root}/moved"')
    build(world, PYJL_AUTOIMAGE_INCLUDE="Example")
    assert start_in(world)["sysimage"] is None
    os.rename(world.root / "moved", world.project / "Manifest.toml")
    assert start_in(world)["sysimage"] == only_image(world).path


def test_preferences_that_change_while_the_image_is_built(world):
    julia_that_builds(world, meanwhile=f'echo "[Example]\\na = 1" > "{world.project}/LocalPreferences.toml"')
    build(world, PYJL_AUTOIMAGE_INCLUDE="Example")
    assert start_in(world)["sysimage"] is None
    assert status(world)["rejected"][0]["reasons"] == ["the preferences of Example have changed"]


def test_the_next_build_finds_the_caches_of_the_last(world):
    """And none of them is made where the user's are."""
    julia_that_builds(world, meanwhile=f'echo "$JULIA_DEPOT_PATH" >> "{world.root}/depots"')
    build(world)
    depot = Path(world.store.builder_depot)
    used, unused = depot / "compiled" / "used.ji", depot / "compiled" / "unused.ji"
    used.parent.mkdir()
    for path, days in (used, 1), (unused, 40):
        path.write_text("")
        os.utime(path, (time.time() - days * 86400,) * 2)
    build(world)
    assert used.exists() and not unused.exists()
    seen = (world.root / "depots").read_text().splitlines()
    assert seen == [f"{depot}{os.pathsep}{world.depot}"] * 2


def test_the_julia_that_builds_has_a_registry_and_so_installs_none(world):
    """(That Pkg takes it for one: `tests/integration/test_outside.py`.)"""
    registry = "registries/Empty/Registry.toml"
    julia_that_builds(world, meanwhile=f'cat "${{JULIA_DEPOT_PATH%%:*}}/{registry}" > "{world.root}/registry"')
    build(world)
    assert "[packages]" in (world.root / "registry").read_text()


@pytest.mark.parametrize("given", [None, "/elsewhere"])
def test_the_next_build_finds_the_objects_that_the_last_compiled(world, given):
    """Those that Julia 1.14 caches."""
    julia_that_builds(world, meanwhile=f'echo "$JULIA_OBJCACHE_PATH" > "{world.root}/objects"')
    build(world, **({} if given is None else {"JULIA_OBJCACHE_PATH": given}))
    ours = os.path.join(world.store.builder_depot, "cache", "v1.10", "objcache")
    assert (world.root / "objects").read_text() == f"{given or ours}\n"


@pytest.mark.parametrize("slim", ["0", "1"])
def test_slim_forgets_before_the_statements_bring_back_what_they_need(world, slim):
    julia_that_builds(world, meanwhile=f'cp "$(dirname "$a")/../bake.jl" "{world.root}/script"')
    build(world, PYJL_AUTOIMAGE_SLIM=slim)
    lines = (world.root / "script").read_text().splitlines()
    called = [re.search(r"\), :(\w+)\)", line).group(1) for line in lines]
    assert called == ["report", *(["forget"] if slim == "1" else []), "bake"]


def test_the_proof_goes_on_beside_the_precompilation_of_what_is_outside(world):
    """The one waits here for the other to begin."""
    julia_that_builds(world)
    began = world.root / "proof-began"
    waits = f"{until(began)}; exit 0"
    text = world.executable.read_text()
    world.executable.write_text(text.replace("case ", f'case "$*" in *outside.jl*) {waits};; esac\ncase ', 1))
    stub = world.site / "juliacall" / "__init__.py"
    stub.write_text(f"{stub.read_text()}\nif CONFIG['sysimage']: open({str(began)!r}, 'w').close()\n")
    assert build(world)["state"] == "done"
    assert json.loads(Path(world.store.build_state(world.environment.id)).read_text())["notes"] == [NOTHING_RECORDED]


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ("if '\"Example\"' in code: return '0.5.2'", "it holds Example 0.5.2, not 0.5.3"),
        ("if '\"Example\"' in code: return 'missing'", "Example is not in it"),
        ("if code == '1 + 1': return 3", "1 + 1 is not 2 in it"),
        ("if 'pyconvert' in code: raise TypeError('no such method')", "PythonCall does not work in it: no such method"),
        ("if 'compilecache' in code: raise TypeError('no libpython')", "no package can be precompiled on it: no libpython"),
        ("os._exit(3)", "a Python process that started on the new image ended with status 3"),
    ],
)  # fmt: skip
def test_an_image_that_is_not_fit_for_use_is_not_published(world, answers, why):
    old = world.publish(b"the old image", built_at=1.0)
    julia_that_builds(world)
    stub = world.site / "juliacall" / "__init__.py"
    code = f"def seval(self, code):\n        if CONFIG['sysimage']:\n            {answers}"
    stub.write_text(stub.read_text().replace("def seval(self, code):", code))
    result = cli(environ_of(world, PYJL_AUTOIMAGE_INCLUDE="Example"), "build", cwd=world.root)
    assert result.returncode == 1 and why in result.stderr
    assert only_image(world).id == old.id


def test_an_image_knows_what_its_packages_are_made_of(world):
    inside, shared, library = world.source / "src" / "Example.jl", world.root / "x.jl", world.source / "deps" / "d.jl"
    library.parent.mkdir()
    library.write_text("")
    shared.write_text("f() = 1")
    cache = world.root / "Example.ji"
    cache.touch()
    made = ("made", EXAMPLE_UUID, "Example", str(cache), str(inside), str(shared), str(library))
    read = ("read", EXAMPLE_UUID, "Example", PYTHONCALL_UUID, "exe")
    julia_that_builds(world, made=(made, read))
    build(world, PYJL_AUTOIMAGE_INCLUDE="Example")
    (package, _) = only_image(world).packages
    assert sorted(package.files) == sorted(map(str, (shared, library)))
    assert package.others == {f"{PYTHONCALL_UUID} exe": ""}
    assert start_in(world)["sysimage"]
    shared.write_text("f() = 2")
    assert start_in(world)["sysimage"] is None
    assert f"the source of Example has changed: {shared}" in status(world)["rejected"][0]["reasons"]
    julia_that_builds(world, made=(made,), meanwhile=f'sleep 0.1; echo >> "{shared}"')
    result = cli(environ_of(world, PYJL_AUTOIMAGE_INCLUDE="Example"), "build", cwd=world.root)
    assert f"the sources of {shared} changed while the image was built; build again" in result.stderr


def test_sources_that_change_while_an_image_is_built_from_them_are_no_image(world):
    source = world.root / "dev" / "Example"
    shutil.copytree(world.source, source)
    world.track_by_path(source)
    manifest = world.project / "Manifest.toml"
    manifest.write_text(manifest.read_text() + PYTHONCALL)
    change = f'echo "f() = 1" >> "{source}/src/Example.jl"; rm "{world.root}/once"'
    julia_that_builds(world, meanwhile=f'if [ -e "{world.root}/once" ]; then {change}; fi')
    (world.root / "once").touch()
    wanted = {"PYJL_AUTOIMAGE_DEV_PACKAGES": "bake", "PYJL_AUTOIMAGE_INCLUDE": "Example"}
    result = cli(environ_of(world, **wanted), "build", cwd=world.root)
    assert result.returncode == 1
    assert "the sources of Example changed while the image was built; build again" in result.stderr
    assert list(world.store.all_images()) == []
    build(world, **wanted)
    assert only_image(world).packages[0].path == str(source)


def test_what_julia_is_told_of_cpu_and_threads(world):
    julia_that_builds(world, meanwhile=f'echo "$JULIA_IMAGE_THREADS $*" > "{world.root}/told"')
    for setting, targets in (("native", "native"), ("generic;haswell", "generic;haswell"), ("portable", "generic;")):
        build(world, PYJL_AUTOIMAGE_CPU_TARGET=setting, PYJL_AUTOIMAGE_IMAGE_THREADS="3")
        told = (world.root / "told").read_text()
        assert told.startswith("3 ") and f" {targets}" in told
        assert only_image(world).cpu_target == setting
        remove_image(world.store, only_image(world).id)


def test_the_julia_that_builds_does_not_hear_what_would_change_its_project(world):
    julia_that_builds(world, meanwhile=f'env > "{world.root}/env"')
    build(
        world, JULIA_PROJECT="/elsewhere", JULIA_NUM_THREADS="7", JULIA_LOAD_PATH="@:/elsewhere", JULIA_PKG_SERVER="x"
    )
    heard = dict(line.split("=", 1) for line in (world.root / "env").read_text().splitlines() if "=" in line)
    assert not {"JULIA_PROJECT", "JULIA_NUM_THREADS", "JULIA_LOAD_PATH"} & set(heard)
    assert not [name for name in heard if name.startswith(("PYTHON_JULIACALL_", "PYJL_AUTOIMAGE"))]
    assert heard["JULIA_PKG_SERVER"] == "x" and heard["TMPDIR"].startswith(world.store.home)


def test_without_a_limit_size_does_not_matter(world):
    old = world.publish(b"the old image", built_at=1.0)
    julia_that_builds(world)
    build(world, PYJL_AUTOIMAGE_MAX_GIGABYTES="0")
    assert old.id in {image.id for image in world.store.all_images()}


def test_a_lock_that_no_build_holds_is_an_error_that_names_it(world, monkeypatch):
    monkeypatch.setattr(begin, "MOMENT", 0.01)
    world.store.ensure(world.store.environment(world.environment.id))
    path = world.store.build_lock(world.environment.id)
    with lock(path, 0), pytest.raises(BuildError, match="and does not build") as caught:
        begin._build_or_join(world.store, world.environment, Settings(), {"tasks": [], "after": None}, Event())
    assert path in str(caught.value)


def test_the_project_is_looked_at_under_the_lock_of_juliapkg(world):
    """Which deletes and rewrites its files under it."""
    path = str(world.project / "lock.pid")
    with _project_lock(replace(world.environment, managed=True)), pytest.raises(TimeoutError), lock(path, 0):
        pass
    with _project_lock(world.environment), lock(path, 0):
        pass  # nobody else's projects have one


def record_a_statement(world: World) -> None:
    start_in(world)
    (trace,) = Path(world.store.recordings(world.environment.id)).glob("*.jl")
    trace.write_text("precompile(Tuple{typeof(Base.sin), Float64})\n")


def julia_that_precompiles_layers(world: World, *, meanwhile: str) -> None:
    whole = reported("statements", 1) + reported("end", "")
    report = f'for a; do case "$a" in */report) printf "{whole}" > "$a";; esac; done'
    text = world.executable.read_text()
    does = f'case "$*" in *precompile_layer.jl*) {meanwhile}; {report}; exit 0;; esac\n'
    world.executable.write_text(text.replace("case ", f"{does}case ", 1))


def test_what_could_only_be_inferred_is_in_the_image_but_still_has_to_be_compiled(world):
    """Where a run compiled it, that is said; of what runs only inferred, no code is missed."""
    start_in(world)
    (trace,) = Path(world.store.recordings(world.environment.id)).glob("*.jl")
    a, b, c, d = (f"precompile(Tuple{{typeof(Base.{name}), Float64}})" for name in "abcd")
    trace.write_text("".join(f"{line}\n" for line in (a, b, f"{INFERRED}{c}", d)))
    julia_that_builds(world, inferred=(2, 3), unresolved=(4,))
    told = build(world)
    assert "2 of 3 statements cannot be compiled ahead, but when they are called" in told["notes"]
    assert only_image(world).statements == 3
    assert only_image(world).pyjl_autoimage == recorder_digest()
    assert recordings.load(world.store, world.environment.id).refused == {d}


def test_the_layer_is_built_beside_the_image(world):
    """Each waits here for the other to begin."""
    record_a_statement(world)
    layer, image = world.root / "layer-began", world.root / "image-began"
    julia_that_builds(world, meanwhile=f'touch "{image}"; {until(layer)}')
    julia_that_precompiles_layers(world, meanwhile=f'touch "{layer}"; {until(image)}')
    told = build(world)
    assert told["state"] == "done" and told["notes"] == [] and told["image"] == only_image(world).id
    assert told["layers"] == [layer.id for layer in world.store.all_layers()] and len(told["layers"]) == 1


def test_what_a_layer_could_not_hold_is_no_reason_to_build_it_again(world):
    """A run on it compiles, and records, the same statements (Julia issue 58465)."""
    tried = world.root / "tried"
    julia_that_precompiles_layers(world, meanwhile=f'echo once >> "{tried}"')
    for _ in range(2):
        record_a_statement(world)
        build(world, "--quick")
    assert tried.read_text() == "once\n" and len(list(world.store.all_layers())) == 1


def test_a_layer_outlives_the_failure_of_the_image_beside_it(world):
    record_a_statement(world)
    failed = world.root / "image-failed"
    julia_that_builds(world, meanwhile=f'touch "{failed}"; exit 1')
    julia_that_precompiles_layers(world, meanwhile=until(failed))
    with pytest.raises(AssertionError, match="PackageCompiler failed"):
        build(world)
    assert len(list(world.store.all_layers())) == 1 and list(world.store.all_images()) == []


def test_a_cancelled_build_ends_the_layer_beside_the_image_as_well(world):
    record_a_statement(world)
    layer = world.root / "layer"
    julia_that_builds(world, meanwhile="sleep 60")
    julia_that_precompiles_layers(world, meanwhile=f'echo $$ > "{layer}.tmp"; mv "{layer}.tmp" "{layer}"; sleep 60')
    code = (
        "import pyjl_autoimage as a, os, time\nh = a.rebuild(wait=False)\n"
        f"while not os.path.exists({str(layer)!r}): time.sleep(0.05)\n"
        "h.cancel()\ntry: h.wait(60)\nexcept a.BuildError as e: print(h.progress.state)"
    )
    told = python(environ_of(world), "-c", code)
    assert told.stdout == "cancelled\n", told.stderr
    wait_for(lambda: not runs(int(layer.read_text())))
    assert list(world.store.all_layers()) == [] and os.listdir(world.store.layers) == []


def test_flags_of_the_recorded_runs_are_those_of_the_build(world):
    start_in(world, PYTHON_JULIACALL_CHECK_BOUNDS="yes")
    julia_that_builds(world)
    build(world)
    assert only_image(world).flags == {"check_bounds": "yes"}
    assert start_in(world)["sysimage"] is None
    assert start_in(world, PYTHON_JULIACALL_CHECK_BOUNDS="yes")["sysimage"] == only_image(world).path


ONE_THAT_COMES_LATE = """
import subprocess, sys, pyjl_autoimage
popen = subprocess.Popen
class Late(popen):
    def __init__(self, command, **keywords):
        if "_build" in command:
            subprocess.Popen = popen
            subprocess.run([sys.executable, "-m", "pyjl_autoimage", "build"], check=True, capture_output=True)
        super().__init__(command, **keywords)
subprocess.Popen = Late
build = pyjl_autoimage.rebuild()
print(build.joined, build.wait())
"""


def test_a_build_whose_process_comes_late_joins_what_was_built_meanwhile(world):
    julia_that_builds(world)
    shown = python(environ_of(world), "-c", ONE_THAT_COMES_LATE, cwd=world.root)
    assert shown.stdout.split() == ["True", only_image(world).id], shown.stderr


def test_where_nothing_was_recorded_a_bare_start_is(world):
    julia_that_builds(world)
    build(world)
    assert status(world)["profile"]["recordings"] == 1


def test_the_fifth_build_leaves_three_images(world):
    for number in range(5):
        julia_that_builds(world, content=f"image {number}")
        build(world)
    assert len(list(world.store.all_images())) == 3
    assert Path(next(world.store.all_images()).path).read_text() == "image 4"


def test_a_profile_that_cannot_be_read_is_said_by_builds_and_status(world):
    record_a_statement(world)
    julia_that_builds(world)
    assert not any("could not be read" in note for note in build(world)["notes"])
    profile = Path(world.store.profile(world.environment.id))
    profile.write_text(profile.read_text().replace('"schema":', '"schema":9'))
    notes = [note for note in build(world)["notes"] if "could not be read" in note]
    (aside,) = status(world)["profile"]["aside"]
    assert notes == [f"{aside} is a profile that could not be read: what it holds counts no more"]
    assert os.path.basename(aside) in cli(environ_of(world), "status", cwd=world.root).stdout.replace("\n", "")
