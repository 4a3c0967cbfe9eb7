"""`enable` and `disable`, each in a virtual environment of its own; and whatever can be wrong with the package."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from environments import PACKAGE, VirtualEnvironment
from standin import World, forbid_writing

HOOKED = "import sys; print([f.pyjl_autoimage for f in sys.meta_path if hasattr(f, 'pyjl_autoimage')])"
TOLD = "import juliacall; print(juliacall.CONFIG['sysimage'], juliacall.CONFIG['trace_compile'] is not None)"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


@pytest.fixture
def env(tmp_path: Path) -> VirtualEnvironment:
    return VirtualEnvironment(tmp_path / "env")


@pytest.fixture
def enabled(env: VirtualEnvironment, world: World) -> VirtualEnvironment:
    env("-m", "pyjl_autoimage", "enable", check=True, environ=world.environ)
    return env


def status(env, world):
    return json.loads(env("-m", "pyjl_autoimage", "status", "--json", check=True, environ=world.environ).stdout)


def test_a_round_trip(env, world):
    image = world.publish()
    before = sorted(env.site.iterdir())
    assert env("-c", TOLD, environ=world.environ).stdout == "None False\n"
    assert status(env, world)["hook"] == {"enabled": None, "error": None}

    result = env("-m", "pyjl_autoimage", "enable", environ=world.environ)
    assert result.returncode == 0 and str(env.pth) in result.stdout
    assert set(env.site.iterdir()) - {*before, env.site / "__pycache__"} == {env.pth}
    assert env("-c", TOLD, environ=world.environ).stdout == f"{image.path} True\n"
    assert env("-I", "-c", HOOKED).stdout == f"[{world.store.hook_log!r}]\n", (
        "once, though site reads .pth files twice"
    )
    assert status(env, world)["hook"] == {"enabled": str(env.pth), "error": None}
    assert str(env.pth) in env("-m", "pyjl_autoimage", "status", environ={**world.environ, "COLUMNS": "500"}).stdout
    assert env("-m", "pyjl_autoimage", "enable", environ=world.environ).returncode == 0, "again: the same"

    result = env("-m", "pyjl_autoimage", "disable", environ=world.environ)
    assert result.returncode == 0 and str(env.pth) in result.stdout
    assert sorted(env.site.iterdir()) == before
    assert env("-c", TOLD, environ=world.environ).stdout == "None False\n"
    result = env("-m", "pyjl_autoimage", "disable", environ=world.environ)
    assert result.returncode == 0 and "nothing to do" in result.stdout


def test_the_line_is_one_and_readable_in_any_encoding(enabled):
    lines = enabled.pth.read_bytes().decode("ascii").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("# ") and "disable" in lines[0] and lines[1].startswith("import sys;")


def test_a_program_without_julia_imports_nothing_of_ours(enabled):
    code = "import sys; print(sorted(sys.modules))"
    ours = eval(enabled("-c", code).stdout)
    enabled.pth.unlink()
    assert ours == eval(enabled("-c", code).stdout)


def test_it_works_isolated_and_in_children(enabled, world):
    image = world.publish()
    site = f"import sys; sys.path.insert(0, {str(world.site)!r})\n"
    environ = {k: v for k, v in world.environ.items() if k != "PYTHONPATH"}
    environ |= {"PYJL_AUTOIMAGE_HOME": world.store.home}
    assert enabled("-I", "-c", site + TOLD, environ=environ).stdout == f"{image.path} True\n"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {TOLD!r}])"
    assert enabled("-c", code, environ=world.environ).stdout == f"{image.path} True\n"
    result = enabled("-I", "-m", "pyjl_autoimage", "run", "-c", site + TOLD, environ=environ)
    assert result.stdout == f"{image.path} True\n", "run needs no PYTHONPATH then"


@pytest.mark.parametrize("word", ["0", "no", "off"])
def test_it_can_be_turned_off_for_a_process(enabled, world, word):
    world.publish()
    assert enabled("-c", TOLD, environ={**world.environ, "PYJL_AUTOIMAGE": word}).stdout == "None False\n"


def break_(env: VirtualEnvironment, how: str) -> None:
    hook, init = env.package / "hook" / "__init__.py", env.package / "__init__.py"
    if how == "removed":
        shutil.rmtree(env.package)
    elif how == "unreadable":
        hook.unlink()
        hook.mkdir()
    elif how == "undecodable":
        init.write_bytes(b"\xff\xfe\x00")
    elif how == "syntax error":
        hook.write_text("def find_spec(:\n")
    elif how == "raises":
        init.write_text("raise RuntimeError('broken')\n")
    elif how == "older":
        hook.write_text("def another(): pass\n")
    elif how == "other signature":
        hook.write_text("def find_spec(): pass\n")
    elif how == "no start":
        (env.package / "startup" / "start.py").write_text("1/0\n")


@pytest.mark.parametrize(
    "how",
    ["removed", "unreadable", "undecodable", "syntax error", "raises", "older", "other signature", "no start"],
)  # fmt: skip
def test_a_broken_package_breaks_nothing_and_is_logged(enabled, world, how):
    world.publish()
    break_(enabled, how)
    result = enabled("-W", "error", "-c", "print('fine')", environ=world.environ)
    assert (result.returncode, result.stdout, result.stderr) == (0, "fine\n", "")
    assert not os.path.exists(world.store.hook_log)
    result = enabled("-W", "error", "-c", TOLD, environ=world.environ)
    assert (result.returncode, result.stdout, result.stderr) == (0, "None False\n", "")
    words = Path(world.store.hook_log).read_text()
    assert str(enabled.python) in words and "Traceback" in words and "Error" in words


def test_a_broken_package_without_a_place_for_its_log(enabled, world):
    break_(enabled, "raises")
    shutil.rmtree(world.store.home)
    result = enabled("-c", TOLD, environ=world.environ)
    assert (result.returncode, result.stdout, result.stderr) == (0, "None False\n", "")


def test_status_tells_the_last_error(enabled, world):
    break_(enabled, "older")
    enabled("-c", TOLD, environ=world.environ)
    shutil.copy(PACKAGE / "hook" / "__init__.py", enabled.package / "hook" / "__init__.py")
    error = status(enabled, world)["hook"]["error"]
    assert str(enabled.python) in error and "ImportError: cannot import name 'find_spec'" in error
    shown = enabled("-m", "pyjl_autoimage", "status", environ={**world.environ, "COLUMNS": "500"}).stdout
    assert "ImportError: cannot import name 'find_spec'" in shown
    enabled("-m", "pyjl_autoimage", "enable", check=True, environ=world.environ)
    assert status(enabled, world)["hook"]["error"] is None


def test_uninstalled_while_enabled(tmp_path, world):
    env = VirtualEnvironment(tmp_path / "env", pip=True)
    env("-m", "pyjl_autoimage", "enable", check=True, environ=world.environ)
    assert env("-c", TOLD, environ=world.environ).stdout == "None True\n"
    env("-m", "pip", "uninstall", "-q", "-y", "pyjl-autoimage", check=True)
    assert not env.package.exists() and env.pth.exists()
    result = env("-W", "error", "-c", TOLD, environ=world.environ)
    assert (result.returncode, result.stdout, result.stderr) == (0, "None False\n", "")


def test_outside_a_virtual_environment_it_asks_first(monkeypatch, tmp_path, store, capsys):
    import sysconfig

    from pyjl_autoimage.hook import enable
    from pyjl_autoimage.people.cli import main

    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "site"))
    assert main(["enable"]) == 1
    said = capsys.readouterr().err
    assert "virtual environment" in said and "--user" in said and "--force" in said
    assert list(tmp_path.iterdir()) == []
    # A directory that Python does not read: found out, and nothing is left.
    assert main(["enable", "--force"]) == 1
    assert "does not work from" in capsys.readouterr().err
    assert list((tmp_path / "site").iterdir()) == []
    monkeypatch.setattr(enable, "_prove", lambda user: None)
    assert main(["enable", "--force"]) == 0
    assert [path.name for path in (tmp_path / "site").iterdir()] == [enable.NAME]
    (tmp_path / "conda-meta").mkdir()
    assert main(["enable"]) == 0


def test_for_a_user(env, world, tmp_path):
    # A user site only counts outside virtual environments, so its Python is the one that this one was made from.
    env.python = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    if not env.python.exists():
        pytest.skip(f"{env.python} is not there")
    environ = {**world.environ, "PYTHONUSERBASE": str(tmp_path / "user")}
    environ["PYTHONPATH"] = os.pathsep.join([str(env.site), *env.dependencies])
    result = env("-m", "pyjl_autoimage", "enable", "--user", environ=environ)
    assert result.returncode == 1 and "No module named" in result.stderr, "the package is not installed for the user"
    user = Path(env("-c", "import site; print(site.getusersitepackages())", environ=environ).stdout.strip())
    assert str(user).startswith(str(tmp_path)) and list(user.iterdir()) == []
    shutil.copytree(env.package, user / "pyjl_autoimage")
    result = env("-m", "pyjl_autoimage", "enable", "--user", environ=environ)
    assert result.returncode == 0, result.stderr
    assert (user / "pyjl_autoimage_hook.pth").exists()
    assert env("-m", "pyjl_autoimage", "disable", "--user", environ=environ).returncode == 0
    assert not (user / "pyjl_autoimage_hook.pth").exists()


def test_an_environment_that_cannot_be_written(env, world):
    forbid_writing(env.site)
    result = env("-m", "pyjl_autoimage", "enable", environ=world.environ)
    env.site.chmod(0o700)
    assert result.returncode == 1 and "cannot be written" in result.stderr
