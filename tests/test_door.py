"""One door: whoever imports juliacall, and whatever of ours goes wrong on the way, Julia starts as it would have."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from test_launch import Managed

from standin import JULIACALL, World, age, python, start_in

SHOW = "from pyjl_autoimage import jl; import juliacall; print(juliacall.CONFIG['sysimage'])"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def run(world: World, code: str, *options: str, **environ: str):
    return python({**world.environ, **environ}, *options, "-c", textwrap.dedent(code), cwd=world.root)


def deadly(world: World, how: str) -> None:
    """A juliacall that does something to the process when it loads an image."""
    module = world.site / "juliacall" / "__init__.py"
    line = f'\nif CONFIG["sysimage"]:\n    import os, signal\n    {how}\n'
    module.write_text(module.read_text().replace("\nclass Main:", f"{line}\nclass Main:"))


# -- threads -------------------------------------------------------------------------------------------

WITH_THREADS = JULIACALL.replace(
    'CONFIG["evaluated"].append(code.decode())',
    'CONFIG["evaluated"].append(code.decode()); CONFIG.setdefault("on", []).append(threading.current_thread().name)',
).replace("import os, sys", "import os, sys, threading", 1)


@pytest.mark.parametrize(
    "starts", ["a.start()", "t = threading.Thread(target=a.start, name='first'); t.start(); t.join()"]
)
@pytest.mark.parametrize("call", ["a.attach()", "r.load_from_layer('Code_1', '0-0')", "a.detach()"])
def test_julias_c_api_is_called_on_no_thread_that_julia_may_not_know(world, call, starts):
    """There it reads a null pointer (`jl_eval_string` in Julia's ``src/jlapi.c``)."""
    (world.site / "juliacall" / "__init__.py").write_text(WITH_THREADS)
    code = f"""
        import threading
        import pyjl_autoimage as a, pyjl_autoimage.startup.start as r
        {starts}
        import juliacall
        if "attach" in {call!r}: r.session.tracing = False
        t = threading.Thread(target=lambda: {call}, name="other"); t.start(); t.join()
        print(*set(juliacall.CONFIG["on"]) - {{"MainThread", "first"}})
    """
    assert run(world, code).stdout == "\n", "Python calls the next thread what the first was called"


def test_what_became_of_a_start_is_what_juliacall_was_given(world):
    """Somebody else's import, which knows nothing of us, was first by a moment."""
    world.publish()
    stand_in = world.site / "juliacall" / "__init__.py"
    stand_in.write_text(f"import time; time.sleep(0.05)\n{JULIACALL}\ntime.sleep(0.3)\n")
    code = """
        import threading, time
        import pyjl_autoimage as a
        def other():
            import juliacall
        t = threading.Thread(target=other); t.start(); time.sleep(0.02)
        a.start(); t.join()
        import juliacall
        print(juliacall.CONFIG["sysimage"], a.started().image, a.started().notes)
    """
    assert run(world, code, "-W", "ignore").stdout == "None None ('juliacall was already running',)\n"


def test_who_asks_is_told_whether_this_process_is_on_an_image(world):
    code = "import pyjl_autoimage as a\nprint(a.started())\na.start()\nprint(a.started()._asdict())"
    before, after = run(world, code).stdout.splitlines()
    assert before == "None"
    assert eval(after)["image"] is None and "no image was valid" in eval(after)["notes"][0]
    image = world.publish()
    told = eval(run(world, code).stdout.splitlines()[1])
    assert (told["image"], told["sysimage"], told["notes"]) == (image.id, image.path, ())


def test_jl_is_there_while_another_thread_includes(world):
    (world.root / "model.jl").write_text("f() = 1")
    code = f"""
        import threading, time
        import pyjl_autoimage as a, pyjl_autoimage.startup.code as c
        a.start()
        inside, go = threading.Event(), threading.Event()
        def slowly(*arguments):
            inside.set(); go.wait(30); return {{}}, "module"
        c._evaluate = slowly
        t = threading.Thread(target=a.include, args=({str(world.root / "model.jl")!r},)); t.start(); inside.wait()
        print(a.jl is not None, go.is_set()); go.set(); t.join()
    """
    assert run(world, code).stdout == "True False\n"


# -- what is ours and goes wrong -----------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="paths of bytes")
def test_a_store_whose_path_is_no_utf8_is_gone_without(world):
    """juliacall encodes its arguments as UTF-8 (`args_from_config`). Project and Julia may lie elsewhere."""
    module = world.site / "juliacall" / "__init__.py"
    encodes = '[f"--x={CONFIG[n]}".encode() for n in ("exe", "project", "sysimage", "trace_compile")]'
    module.write_text(f"{module.read_text()}\n{encodes}\n")
    result = run(world, SHOW, PYJL_AUTOIMAGE_HOME=str(world.root / "st\udcfcore"))
    assert (result.returncode, result.stdout) == (0, "None\n"), result.stderr


def test_warnings_that_are_errors_break_no_start(world):
    world.publish()
    deadly(world, "os.kill(os.getpid(), signal.SIGSEGV)")
    assert run(world, SHOW).returncode == -signal.SIGSEGV
    assert run(world, SHOW, "-W", "error").stdout == "None\n"


def test_a_user_who_has_no_home(world):
    """A container whose platform chooses a user that it does not know: `expanduser` gives ``~`` as it is."""
    away = world.root / "away"
    away.mkdir()
    nobody = "import pwd; pwd.getpwuid = {}.__getitem__"
    (world.site / "sitecustomize.py").write_text(nobody)
    environ = {n: v for n, v in world.environ.items() if n not in ("HOME", "XDG_CACHE_HOME", "PYJL_AUTOIMAGE_HOME")}
    said = "import pyjl_autoimage; print(pyjl_autoimage.started().notes)"
    result = python(environ, "-W", "error", "-c", f"{SHOW}; {said}", cwd=away)
    assert result.stdout.startswith("None\n") and "no home directory" in result.stdout, result.stderr
    for command in ("build", "status", "doctor"):
        told = python(environ, "-m", "pyjl_autoimage", command, cwd=away)
        assert "no home directory" in told.stdout + told.stderr and "Traceback" not in told.stderr, command
    assert python(environ, "-m", "pyjl_autoimage", "clean", cwd=away).stdout == "0 bytes freed\n"
    assert os.listdir(away) == []


@pytest.mark.parametrize(
    "change",
    [
        'sys.modules["__main__"] = types.SimpleNamespace()',
        'del sys.modules["__main__"]',
        'sys.modules["__main__"] = None',
        'sys.modules["__main__"].__file__ = None',
        'sys.modules["__main__"].__file__ = b"bytes.py"',
        'sys.modules["__main__"].__file__ = pathlib.Path("path.py")',
        'sys.modules["__main__"].__file__ = 7',
        'sys.modules["__main__"].__spec__ = types.SimpleNamespace()',
        "sys.argv.clear()",
        "del sys.argv",
        "sys.orig_argv.clear()",
    ],
)
def test_a_main_module_that_is_none(world, change):
    """Job runners put something of their own there. The program runs, and is recorded under some name."""
    program = world.root / "program.py"
    recorded = "import pyjl_autoimage; print(pyjl_autoimage.started().recorded)"
    program.write_text(f"import pathlib, sys, types\n{change}\n{SHOW}\n{recorded}\n")
    for environ in ({}, {"PYJL_AUTOIMAGE_AUTO": "1"}):
        result = python({**world.environ, **environ}, "-W", "error", str(program), cwd=world.root)
        assert (result.stdout, result.stderr) == ("None\nTrue\n", "")
    assert list(Path(world.store.home).glob("v1/environments/*/recordings/*.log"))


def test_a_frozen_program_is_not_started_again_by_its_own_end(world):
    """PyInstaller, uWSGI, Blender: sys.executable is the program, to which ``-m`` means nothing."""
    log, app = world.root / "relaunched", world.root / "app"
    app.write_text(f'#!/bin/sh\necho "$@" >> "{log}"\n')
    app.chmod(0o755)
    code = f"""
        import sys; sys.frozen = True; sys.executable = {str(app)!r}
        import pyjl_autoimage as a; a.start()
        from pyjl_autoimage.startup.start import session; session.recording.note('ready 9.0')
        try:
            a.rebuild()
        except a.BuildError as error:
            print(error)
    """
    environ = {name: value for name, value in world.environ.items() if name != "CI"}
    result = python({**environ, "PYJL_AUTOIMAGE_AUTO": "1"}, "-c", textwrap.dedent(code), cwd=world.root)
    assert result.returncode == 0 and "a program of its own" in result.stdout, result.stderr
    time.sleep(0.3)
    assert not log.exists(), log.read_text()


def test_a_set_up_that_fails_is_tried_once_and_its_error_is_juliapkgs(tmp_path):
    world = Managed(tmp_path)
    package = world.site / "juliapkg" / "__init__.py"
    package.write_text(package.read_text().replace("    return True\n", "    raise RuntimeError('no network')\n", 1))
    (world.site / "juliacall" / "__init__.py").write_text(
        f"{JULIACALL}\nif not CONFIG['exe']:\n    import juliapkg\n    juliapkg.resolve()\n"
    )
    result = run(world, "from pyjl_autoimage import jl")
    assert result.stderr.endswith("RuntimeError: no network\n") and world.times_asked() == 1


def test_a_start_that_fails_leaves_nothing_and_the_next_one_is_a_first_one(world):
    world.publish()
    stand_in = world.site / "juliacall" / "__init__.py"
    working = stand_in.read_text()
    stand_in.write_text("raise RuntimeError('no Julia')\n")
    code = f"""
        import os, pyjl_autoimage as a
        from pyjl_autoimage.startup.start import session
        try:
            a.start()
        except RuntimeError:
            print(session.plan, session.recording)
        open({str(stand_in)!r}, "w").write({working!r})
        a.start(); print(a.started().image is not None)
    """
    result = run(world, code)
    assert result.stdout == "None None\nTrue\n", result.stderr
    assert len(os.listdir(world.store.recordings(world.environment.id))) == 2
    assert os.listdir(world.store.booting) == []


@pytest.mark.parametrize("look", ["import inspect; inspect.getmembers(a)", "import pydoc; pydoc.render_doc(a)"])
def test_looking_at_the_package_starts_nothing(world, look):
    assert (
        run(world, f"import sys, pyjl_autoimage as a\n{look}\nprint('juliacall' in sys.modules)").stdout == "False\n"
    )


def test_a_copy_of_what_was_found_is_one(world):
    code = "import copy, importlib.util as u, pyjl_autoimage.hook as h; h.install(); print(copy.copy(u.find_spec('juliacall')).name)"
    assert run(world, code).stdout == "juliacall\n"


def test_an_absolute_path_is_included_where_the_current_directory_is_gone(world):
    (world.root / "model.jl").write_text("f() = 1")
    code = f"""
        import os
        os.mkdir("gone"); os.chdir("gone"); os.rmdir(os.getcwd())
        from pyjl_autoimage.startup.code import _find
        import sys
        print(_find({str(world.root / "model.jl")!r}, sys._getframe()))
    """
    assert run(world, code).stdout == f"{os.path.realpath(world.root / 'model.jl')}\n"


# -- what is recorded of it ----------------------------------------------------------------------------


def test_a_run_on_an_image_of_the_users_is_no_plain_run(world):
    """It compiles nothing of what that image holds, which is no evidence against any of it."""
    theirs = world.root / "theirs.so"
    theirs.write_text("x")
    start_in(world, PYTHON_JULIACALL_SYSIMAGE=str(theirs))
    (log,) = Path(world.store.recordings(world.environment.id)).glob("*.log")
    assert json.loads(log.read_text().splitlines()[0])["image"] == str(theirs)


def test_bindir_and_project_name_a_julia_too(world):
    """juliacall takes BINDIR/julia as the executable."""
    world.publish()
    environ = {name: value for name, value in world.environ.items() if name != "PYTHON_JULIACALL_EXE"}
    result = python({**environ, "PYTHON_JULIACALL_BINDIR": str(world.executable.parent)}, "-c", SHOW, cwd=world.root)
    assert result.stdout.endswith("sys.so\n"), result.stderr


def test_what_julia_said_of_itself_spares_juliacall_its_own_question(world):
    """With executable and project named, juliacall starts a Julia at each start to ask for libjulia and BINDIR."""
    age(world.root)
    start_in(world)
    started = world.times_started()
    told = start_in(world)
    assert (told["lib_object"], told["home"]) == (str(world.libjulia), world.facts.bindir)
    assert world.times_started() == started
