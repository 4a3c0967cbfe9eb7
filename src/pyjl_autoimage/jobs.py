"""A build as seen from outside: the state that it writes, and the handle that watches it.

The build itself is a detached process; a handle only reads ``build.json``. It can be dropped, the caller may
exit, another process may watch the same build.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import history
from .errors import AutoimageError, BuildError
from .processes import is_alive, proc_stat
from .store import Store, read_json, write_json
from .versions import USUAL_SECONDS

__all__ = ["PHASES", "Build", "Progress", "State", "expected_seconds", "group_memory", "log_pieces"]

# Phases of a build, with their usual shares of its time until a build of this environment has been measured.
PHASES = {
    "workloads": 0.01,
    "prepare": 0.02,
    "layer": 0.07,
    "builder": 0.01,
    "precompile": 0.23,
    "load": 0.04,
    "statements": 0.10,
    "native code": 0.38,
    "link": 0.03,
    "outside": 0.08,
    "prove": 0.02,
    "publish": 0.02,
}
LAST_PHASE_OF_A_QUICK_BUILD = "layer"

JOINED = 75
"""Exit status of a build process that found another build of its environment running (EX_TEMPFAIL)."""


@dataclass(frozen=True)
class Progress:
    """Where a build stands."""

    state: str
    """``starting``, ``running``, ``done``, ``failed`` or ``cancelled``."""
    phase: str
    elapsed: float
    """Seconds since it began."""
    expected: float
    """Seconds that it is expected to take in all, from the last builds of this environment."""
    fraction: float
    """Share of the expected time that has passed, 0 to 1; 1 only when the build is done."""
    detail: str = ""
    pid: int = 0
    """Of the process that builds, which leads a process group of its own; 0 if unknown."""
    ended: Sequence[tuple[str, float]] = ()
    """The phases that are over, in order, with the seconds that each took."""
    generation: int = 1
    """The how manieth image it is that is being built; training takes several."""


@dataclass
class State:
    """What ``build.json`` says. Written by the build alone."""

    token: str
    """Identifies the build."""
    process: str
    state: str = "running"
    phase: str = "prepare"
    detail: str = ""
    started: float = 0.0
    phase_started: float = 0.0
    finished: float = 0.0
    error: str = ""
    image: str | None = None
    layers: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    workloads: list[dict[str, Any]] = field(default_factory=list)
    """What was run for this build: name, generation, problem, statements, new (statements) and seconds of each."""
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """phase -> seconds it took in this build."""
    usual: dict[str, float] = field(default_factory=dict)
    """phase -> seconds it took in the last build that succeeded and had it."""
    ended: list[list[Any]] = field(default_factory=list)
    """The phases that are over, in order: name and seconds of each."""
    quick: bool = False
    """Whether it builds layers only."""
    generation: int = 1
    """The how manieth image it is at."""
    generations: int = 1
    """How many it is expected to build."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"schema": 1, **self.__dict__}

    @classmethod
    def read(cls, store: Store, environment_id: str) -> State | None:
        """The state of the current or last build; None if there was none."""
        data = read_json(store.build_state(environment_id))
        if not data or data.pop("schema", None) != 1:
            return None
        if not _has_the_types_of(data, cls("", "").__dict__):
            return None
        state = cls(**data)
        if state.state == "running" and not is_alive(state.process):
            state.state = "failed"
            state.error = f"the build was killed while it was in phase {state.phase!r}"
        return state

    def write(self, store: Store, environment_id: str) -> None:
        """Write it; a full disk must not hide the error that a build ended with."""
        try:
            write_json(store.build_state(environment_id), self.to_json())
        except OSError:
            pass

    @property
    def pid(self) -> int:
        """Of the process that builds; 0 if unknown."""
        parts = self.process.split("-")
        return int(parts[1]) if len(parts) > 2 and parts[1].isdigit() else 0

    def learn(self, last: State | None) -> None:
        """Take over how long the phases of earlier builds took. What the last one did not need, this one may not."""
        if last is None:
            return
        self.usual = dict(last.usual)
        if last.state == "done":
            skipped = (name for name in _phases(quick=last.quick) if name != "workloads")
            self.usual |= {**dict.fromkeys(skipped, 0.0), **last.seconds}

    def expect(self, whole: float) -> None:
        """Phases that were never measured take their shares of `whole`, the seconds that a build usually takes."""
        self.usual = {name: share * whole for name, share in PHASES.items()} | self.usual

    def enter(self, phase: str) -> None:
        """Begin a phase; the same one goes on."""
        self.detail = ""
        if phase != self.phase:
            self.leave()
            self.phase = phase

    def leave(self) -> None:
        """End the phase."""
        now = time.time()
        self.seconds[self.phase] = round(now - self.phase_started, 2)
        if self.seconds[self.phase] > 0:
            self.ended.append([self.phase, self.seconds[self.phase]])
        self.phase_started = now

    def progress(self) -> Progress:
        """What it amounts to. How much is done is a question of time, so it tells the same as the times do."""
        elapsed = (self.finished or time.time()) - self.started
        left = 0.0 if self.state == "done" else self._left()
        return Progress(
            self.state,
            self.phase,
            elapsed,
            elapsed + left,
            1.0 if self.state == "done" else min(0.99, elapsed / max(elapsed + left, 1e-9)),
            self.detail,
            self.pid,
            tuple((name, seconds) for name, seconds in self.ended),
            self.generation,
        )

    def _left(self) -> float:
        """Seconds that are left, if every phase takes what it usually does. It never grows within one image."""
        known = {**self.usual, **self.seconds} if self.generation > 1 else self.usual
        usual = {name: known.get(name, share * USUAL_SECONDS) for name, share in PHASES.items()}
        if self.generation == 1 and "workloads" not in (self.phase, *self.seconds):
            usual["workloads"] = 0.0  # it comes first, so this build has none
        names = _phases(quick=self.quick)
        at = names.index(self.phase) if self.phase in names else len(names) - 1
        done = time.time() - self.phase_started
        counted = re.fullmatch(r"([0-9]+)/([1-9][0-9]*)", self.detail)
        this = usual[names[at]]
        if counted:
            this *= 1 - min(1.0, int(counted[1]) / int(counted[2]))
        else:
            this = max(0.0, this - done)
        later = sum(usual[name] for name in names[at + 1 :])
        return this + later + max(0, self.generations - self.generation) * sum(usual.values())


def _phases(*, quick: bool) -> list[str]:
    names = list(PHASES)
    return names[: names.index(LAST_PHASE_OF_A_QUICK_BUILD) + 1] if quick else names


def expected_seconds(last: State | None, whole: float = USUAL_SECONDS) -> float:
    """Seconds that a build without workloads is expected to take.

    Args:
        last: the last build of the environment; None if there was none.
        whole: seconds that a whole build usually takes.
    """
    now = time.time()
    state = State("", "", started=now, phase_started=now)
    state.learn(last)
    state.expect(whole)
    return state.progress().expected


def _has_the_types_of(data: dict[str, Any], pattern: dict[str, Any]) -> bool:
    """Whether a state from a file is one: data from strangers."""
    if set(data) != set(pattern):
        return False
    for name, usual in pattern.items():
        expected: Any = (
            (int, float) if isinstance(usual, float) else (str, type(None)) if usual is None else type(usual)
        )
        if not isinstance(data[name], expected) or isinstance(data[name], bool) != isinstance(usual, bool):
            return False
    numbers = [*data["seconds"].values(), *data["usual"].values()]
    return (
        all(isinstance(n, (int, float)) for n in numbers)
        and all(isinstance(n, str) for n in data["notes"])
        and all(_is_an_ended_phase(item) for item in data["ended"])
        and all(isinstance(w, dict) and _WORKLOAD.items() <= _types(w) for w in data["workloads"])
    )


def _is_an_ended_phase(item: object) -> bool:
    return (
        isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], (int, float))
    )


_WORKLOAD = {"name": str, "generation": int, "problem": str, "statements": int, "new": int, "seconds": float}


def _types(value: dict[str, Any]) -> Any:
    return {name: type(item) for name, item in value.items()}.items()


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
                    return self._state_of(past)
            if self._process is None:
                return State(self._token, "", "failed", error="the build was replaced by another")
            said = self._stderr() or f"the build ended with status {exited} before it began"
            return State(self._token, "", "failed", error=said)
        now = time.time()
        detail = "another build ends first" if state is not None and state.state == "running" else ""
        return State(self._token, "", "starting", detail=detail, started=now, phase_started=now)

    def _state_of(self, past: history.PastBuild) -> State:
        """As much of a state as is remembered of a build."""
        state = State(self._token, "", past.result, error=past.error, image=past.image, seconds=dict(past.seconds))
        state.started, state.finished = past.started, past.finished
        return state

    def _stderr(self) -> str:
        try:
            with open(f"{self.log}.err", encoding="utf-8", errors="replace") as file:
                return file.read().strip()[-2000:]
        except OSError:
            return ""

    @property
    def progress(self) -> Progress:
        """Phase, elapsed and expected time."""
        return self.state().progress()

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state().state not in ("running", "starting")

    def wait(self, timeout: float | None = None, watch: Callable[[Progress], None] | None = None) -> str:
        """Wait for its end.

        Args:
            timeout: seconds to wait at most; None waits for ever.
            watch: called with the progress every fifth of a second.

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
                watch(state.progress())
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
        """End the build, whoever started it. The image in use stays; partial files go with the next build."""
        state = self.state()
        pid = state.pid or (self._process.pid if self._process is not None else 0)
        if not pid or state.state not in ("running", "starting"):
            return
        try:
            os.kill(pid, signal.SIGTERM)  # it ends its own children and says so in its state
        except OSError:
            pass


def group_memory(leader: int) -> int | None:
    """Bytes of memory that the processes of one process group have resident; None where that cannot be known.

    Memory that they share (an image, libraries) counts for each of them.
    """
    if not leader or not os.path.isdir("/proc/self"):
        return None
    pages, group = 0, str(leader).encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = proc_stat(int(name))
            if len(fields) > 21 and fields[2] == group:  # fields 5 and 24 of proc(5): group, and pages resident
                pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else None


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
