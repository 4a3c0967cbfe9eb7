"""A build as seen by whoever asked for it: a handle that watches the detached process."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator

import psutil

from ..errors import AutoimageError, BuildError, StoreError
from ..store.places import Store
from . import history
from .runner import descendants
from .state import State

JOINED = 75
"""Exit status of a build process that found another build of its environment running (EX_TEMPFAIL)."""

CANCELLED_BEFORE = 76
"""Exit status of a build process that was cancelled before its build began."""


class Build:
    """A handle of a build that runs, or of the one that it joined. Made by `rebuild`."""

    def __init__(
        self, store: Store, environment_id: str, token: str, process: subprocess.Popen[bytes] | None
    ) -> None:
        self._store = store
        self._environment = environment_id
        self._token = token
        self._process = process
        self._joined: bool | None = None if process is not None else True

    def __repr__(self) -> str:
        progress = self.progress
        return f"<Build of {self._environment}: {progress.state}, {progress.phase}, {progress.elapsed:.0f} s>"

    @property
    def log(self) -> str:
        """Path of the file with the build's whole output."""
        return self._store.build_log(self._environment)

    @property
    def joined(self) -> bool:
        """Whether it is a build that somebody else had started."""
        return bool(self._joined)

    def state(self) -> State:
        """Where it stands, with everything the build says of itself."""
        state = State.read(self._store, self._environment)
        if state is not None and state.token == self._token:
            return state
        exited = self._process.poll() if self._process is not None else None
        if exited == JOINED and state is not None:
            self._token, self._joined = state.token, True
            return state
        if exited is not None or self._process is None:
            state = State.read(self._store, self._environment)  # it may have written it just now
            if state is not None and state.token == self._token:
                return state
            for past in history.read(self._store, self._environment):
                if past.token == self._token:  # another one has begun since
                    return past
            if self._process is None:
                return State(self._token, "", "failed", error="the build was replaced by another")
            if exited == CANCELLED_BEFORE:
                return State(self._token, "", "cancelled", error="the build was cancelled before it began")
            said = self._stderr() or f"the build ended with status {exited} before it began"
            return State(self._token, "", "failed", error=said)
        now = time.time()
        detail = "another build ends first" if state is not None and state.state == "running" else ""
        return State(self._token, "", "starting", detail=detail, started=now, phase_started=now)

    def _stderr(self) -> str:
        try:
            with open(f"{self.log}.err", encoding="utf-8", errors="replace") as file:
                return file.read().strip()[-2000:]
        except OSError:
            return ""

    @property
    def progress(self) -> State:
        """Where it stands: `state`, as a property."""
        return self.state()

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state().state not in ("running", "starting")

    def wait(self, timeout: float | None = None, watch: Callable[[State], None] | None = None) -> str:
        """Wait for its end.

        Args:
            timeout: seconds to wait at most; None waits for ever.
            watch: called with the state every fifth of a second.

        Returns:
            The id of the image that it published; of a quick build that of the layer, empty if nothing was new.

        Raises:
            BuildError: it failed or was cancelled; the message holds its last lines and the log's place.
            TimeoutError: it has not ended after `timeout` seconds. It goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            state = self.state()
            if watch is not None:
                watch(state)
            if state.state not in ("running", "starting"):
                break
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"the build has not ended after {timeout} s; it goes on")
            time.sleep(0.2)
        if self._process is not None:
            self._process.wait()
        if state.state != "done":
            where = f"\nThe whole log: {self.log}" if os.path.exists(self.log) else ""
            raise BuildError(f"{state.error or 'the build was cancelled'}{where}", self.log)
        return state.image or "".join(state.layers[:1])

    def cancel(self) -> None:
        """Ask the build to end, whoever started it: it ends what it runs, and says so in its state.

        The image in use stays; partial files go with the next build.

        Raises:
            StoreError: it cannot be asked.
        """
        state = self.state()
        if state.state not in ("running", "starting"):
            return
        path = self._store.cancellation(self._environment, self._token)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise StoreError(f"the build cannot be asked to stop: {error}") from error


def memory_of(pid: int) -> int | None:
    """Bytes of memory that a build has resident, with all that it runs; None where that cannot be known.

    Memory that they share (an image, libraries) counts for each of them.
    """
    total = 0
    for process in (psutil.Process(pid), *descendants(pid)) if pid and psutil.pid_exists(pid) else ():
        try:
            total += process.memory_info().rss
        except psutil.Error:
            pass  # it has just ended
    return total or None


def log_pieces(store: Store, environment_id: str, *, follow: bool = False) -> Iterator[str]:
    """The log of an environment's current or last build, piece by piece.

    Args:
        store: where.
        environment_id: whose build.
        follow: go on until the build has ended.

    Raises:
        AutoimageError: there is no log.
    """
    path = store.build_log(environment_id)
    if not os.path.exists(path):
        raise AutoimageError("no build of this environment has begun yet")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            while True:
                state = State.read(store, environment_id)
                ended = state is None or state.state != "running"  # before the rest is read: nothing is missed
                while piece := file.read(65536):
                    yield piece
                if ended or not follow:
                    return
                time.sleep(0.2)
    except OSError as error:
        raise AutoimageError(f"{path} cannot be read: {error.strerror or error}") from None
