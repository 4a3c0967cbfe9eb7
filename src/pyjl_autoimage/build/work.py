"""What one build carries along, and how it runs Julia: every line in its log, everything in its own places."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO

from ..base.settings import Settings
from ..base.words import seconds_text
from ..errors import BuildError
from ..julia.environment import Environment
from ..julia.facts import JuliaFacts
from ..profile.workloads import Caller, Task
from ..store.places import Store
from . import history
from .runner import Running, within
from .state import State

__all__ = ["Work", "answer", "beside", "executable_itself", "julia_environment", "run"]


STOPPED = "the build was told to stop"

LONGEST_ANSWER = 120.0

LEAST_LIMIT = 3600.0
"""Seconds that any phase may take."""

LIMIT_PER_USUAL = 10.0
"""How many times as long as the longest one here it may take."""


class Work:
    """What one build carries along: where it reads and writes, and how it tells of itself."""

    def __init__(
        self,
        store: Store,
        environment: Environment,
        settled: Settings,
        flags: dict[str, str],
        tasks: Sequence[Task],
        caller: Caller,
        directory: str,
        state: State,
        log: IO[str],
    ) -> None:
        self.store = store
        self.environment = environment
        self.settings = settled
        self.flags = flags
        self.tasks = tasks
        self.caller = caller
        self.directory = directory
        self.state = state
        self.log = log
        self.stopped: threading.Event = threading.Event()
        """Set when the build was told to stop."""
        self._phase_began: float = time.monotonic()

    def clock(self, phase: str | None) -> Callable[[], str]:
        """Tells whether a phase has taken too long: ten times its longest here, and never less than an hour.

        Args:
            phase: the phase of a process that begins now; None: whichever the build is at.
        """
        began, limits = time.monotonic(), dict[str, float]()

        def over() -> str:
            if self.stopped.is_set():
                return STOPPED
            name, since = (phase, began) if phase else (self.state.phase, max(began, self._phase_began))
            limit = limits.get(name) or limits.setdefault(name, self.limit(name) or float("inf"))
            if time.monotonic() - since <= limit:
                return ""
            return f"the phase {name!r} was ended after {seconds_text(limit)} (setting phase_limit)"

        return over

    def limit(self, phase: str) -> float:
        """Seconds that a phase may take; 0: as many as it takes."""
        if self.settings.phase_limit is not None:
            return float(self.settings.phase_limit)
        builds = history.read(self.store, self.environment.id)
        longest = max((build.seconds.get(phase, 0.0) for build in builds), default=0.0)
        return max(LEAST_LIMIT, LIMIT_PER_USUAL * longest)

    def place(self, *names: str) -> str:
        """A path among the build's own files."""
        return os.path.join(self.directory, *names)

    def note(self, text: str) -> None:
        """A line in the log and in the result."""
        self.say(text)
        if text not in self.state.notes:
            self.state.notes.append(text)

    def say(self, text: str) -> None:
        """A line in the log."""
        self.write(f"[autoimage] {text}\n")

    def write(self, text: str) -> None:
        """Text in the log; a full disk must not hide the error that it leads to."""
        try:
            self.log.write(text)
            self.log.flush()
        except OSError:
            pass

    def enter(self, phase: str) -> None:
        """Begin a phase.

        Raises:
            BuildError: the build was told to stop.
        """
        if self.stopped.is_set():
            raise BuildError(STOPPED)
        if phase != self.state.phase:
            self.say(f"phase: {phase}")
            self._phase_began = time.monotonic()
        self.state.enter(phase)
        self.state.write(self.store, self.environment.id)

    def detail(self, text: str) -> None:
        """What the phase is at."""
        self.state.detail = text
        self.state.write(self.store, self.environment.id)


def julia_environment() -> dict[str, str]:
    """The environment of the Julias that a build starts: the user's, less what would change the project."""
    dropped = ("JULIA_LOAD_PATH", "JULIA_PROJECT", "JULIA_NUM_THREADS", "JULIA_IMAGE_THREADS")
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith(("PYTHON_JULIACALL_", "PYJL_AUTOIMAGE"))
    }
    environ["JULIA_PYTHONCALL_EXE"] = sys.executable
    return environ


def executable_itself(facts: JuliaFacts, environment: Environment) -> str:
    """The executable itself where the environment's is a launcher (juliaup) that could choose another."""
    name = "julia.exe" if sys.platform == "win32" else "julia"
    executable = os.path.join(facts.bindir, name)
    return executable if os.path.exists(executable) else environment.executable


def run(
    work: Work,
    command: list[str],
    environ: Mapping[str, str],
    follow: Callable[[str], None] = lambda line: None,
    *,
    phase: str | None = None,
) -> int:
    """Run a process with its output in the log; its status.

    Args:
        work: the build.
        command: program and arguments.
        environ: its whole environment.
        follow: is given each line that the log gets meanwhile.
        phase: the phase that it is all of; None: the one that the build is at, which may change.

    Raises:
        TooLong: it took longer than its phase may.
    """
    work.write(f"$ {' '.join(command[:4])} ...\n")
    with Running(command, environ=environ, log=work.log, directory=work.directory) as process:
        return process.wait(over=work.clock(phase), follow=follow)


def answer(work: Work, command: Sequence[str]) -> bytes:
    """What a process prints that is asked something.

    Raises:
        CalledProcessError: it failed; with what it complained of.
        OSError: there is no such program.
        TooLong: it has said nothing for two minutes.
    """
    complaints = work.place("complaints")
    over = within(LONGEST_ANSWER, f"{command[0]} was asked what it is, and has said nothing for two minutes")
    with open(work.place("answer"), "w+b") as out, open(complaints, "w", encoding="utf-8") as log:
        with Running(command, environ=os.environ, log=log, out=out, directory=work.directory) as process:
            status = process.wait(over=over)
        out.seek(0)
        said = out.read()
    if status:
        with open(complaints, "rb") as file:
            raise subprocess.CalledProcessError(status, list(command), said, file.read())
    return said


@contextmanager
def beside(work: Work, task: Callable[[], object] | None) -> Iterator[None]:
    """Do something else in a thread meanwhile. What it raises is raised here in the end.

    It goes on where what is done here fails; both end where the build is told to stop.
    """
    if task is None:
        yield
        return
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(task)
        try:
            yield
        except Exception:
            raise
        except BaseException:
            work.stopped.set()
            raise
        other.result()
