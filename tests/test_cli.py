"""The command line: exit statuses, and what is said where Julia cannot be had or a build fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyjl_autoimage.build.state import State
from pyjl_autoimage.errors import JuliaNotFoundError
from pyjl_autoimage.julia.environment import locate
from pyjl_autoimage.people import building, commands
from pyjl_autoimage.people import cli as cli_module
from pyjl_autoimage.people.cli import main

from standin import (
    World,
    buildable_world,
    cli,
    ended,
    environ_of,
    heed_interrupts,
    julia_that,
    julia_that_builds,
    path_without_compiler,
    python,
    pythoncall,
    runs,
    until,
    wait_for,
)


@pytest.mark.parametrize("command", ["build", "demo", "status"])
def test_without_julia_it_says_what_is_missing_and_what_to_set(no_julia_environ, tmp_path, command):
    environ = {**no_julia_environ, "PYJL_AUTOIMAGE_HOME": str(tmp_path / "store")}
    result = cli(environ, command)
    assert result.returncode == 3, result.stderr
    assert "Traceback" not in result.stderr
    if command == "status":
        assert "not been set up yet" in result.stderr
    else:
        assert "could not find Julia" in result.stderr and "PYTHON_JULIAPKG_EXE" in result.stderr


def test_another_place_than_the_program_s_is_told(tmp_path, monkeypatch):
    from juliapkg import deps

    monkeypatch.setattr(deps, "deps_files", lambda: ["/venv/juliacall/juliapkg.json", "/here/juliapkg.json"])
    monkeypatch.setattr(
        deps, "load_meta", lambda: {"deps_files": {"/venv/juliacall/juliapkg.json": {}, "/there/juliapkg.json": {}}}
    )
    monkeypatch.setattr("juliapkg.resolve", lambda **_: False)
    with pytest.raises(JuliaNotFoundError) as raised:
        locate(install=False)
    said = str(raised.value).splitlines()
    assert said[1:-1] == ["  only now:  /here/juliapkg.json", "  only then: /there/juliapkg.json"]


def test_without_julia_json_is_still_one_object(no_julia_environ, tmp_path):
    environ = {**no_julia_environ, "PYJL_AUTOIMAGE_HOME": str(tmp_path / "store")}
    for command in ("build", "demo", "status"):
        result = cli(environ, command, "--json")
        assert result.returncode == 3
        assert json.loads(result.stdout)["status"] == 3


@pytest.mark.parametrize("how", ["python -m pyjl_autoimage", "pyjl-autoimage"])
def test_our_commands_take_settings_from_the_project_that_they_are_given_in(world, how):
    script = world.root / "bin" / "pyjl-autoimage"
    script.parent.mkdir()
    script.write_text("import sys\nfrom pyjl_autoimage.__main__ import main\nsys.exit(main())\n")
    (world.root / "pyproject.toml").write_text("[tool.pyjl-autoimage]\nimage-threads = 'many'\n")
    (world.root / "below").mkdir()
    command = ["-m", "pyjl_autoimage"] if how.startswith("python") else [str(script)]
    result = python(world.environ, *command, "status", cwd=world.root / "below")
    assert result.returncode == 2
    assert f"{world.root / 'pyproject.toml'}: [tool.pyjl-autoimage] image-threads = 'many'" in result.stderr


def test_the_script_sees_the_current_directory_as_python_m_does(tmp_path):
    code = "import sys\nfrom pyjl_autoimage.__main__ import main\nsys.argv = ['pyjl-autoimage', 'run', '--help']\n"
    code += "sys.path.remove('')\nmain()\nprint(sys.path[-1])"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == str(tmp_path)


def test_a_build_s_log_is_there_though_the_project_must_be_set_up_again(tmp_path, monkeypatch):
    from juliapkg import deps
    from juliapkg.state import STATE

    monkeypatch.setattr(deps, "load_meta", lambda: {"executable": sys.executable, "deps_files": {}})
    monkeypatch.setattr("juliapkg.resolve", lambda **_: False)
    monkeypatch.setitem(STATE, "project", str(tmp_path))
    found = locate(install=False, outdated=True)
    assert (found.executable, found.project) == (sys.executable, str(tmp_path))
    monkeypatch.setattr(deps, "load_meta", lambda: None)
    with pytest.raises(JuliaNotFoundError):
        locate(install=False, outdated=True)


def test_an_executable_that_is_no_julia(world):
    world.executable.write_text("#!/bin/sh\necho I am no Julia\n")
    result = cli(world.environ, "status")
    assert result.returncode == 3
    assert f"{world.executable} is not a usable Julia" in result.stderr


def test_juliacalls_executable_and_project_belong_together(world):
    environ = world.environ
    del environ["PYTHON_JULIACALL_PROJECT"]
    result = cli(environ, "status")
    assert result.returncode == 3
    assert "must be set together" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["build", "--colour"], ["build", "--dev-packages", "burn"]])
def test_usage(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "--qick"], ["usage: pyjl-autoimage build ", "unrecognized arguments: --qick"]),
        (["status", "extra"], ["usage: pyjl-autoimage status ", "unrecognized arguments: extra"]),
        (["build", "sales.py"], ["to run it first: build --train sales.py"]),
        (["biuld"], ["usage: pyjl-autoimage ", "there is no command biuld: did you mean build?"]),
        (["qqqqqqq"], ["there is no command qqqqqqq\n"]),
        (["explain", "--sv", "FILE", "prog.py"], ["usage: pyjl-autoimage explain ", "unrecognized arguments: --sv"]),
        (["clean", "--dry"], ["unrecognized arguments: --dry"]),
    ],
)
def test_what_is_wrong_is_said_with_the_usage_of_the_command(capsys, arguments, said):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    shown = capsys.readouterr().err
    assert caught.value.code == 2 and all(words in shown for words in said), shown


@pytest.mark.parametrize("arguments", [["run", "--help"], ["explain", "--help"], ["explain", "--colour"]])
def test_usage_fits_80_columns(capsys, monkeypatch, arguments):
    monkeypatch.setenv("COLUMNS", "80")
    try:
        main(arguments)
    except SystemExit:
        pass
    shown = capsys.readouterr()
    assert "usage" in shown.out + shown.err
    assert max(map(len, (shown.out + shown.err).splitlines())) <= 80


def test_errors_fit_a_terminal_and_are_as_they_are_in_a_pipe(monkeypatch):
    text = f"{'word ' * 30}/a/path/{'x' * 100}\nThe next line"
    assert cli_module._fitted(text) == text
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    lines = cli_module._fitted(text).splitlines()
    assert f"/a/path/{'x' * 100}" in lines and lines[-1] == "The next line"
    assert all(len(line) <= 80 or " " not in line for line in lines)


def test_a_wrong_value_is_told_by_the_name_of_its_option(world):
    result = cli(world.environ, "build", "--time-limit", "abc")
    assert result.returncode == 2
    assert result.stderr == "pyjl-autoimage: --time-limit 'abc': expected a whole number\n"


@pytest.mark.parametrize(
    ("is_quick", "quick", "keywords", "said"),
    [
        (False, False, {}, "a build of this environment runs already; watching it"),
        (True, True, {}, "a build of this environment runs already; watching it"),
        (False, True, {}, "a full build runs already; watching that one, --quick does not apply"),
        (
            True,
            False,
            {"include": ["A"], "libraries": False},
            "a quick build runs already; watching that one, --include, --no-libraries do not apply",
        ),
    ],
)
def test_options_that_a_joined_build_does_not_have_are_named(is_quick, quick, keywords, said):
    assert building._about_the_other(is_quick, quick, keywords) == said


def test_a_bad_setting_is_usage(world):
    result = cli({**world.environ, "PYJL_AUTOIMAGE_CPU_TARGET": "\n"}, "status")
    assert result.returncode == 2
    assert result.stderr.startswith("pyjl-autoimage: PYJL_AUTOIMAGE_CPU_TARGET=")


def test_help_and_version(capsys):
    for arguments in (["--help"], ["--version"], ["build", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    assert "status" in capsys.readouterr().out


def test_status_of_a_world(world):
    image = world.publish()
    stale = world.publish(b"stale", built_at=1.0, juliacall="0.9.35")
    result = cli(world.environ, "status", "--json")
    assert result.returncode == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["image"]["id"] == image.id
    assert data["image"]["packages"] == [{"name": "Example", "version": "0.5.3"}]
    (rejected,) = data["rejected"]
    assert (rejected["id"], rejected["superseded"]) == (stale.id, False)
    assert rejected["reasons"] == ["juliacall 0.9.35 in the image, 0.9.37 installed"]
    text = cli(world.environ, "status").stdout
    assert text.startswith("Fast.") and "juliacall 0.9.35 in the image" in text
    assert "\x1b" not in text, "no colours in a pipe"


def test_clean_removes_what_no_start_will_choose(world):
    image = world.publish(b"new", built_at=3.0)
    old = world.publish(b"older", built_at=2.0)
    stale = world.publish(b"stale", built_at=4.0, juliacall="0.9.35")
    dry = json.loads(cli(world.environ, "clean", "--dry-run", "--json").stdout)
    assert {r["name"] for r in dry["removed"]} == {f"image {old.id}", f"image {stale.id}"}
    assert len(list(world.store.all_images())) == 3
    result = cli(world.environ, "clean")
    assert "a newer image of the same environment is valid" in result.stdout
    assert "juliacall 0.9.35 in the image" in result.stdout
    assert [i.id for i in world.store.all_images()] == [image.id]
    everything = cli(world.environ, "clean", "--all")
    assert everything.returncode == 0
    assert list(world.store.all_images()) == []


@pytest.mark.parametrize("program", ["/home/me/[old]/a.py", "/home/me/[/old]/a.py", "/home/me/:smile:/a.py"])
def test_what_is_printed_is_no_markup(world, program):
    world.publish_layer(program=program)
    result = cli(world.environ, "clean", "--dry-run", cwd=world.root)
    assert result.returncode == 0 and program in result.stdout, result.stdout + result.stderr


def test_nobody_but_the_one_console_prints(capsys):
    """What rich takes for markup unless it is told otherwise: a line, a cell, a title, and what a spinner says."""
    from rich.table import Table

    from pyjl_autoimage.people import terminal

    package = Path(terminal.__file__).parent
    makers = [
        path.name
        for path in package.rglob("*.py")
        if re.search(r"Console\(|\.status\([\"'f]|markup", path.read_text())
    ]
    assert makers == ["terminal.py"]
    console, text = terminal.console(), "[bold]a[/] [/b] :smile:"
    console._force_terminal = True
    table = Table(text, title=text)
    table.add_row(text)
    console.print(text)
    console.print(table)
    terminal.say(console, (text, "bold"))
    with terminal.working(console, text) as tell:
        tell(text)
    assert capsys.readouterr().out.count(text) >= 5


COMMANDS = [
    *(["build"], ["build", "--no-wait"], ["status"], ["log"], ["enable"], ["disable"], ["clean"], ["explain"]),
    *(["profile", "export", "f"], ["profile", "import", "f"], ["report"], ["doctor"], ["restore", "i"], ["demo"]),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (PermissionError(13, "Permission denied", "/a/[b]"), 1, "pyjl-autoimage: Permission denied: /a/[b]\n"),
        (OSError(28, "No space left on device"), 1, "pyjl-autoimage: No space left on device\n"),
        (FileNotFoundError(2, "None such", "a", None, "b"), 1, "pyjl-autoimage: None such: a -> b\n"),
        (OSError(), 1, "pyjl-autoimage: OSError\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_the_system_refuses_is_a_sentence_whatever_the_command(
    monkeypatch, capsys, arguments, error, status, said
):
    def refuse(*_: object) -> None:
        raise error

    for name in filter(lambda name: name.endswith("_command"), dir(commands)):
        monkeypatch.setattr(commands, name, refuse)
    monkeypatch.setattr(cli_module, "build_command", refuse)
    assert main(arguments) == status
    assert capsys.readouterr().err == said


def test_clean_says_what_cannot_be_removed(world):
    world.publish_layer()
    (world.root / "sitecustomize.py").write_text(
        "import sys\nif 'clean' in getattr(sys, 'orig_argv', []):\n    import os\n"
        "    def rename(*a): raise PermissionError(13, 'Permission denied', a[0])\n    os.rename = rename\n"
    )
    environ = dict(world.environ)
    environ["PYTHONPATH"] += os.pathsep + str(world.root)
    result = cli(environ, "clean", "--all", "--json", cwd=world.root)
    if result.returncode:  # or it goes on with the rest
        assert result.returncode == 1 and json.loads(result.stdout)["status"] == 1
    assert "Traceback" not in result.stderr


def test_what_no_encoding_has_can_be_printed(world):
    world.publish_layer(program="/home/me/\udce9.py")
    result = cli({**world.environ, "PYTHONIOENCODING": "utf-8"}, "clean", "--dry-run", cwd=world.root)
    assert result.returncode == 0 and "\\udce9.py" in result.stdout, result.stderr


def test_clean_never_removes_an_image_in_use(world):
    image = world.publish(juliacall="0.9.35")
    mark = world.store.mark_use(image.id)
    result = cli(world.environ, "clean", "--all")
    assert "1 running process uses it" in result.stdout
    assert [i.id for i in world.store.all_images()] == [image.id]
    assert mark and Path(mark).exists()


# -- builds that fail ----------------------------------------------------------------------------------


@pytest.fixture
def buildable(tmp_path: Path) -> World:
    return buildable_world(tmp_path)


def test_a_build_that_fails_shows_its_last_lines_and_the_place_of_its_log(buildable):
    julia_that(buildable, 'echo "[ Info: x"; echo "ERROR: LoadError: the sky fell" >&2; echo "Stacktrace:"; exit 1')
    result = cli(environ_of(buildable), "build")
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert "ERROR: LoadError: the sky fell" in result.stderr
    log = Path(result.stderr.split("The whole log: ")[1].strip())
    assert "the sky fell" in log.read_text()
    assert list(buildable.store.all_images()) == []
    assert not Path(buildable.store.build_directory(buildable.environment.id)).exists()
    data = json.loads(cli(buildable.environ, "status", "--json").stdout)
    assert data["build"]["state"] == "failed" and "the sky fell" in data["build"]["error"]


def test_a_julia_that_cannot_build_for_other_cpus_says_what_to_do(buildable):
    """A Julia that somebody has compiled for one machine, which is all that Julia's own words do not say."""
    words = "ERROR: Unable to find compatible target in cached code image."
    julia_that(buildable, f'echo "{words}" >&2; echo "ERROR: LoadError: failed process" >&2; exit 1')
    portable = cli(environ_of(buildable), "build", "--cpu-target", "portable")
    assert "compiled for one CPU alone" in portable.stderr and "official builds" in portable.stderr
    assert "compiled for one CPU alone" not in cli(environ_of(buildable), "build").stderr


def test_of_a_process_that_another_one_started_its_own_words_are_told(buildable):
    failed = "ERROR: LoadError: failed process: Process(julia --cpu-target=foo, ProcessExited(1)) [1]"
    julia_that(buildable, f'echo "ERROR: Your CPU is too old" >&2; echo "{failed}" >&2; exit 1')
    said = cli(environ_of(buildable), "build").stderr
    assert "ERROR: Your CPU is too old" in said and "failed process" not in said


def test_a_build_killed_for_memory_says_so(buildable):
    julia_that(buildable, "kill -9 $$")
    result = cli(environ_of(buildable), "build")
    assert result.returncode == 1
    assert "memory runs out" in result.stderr


def test_a_build_that_nothing_can_link_says_so_before_it_builds_anything(buildable):
    environ = environ_of(buildable, PATH=path_without_compiler(buildable))
    del environ["JULIA_CC"]
    result = cli(environ, "build")
    assert result.returncode == 1
    assert "no C compiler" in result.stderr and "JULIA_CC" in result.stderr
    assert buildable.times_started() == 1, "asked what it is"


def test_a_build_without_pythoncall_in_the_project(world):
    result = cli(environ_of(world), "build")
    assert result.returncode == 1
    assert "PythonCall is not in" in result.stderr


def test_a_library_without_a_report_is_not_published(buildable):
    julia_that(buildable, 'for a; do case "$a" in *sys.so) echo x > "$a";; esac; done; exit 0')
    result = cli(environ_of(buildable), "build")
    assert result.returncode == 1
    assert "did not say what the image holds" in result.stderr
    assert list(buildable.store.all_images()) == []


def test_two_builds_at_once_are_one(buildable):
    julia_that(buildable, f'echo started >> "{buildable.root}/builds"; {until(buildable.root / "release")}; exit 1')
    code = (
        "import pyjl_autoimage as a, time\nh = a.rebuild(wait=False)\n"
        "while h.progress.state == 'starting': time.sleep(0.05)\nprint('begun', flush=True)\n"
        "try: h.wait()\nexcept a.BuildError: print(h.joined)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environ_of(buildable), stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    assert [process.stdout.readline() for process in processes] == ["begun\n"] * 6
    (buildable.root / "release").touch()
    joined = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert joined == ["False"] + ["True"] * 5
    assert (buildable.root / "builds").read_text() == "started\n"


def test_a_handle_only_watches_and_its_process_may_go(buildable):
    julia_that(buildable, f'{until(buildable.root / "release")}; echo "ERROR: later"; exit 1')
    code = "import pyjl_autoimage as a, os\nh = a.rebuild(wait=False); print(h.done, flush=True); os._exit(0)"
    result = python(environ_of(buildable), "-c", code)
    assert result.stdout == "False\n", result.stderr
    (buildable.root / "release").touch()
    state = wait_for(lambda: ended(buildable))
    assert state.state == "failed" and "later" in state.error


def test_a_cancelled_build_ends_its_julia_and_leaves_nothing(buildable):
    julia_that(buildable, f'echo $$ > "{buildable.root}/pid"; sleep 60')
    code = (
        "import pyjl_autoimage as a, time\nh = a.rebuild(wait=False)\n"
        f"while not open({str(buildable.root / 'pid')!r}, 'a+').tell(): time.sleep(0.05)\n"
        "h.cancel()\ntry: h.wait(60)\nexcept a.BuildError as e: print(h.progress.state, e)"
    )
    result = python(environ_of(buildable), "-c", code)
    assert result.stdout.startswith("cancelled the build was cancelled"), result.stderr
    wait_for(lambda: not runs(int((buildable.root / "pid").read_text())))
    assert not Path(buildable.store.build_directory(buildable.environment.id)).exists()


def test_phases_are_known_by_what_packagecompiler_prints(fixtures):
    """On the output of a real build (Julia 1.12) with our own script's lines between."""
    from pyjl_autoimage.build import julia

    entered = []

    class Work:
        state = State("t", "p")

        def enter(self, phase):
            self.state.phase = phase
            entered.append(phase)

        def detail(self, text):
            pass

    lines = (fixtures / "julia-1.12" / "packagecompiler-build.log").read_text(encoding="utf-8").splitlines()
    before = next(n for n, line in enumerate(lines) if "incremental system image" in line)
    lines[before + 1 : before + 1] = ["[autoimage] statements 0/10", "[autoimage] native code"]
    for line in lines:
        julia._follow(Work(), line)
    assert entered == ["precompile", "load", "statements", "native code", "link"]


def test_a_python_that_no_julia_can_host_gets_an_image_without_pythoncall(buildable):
    """Known before anything takes time, by PythonCall's own search for libpython."""
    source = pythoncall(buildable)
    (source / "src" / "C").mkdir(parents=True)
    (source / "src" / "C" / "find_libpython.py").write_text("print()")
    julia_that(buildable, f'echo "$@" > "{buildable.root}/arguments"; echo "ERROR: enough"; exit 1')
    assert cli(environ_of(buildable, PYJL_AUTOIMAGE_INCLUDE="Example"), "build").returncode == 1
    packages = (buildable.root / "arguments").read_text().split(" -- ")[1].split()
    assert packages == ["Example", "AutoimageRecorder"]
    state = State.read(buildable.store, buildable.environment.id)
    assert state is not None and "no shared libpython" in state.left_out["PythonCall"]
    (source / "src" / "C" / "find_libpython.py").write_text("print('/usr/lib/libpython3.so')")
    assert cli(environ_of(buildable, PYJL_AUTOIMAGE_INCLUDE="Example"), "build").returncode == 1
    packages = (buildable.root / "arguments").read_text().split(" -- ")[1].split()
    assert packages == ["PythonCall", "Example", "AutoimageRecorder"]


# -- watching builds -------------------------------------------------------------------------------------


def test_a_build_in_the_background_that_never_begins_says_so(world):
    (world.site / "sitecustomize.py").write_text("import os, sys\nif '_build' in sys.orig_argv: os._exit(9)\n")
    result = cli(environ_of(world), "build", "--no-wait")
    assert result.returncode == 1 and "ended with status 9 before it began" in result.stderr


def test_log_of_a_build_in_the_background_is_followed_to_its_end(buildable):
    none = cli(environ_of(buildable), "log")
    assert none.returncode == 1 and "no build of this environment has begun yet" in none.stderr
    begun, release = buildable.root / "begun", buildable.root / "release"
    julia_that(buildable, f'echo "it begins"; touch "{begun}"; {until(release)}; echo "ERROR: it ends"; exit 1')
    told = json.loads(cli(environ_of(buildable), "build", "--no-wait", "--json").stdout)
    assert told["state"] == "running"
    data = json.loads(cli(environ_of(buildable), "status", "--json").stdout)
    assert data["build"]["state"] == "running", "it has begun when the command returns"
    wait_for(begun.exists)
    follow = [sys.executable, "-m", "pyjl_autoimage", "log", "--follow"]
    process = subprocess.Popen(follow, env=environ_of(buildable), stdout=subprocess.PIPE, text=True)
    seen = ""
    while "it begins" not in seen:
        seen += process.stdout.readline()
    release.touch()
    seen += process.communicate(timeout=60)[0]
    assert process.returncode == 1, "the build's exit status"
    assert seen == Path(told["log"]).read_text() == cli(environ_of(buildable), "log").stdout
    assert seen.index("it begins") < seen.index("ERROR: it ends")


def test_log_of_a_build_that_succeeded(buildable):
    julia_that_builds(buildable)
    assert cli(environ_of(buildable), "build").returncode == 0
    found = cli(environ_of(buildable), "log", "--follow")
    assert found.returncode == 0 and "[autoimage] done: " in found.stdout


def test_in_a_pipe_a_build_says_how_long_each_phase_took(buildable):
    julia_that_builds(buildable, meanwhile='echo "[autoimage] native code"; sleep 0.3')
    lines = cli(environ_of(buildable), "build").stdout.splitlines()
    assert re.match(r"a build takes about \d min; log: ", lines[0]), "less where it is over as soon as one looks"
    phases = [line.rsplit(None, 2)[0].strip() for line in lines[1:] if line.endswith((" s", " ms"))]
    assert [phase for phase in phases if phase in ("prepare", "native code", "publish")][:2] == [
        "prepare",
        "native code",
    ]
    assert "Built image" in "\n".join(lines)


def test_an_interrupted_build_says_that_it_has_ended_when_it_has(buildable):
    pid = buildable.root / "pid"
    julia_that(buildable, f'echo $$ > "{pid}"; sleep 60')
    process = subprocess.Popen(
        [sys.executable, "-m", "pyjl_autoimage", "build"], env=environ_of(buildable),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=heed_interrupts,
    )  # fmt: skip
    wait_for(lambda: pid.exists() and pid.read_text())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    state = State.read(buildable.store, buildable.environment.id)
    assert process.returncode == 130 and "Traceback" not in err
    assert out.splitlines()[-1] == "cancelled: the image in use stays, and nothing half done is left"
    assert state is not None and state.state == "cancelled"
    assert not Path(buildable.store.build_directory(buildable.environment.id)).exists()
