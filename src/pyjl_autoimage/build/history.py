"""The latest builds of an environment: when, how long each phase took, and what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from ..base.data import typed
from ..base.files import parsed_json, write_atomically
from ..base.words import error_line
from ..store.places import Store

if TYPE_CHECKING:
    from ..store.built import Image
    from .state import State

__all__ = ["PastBuild", "note", "read"]

BUILDS_KEPT = 50


@dataclass(frozen=True)
class PastBuild:
    """One build that has ended."""

    token: str
    """Identifies it."""
    started: float
    """Seconds since the epoch."""
    finished: float
    result: str
    """``done``, ``failed`` or ``cancelled``."""
    error: str = ""
    """The line of what it said that says most, where it failed."""
    image: str | None = None
    """Id of the image that it published; None: layers only, or nothing."""
    bytes: int = 0
    packages: int = 0
    statements: int = 0
    layers: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    """phase -> seconds."""


def note(store: Store, environment_id: str, state: State, image: Image | None = None) -> None:
    """Add a build that has ended, unless it is there. Called by builds alone, which hold their lock.

    The file is replaced whole, so that nothing that happens meanwhile costs any of it. A disk that is full keeps it
    as it was: the build must not fail for that.

    Args:
        store: where.
        environment_id: whose.
        state: how it stands; one that was killed and so never said so counts, too.
        image: what it published.
    """
    kept = read(store, environment_id)
    if any(build.token == state.token for build in kept):
        return
    finished = state.finished or _last_sign(state)
    seconds = {**state.seconds, state.phase: max(0.0, finished - state.phase_started)}
    if state.phase in state.seconds and state.state == "done":
        seconds = dict(state.seconds)
    build = PastBuild(
        token=state.token,
        started=round(state.started, 1),
        finished=round(finished, 1),
        result=state.state,
        error=error_line(state.error)[:300] if state.error.strip() else "",
        image=state.image,
        bytes=image.bytes if image else 0,
        packages=len(image.packages) if image else 0,
        statements=image.statements if image else 0,
        layers=len(state.layers),
        seconds={name: round(spent, 2) for name, spent in seconds.items()},
    )
    lines = [json.dumps(asdict(build)) for build in [*kept, build][-BUILDS_KEPT:]]
    try:
        write_atomically(store.build_history(environment_id), "".join(f"{line}\n" for line in lines).encode())
    except OSError:
        pass


def _last_sign(state: State) -> float:
    """When a build that was killed was last heard of: it lived through the phase before at least."""
    return min(time.time(), state.phase_started)


def read(store: Store, environment_id: str) -> list[PastBuild]:
    """The builds that are remembered, the oldest first. A line that cannot be read is passed over."""
    try:
        with open(store.build_history(environment_id), encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(typed(PastBuild, parsed_json(line)))
        except ValueError:
            continue
    return found
