"""What people may give us to run, and what a fresh process makes of it (with a stand-in juliacall)."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from pathlib import Path

import pytest

from pyjl_autoimage import Workload, WorkloadError, workload
from pyjl_autoimage.base.call import julia_string
from pyjl_autoimage.build.perform import run
from pyjl_autoimage.profile.workloads import Caller, Task, tasks

from standin import World, python, runs, wait_for


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


def perform(world: World, task: Task, *, limit: float = 60, path=None, packages=None, **environ: str):
    """Run a task in that world: its outcome, and what it printed."""
    output = world.root / "output"
    with output.open("w", encoding="utf-8") as log:
        outcome = run(
            task,
            caller=Caller(str(world.root), path),
            token="t0",
            directory=str(world.root),
            environ={**world.environ, **environ},
            packages=packages,
            limit=limit,
            log=log,
        )
    return outcome, output.read_text(encoding="utf-8")


def headers(world: World) -> list[dict]:
    return [
        json.loads(path.read_text().splitlines()[0])
        for path in Path(world.store.recordings(world.environment.id)).glob("*.log")
    ]


def write(path: Path, text: str) -> str:
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return str(path)


# -- what is what -------------------------------------------------------------------------------------------


def test_texts_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script, julia = write(tmp_path / "a.py", "pass"), write(tmp_path / "b.jl", "1")
    assert [(t.kind, t.what, t.function) for t in tasks([script, julia, "json.tool", "json:loads", "sum(1:3)"])] == [
        ("script", script, ""),
        ("julia script", julia, ""),
        ("module", "json.tool", ""),
        ("module", "json", "loads"),
        ("julia", "sum(1:3)", ""),
    ]
    assert [t.what for t in tasks(Path("a.py"))] == [script]


@pytest.mark.parametrize("missing", ["nowhere.py", "nowhere.jl", "no_such_module", "json.no_such_module"])
def test_what_is_not_there_is_an_error_at_once(missing):
    with pytest.raises(WorkloadError, match="there is no"):
        tasks(missing)


@pytest.mark.parametrize(
    ("source", "is_missing"),
    [
        ("def there(): pass", True),
        ("def there():\n    def inside(): pass", True),
        ("import nothing.at_all as x\nx = 1", True),
        ("def wanted(): pass", False),
        ("from elsewhere import wanted", False),
        ("from elsewhere import x as wanted", False),
        ("if True:\n    wanted = print", False),
        ("def make():\n    global wanted", False),
        ("from elsewhere import *", False),
        ("def __getattr__(name): pass", False),
        ("globals().update(x)", False),
        ("import sys; sys.modules[__name__] = 1", False),
        ("this is no Python", False),
    ],
)
def test_a_function_that_is_plainly_not_there_is_an_error_at_once(tmp_path, monkeypatch, source, is_missing):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "some_module.py", source)
    if is_missing:
        with pytest.raises(WorkloadError, match="there is no function wanted in some_module"):
            tasks("some_module:wanted")
    else:
        assert tasks("some_module:wanted")[0].function == "wanted"
    assert "some_module" not in sys.modules


def test_a_module_of_a_package_is_no_function_that_lacks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some_package").mkdir()
    write(tmp_path / "some_package" / "__init__.py", "")
    write(tmp_path / "some_package" / "below.py", "def f(): pass")
    assert tasks("some_package:below.f")[0].function == "below.f"
    with pytest.raises(WorkloadError, match="there is no module nowhere"):
        tasks("nowhere:f")


def test_what_is_no_workload():
    with pytest.raises(WorkloadError, match="3 is no workload"):
        tasks(3)


def test_a_function_that_cannot_be_carried(tmp_path):
    file = (tmp_path / "f").open("w")
    with file, pytest.raises(WorkloadError, match=r"cannot be carried to a fresh process: .*pickle"):
        tasks(lambda: file)


MARKED = """
    import pyjl_autoimage as p
    from pyjl_autoimage import workload as mark

    @mark
    def first(): print("first ran", __name__)

    @p.workload(packages=["Example"])
    def second(): print("second ran", __name__)

    def third(): print("third ran")

    class other:
        workload = staticmethod(lambda f: f)

    @other.workload
    def fourth(): pass

    raise SystemExit("imported")
"""


def test_marked_functions_are_found_without_importing_anything(tmp_path, monkeypatch):
    script = write(tmp_path / "prog.py", MARKED)
    assert [(t.kind, t.what, t.function) for t in tasks(script)] == [
        ("script", script, "first"),
        ("script", script, "second"),
    ]
    package = tmp_path / "pack"
    (package / "below").mkdir(parents=True)
    write(package / "__init__.py", "raise SystemExit('imported')")
    write(package / "below" / "tables.py", MARKED)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [(t.kind, t.what, t.function) for t in tasks("pack")] == [
        ("module", "pack.below.tables", "first"),
        ("module", "pack.below.tables", "second"),
    ]
    assert [t.what for t in tasks("pack.below.tables")] == ["pack.below.tables"] * 2


def test_the_mark_changes_nothing():
    def f(x):
        return x + 1

    assert workload(f) is f and workload(packages=["A"])(f) is f and f(1) == 2


# -- what a fresh process makes of it -----------------------------------------------------------------------


def test_a_closure_runs_elsewhere_with_the_callers_path_and_directory(world):
    module = world.root / "lib"
    module.mkdir()
    write(module / "helper_of_mine.py", "def shout(x): return x.upper()")
    code = f"""
    import json, os, sys
    from dataclasses import asdict
    sys.path.append({str(module)!r})
    import helper_of_mine
    from pyjl_autoimage.profile.workloads import Caller, tasks
    word = "hello"
    def make(n):
        def f():
            from pyjl_autoimage import jl
            print(helper_of_mine.shout(word), n, os.getpid() != {os.getpid()}, type(jl).__name__)
        return f
    print(json.dumps([asdict(tasks(make(7))[0]), asdict(Caller.here(with_path=True))]))
    """
    script = write(world.root / "caller.py", code)
    result = python(world.environ, script, cwd=world.root)
    task, caller = json.loads(result.stdout)
    output = world.root / "output"
    with output.open("w") as log:
        outcome = run(
            Task.from_json(task),
            caller=Caller.from_json(caller),
            token="t1",
            directory=str(world.root),
            environ=world.environ,
            packages=None,
            limit=60,
            log=log,
        )
    assert (outcome.problem, output.read_text()) == ("", "HELLO 7 True Main\n")
    (header,) = headers(world)
    assert header["program"] == script and header["workload"] == "t1"


def test_a_script_is_run_as_python_would_and_known_as_itself(world):
    script = write(
        world.root / "prog.py", "import sys, juliacall\nprint(__name__, sys.argv, juliacall.CONFIG['trace_compile'])"
    )
    outcome, output = perform(world, tasks(script, ["--x", "1"])[0])
    assert not outcome.problem
    assert output.startswith(f"__main__ ['{script}', '--x', '1'] ") and output.strip().endswith(".jl")
    (header,) = headers(world)
    assert (header["program"], header["workload"]) == (script, "t0")


def test_marked_functions_are_called_and_the_program_is_not(world):
    script = write(world.root / "prog.py", MARKED.replace('raise SystemExit("imported")', "import juliacall"))
    outcome, output = perform(world, tasks(script)[1])
    assert (outcome.problem, output) == ("", "second ran prog\n")
    assert headers(world)[0]["program"] == script


def test_julia_code_and_its_errors(world):
    juliacall = world.site / "juliacall" / "__init__.py"
    juliacall.write_text(juliacall.read_text().replace("return 1\n", "print(code.decode())\n            return 1\n"))
    outcome, output = perform(world, Task("code", "julia", 'println("$x")', arguments=("a b",)))
    assert not outcome.problem
    assert r'push!(ARGS, "a b"); Base.include_string(Main, "println\U00000028' in output
    script = write(world.root / "prog.jl", "1")
    _, output = perform(world, tasks(script)[0])
    assert f"Base.include(Main, {julia_string(script)})" in output
    juliacall.write_text(juliacall.read_text().replace("return 1\n", "return None\n"))
    outcome, _ = perform(world, Task("code", "julia", "error()"))
    assert outcome.problem.startswith("it ended with status 1")


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise ValueError('oh')", "it ended with status 1: ValueError: oh"),
        (
            "print('Stacktrace:')\nraise KeyError('no') from ValueError('a\\nb')",
            "it ended with status 1: KeyError: 'no'",
        ),
        ("print('so far')\nraise SystemExit('no\\tdata')", "it ended with status 1: no data"),
        (
            "print('ERROR: x not defined\\nStacktrace:\\n [1] f()\\n'); raise SystemExit(1)",
            "it ended with status 1: ERROR: x not defined",
        ),
        ("raise SystemExit(3)", "it ended with status 3"),
        ("import os; os._exit(4)", "it ended with status 4"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it died of SIGSEGV"),
        ("import time; time.sleep(60)", "it was ended after 4 s (setting time_limit)"),
    ],
)
def test_a_workload_that_ends_badly_keeps_what_it_recorded(world, code, problem):
    trace = "open(juliacall.CONFIG['trace_compile'], 'a').write('precompile(Tuple{typeof(Base.f), Int64})\\n')"
    script = write(world.root / "prog.py", f"import juliacall\n{trace}\n{code}")
    outcome, _ = perform(world, tasks(script)[0], limit=4 if "sleep" in code else 60)
    assert outcome.problem == problem
    (recorded,) = Path(world.store.recordings(world.environment.id)).glob("*.jl")
    assert recorded.read_text() == "precompile(Tuple{typeof(Base.f), Int64})\n"


def test_what_a_hanging_workload_started_ends_with_it(world):
    code = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    time.sleep(60)
    """
    outcome, output = perform(world, tasks(write(world.root / "prog.py", code))[0], limit=2)
    assert outcome.problem
    wait_for(lambda: not runs(int(output)))


def test_what_a_workload_leaves_running_ends_with_it(world):
    code = """
    import subprocess, sys
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
    """
    outcome, output = perform(world, tasks(write(world.root / "prog.py", code))[0])
    assert not outcome.problem
    wait_for(lambda: not runs(int(output)))


ASYNC = """
    import asyncio
    from pyjl_autoimage import workload

    @workload
    async def f():
        await asyncio.sleep(0)
        print("ran")

    @workload
    async def fails():
        raise ValueError("oh")

    @workload
    def generator():
        print("ran")
        yield

    @workload
    async def async_generator():
        print("ran")
        yield

    @workload
    def gives_one():
        return f()
"""


@pytest.mark.parametrize(
    ("function", "problem", "printed"),
    [
        ("f", "", "ran\n"),
        ("gives_one", "", "ran\n"),
        ("fails", "it ended with status 1: ValueError: oh", None),
        ("generator", "it ended with status 1: generator is a generator, which runs nothing", None),
        ("async_generator", "it ended with status 1: async_generator is a generator, which runs nothing", None),
    ],
)
def test_async_workloads_run_and_generators_are_refused(world, function, problem, printed):
    script = write(world.root / "prog.py", ASYNC)
    assert len(tasks(script)) == 5
    (task,) = (task for task in tasks(script) if task.function == function)
    outcome, output = perform(world, task)
    assert outcome.problem == problem if not problem else outcome.problem.startswith(problem)
    assert output == printed if printed is not None else "ran\n" not in output


def test_functions_may_be_async_and_are_no_generators(world):
    async def f():
        print("ran")

    def generator():
        yield

    async def async_generator():
        yield

    assert perform(world, tasks(f)[0])[1] == "ran\n"
    for refused in (generator, async_generator):
        with pytest.raises(WorkloadError, match=f"{refused.__name__} is a generator"):
            tasks(refused)


IN_THE_WAY = "raise SystemExit('not the one that was meant')\n"


@pytest.mark.parametrize(
    "source",
    ["import signal; print(signal.SIGINT)", "from pyjl_autoimage import workload\n@workload\ndef f(): print(2)"],
)
def test_what_lies_in_the_current_directory_is_not_in_the_way_of_a_script_elsewhere(world, source):
    for name in ("signal", "types", "json", "base64", "asyncio"):
        write(world.root / f"{name}.py", IN_THE_WAY)
    (world.root / "sub").mkdir()
    script = write(
        world.root / "sub" / "prog.py", f"import sys\n{source}\nassert {str(world.root)!r} not in sys.path"
    )
    outcome, output = perform(world, tasks(script)[0])
    assert outcome.problem == "" and output.strip() == "2"


def test_a_module_is_found_where_python_m_finds_it(world, monkeypatch):
    monkeypatch.chdir(world.root)
    write(world.root / "mine.py", "import helper\nprint(__name__, helper.WORD)\ndef f(): print('called')")
    write(world.root / "helper.py", "WORD = 'here'")
    write(world.site / "helper.py", "WORD = 'there'")
    plain = python(world.environ, "-m", "mine", cwd=world.root).stdout
    assert perform(world, tasks("mine")[0])[1] == plain == "__main__ here\n"
    assert perform(world, tasks("mine:f")[0])[1] == "mine here\ncalled\n"
    write(world.root / "json.py", IN_THE_WAY)
    write(world.site / "library.py", "import json\ndef f(): print(json.dumps(1))")
    assert perform(world, Task("t", "module", "library", "f"))[1] == "1\n", "one that is installed"


def test_options_that_would_keep_it_from_recording_are_not_taken_over(world, monkeypatch):
    script = write(
        world.root / "prog.py", "import juliacall as j\nprint(j.CONFIG['trace_compile'], j.CONFIG['sysimage'])"
    )
    monkeypatch.setenv("PYTHON_JULIACALL_TRACE_COMPILE", "/t.jl")
    monkeypatch.setenv("PYTHON_JULIACALL_SYSIMAGE", "/sys.so")
    _, output = perform(world, tasks(script)[0])
    assert "recordings" in output and output.endswith(" None\n")


# -- declared by libraries ----------------------------------------------------------------------------------


def test_a_declared_workload_is_relative_to_its_module_and_needs_its_packages(world):
    package = world.site / "mylib"
    package.mkdir()
    write(package / "__init__.py", "")
    write(package / "warmup.py", "print('warm', __name__)")
    write(
        package / "images.py",
        """
        from pyjl_autoimage import Workload, workload
        tables = Workload("warmup.py", statements="precompile.jl", packages=["Example"])
        @workload(packages=["Example", "Other"])
        def f(): print("called")
        """,
    )
    outcome, output = perform(world, Task("t", "module", "mylib.images", "tables"), packages=["Example"])
    assert (outcome.problem, output) == ("", "warm __main__\n")
    assert outcome.statements == [str(package / "precompile.jl")]
    outcome, output = perform(world, Task("t", "module", "mylib.images", "f"), packages=["Example"])
    assert (outcome.problem, output) == ("not run: the project has no Other", "")
    outcome, output = perform(world, Task("t", "module", "mylib.images", "f"), packages=["Example", "Other"])
    assert (outcome.problem, output) == ("", "called\n")


def test_a_workload_of_statements_needs_no_julia(world):
    file = write(world.root / "s.jl", "precompile(Tuple{typeof(Base.f), Int64})\n")
    (task,) = tasks(Workload(statements=file))
    outcome, output = perform(world, task)
    assert (outcome.problem, outcome.statements, output) == ("", [file], "")
    assert headers(world) == []
