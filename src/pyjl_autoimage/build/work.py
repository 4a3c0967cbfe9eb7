"""What one build carries along, and how it runs Julia: every line in its log, everything in its own places."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO

from ..base.settings import Settings
from ..julia.environment import Environment
from ..julia.facts import JuliaFacts
from ..profile.workloads import Caller, Task
from ..store.places import Store
from .state import State

__all__ = ["Work", "beside", "executable_itself", "julia_environment", "run"]


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
        """Begin a phase."""
        if phase != self.state.phase:
            self.say(f"phase: {phase}")
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


def run(work: Work, command: list[str], environ: Mapping[str, str], follow: Callable[[str], None]) -> int:
    """Run a process with its output in the log, line by line; its status."""
    work.write(f"$ {' '.join(command[:4])} ...\n")
    process = subprocess.Popen(
        command,
        env=dict(environ),
        cwd=work.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            work.write(line)
            follow(line)
        return process.wait()
    except BaseException:
        if not _end_children():
            process.kill()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
        raise


@contextmanager
def beside(task: Callable[[], object] | None) -> Iterator[None]:
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
            _end_children()
            raise
        other.result()


def _end_children() -> bool:
    """End every Julia of this build and those that they started: all that share this process's group, but us."""
    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or not hasattr(os, "killpg") or os.getpgrp() != os.getpid():
        return False
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)
    return True
