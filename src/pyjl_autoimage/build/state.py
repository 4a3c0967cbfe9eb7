"""A build as seen from outside: the state that it writes, which the handle that watches it reads.

The build itself is a detached process; a handle only reads ``build.json``. It can be dropped, the caller may
exit, another process may watch the same build.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from ..base.data import typed
from ..base.files import read_json, write_json
from ..base.locks import is_held
from ..julia.versions import USUAL_SECONDS
from ..store.places import Store

__all__ = ["PHASES", "Ended", "Ran", "State", "expected_seconds"]

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


@dataclass(frozen=True)
class Ended:
    """A phase that is over."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Ran:
    """A workload that was run for a build."""

    name: str
    generation: int
    problem: str
    statements: int
    new: int
    """Statements that nobody had recorded before."""
    seconds: float


@dataclass
class State:
    """A build: what ``build.json`` says of the current or last one, and ``builds.jsonl`` of those before.

    Written by the build alone.
    """

    token: str
    """Identifies the build."""
    process: str
    """The mark of the process that builds: host and pid, for people. Who lives, `build.lock` tells."""
    state: str = "running"
    """``starting``, ``running``, ``done``, ``failed`` or ``cancelled``."""
    phase: str = "prepare"
    detail: str = ""
    started: float = 0.0
    phase_started: float = 0.0
    finished: float = 0.0
    error: str = ""
    image: str | None = None
    """Id of the last image that it has published."""
    publishing: str | None = None
    """Id of the image that it is about to publish: who is killed at that moment has done so, or not."""
    layers: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    workloads: list[Ran] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """phase -> seconds it took in this build."""
    usual: dict[str, float] = field(default_factory=dict)
    """phase -> seconds it took in the last build that succeeded and had it."""
    ended: list[Ended] = field(default_factory=list)
    """The phases that are over, in order; those of an image that was built anew come once more."""
    quick: bool = False
    """Whether it builds layers only."""
    generation: int = 1
    """The how manieth image it is at."""
    generations: int = 1
    """How many it is expected to build."""
    bytes: int = 0
    """Of the image that it published, as the next two."""
    packages: int = 0
    statements: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"schema": 1, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> State:
        """Read what `to_json` gave.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(data, dict) or data.pop("schema", None) != 1:
            raise ValueError("no build")
        found: State = typed(cls, data)
        return found

    @classmethod
    def read(cls, store: Store, environment_id: str, *, alone: bool = False) -> State | None:
        """The state of the current or last build; None if there was none.

        Args:
            store: where.
            environment_id: whose.
            alone: whoever asks holds the lock of builds, so no other one runs.
        """
        try:
            state = cls.from_json(read_json(store.build_state(environment_id)))
        except ValueError:
            return None
        if state.state == "running" and (alone or not is_held(store.build_lock(environment_id))):
            state.conclude(store, "failed", f"the build was killed while it was in phase {state.phase!r}")
        return state

    def conclude(self, store: Store, outcome: str, error: str = "") -> None:
        """How it ended: what was published was built, whatever went wrong after that."""
        if self.publishing is not None and os.path.isfile(store.facts_of_image(self.publishing)):
            self.image = self.publishing
        if self.image is not None and error:
            self.notes.append(f"image {self.image} is in use; then {error}")
            outcome, error = "done", ""
        self.state, self.error = outcome, error

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
            self.ended.append(Ended(self.phase, self.seconds[self.phase]))
        self.phase_started = now

    @property
    def elapsed(self) -> float:
        """Seconds since it began, or that it took."""
        return (self.finished or time.time()) - self.started

    @property
    def expected(self) -> float:
        """Seconds that it is expected to take in all, from the last builds of this environment."""
        return self.elapsed + (0.0 if self.state == "done" else self._left())

    @property
    def fraction(self) -> float:
        """Share of the expected time that has passed, 0 to 1; 1 only when the build is done."""
        return 1.0 if self.state == "done" else min(0.99, self.elapsed / max(self.expected, 1e-9))

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
    return state.expected
