"""The latest builds of an environment: when, how long each phase took, and what came of it."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from ..base.files import parsed_json, write_atomically
from ..base.words import error_line
from ..store.places import Store
from .state import State

__all__ = ["note", "read"]

BUILDS_KEPT = 50


def note(store: Store, environment_id: str, state: State) -> None:
    """Add a build that has ended, unless it is there. Called by builds alone, which hold their lock.

    The file is replaced whole, so that nothing that happens meanwhile costs any of it. A disk that is full keeps it
    as it was: the build must not fail for that.

    Args:
        store: where.
        environment_id: whose.
        state: how it stands; one that was killed and so never said so counts, too.
    """
    kept = read(store, environment_id)
    if any(build.token == state.token for build in kept):
        return
    finished = state.finished or _last_sign(state)
    seconds = {**state.seconds, state.phase: max(0.0, finished - state.phase_started)}
    if state.phase in state.seconds and state.state == "done":
        seconds = dict(state.seconds)
    build = replace(
        state,
        started=round(state.started, 1),
        finished=round(finished, 1),
        error=error_line(state.error)[:300] if state.error.strip() else "",
        seconds={name: round(spent, 2) for name, spent in seconds.items()},
        usual={}, notes=[], workloads=[], ended=[],
    )  # fmt: skip
    lines = [json.dumps(build.to_json()) for build in [*kept, build][-BUILDS_KEPT:]]
    try:
        write_atomically(store.build_history(environment_id), "".join(f"{line}\n" for line in lines).encode())
    except OSError:
        pass


def _last_sign(state: State) -> float:
    """When a build that was killed was last heard of: it lived through the phase before at least."""
    return min(time.time(), state.phase_started)


def read(store: Store, environment_id: str) -> list[State]:
    """The builds that are remembered, the oldest first. A line that cannot be read is passed over."""
    try:
        with open(store.build_history(environment_id), encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(State.from_json(parsed_json(line)))
        except ValueError:
            continue
    return found
