"""What grows, and nobody needs any more, goes: a little at each of many starts, and all of it in a build."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

from ..base.liveness import DAY, discard, is_dead
from ..base.locks import lock
from ..errors import StoreError
from .places import Store

__all__ = ["ENVIRONMENTS_KEPT", "PLANS_KEPT", "RECORDINGS_KEPT", "RECORDING_BYTES_KEPT", "prune_plans", "sweep"]

PLANS_KEPT = 500

RECORDINGS_KEPT = 200
"""In one environment, where nobody builds: with the next build they become a profile. So do as many bytes:"""
RECORDING_BYTES_KEPT = 10_000_000

WANTS_KEPT = 50
"""Programs of one environment of which it is known on which image they start; temporary scripts are some."""

ENVIRONMENTS_KEPT = 200
"""A virtual environment that lives for one run (``uv run --with``) leaves one, and nobody comes back to it."""

YEAR = 365 * DAY


def sweep(store: Store, seconds: float = float("inf")) -> None:
    """Remove marks of the dead, what killed processes left half written, and what there is too much of.

    Args:
        store: where.
        seconds: how long it may take. Each time it begins elsewhere, so all of it has its turn.
    """
    end = time.monotonic() + seconds
    kinds = (_uses, _starts, _plans, _condemnations, _builds, _recordings, _wants, _environments)
    first = os.urandom(1)[0] % len(kinds)
    for kind in (*kinds[first:], *kinds[:first]):
        for path, goes in kind(store):
            if goes:
                discard(path)
            if time.monotonic() > end:
                return


def prune_plans(store: Store) -> None:
    """Remove the plans that were made longest ago, when there are too many."""
    plans = list(_paths(store.launches))
    if len(plans) > PLANS_KEPT:
        for path in sorted(plans, key=_time)[: -PLANS_KEPT * 9 // 10]:
            discard(path)


def _uses(store: Store) -> Iterator[tuple[str, bool]]:
    for directory in _paths(store.uses):
        for mark in _paths(directory):
            yield mark, _is_torn(mark) if mark.endswith(".tmp") else is_dead(mark)
        if not os.path.exists(store.facts_of_image(os.path.basename(directory))):  # else it tells of the last use
            try:
                os.rmdir(directory)
            except OSError:
                pass  # some process uses that image


def _starts(store: Store) -> Iterator[tuple[str, bool]]:
    """Not the marks themselves: what they say is judged (`pyjl_autoimage.startup.guard`)."""
    for path in _paths(store.booting):
        mark, kind = os.path.splitext(path)
        orphan = (kind == ".alive" and not os.path.exists(mark)) or kind == ".tmp"
        yield path, (orphan and _is_torn(path)) or (kind == ".once" and _is_older(path, YEAR))


def _plans(store: Store) -> Iterator[tuple[str, bool]]:
    for path in _paths(store.launches):
        yield path, path.endswith(".tmp") and _is_torn(path)
    prune_plans(store)


def _condemnations(store: Store) -> Iterator[tuple[str, bool]]:
    """An image that is not here may be in another store, which the user trusts."""
    for path in _paths(store.condemnations):
        gone = not os.path.exists(os.path.join(store.images, os.path.basename(path).partition("-")[0]))
        yield path, gone and _is_older(path, YEAR)


def _builds(store: Store) -> Iterator[tuple[str, bool]]:
    for environment in store.environment_ids():
        for path in _paths(store.environment(environment)):
            yield path, path.endswith((".cancel", ".tmp")) and _is_older(path, DAY)


def _recordings(store: Store) -> Iterator[tuple[str, bool]]:
    for environment in store.environment_ids():
        directory = store.recordings(environment)
        newest_first = sorted(_paths(directory), key=_time, reverse=True)
        kept = 0
        for number, base in enumerate(dict.fromkeys(os.path.splitext(path)[0] for path in newest_first)):
            files = (f"{base}.jl", f"{base}.log")
            kept += sum(map(_size, files))
            too_much = number >= RECORDINGS_KEPT or kept > RECORDING_BYTES_KEPT
            goes = too_much and is_dead(files[1])
            yield from ((path, goes) for path in files)


def _wants(store: Store) -> Iterator[tuple[str, bool]]:
    for environment in store.environment_ids():
        newest_first = sorted(_paths(store.wants(environment)), key=_time, reverse=True)
        yield from ((path, number >= WANTS_KEPT) for number, path in enumerate(newest_first))


def _environments(store: Store) -> Iterator[tuple[str, bool]]:
    """Those that were not used for longest, and have neither image nor layer. They are more than files."""
    known = store.environment_ids()
    if len(known) <= ENVIRONMENTS_KEPT:
        return
    needed = {built.environment for built in (*store.all_images(), *store.all_layers())}
    idle = sorted((one for one in known if one not in needed), key=store.last_seen)
    for one in idle[: len(known) - ENVIRONMENTS_KEPT]:
        recorded = (path for path in _paths(store.recordings(one)) if path.endswith(".log"))
        if time.time() - store.last_seen(one) > DAY and all(map(is_dead, recorded)):
            try:
                with lock(store.build_lock(one), 0):
                    shutil.rmtree(store.environment(one), ignore_errors=True)
            except (TimeoutError, StoreError, OSError):
                pass  # a build of it runs, or the store cannot be written
        yield store.environment(one), False


def _paths(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            yield from (entry.path for entry in entries)
    except OSError:
        pass


def _is_torn(path: str) -> bool:
    """Whether whoever was to rename or complete this has died."""
    return _is_older(path, DAY)


def _is_older(path: str, seconds: float) -> bool:
    return time.time() - _time(path) > seconds


def _time(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return float("inf")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
