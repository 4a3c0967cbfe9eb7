"""Start-up with stand-ins for Julia and juliacall: what juliacall is told, and what stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyjl_autoimage import launch

from standin import World, age, start_in


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def python(world, code, *arguments, **environ):
    return subprocess.run(
        [sys.executable, *arguments, "-c", code],
        env={**world.environ, **environ},
        cwd=world.root,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("line", ["from pyjl_autoimage import jl", "a.jl", "a.start()"])
def test_that_julia_was_running_before_is_said_of_the_users_line(world, line):
    (world.root / "user.py").write_text(f"import juliacall\nimport pyjl_autoimage as a\n{line}\n")
    assert "user.py:3: RuntimeWarning: juliacall was running before" in python(world, "import user").stderr


def test_importing_the_package_starts_nothing(world):
    code = "import sys, pyjl_autoimage; print(sorted(m for m in sys.modules if m.startswith(('julia', 'pyjl'))))"
    result = python(world, code)
    assert eval(result.stdout) == ["pyjl_autoimage", "pyjl_autoimage._version"]


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
    assert told["home"] is None, "the user named the executable: what was not asked is not known"


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


def test_a_keyword_switches_recording_off(world):
    result = python(
        world,
        "import pyjl_autoimage as a; a.start(record=False); import juliacall; print(juliacall.CONFIG['trace_compile'])",
    )
    assert result.stdout == "None\n"


def test_a_bad_setting_is_an_error_that_names_its_place(world):
    result = python(world, "from pyjl_autoimage import jl", PYJL_AUTOIMAGE_DEV_PACKAGES="burn")
    assert "SettingsError: PYJL_AUTOIMAGE_DEV_PACKAGES='burn'" in result.stderr
    result = python(world, "import pyjl_autoimage; pyjl_autoimage.start(colour=1)")
    assert "SettingsError: colour= is not a setting" in result.stderr


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


@pytest.mark.parametrize(("later", "asked"), [(0, 0), (1, 1)])
def test_julia_is_asked_again_when_its_files_have_changed_and_not_when_they_were_unpacked(world, later, asked):
    """An archive, and so a layer of a container, keeps times in whole seconds."""
    world.publish()
    age(world.root)
    start_in(world)
    started = world.times_started()
    world.write_manifest(extra="# the answer is not the same any more")
    libjulia = os.stat(world.libjulia)
    os.utime(world.libjulia, (1, libjulia.st_mtime_ns // 1_000_000_000 + later))
    start_in(world)
    assert world.times_started() - started == asked


def remembered(world):
    """An image in use, from a cached answer."""
    image = world.publish()
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


def test_another_julia_is_noticed(world):
    from dataclasses import replace

    remembered(world)
    world.write_julia(replace(world.facts, version="1.10.5"))
    assert start_in(world)["sysimage"] is None


def test_a_newer_image_is_noticed(world):
    remembered(world)
    newer = world.publish(b"newer", built_at=2e9)
    assert start_in(world)["sysimage"] == newer.path


def test_a_truncated_image_is_noticed(world):
    image = remembered(world)
    with open(image.path, "r+b") as file:
        file.truncate(3)
    assert start_in(world)["sysimage"] is None


def test_an_image_that_vanished_is_noticed(world):
    image = remembered(world)
    os.unlink(image.path)
    assert start_in(world)["sysimage"] is None


def test_a_removed_package_source_is_noticed(world):
    import shutil

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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": 99}', b"\xff\xfe"])
def test_a_broken_answer_is_as_good_as_none(world, content):
    image = remembered(world)
    (name,) = os.listdir(world.store.launches)
    Path(world.store.launches, name).write_bytes(content)
    assert start_in(world)["sysimage"] == image.path


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_store_that_cannot_be_written(world):
    world.store.ensure(world.store.home)
    os.chmod(world.store.home, 0o500)
    told = start_in(world)
    assert told["sysimage"] is None and told["trace_compile"] is None


def test_a_store_in_the_place_of_a_file(world):
    blocker = world.root / "file"
    blocker.write_text("")
    told = start_in(world, PYJL_AUTOIMAGE_HOME=str(blocker / "store"))
    assert told["trace_compile"] is None


def test_the_quick_home_is_the_platforms(monkeypatch, tmp_path):
    from pyjl_autoimage.store import default_home

    monkeypatch.delenv("PYJL_AUTOIMAGE_HOME")
    for value in (None, "", " ", str(tmp_path)):
        if value is None:
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert launch.quick_home({}) == default_home()
    assert launch.quick_home({"home": str(tmp_path)}) == str(tmp_path)


def test_an_image_that_others_can_write_is_not_used_even_if_it_was_before(world):
    image = remembered(world)
    os.chmod(image.path, 0o666)
    told = start_in(world)
    assert told["sysimage"] is None
    assert any("can be written by other users" in note for note in told["notes"])
    os.chmod(image.path, 0o600)
    assert start_in(world)["sysimage"] == image.path


def test_an_image_brings_a_depot_for_what_is_not_in_it(world):
    image = world.publish()
    depot = Path(image.path).parent / "depot"
    assert "JULIA_DEPOT_PATH" not in start_in(world)["environ"]
    depot.mkdir()
    after = "import atexit, os; atexit.register(lambda: print(os.environ.get('JULIA_DEPOT_PATH')))"
    for given, told in ((None, f":{depot}"), ("/a:/b", f"/a:/b:{depot}"), ("", str(depot))):
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
    assert start_in(world, PYJL_AUTOIMAGE_TRUSTED_STORES=str(world.root / "shared"))["sysimage"] == path
    assert start_in(world, PYJL_AUTOIMAGE_HOME=str(world.root / "shared"))["sysimage"] is None, "not so one's own"
