"""How a build runs other programs: Julia, Pythons that start on an image, workloads.

What a process prints goes into the log by itself, and is followed there: a pipe could be kept open by somebody that
it leaves behind. It has a limit of time, ends with all that it has started, and never outlives the build.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

import psutil

from ..errors import BuildError

__all__ = ["Running", "TooLong", "descendants", "end_with_this_process", "ending", "within"]

MINDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "minder.py")

PATIENCE = 5.0
"""Seconds that a process which was asked to end may take."""


class TooLong(BuildError):
    """A process was ended because it had taken too long."""


class Running:
    """A process of a build, and whatever it starts. As a context: at its end all of them have ended.

    Args:
        command: program and arguments.
        environ: its whole environment.
        log: the file that it prints into.
        out: the file for its standard output; None: the log, too.
        directory: where it runs.

    Raises:
        OSError: there is no such program.
    """

    def __init__(
        self, command: Sequence[str], *, environ: Mapping[str, str], log: IO[str], directory: str,
        out: IO[bytes] | None = None,
    ) -> None:  # fmt: skip
        log.flush()
        self._log = str(log.name)
        self._read = os.fstat(log.fileno()).st_size
        posix = sys.platform != "win32"  # there a job object does what the minder does (`begin`)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", MINDER, *command] if posix else command,
            env=dict(environ),
            cwd=directory,
            stdin=subprocess.PIPE if posix else subprocess.DEVNULL,
            stdout=out or log,
            stderr=log,
            start_new_session=posix,
        )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def wait(self, *, over: Callable[[], str] = lambda: "", follow: Callable[[str], None] = lambda line: None) -> int:
        """Wait for its end.

        Args:
            over: whether it has taken too long: in words.
            follow: is given each line that the log gets meanwhile.

        Returns:
            Its status; negative: the signal that it died of.

        Raises:
            TooLong: in those words.
        """
        while True:
            try:
                status: int | None = self._process.wait(0.1)
            except subprocess.TimeoutExpired:
                status = None
            self._follow(follow)
            if status is not None:
                return status
            too_long = over()
            if too_long:
                self.end()
                raise TooLong(too_long)

    def _follow(self, follow: Callable[[str], None]) -> None:
        with open(self._log, "rb") as file:
            file.seek(self._read)
            lines = file.read().split(b"\n")
        lines.pop()  # empty, or still being written
        self._read += sum(len(line) + 1 for line in lines)
        for line in lines:
            follow(line.decode("utf-8", "replace"))

    def end(self) -> None:
        """End it, if it still runs, and all that it has started."""
        family = descendants(self._process.pid)
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                pass
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        for process in family:  # those that have left the group
            try:
                process.kill()
            except psutil.Error:
                pass
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _signal(self, number: int) -> None:
        try:
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            elif self._process.poll() is None:
                self._process.terminate()
        except OSError:
            pass  # nobody is left in it


def descendants(pid: int) -> list[psutil.Process]:
    """What a process has started, and what that has."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def ending(status: int) -> str:
    """How a process ended, in words; empty if all was well."""
    if status >= 0:
        return f"it ended with status {status}" if status else ""
    try:
        return f"it died of {signal.Signals(-status).name}"
    except ValueError:
        return f"it died of signal {-status}"


def within(seconds: float, words: str) -> Callable[[], str]:
    """`over` for a process that may take so many seconds from now on; 0: as many as it takes."""
    end = time.monotonic() + seconds if seconds else float("inf")
    return lambda: words if time.monotonic() > end else ""


def end_with_this_process() -> None:
    """On Windows, whatever this process starts ends with it: a job object whose handle nobody ever closes.

    (``JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE`` in ``JOBOBJECT_EXTENDED_LIMIT_INFORMATION``, of 144 bytes on 64 bits.)
    """
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        kernel.CreateJobObjectW.restype = kernel.GetCurrentProcess.restype = ctypes.c_void_p
        job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
        information = ctypes.create_string_buffer(144)
        ctypes.c_uint32.from_buffer(information, 16).value = 0x2000
        kernel.SetInformationJobObject(job, 9, information, len(information))
        kernel.AssignProcessToJobObject(job, ctypes.c_void_p(kernel.GetCurrentProcess()))
