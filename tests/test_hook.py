"""`import juliacall` under the hook, however a program does it, with stand-ins for Julia and juliacall."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from environments import VirtualEnvironment
from standin import JULIACALL, World, python

TELL = "print(json.dumps([juliacall.CONFIG['sysimage'], juliacall.CONFIG['trace_compile'] is not None]))"
RECORDINGS = "*/recordings/*.log"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> VirtualEnvironment:
    env = VirtualEnvironment(tmp_path_factory.mktemp("hook") / "env")
    home = {"PYJL_AUTOIMAGE_HOME": str(tmp_path_factory.mktemp("store"))}
    env("-m", "pyjl_autoimage", "enable", check=True, environ=home)
    return env


@pytest.fixture(params=["run", "enable"])
def program(request, env: VirtualEnvironment, world: World):
    """Run code as a program that does not know of us."""

    def start(code: str, *options: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        ours = ["-m", "pyjl_autoimage", "run"] if request.param == "run" else []
        result = subprocess.run(
            [sys.executable if ours else str(env.python), *options, *ours, "-c", f"import json, os, sys\n{code}"],
            env={**world.environ, **environ},
            cwd=world.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or result.returncode == 0, result.stderr
        return result

    return start


def recorded(world: World) -> int:
    return len(list(Path(world.store.root, "environments").glob(RECORDINGS)))


IMPORTS = {
    "plainly": "import juliacall",
    "from it": "from juliacall import Main as jl, CONFIG\nimport juliacall",
    "by importlib": "import importlib\njuliacall = importlib.import_module('juliacall')",
    "lazily": "def f():\n    global juliacall\n    import juliacall\nf()",
    "twice": "import juliacall as first\nimport juliacall\nassert first is juliacall",
    "in a thread": "import threading\ndef f():\n    global juliacall\n    import juliacall\n"
    "t = threading.Thread(target=f); t.start(); t.join()",
    "in many threads at once": "import threading\nb = threading.Barrier(8)\ndone = []\ndef f():\n    global juliacall\n"
    "    b.wait()\n    import juliacall\n    done.append(juliacall.CONFIG['inited'])\n"
    "ts = [threading.Thread(target=f) for _ in range(8)]\n[t.start() for t in ts]\n[t.join() for t in ts]\n"
    "assert done == [True] * 8",
    "by another package": "import wrapper\njuliacall = wrapper.juliacall",
    "behind other finders": "class F:\n    def find_spec(self, *a): return None\n"
    "sys.meta_path.insert(0, F())\nimport juliacall",
    "after looking": "import importlib.util as u\nspec = u.find_spec('juliacall')\n"
    "assert 'juliacall' not in sys.modules and spec.origin.endswith('__init__.py')\n"
    "assert u.find_spec('juliacall.sub') is None\nimport juliacall",
    "after importing us": "import pyjl_autoimage\nimport juliacall\nassert pyjl_autoimage.jl is juliacall.Main",
    "by us": "from pyjl_autoimage import jl\nimport juliacall",
    "by hand": "import importlib.util as u\nspec = u.find_spec('juliacall')\njuliacall = u.module_from_spec(spec)\n"
    "sys.modules['juliacall'] = juliacall\nspec.loader.exec_module(juliacall)",
}


@pytest.mark.parametrize("how", IMPORTS)
def test_juliacall_imported(program, world, how):
    (world.site / "wrapper.py").write_text("import juliacall\n")
    image = world.publish()
    assert json.loads(program(f"{IMPORTS[how]}\n{TELL}").stdout) == [image.path, True]
    assert recorded(world) == 1


def test_looking_for_juliacall_starts_nothing(program, world):
    world.publish()
    code = (
        "import importlib.util as u, pkgutil\nbefore = set(sys.modules), dict(os.environ), dict(sys._xoptions)\n"
        "for _ in range(3):\n    spec = u.find_spec('juliacall')\n    assert spec.loader.get_source('juliacall')\n"
        "assert u.find_spec('juliacall_') is None\n"
        "assert before[1:] == (dict(os.environ), dict(sys._xoptions))\n"
        "print(sorted(m for m in set(sys.modules) - before[0] if 'julia' in m.removeprefix('pyjl') or 'startup.start' in m))"
    )
    assert program(code).stdout == "[]\n"
    assert recorded(world) == 0 and not os.path.exists(world.store.launches)


def test_the_module_is_juliacalls_own(program, world):
    code = (
        "import importlib.machinery as m, importlib.util as u, inspect, juliacall\n"
        "assert type(juliacall.__loader__) is type(juliacall.__spec__.loader) is m.SourceFileLoader\n"
        "assert inspect.getsource(juliacall).strip().startswith('import os, sys')\n"
        "assert juliacall.__spec__.name == juliacall.__name__ == 'juliacall' and juliacall.__spec__.origin == juliacall.__file__\n"
        "assert 'juliacall-sysimage' not in sys._xoptions\nprint('fine')"
    )
    assert program(code).stdout == "fine\n"


def test_a_reload_gets_the_same_options(program, world):
    """Julia reads its options again, and crashes if there are fewer than the first time."""
    image = world.publish()
    code = (
        "import importlib, juliacall\nfirst = {k: v for k, v in juliacall.CONFIG.items() if isinstance(v, str)}\n"
        f"assert first['sysimage'] == {image.path!r}\nagain = importlib.reload(juliacall)\nassert again is juliacall\n"
        "assert {k: v for k, v in juliacall.CONFIG.items() if isinstance(v, str)} == first\n"
        "print([k for k in sys._xoptions if 'julia' in k])"
    )
    assert program(code).stdout == "[]\n"
    assert recorded(world) == 1


def test_a_julia_that_somebody_else_started_is_reloaded_as_by_plain_python(program, world):
    world.publish()
    code = (
        "import importlib\nfinders = [f for f in sys.meta_path if hasattr(f, 'pyjl_autoimage')]\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if f not in finders]\nimport juliacall\n"
        f"sys.meta_path[:0] = finders\nimportlib.reload(juliacall)\n{TELL}"
    )
    assert json.loads(program(code).stdout) == [None, False]
    assert recorded(world) == 0


@pytest.mark.parametrize("how", ["environment", "-X", "late"])
def test_inside_julias_own_workers_it_stands_aside(program, world, how):
    """PythonCall sets the variable as it imports juliacall, when Python is embedded in Julia."""
    world.publish()
    late = "os.environ['PYTHON_JULIACALL_INIT'] = 'no'\n" if how == "late" else ""
    options = ("-X", "juliacall-init=no") if how == "-X" else ()
    environ = {"PYTHON_JULIACALL_INIT": "no"} if how == "environment" else {}
    code = f"{late}import juliacall\nassert juliacall.CONFIG['init'] is False\n{TELL}"
    assert json.loads(program(code, *options, **environ).stdout) == [None, False]
    assert recorded(world) == 0 and not os.path.exists(world.store.launches)


@pytest.mark.parametrize("word", ["0", "no", "False"])
def test_turned_off(program, world, word):
    world.publish()
    assert json.loads(program(f"import juliacall\n{TELL}", PYJL_AUTOIMAGE=word).stdout) == [None, False]
    assert recorded(world) == 0


FAILS_ONCE = "import builtins\nif not hasattr(builtins, 'failed'):\n    builtins.failed = 1\n    raise {error}\n"


@pytest.mark.parametrize(
    "error", ["ValueError('theirs')", "ImportError('theirs')", "SystemExit(3)", "KeyboardInterrupt()"]
)
def test_an_error_of_juliacall_is_its_own_and_a_second_attempt_works(program, world, error):
    (world.site / "juliacall" / "__init__.py").write_text(FAILS_ONCE.format(error=error) + JULIACALL)
    image = world.publish()
    code = (
        "try:\n    import juliacall\nexcept BaseException as error:\n    got = error\n"
        f"assert type(got) is type({error}) and got.args == {error}.args, got\n"
        "assert got.__cause__ is None and got.__context__ is None\n"
        "assert 'juliacall' not in sys.modules and not [k for k in sys._xoptions if 'julia' in k]\n"
        f"import juliacall\n{TELL}"
    )
    assert json.loads(program(code).stdout) == [image.path, True]
    assert recorded(world) == 1, "nothing is left of the first attempt"
    (log,) = Path(world.store.root, "environments").glob(RECORDINGS)
    assert "\nready " in log.read_text()


def test_a_second_attempt_with_a_julia_that_is_loaded_gets_the_same_options(program, world):
    text = JULIACALL + FAILS_ONCE.format(error="Exception('PythonCall.jl did not start properly')")
    (world.site / "juliacall" / "__init__.py").write_text(text)
    image = world.publish()
    code = f"try:\n    import juliacall\nexcept Exception as error:\n    print(error)\nimport juliacall\n{TELL}"
    words, told = program(code).stdout.splitlines()
    assert words == "PythonCall.jl did not start properly" and json.loads(told) == [image.path, True]
    assert recorded(world) == 1


def test_without_juliacall_the_error_is_pythons(program, world):
    import shutil

    shutil.rmtree(world.site / "juliacall")
    code = "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\nimport juliacall"
    result = program(code, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'juliacall'"
    assert "pyjl_autoimage" not in result.stderr


def test_a_wrong_setting_is_a_warning_and_a_plain_start(program, world):
    world.publish()
    for options in ((), ("-W", "error")):
        result = program(f"import juliacall\n{TELL}", *options, PYJL_AUTOIMAGE_DEV_PACKAGES="burn")
        assert json.loads(result.stdout) == [None, False]
        assert ("PYJL_AUTOIMAGE_DEV_PACKAGES='burn'" in result.stderr) == (not options)
        assert "PYJL_AUTOIMAGE_DEV_PACKAGES='burn'" in Path(world.store.hook_log).read_text()


def test_an_image_that_vanishes_at_the_last_moment(program, world):
    image = world.publish()
    vanish = f"import os\nif os.path.exists({image.path!r}):\n    os.unlink({image.path!r})\n"
    (world.site / "juliacall" / "__init__.py").write_text(vanish + JULIACALL)
    assert json.loads(program(f"import juliacall\n{TELL}").stdout) == [None, True]


def test_start_and_import_in_two_threads_do_not_wait_for_each_other_for_ever(program, world):
    """Both go through Python's own lock of that import, so the one that is first starts for both."""
    image = world.publish()
    slowly = "import time\ntime.sleep(0.2)\n"
    (world.site / "juliacall" / "__init__.py").write_text(slowly + JULIACALL)
    code = (
        "import faulthandler, threading, time\nfaulthandler.dump_traceback_later(20, exit=True)\n"
        "import pyjl_autoimage.hook, pyjl_autoimage.startup.start as r\n"
        "from importlib.machinery import SourceFileLoader\n"
        "inside = threading.Event()\n"
        "prepare = r.prepare\ndef prepared(*a):\n    inside.set(); time.sleep(0.2); return prepare(*a)\nr.prepare = prepared\n"
        "def importing():\n    import juliacall\n"
        "first = threading.Thread(target=importing); first.start(); inside.wait()\n"
        "second = threading.Thread(target=pyjl_autoimage.start); second.start()\n"
        f"first.join(); second.join()\nimport juliacall\nassert r.session.on_image\n{TELL}"
    )
    assert json.loads(program(code).stdout) == [image.path, True]
    assert recorded(world) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_children_each_start_for_themselves(program, world):
    """As pytest-forked and multiprocessing's fork do."""
    image = world.publish()
    code = (
        "sys.stdout.flush()\nchildren = []\nfor _ in range(3):\n    pid = os.fork()\n    if pid == 0:\n"
        f"        import juliacall\n        ok = juliacall.CONFIG['sysimage'] == {image.path!r}\n        os._exit(0 if ok else 1)\n"
        "    children.append(pid)\n"
        "print([os.waitpid(pid, 0)[1] for pid in children], 'juliacall' in sys.modules)"
    )
    assert program(code).stdout == "[0, 0, 0] False\n"
    assert recorded(world) == 3


@pytest.mark.parametrize("how", ["run", "enable", "enable, with workers"])
def test_under_pytest(env, world, how):
    """The workers of xdist are children: plain ones under `run`."""
    workers = ["-p", "xdist", "-n", "2"] if "workers" in how else []
    if workers:
        pytest.importorskip("xdist")
    image = world.publish()
    test = world.root / "test_theirs.py"
    test.write_text(
        "import pytest\n@pytest.fixture(scope='session')\ndef jl():\n    import juliacall\n    return juliacall\n"
        f"@pytest.mark.parametrize('n', range(4))\ndef test_it(jl, n):\n    assert jl.CONFIG['sysimage'] == {image.path!r}\n"
    )
    quickly = {**world.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, str(test)]
    if how == "run":
        result = python(quickly, "-m", "pyjl_autoimage", "run", *arguments)
    else:
        result = env(*arguments, environ=quickly)
    assert result.returncode == 0 and "4 passed" in result.stdout, result.stdout


def test_installing_twice_is_once():
    from pyjl_autoimage.startup import door

    before = list(sys.meta_path)
    try:
        door.install()
        door.install()
        assert len([f for f in sys.meta_path if isinstance(f, door._Finder)]) == 1
    finally:
        sys.meta_path[:] = before
