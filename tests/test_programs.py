"""`run`, side by side with plain Python: whatever a program can see, or its caller, is the same."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from pyjl_autoimage.hook.run import python_options, run

from standin import heed_interrupts

POSIX = sys.platform != "win32"

# Everything that a program can see of how it was started. Ours: the finder.
LOOK = """
import json, os, re, sys
import __main__
def look():
    main = {k: repr(v) for k, v in vars(__main__).items() if k.startswith("__") and k != "__builtins__"}
    main = {k: re.sub(" at 0x[0-9a-f]+", "", v) for k, v in main.items()}
    return {
        "argv": sys.argv, "orig_argv": sys.orig_argv[1:], "path": sys.path, "flags": repr(sys.flags),
        "options": [repr(sys._xoptions), sys.warnoptions], "main": main, "same": __main__ is sys.modules["__main__"],
        "environ": dict(os.environ),
        "modules": sorted(m for m in sys.modules),
        "finders": [str(f).partition(" at ")[0] for f in sys.meta_path if not hasattr(f, "pyjl_autoimage")],
        "caches": sorted(p for p in sys.path_importer_cache if "handover" in p),
        "streams": [sys.stdout.line_buffering, sys.stdout.write_through, sys.stdin.isatty()],
        "handlers": [str(__import__("signal").getsignal(n)) for n in (2, 13, 15)],
    }
print(json.dumps(look(), indent=1))
"""
HOOKED = "import sys; sys.exit(any(hasattr(f, 'pyjl_autoimage') for f in sys.meta_path) * 42)"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Programs of every kind."""
    programs = {
        "look.py": LOOK,
        "package/__init__.py": "",
        "package/__main__.py": LOOK,
        "package/module.py": LOOK,
        "directory/__main__.py": LOOK,
        "broken.py": "def f(:\n",
        "latin.py": "# coding: latin-1\nprint(ascii('\u00e9'))\n",
        "bad_encoding.py": "# coding: nonsense\n",
        "raises.py": "def f():\n    raise ValueError('oh')\ntry:\n    f()\nexcept ValueError as e:\n    raise KeyError(1) from e\n",
        "stack.py": "import traceback, warnings\ntraceback.print_stack()\nwarnings.warn('w', stacklevel=2)\nwarnings.warn('x', DeprecationWarning)\n",
        "hook.py": "import sys\nsys.excepthook = lambda *a: print('mine', a[:2], a[2].tb_lineno, a[2].tb_next)\n1/0\n",
        "bad_hook.py": "import sys\ndef h(*a): 1/0\nsys.excepthook = h\nraise KeyError\n",
        "atexit.py": "import atexit, threading, time, sys\natexit.register(print, 'bye')\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\nprint('end')\nsys.exit(3)\n",
        "interrupted.py": "raise KeyboardInterrupt\n",
        "killed.py": "import os, signal, sys\nos.kill(os.getpid(), getattr(signal, sys.argv[1]))\nimport time; time.sleep(5)\n",
        "spawn.py": "import multiprocessing as m, pickle, sys\nclass C:\n    pass\ndef f(x):\n    return x, __name__, sys.argv\n"
        "if __name__ == '__main__':\n    assert type(pickle.loads(pickle.dumps(C()))) is C\n"
        "    with m.get_context(sys.argv[1]).Pool(2) as pool:\n        print(pool.map(f, [1, 2]))\n",
        "pool.py": "from concurrent.futures import ProcessPoolExecutor as P\nimport multiprocessing as m\n"
        "def f(x):\n    return x + 1\nif __name__ == '__main__':\n"
        "    with P(1, mp_context=m.get_context('spawn')) as p:\n        print(list(p.map(f, [1, 2])))\n",
        "again.py": "import subprocess, sys\nsys.exit(subprocess.call([sys.executable, 'look.py']))\n",
        "reads.py": "import sys\nprint(sys.stdin.read().upper())\n",
        "elsewhere/sitecustomize.py": "print('their sitecustomize')\nimport sys; sys.theirs = __file__\n",
        "faulty/sitecustomize.py": "1/0\n",
    }
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="latin-1" if name == "latin.py" else "utf-8")
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.writestr("__main__.py", LOOK)
    if POSIX:
        (tmp_path / "links").mkdir()
        (tmp_path / "links" / "look").symlink_to("../look.py")
    return tmp_path


RUN = ("-m", "pyjl_autoimage", "run")


def both(place: Path, *command: str, options: tuple[str, ...] = (), stdin: str = "", ours=RUN, **environ: str):
    """A program under plain Python and under `run`."""
    results = []
    for how in ((), ours):
        given = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
        results.append(
            subprocess.run(
                [sys.executable, *options, *how, *command],
                env={**given, **environ},
                cwd=place,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                preexec_fn=heed_interrupts if POSIX else None,
            )
        )
    return results


CASES = [
    "look.py",
    "./look.py a 'b c' --version -h -- -m x",
    "package/module.py",
    "links/look" if POSIX else "look.py",
    "directory a",
    "program.zip a",
    "package",
    "-m look -m --help",
    "-mlook a",
    "-m package a",
    "-m package.module a",
    "-c 'import look' a -b",
    "-c 'print(__name__); import sys; print(sys.argv)' --json",
    "-c",
    "-m",
    "- a b",
    "latin.py",
    "broken.py",
    "bad_encoding.py",
    "missing.py",
    "-m missing",
    "-m package.missing",
    "elsewhere",
    "raises.py",
    "-m raises",
    "-c 1/0",
    "stack.py",
    "-m stack",
    "hook.py",
    "bad_hook.py",
    "atexit.py",
    "interrupted.py",
    "-m interrupted",
    "-c 'raise KeyboardInterrupt'",
    "again.py",
    "reads.py",
    "spawn.py spawn",
    "spawn.py forkserver" if POSIX else "spawn.py spawn",
    "spawn.py fork" if POSIX else "spawn.py spawn",
    "-m spawn spawn",
    "pool.py",
    *(f"-c 'import sys; sys.exit({value})'" for value in ("", "None", "0", "7", "256", "-1", "True", '"text"', "[1]", "2.5")),
    *(f"-c '{code}'" for code in ("raise SystemExit(4)", "exit(5)", "import os; os._exit(9)", "import os; os.abort()")),
    *(f"killed.py {name}" for name in (("SIGINT", "SIGTERM", "SIGKILL", "SIGHUP", "SIGSEGV") if POSIX else ("SIGTERM",))),
]  # fmt: skip


@pytest.mark.parametrize("command", CASES)
def test_a_program_runs_as_under_plain_python(place, command):
    plain, ours = both(place, *shlex.split(command), stdin=LOOK)
    assert (ours.stdout, ours.stderr, ours.returncode) == (plain.stdout, plain.stderr, plain.returncode)


OPTIONS = [
    "-u", "-O", "-OO", "-B", "-b", "-q", "-s", "-v", "-X utf8 -X importtime=x", "-Xdev", "-X juliacall-threads=2",
    "-W error", "-Wignore -W default::UserWarning", "-uOWerror -X faulthandler", "--check-hash-based-pycs never", "-x",
    "-i", *(["-P", "-uP"] if sys.version_info >= (3, 11) else []),
]  # fmt: skip


@pytest.mark.parametrize("program", ["look.py a", "-m look a"])
@pytest.mark.parametrize("options", OPTIONS)
def test_options_of_python_apply_to_the_program(place, options, program):
    plain, ours = both(place, *shlex.split(program), options=tuple(options.split()), stdin=LOOK)
    assert (ours.stdout, ours.returncode) == (plain.stdout, plain.returncode)
    if "importtime" not in options and options != "-v":
        assert ours.stderr == plain.stderr


def test_an_option_that_ends_in_m(place):
    plain, _ = both(place, "look.py", options=("-u",))
    _, ours = both(place, "look.py", ours=("-um", "pyjl_autoimage", "run"))
    assert ours.stdout == plain.stdout


@pytest.mark.parametrize(
    "environ",
    [
        {"PYTHONPATH": "elsewhere"},
        {"PYTHONPATH": os.pathsep.join(["package", "", "elsewhere"])},
        {"PYTHONPATH": "faulty"},
        {"PYTHONPATH": "faulty", "PYTHONVERBOSE": "1"},
        {"PYTHONSAFEPATH": "1"},
        {"PYTHONOPTIMIZE": "1", "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error"},
        {"PYTHONINSPECT": "1"},
        {"PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    ],
)
@pytest.mark.parametrize("program", ["look.py a", "-m look a"])
def test_the_environment_is_the_programs(place, environ, program):
    plain, ours = both(place, *program.split(), **environ)
    # The Python that says "run" is one, too: the environment's own sitecustomize has a word at its start as well.
    word = both(place, "-c", "", **{k: v for k, v in environ.items() if k != "PYTHONINSPECT"})[0]
    assert (ours.stdout, ours.returncode) == (word.stdout + plain.stdout, plain.returncode)
    if "PYTHONVERBOSE" not in environ:
        assert ours.stderr == word.stderr + plain.stderr


@pytest.mark.parametrize("program", [["-c", HOOKED], ["hooked.py"], ["-m", "hooked"], ["-"]])
def test_the_hook_is_in_place(place, program):
    (place / "hooked.py").write_text(HOOKED)
    plain, ours = both(place, *program, stdin=HOOKED)
    assert (plain.returncode, ours.returncode) == (0, 42), ours.stderr


def test_the_package_in_the_current_directory_is_the_one_that_serves(place):
    import shutil

    import pyjl_autoimage

    shutil.copytree(Path(pyjl_autoimage.__file__).parent, place / "pyjl_autoimage")
    code = "import sys; print([type(f).find_spec.__globals__['__file__'] for f in sys.meta_path if hasattr(f, 'pyjl_autoimage')])"
    _, ours = both(place, "-c", code)
    assert eval(ours.stdout) == [str(place / "pyjl_autoimage" / "hook" / "handover" / "sitecustomize.py")]
    code = "import importlib.util as u; u.find_spec('juliacall'); import pyjl_autoimage.hook as h; print(h.__file__)"
    _, ours = both(place / "package", "-c", code, PYTHONPATH=str(place))
    assert ours.stdout == f"{place / 'pyjl_autoimage' / 'hook' / '__init__.py'}\n"


@pytest.mark.skipif(not POSIX, reason="a process cannot be replaced on Windows")
def test_the_process_is_the_same(place):
    code = "import os; print(os.getpid(), flush=True); import time; time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-m", "pyjl_autoimage", "run", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    assert int(process.stdout.readline()) == process.pid
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert errors.splitlines()[-1] == b"KeyboardInterrupt" and b"pyjl" not in errors


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_options_that_leave_us_out_are_refused_with_the_way_out(place, option):
    import pyjl_autoimage

    source = str(Path(pyjl_autoimage.__file__).parent.parent)
    environ = {**os.environ, "PYTHONPATH": source}
    result = subprocess.run(
        [sys.executable, option, "-m", "pyjl_autoimage", "run", "look.py"],
        cwd=place, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2 and "enable" in result.stderr and result.stdout == ""


def test_without_a_program(capsys):
    assert run([]) == 2 and "usage" in capsys.readouterr().err
    assert run(["--help"]) == 0 and "usage" in capsys.readouterr().out
    assert run(["-u", "look.py"]) == 2


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ([], []),
        (["-m", "x", "-u"], []),
        (["-mx", "-u"], []),
        (["-um", "x"], ["-u"]),
        (["-uc", "x"], ["-u"]),
        (["-W", "m", "-Xc", "-X", "m=c", "-Bm", "x"], ["-W", "m", "-Xc", "-X", "m=c", "-B"]),
        (["-BWm", "-OO", "script", "-u"], ["-BWm", "-OO"]),
        (["--check-hash-based-pycs", "always", "-", "-u"], ["--check-hash-based-pycs", "always"]),
    ],
)
def test_the_options_of_python_end_where_its_program_begins(given, options):
    assert python_options(given) == options
