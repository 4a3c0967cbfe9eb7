"""Start-up with stand-ins for Julia and juliacall: what juliacall is told, and what stays behind."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pyjl_autoimage.startup import plan
from pyjl_autoimage.store.publish import remove_image

from standin import JULIACALL, World, age, cli, forbid_writing, made_of, start_in, wait_for
from standin import python as python_of


def python(world: World, code: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return python_of({**world.environ, **environ}, *arguments, "-c", code, cwd=world.root)


@pytest.mark.parametrize("line", ["from pyjl_autoimage import jl", "a.jl", "a.start()"])
def test_that_julia_was_running_before_is_said_of_the_users_line(world, line):
    (world.root / "user.py").write_text(f"import juliacall\nimport pyjl_autoimage as a\n{line}\n")
    assert "user.py:3: RuntimeWarning: juliacall was running before" in python(world, "import user").stderr


def test_importing_the_package_starts_nothing(world):
    code = "import sys, pyjl_autoimage; print(sorted(m for m in sys.modules if m.startswith(('julia', 'pyjl'))))"
    result = python(world, code)
    assert eval(result.stdout) == ["pyjl_autoimage"]


def test_jl_is_juliacalls_main(world):
    code = (
        "from pyjl_autoimage import jl; import juliacall, pyjl_autoimage; "
        "assert jl is juliacall.Main is pyjl_autoimage.start(); print('same')"
    )
    assert python(world, code).stdout == "same\n"


def test_without_an_image_juliacall_starts_as_it_would_and_records(world):
    told = start_in(world)
    assert told["exe"] == str(world.executable)
    assert told["project"] == str(world.project)
    assert told["sysimage"] is None and not told["on_image"]
    trace = Path(told["trace_compile"])
    assert trace.parent == Path(world.store.recordings(world.environment.id))
    assert trace.exists() and trace.read_bytes() == b""
    header = json.loads(trace.with_suffix(".log").read_text().splitlines()[0])
    assert header["schema"] == 1 and header["image"] is None


def test_the_newest_valid_image_is_used(world):
    world.publish(b"old", built_at=1.0)
    newest = world.publish(b"new", built_at=2.0)
    world.publish(b"newer but stale", built_at=3.0, julia_version="1.9.0")
    told = start_in(world)
    assert told["sysimage"] == newest.path and told["on_image"]
    assert (told["lib_object"], told["home"]) == (str(world.libjulia), world.facts.bindir), (
        "what juliacall would start a Julia for at each start is told it"
    )


def test_options_are_set_for_this_process_alone(world):
    image = world.publish()
    code = (
        "import os, sys, subprocess\nbefore = dict(os.environ), dict(sys._xoptions)\n"
        "from pyjl_autoimage import jl\nimport juliacall\n"
        f"assert juliacall.CONFIG['sysimage'] == {image.path!r}\n"
        "assert (dict(os.environ), dict(sys._xoptions)) == before\n"
        "import multiprocessing.spawn\n"
        "print(subprocess._args_from_interpreter_flags())\n"
    )
    result = python(world, code)
    assert result.returncode == 0, result.stderr
    assert "juliacall" not in result.stdout


@pytest.mark.parametrize("how", ["environment", "-X"])
def test_what_the_user_set_wins_and_is_reported(world, how):
    world.publish()
    theirs, trace = world.root / "theirs.so", world.root / "trace.jl"
    theirs.write_text("x")
    if how == "-X":
        told = start_in(world, "-X", f"juliacall-sysimage={theirs}", "-X", f"juliacall-trace-compile={trace}")
    else:
        told = start_in(world, PYTHON_JULIACALL_SYSIMAGE=str(theirs), PYTHON_JULIACALL_TRACE_COMPILE=str(trace))
    assert told["sysimage"] == str(theirs)
    assert told["trace_compile"] == str(trace)
    assert any(str(theirs) in note for note in told["notes"])
    assert any("trace" in note for note in told["notes"])
    assert not os.path.exists(world.store.recordings(world.environment.id))


def test_standing_aside(world):
    world.publish()
    told = start_in(world, PYJL_AUTOIMAGE="0")
    assert told["sysimage"] is None and told["trace_compile"] is None and told["handle_signals"] is None
    assert not os.path.exists(world.store.recordings(world.environment.id))


def test_a_keyword_switches_recording_off_and_is_part_of_the_question(world):
    code = (
        "import pyjl_autoimage as a; a.start({}); import juliacall; print(juliacall.CONFIG['trace_compile'] is None)"
    )
    remembered(world)
    for keyword, off in ("record=False", True), ("", False), ("record=False", True):
        assert python(world, code.format(keyword)).stdout == f"{off}\n"


def test_our_variables_are_part_of_the_question(world):
    image = remembered(world)
    for environ in {"PYJL_AUTOIMAGE": "0"}, {"PYJL_AUTOIMAGE_RECORD": "0"}:
        assert start_in(world, **environ)["trace_compile"] is None
    assert start_in(world)["sysimage"] == image.path


def test_settings_of_the_programs_project_are_noticed_wherever_they_appear(world):
    below = world.root / "below"
    below.mkdir()
    (below / "program.py").write_text(
        "from pyjl_autoimage import jl\nimport juliacall as j\nprint(j.CONFIG['trace_compile'])"
    )
    outer, inner = world.root / "pyproject.toml", below / "pyproject.toml"
    moments = itertools.count(1)

    def write(path: Path, value: str) -> None:
        path.write_text(f"[tool.pyjl-autoimage]\nrecord = {value}\n")
        os.utime(path, (next(moments),) * 2)

    def recorded() -> bool:
        told = {python_of(world.environ, str(below / "program.py"), cwd=Path("/")).stdout for _ in range(2)}
        assert len(told) == 2 or told == {"None\n"}, "a recording of its own, or none"
        return len(told) == 2

    age(world.root)
    assert recorded()
    write(outer, "false")
    assert not recorded()
    write(outer, "true")
    assert recorded()
    write(inner, "false")
    assert not recorded()
    inner.unlink()
    assert recorded()


def test_where_juliacall_cannot_work_its_own_error_is_all_that_is_seen(world):
    world.publish()
    (world.site / "juliacall" / "__init__.py").write_text("raise Exception('PythonCall.jl did not start properly')")
    plain, ours = (python(world, code) for code in ("import juliacall", "from pyjl_autoimage import jl"))
    assert ours.returncode == plain.returncode == 1
    assert ours.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1] != ""
    assert ours.stderr.startswith("Traceback") and ours.stderr.count("Traceback") == 1 and not ours.stdout


def test_an_attribute_that_juliacall_lacks_is_not_taken_for_ours(world):
    """As on PyPy, whose ctypes has no PyDLL: of an AttributeError, `from` would tell nothing."""
    (world.site / "juliacall" / "__init__.py").write_text("import ctypes; ctypes.of_cpython")
    why = "AttributeError: module 'ctypes' has no attribute 'of_cpython'"
    for line in ("from pyjl_autoimage import jl", "import pyjl_autoimage; pyjl_autoimage.jl"):
        lines = python(world, line).stderr.splitlines()
        assert why in lines and lines[-1] == f"ImportError: juliacall cannot be imported: {why}"


def test_a_bad_setting_is_an_error_that_names_its_place(world):
    result = python(world, "from pyjl_autoimage import jl", PYJL_AUTOIMAGE_DEV_PACKAGES="burn")
    assert "SettingsError: PYJL_AUTOIMAGE_DEV_PACKAGES='burn'" in result.stderr
    result = python(world, "import pyjl_autoimage; pyjl_autoimage.start(colour=1)")
    assert "SettingsError: colour is not a setting" in result.stderr


@pytest.mark.parametrize(
    ("environ", "told"),
    [({}, "no"), ({"JULIA_NUM_THREADS": "4"}, None), ({"PYTHON_JULIACALL_THREADS": "auto"}, None)],
)
def test_juliacalls_warning_about_threads_stays_alive(world, environ, told):
    assert start_in(world, **environ)["handle_signals"] == told


def test_signal_handling_set_by_the_user_stays(world):
    assert start_in(world, PYTHON_JULIACALL_HANDLE_SIGNALS="yes")["handle_signals"] == "yes"


def test_juliacall_already_running(world):
    code = (
        "import warnings, juliacall\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    from pyjl_autoimage import jl, start\n"
        "    assert jl is juliacall.Main and start() is jl\n"
        "assert len(caught) == 1, caught\n"
        "print(caught[0].message, caught[0].filename)\n"
    )
    result = python(world, code)
    assert result.returncode == 0, result.stderr
    assert "pyjl_autoimage run" in result.stdout and "attach()" in result.stdout


def test_a_julia_that_traces_elsewhere_cannot_be_recorded(world):
    """The stand-in never opens the trace file that it is told of."""
    code = "import juliacall, pyjl_autoimage as a; from pyjl_autoimage.startup.start import session; print(a.attach(), session.recording)"
    result = python(world, code)
    assert result.stdout == "False None\n" and "already traces its compilations elsewhere" in result.stderr
    assert os.listdir(world.store.recordings(world.environment.id)) == []


def test_attach_before_julia_is_an_error(world):
    assert "RuntimeError: Julia is not running" in python(world, "import pyjl_autoimage as a; a.attach()").stderr


def test_inside_a_julia_worker_we_stand_aside(world):
    code = (
        "import juliacall; juliacall.Main = 'theirs'\n"  # set by PythonCall once it is up
        "from pyjl_autoimage import jl; assert jl == 'theirs'"
    )
    result = python(world, code, "-W", "ignore", PYTHON_JULIACALL_INIT="no")
    assert result.returncode == 0, result.stderr


def test_the_answer_is_remembered_and_julia_not_asked_again(world):
    world.publish()
    age(world.root)
    first = start_in(world)
    started = world.times_started()
    assert started == 1, "the probe"
    assert len(os.listdir(world.store.launches)) == 1
    second = start_in(world)
    assert world.times_started() == started
    assert second["sysimage"] == first["sysimage"]


@pytest.mark.parametrize(("content", "asked"), [("of the same Julia", 0), ("of another", 1)])
def test_julia_is_asked_again_when_its_files_have_changed_and_not_when_they_were_unpacked(world, content, asked):
    """An archive, and so a layer of a container, gives files other times, and other places on the disk."""
    world.libjulia.write_text("of the same Julia")
    world.publish()
    age(world.root)
    start_in(world)
    started = world.times_started()
    world.write_manifest(extra="# the answer is not the same any more")
    world.libjulia.unlink()
    world.libjulia.write_text(content)
    os.utime(world.libjulia, (1, 1))
    start_in(world)
    assert world.times_started() - started == asked


def remembered(world, **image):
    """An image in use, from a cached answer."""
    image = world.publish(**image)
    age(world.root)
    assert start_in(world)["sysimage"] == image.path
    assert len(os.listdir(world.store.launches)) == 1
    return image


def test_a_changed_manifest_is_noticed(world):
    remembered(world)
    world.write_manifest(version="0.5.4")
    assert start_in(world)["sysimage"] is None


def test_a_manifest_with_another_name_is_noticed(world):
    remembered(world)
    world.project.joinpath("JuliaManifest.toml").write_text(
        world.project.joinpath("Manifest.toml").read_text().replace("0.5.3", "0.5.4")
    )
    assert start_in(world)["sysimage"] is None


def test_a_manifest_that_is_gone_or_broken_means_a_plain_start(world):
    remembered(world)
    manifest = world.project / "Manifest.toml"
    content = manifest.read_text()
    manifest.write_text("[[deps")
    told = start_in(world)
    assert told["sysimage"] is None and "Manifest.toml" in told["notes"][0]
    manifest.unlink()
    assert start_in(world)["sysimage"] is None
    manifest.write_text(content)
    assert start_in(world)["sysimage"] is not None


def test_new_preferences_are_noticed(world):
    remembered(world)
    world.project.joinpath("LocalPreferences.toml").write_text("[Example]\ncolour = 'red'\n")
    assert start_in(world)["sysimage"] is None


def test_what_julia_said_of_itself_holds_for_its_variables_alone(world):
    world.publish()
    assert start_in(world)["sysimage"] and world.times_started() == 1
    for number in (2, 2, 3):
        start_in(world, JULIA_DEPOT_PATH=str(world.root / f"depot{number}"))
        assert world.times_started() == number


def test_another_julia_is_noticed(world):
    remembered(world)
    world.write_julia(replace(world.facts, version="1.10.5"))
    assert start_in(world)["sysimage"] is None


def test_another_juliacall_is_noticed(world):
    remembered(world)
    (world.site / "juliacall-0.9.37.dist-info").rename(world.site / "juliacall-0.9.38.dist-info")
    metadata = world.site / "juliacall-0.9.38.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("0.9.37", "0.9.38"))
    (world.site / "juliacall" / "__init__.py").write_text(JULIACALL + "\n# of another version\n")
    assert start_in(world)["sysimage"] is None


def test_an_edited_package_that_is_tracked_by_path_is_noticed(world):
    sources = world.root / "dev" / "Example" / "src"
    sources.mkdir(parents=True)
    (sources / "Example.jl").write_text("module Example end")
    package = world.track_by_path(sources.parent)

    def used() -> tuple[str | None, bool]:
        told = start_in(world)
        return told["sysimage"], "use_layer" in "".join(told["evaluated"])

    world.publish_layer(packages=(package,))
    age(world.root)
    assert used() == used() == (None, True)
    (sources / "Example.jl").write_text("module Example; end")
    assert used() == (None, False)
    (sources / "Example.jl").write_text("module Example end")
    image = world.publish(packages=(package,))
    age(world.root)
    assert used() == used() == (image.path, False)
    (sources / "more.jl").write_text("")
    assert used() == (None, False)


def test_sources_behind_a_link_to_a_directory_are_noticed(world):
    real, package = world.root / "monorepo" / "src", world.root / "Example"
    real.mkdir(parents=True), package.mkdir()
    (real / "Example.jl").write_text("module Example end")
    (package / "src").symlink_to(real)
    remembered(world, packages=(world.track_by_path(package),))
    (real / "Example.jl").write_text("module Example; f() = 2; end")
    assert start_in(world)["sysimage"] is None


@pytest.mark.parametrize("where", ["../shared/common.jl", "test/common.jl", "docs/table.csv", ".data/table.csv"])
def test_what_a_package_includes_from_wherever_is_noticed(world, where):
    package = world.root / "dev" / "Example"
    (package / "src").mkdir(parents=True)
    included = package / where
    included.parent.mkdir(parents=True, exist_ok=True)
    included.write_text("f() = 1")
    remembered(world, packages=(world.track_by_path(package, included),))
    included.write_text("f() = 2222")
    assert start_in(world)["sysimage"] is None
    included.write_text("f() = 1")
    assert start_in(world)["sysimage"]


def test_a_package_that_pkg_builds_anew_is_noticed(world):
    """`Pkg.build` rewrites deps/deps.jl of a registered package; its tree hash stays."""
    library = world.source / "deps" / "deps.jl"
    library.parent.mkdir()
    library.write_text('const lib = "/opt/solver-10/lib.so"')
    package = made_of(world.image().packages[0], library)
    world.publish_layer(packages=(package,))
    remembered(world, packages=(package,))
    library.write_text('const lib = "/opt/solver-11/lib.so"')
    told = start_in(world)
    assert told["sysimage"] is None and "use_layer" not in "".join(told["evaluated"])


def test_a_preference_of_another_package_is_noticed(world):
    other = "00000000-0000-0000-0000-00000000000a"
    project = world.project / "Project.toml"
    project.write_text(f'{project.read_text()}[extras]\nOther = "{other}"\n')
    remembered(world, packages=(replace(world.image().packages[0], others={f"{other} size": ""}),))
    (world.project / "LocalPreferences.toml").write_text("[Other]\nsize = 2\n")
    assert start_in(world)["sysimage"] is None


def test_a_newer_image_is_noticed(world):
    remembered(world)
    newer = world.publish(b"newer", built_at=2e9)
    assert start_in(world)["sysimage"] == newer.path


@pytest.mark.parametrize("heap", [b"", b"the heap"])
@pytest.mark.parametrize("what", ["truncated", "vanished"])
def test_an_image_that_was_damaged_is_noticed_and_an_older_one_used(world, what, heap):
    older = world.publish(b"older", built_at=1.0)
    image = remembered(world, heap=heap)
    path = [*image.files][-1]
    os.truncate(path, 3) if what == "truncated" else os.unlink(path)
    assert start_in(world)["sysimage"] == older.path


@pytest.mark.parametrize("heap", [b"", b"the heap"])
@pytest.mark.parametrize(
    ("late", "why"),
    [
        ("os.truncate(path, 3)", "it has changed"),
        ("os.unlink(path)", "it is gone"),
        ("os.chmod(path, 0o666)", "{path} can be written by other users"),
    ],
)
def test_what_happens_to_an_image_after_it_was_chosen_is_seen(world, late, why, heap):
    """Between the plan and the hand-over; to the last of its files, where Julia wrote it as two."""
    path = [*remembered(world, heap=heap).files][-1]
    why = why.format(path=os.path.realpath(path))
    code = (
        "import os, pyjl_autoimage.startup.start as r\nplan = r.plan_for\n"
        f"def late(*given):\n    made = plan(*given); path = {path!r}; {late}; return made\nr.plan_for = late\n"
    )
    told = start_in(world, code=code)
    assert told["sysimage"] is None and not told["on_image"]
    assert any(note.endswith(f"cannot be used: {why}") for note in told["notes"])


def test_an_image_is_not_removed_while_a_process_runs_on_it(world):
    image = world.publish()
    code = "from pyjl_autoimage import jl; input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=world.environ, stdin=subprocess.PIPE, cwd=world.root, text=True
    )
    try:
        assert wait_for(lambda: world.store.users(image.id))[0].split("-")[1] == str(process.pid)
        assert remove_image(world.store, image.id) == 0
    finally:
        process.communicate("\n", timeout=60)
    assert remove_image(world.store, image.id) > 0


def test_a_removed_package_source_is_noticed(world):
    remembered(world)
    shutil.rmtree(world.source)
    assert start_in(world)["sysimage"] is None


def test_modification_times_alone_change_nothing(world):
    image = remembered(world)
    for path in (
        world.project / "Manifest.toml",
        world.project / "Project.toml",
        world.executable,
        image.path,
    ):
        os.utime(path, (1, 1))
    assert start_in(world)["sysimage"] == image.path


def test_other_flags_make_another_start(world):
    image = remembered(world)
    assert start_in(world, PYTHON_JULIACALL_OPTIMIZE="3")["sysimage"] is None
    assert start_in(world, PYTHON_JULIACALL_OPTIMIZE="2")["sysimage"] == image.path


def test_programs_with_different_answers_do_not_overwrite_each_other(world):
    remembered(world)
    start_in(world, PYTHON_JULIACALL_OPTIMIZE="3")
    assert len(os.listdir(world.store.launches)) == 2


def test_a_store_that_cannot_be_written(world):
    world.store.ensure(world.store.home)
    forbid_writing(world.store.home)
    told = start_in(world)
    assert told["sysimage"] is None and told["trace_compile"] is None


def test_a_store_in_the_place_of_a_file(world):
    blocker = world.root / "file"
    blocker.write_text("")
    told = start_in(world, PYJL_AUTOIMAGE_HOME=str(blocker / "store"))
    assert told["trace_compile"] is None


def test_the_quick_home_is_the_platforms(monkeypatch, tmp_path):
    from pyjl_autoimage.store.places import default_home

    monkeypatch.delenv("PYJL_AUTOIMAGE_HOME")
    for value in (None, "", " ", str(tmp_path)):
        if value is None:
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert plan.quick_home({}) == default_home()
    assert plan.quick_home({"home": str(tmp_path)}) == str(tmp_path)


def test_an_image_that_others_can_write_is_not_used_even_if_it_was_before(world):
    image = remembered(world)
    os.chmod(image.path, 0o666)
    told = start_in(world)
    assert told["sysimage"] is None
    assert any("can be written by other users" in note for note in told["notes"])
    (rejected,) = json.loads(cli(world.environ, "status", "--json", cwd=world.root).stdout)["rejected"]
    assert rejected["reasons"] == [f"not trusted: {image.path} can be written by other users"]
    os.chmod(image.path, 0o600)
    assert start_in(world)["sysimage"] == image.path


def test_an_image_brings_a_depot_for_what_is_not_in_it(world):
    image = world.publish()
    depot = Path(image.path).parent / "depot"
    assert "JULIA_DEPOT_PATH" not in start_in(world)["environ"]
    depot.mkdir()
    after = "import atexit, os; atexit.register(lambda: print(os.environ.get('JULIA_DEPOT_PATH')))"
    own = os.path.join(os.path.expanduser("~"), ".julia")
    for given, told in (
        (None, f"{own}::{depot}"),
        (":", f"{own}::{depot}"),  # of which Julia 1.11 drops the user's depot where another entry follows
        ("/a:/b", f"/a:/b:{depot}"),
        ("/a:", f"/a::{depot}"),
        (":/a", f":/a:{depot}"),
        ("", str(depot)),
    ):
        environ = {} if given is None else {"JULIA_DEPOT_PATH": given}
        assert start_in(world, **environ)["environ"]["JULIA_DEPOT_PATH"] == told
        code = f"{after}\nfrom pyjl_autoimage import jl"
        assert python(world, code, **environ).stdout == f"{given}\n", "no child inherits it"


def test_a_trusted_store_is_searched_though_others_can_write_it(world):
    image = world.publish()
    os.rename(world.store.home, world.root / "shared")
    os.chmod(world.root / "shared", 0o777)
    path = image.path.replace(world.store.home, str(world.root / "shared"))
    assert start_in(world)["sysimage"] is None
    theirs = {"PYJL_AUTOIMAGE_TRUSTED_STORES": str(world.root / "shared")}
    age(world.root)
    for _ in range(2):
        assert start_in(world, **theirs)["sysimage"] == path
    own = world.publish(b"our own", built_at=2000.0)
    age(world.root)
    for _ in range(2):
        assert start_in(world, **theirs)["sysimage"] == own.path, "the newest of all"
    before = os.stat(world.store.images).st_mtime_ns
    newest = world.publish(b"another", built_at=3000.0)
    os.rename(Path(newest.path).parent, world.root / "shared" / "v1" / "images" / newest.id)
    os.utime(world.store.images, ns=(before, before))
    assert start_in(world, **theirs)["sysimage"] == newest.path.replace(world.store.home, str(world.root / "shared"))
    shutil.rmtree(world.store.home)
    assert start_in(world, PYJL_AUTOIMAGE_HOME=str(world.root / "shared"))["sysimage"] is None, "not so one's own"
