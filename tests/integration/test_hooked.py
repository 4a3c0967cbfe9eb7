"""Programs that say `import juliacall` and know nothing of us, under `run` and `enable`, with a real Julia."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from environments import VirtualEnvironment

TELL = "print(json.dumps([juliacall.Main.seval('1 + 1'), juliacall.CONFIG['opt_trace_compile'] is not None]))"


@pytest.fixture(scope="module")
def env(tmp_path_factory, place) -> VirtualEnvironment:
    """A virtual environment that is enabled for the place's store."""
    # juliapkg must find the same files as in the tests' own Python, or it sets the project up at every change.
    env = VirtualEnvironment(tmp_path_factory.mktemp("hooked") / "env", sees_installed=True)
    env("-m", "pyjl_autoimage", "enable", check=True, environ=place.environ)
    place.python("import juliacall")  # the first time juliapkg prints what it does
    return env


@pytest.fixture(params=["run", "enable"])
def command(request, env) -> list[str]:
    """How a program is started."""
    return [sys.executable, "-m", "pyjl_autoimage", "run"] if request.param == "run" else [str(env.python)]


def start(place, command, *arguments, check=True, **environ):
    return place.run([*command, *arguments], check=check, timeout=600, **environ)


def recordings(place) -> set[Path]:
    return set(place.store.glob("v1/environments/*/recordings/*.log"))


def ends_in_plain_juliacall(place, code: str) -> bool:
    try:
        place.run([sys.executable, "-c", code], timeout=60, PYJL_AUTOIMAGE="0")
    except subprocess.TimeoutExpired:
        return False
    return True


def test_threads_that_import_juliacall_at_once(place, command):
    before = recordings(place)
    code = (
        "import json, threading\nbarrier = threading.Barrier(4)\ndone = []\n"
        "def f():\n    barrier.wait()\n    import juliacall\n    done.append(juliacall.CONFIG['inited'])\n"
        "threads = [threading.Thread(target=f) for _ in range(4)]\n[t.start() for t in threads]\n[t.join() for t in threads]\n"
        f"assert done == [True] * 4\nimport juliacall\n{TELL}"
    )
    if not ends_in_plain_juliacall(place, code):
        pytest.skip("plain juliacall hangs at its end where another thread than the first started this Julia")
    assert json.loads(start(place, command, "-c", code).stdout) == [2, True]
    assert len(recordings(place) - before) == 1


def test_an_import_that_fails_and_then_does_not(place, command):
    before = recordings(place)
    code = (
        "import json, os\nos.environ['PYTHON_JULIACALL_PROJECT'] = os.getcwd()\n"
        "try:\n    import juliacall\nexcept Exception as error:\n    got = error\n"
        "assert type(got) is Exception and 'must be set together' in str(got), got\n"
        f"del os.environ['PYTHON_JULIACALL_PROJECT']\nimport juliacall\n{TELL}"
    )
    assert json.loads(start(place, command, "-c", code).stdout) == [2, True]
    assert len(recordings(place) - before) == 1


def test_a_reload_does_what_it_does_in_plain_python(place, command):
    code = (
        "import importlib, json, juliacall\nfirst = juliacall.CONFIG['opt_trace_compile']\n"
        "juliacall.Main.seval('x_kept = 41')\nimportlib.reload(juliacall)\n"
        "print(juliacall.Main.seval('x_kept + 1'), juliacall.CONFIG['opt_trace_compile'] == first, juliacall.CONFIG['inited'])"
    )
    for _ in range(3):  # it read beyond the end of a list, which may go well
        ours, plain = (start(place, how, "-c", code) for how in (command, [sys.executable]))
        assert ours.stdout == plain.stdout == "42 True True\n"


def test_processes_that_a_program_spawns(place, command, tmp_path):
    script = tmp_path / "theirs.py"
    script.write_text(
        "import multiprocessing, sys\n\ndef work(x):\n    from juliacall import Main as jl\n    return jl.seval('x -> x + 1')(x)\n\n"
        "if __name__ == '__main__':\n    import juliacall\n    assert juliacall.CONFIG['opt_trace_compile']\n"
        "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n        print(pool.map(work, [1, 2], chunksize=1))\n"
    )
    before = recordings(place)
    assert start(place, command, str(script)).stdout == "[2, 3]\n"
    # Under `run` the children are plain Pythons; `enable` is for every process of the environment.
    assert (len(recordings(place) - before) > 1) == ("run" not in command)


def test_python_inside_julia_is_left_alone(place, env):
    before = recordings(place)
    code = (
        'using PythonCall; juliacall = pyimport("juliacall"); sys = pyimport("sys"); '
        'println(pyconvert(Bool, juliacall.CONFIG["init"]), " ", pyconvert(Bool, pyin("pyjl_autoimage.startup.start", sys.modules)), '
        '" ", pyconvert(Int, pyeval("juliacall.Main.seval(\\"1 + 1\\")", Main, (; juliacall))))'
    )
    result = subprocess.run(
        [place.environment.executable, f"--project={place.environment.project}", "--startup-file=no", "-e", code],
        env={**place.environ, "JULIA_PYTHONCALL_EXE": str(env.python)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout == "false true 2\n", "the hook was asked, and declined"
    assert recordings(place) == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_end_a_program_as_they_do_under_plain_python(place, command, name):
    code = "import juliacall, time; print('up', flush=True); time.sleep(30)"
    results = []
    for how in ([sys.executable], command):
        process = subprocess.Popen(
            [*how, "-c", code],
            env=place.environ,
            cwd=place.root,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Who runs the tests in the background ignores SIGINT, and a child inherits that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stdout.readline() == "up\n"
        time.sleep(0.2)
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate(timeout=60)
        results.append((process.returncode, errors))
    assert results[0] == results[1] and results[0][0] == -getattr(signal, name)


def test_an_error_of_julia_in_an_unmodified_program(place, command, tmp_path):
    script = tmp_path / "theirs.py"
    script.write_text("from juliacall import Main as jl\njl.seval('error(\"theirs\")')\n")
    plain, ours = (start(place, how, str(script), check=False) for how in ([sys.executable], command))
    assert ours.returncode == plain.returncode == 1
    assert [line for line in ours.stderr.splitlines() if not line.startswith(("  File", "   @"))] == [
        line for line in plain.stderr.splitlines() if not line.startswith(("  File", "   @"))
    ]
    assert "pyjl_autoimage" not in ours.stderr


@pytest.mark.skipif(
    not os.environ.get("PYJL_TEST_JULIACALL"), reason="PYJL_TEST_JULIACALL names no sdist of juliacall"
)
def test_juliacalls_own_tests_pass(place, command):
    sources = os.environ["PYJL_TEST_JULIACALL"]
    result = start(
        place, command, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", sources, f"{sources}/pytest"
    )
    assert " failed" not in result.stdout and " passed" in result.stdout
