"""A build as one watches it, in a terminal and in a pipe."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from pyjl_autoimage.build.state import Ended, State
from pyjl_autoimage.people import watching
from pyjl_autoimage.people.watching import watcher

from standin import heed_interrupts


class Stands(State):
    """A build that stands where the test wants it."""

    elapsed, expected, fraction = 151.0, 302.0, 0.5  # type: ignore[assignment]


def progress(fraction=0.5, phase="native code", state="running", **more):
    build = Stands("t", **{"process": "host-7-boot-random", "state": state, "phase": phase, **more})
    build.fraction = fraction  # type: ignore[misc]
    return build


def shown(bar, given, width=80):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=30, color_system=None)
    console.print(bar(given, width))
    return console.file.getvalue().splitlines()


def test_in_a_terminal_a_bar_with_its_times_and_the_place_of_the_log():
    home = os.path.expanduser("~")
    log = f"{home}/.cache/pyjl_autoimage/v1/environments/0123456789abcdef/build.log"
    bar, times, place = shown(watching._Bar(log, None), progress(detail="120/960"))
    assert bar.startswith("native code ") and bar.endswith(" 50 %") and len(bar) == 80
    assert times == "2 min 31 s of about 5 min 02 s, 120/960"
    assert place == "log: ~/.cache/pyjl_autoimage/v1/environments/0123456789abcdef/build.log"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_is_wider_than_the_terminal(width):
    bar = watching._Bar("/a/very/long/path" * 9 + "/build.log", lambda: "")
    lines = shown(bar, progress(detail="some file with a long name " * 5, generation=2), width)
    assert len(lines) == 3 and max(map(len, lines)) <= width
    assert lines[2].endswith("build.log  (press l to see it)")


def test_how_to_cancel_is_said_where_there_is_room():
    assert shown(watching._Bar("/build.log", lambda: ""), progress(), 60)[2].endswith(
        "  (press l to see it, Ctrl-C to cancel)"
    )


def test_the_bar_never_goes_back_and_is_not_full_before_the_end():
    bar = watching._Bar("", None)
    percents = [shown(bar, progress(fraction))[0].split()[-2] for fraction in (0.2, 0.6, 0.3, 0.999, 0.1)]
    assert percents == ["20", "60", "60", "99", "99"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
def test_the_memory_of_the_build_is_shown():
    assert " MB of memory" in shown(watching._Bar("", None), progress(process=f"host-{os.getpid()}-boot-random"))[1]


def test_a_key_shows_the_last_lines_of_the_log_and_hides_them(tmp_path):
    log = tmp_path / "build.log"
    log.write_text("".join(f"line {number}\n" for number in range(30)) + "\x1b[31mred [bold]" + "x" * 200)
    keys = iter(["", "l", "", "l"])
    bar = watching._Bar(str(log), lambda: next(keys))
    assert len(shown(bar, progress())) == 3
    for _ in range(2):
        lines = shown(bar, progress())
        assert len(lines) == 3 + watching.LINES_OF_LOG and lines[3] == "line 21"
        assert lines[-1].startswith(" [31mred [bold]xxx") and len(lines[-1]) <= 80
        assert "  (press l to hide it" in lines[2]
    assert len(shown(bar, progress())) == 3


def test_in_a_pipe_each_phase_is_a_line_with_its_seconds():
    console = Console(file=io.StringIO(), width=80)
    with watcher(console, "/store/build.log") as watch:
        watch(progress(state="starting"))
        watch(progress())
        watch(progress(ended=[Ended("prepare", 1.25), Ended("layer", 16.0)]))
        watch(progress(ended=[Ended("prepare", 1.25), Ended("layer", 16.0)]))
        watch(
            progress(state="done", ended=[Ended("prepare", 1.25), Ended("layer", 16.0), Ended("native code", 125.0)])
        )
    assert console.file.getvalue().splitlines() == [
        "a build takes about 5 min; log: /store/build.log",
        "prepare          1.25 s",
        "layer              16 s",
        "native code  2 min 05 s",
    ]


# -- the terminal and its keys -----------------------------------------------------------------------------

PROGRAM = """
import sys, time
from rich.console import Console
from pyjl_autoimage.build.state import State
from pyjl_autoimage.people.watching import watcher
with watcher(Console(force_terminal=True), sys.argv[1]) as watch:
    for _ in range(1000):
        watch(State("t", "p", "running", "load", started=time.time() - 1))
        time.sleep(0.02)
"""


class Terminal:
    """A process at a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        import pty
        import termios

        self.ours, theirs = pty.openpty()
        self.theirs = theirs
        termios.tcsetwinsize(theirs, (30, 80)) if hasattr(termios, "tcsetwinsize") else None
        self.before = termios.tcgetattr(theirs)
        # setsid and the first terminal that is opened: that makes it the controlling one.
        code = (
            "import os, sys; os.setsid(); os.close(os.open(os.ttyname(0), os.O_RDWR)); "
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"},
            preexec_fn=heed_interrupts,
        )  # fmt: skip
        self.said = ""

    def wait_for(self, text: str) -> None:
        import select

        until = time.monotonic() + 30
        while text not in self.said:
            assert time.monotonic() < until, self.said
            if select.select([self.ours], [], [], 0.2)[0]:
                self.said += os.read(self.ours, 65536).decode("utf-8", "replace")

    def settings(self) -> list:
        import termios

        return termios.tcgetattr(self.theirs)

    def end(self) -> int:
        import select

        while self.process.poll() is None:
            if select.select([self.ours], [], [], 0.1)[0]:
                os.read(self.ours, 65536)
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal(tmp_path):
    pytest.importorskip("termios")
    (tmp_path / "build.log").write_text("the last line of the log\n")
    found = Terminal("-c", PROGRAM, str(tmp_path / "build.log"))
    yield found
    found.close()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_whatever_ends_it_the_terminal_is_as_it_was(terminal, ending):
    terminal.wait_for("press l to see it")
    assert terminal.settings() != terminal.before
    os.write(terminal.ours, b"l")
    terminal.wait_for("the last line of the log")
    terminal.process.send_signal(ending)
    status = terminal.end()
    assert status in (-signal.SIGINT, 130) if ending == signal.SIGINT else status == 128 + signal.SIGTERM
    assert terminal.settings() == terminal.before
