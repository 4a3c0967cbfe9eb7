"""As a program ends: what it leaves; wake somebody who may build, or one line of advice for those who have that off.

A program that ends looks at its own recording alone and at the time of one small file, and may wake a detached
process (`build/automatic.py`), which decides. The end of the program costs milliseconds for it: imports stay
within the functions that need them.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .plan import Plan
    from .recording import Recording

__all__ = ["advise", "at_exit", "in_notebook", "leave"]

LEAST_WITHOUT_IMAGE = 1.0
"""Seconds of start and compilation that a run must have cost for a first image. (A plain start costs 1.2 s.)"""

LEAST_ON_IMAGE = 0.05
"""Seconds that a run on an image must have compiled for anybody to be woken."""

ADVISABLE = 2.0
"""Seconds for which advice is given."""

AT_ONCE = 60.0
"""Seconds in which the end of one program wakes somebody; fifty that end together wake one."""

AFTER_A_FAILURE = 86400.0
"""Seconds without another build after one that failed."""


def at_exit(plan: Plan | None, recording: Recording | None, keywords: Mapping[str, Any]) -> None:
    """Look whether a build may pay, and wake somebody to decide; or advise who has that off."""
    if plan is None or plan.environment is None or recording is None or os.environ.get("CI"):
        return
    cost = _cost(recording.log, recording.trace, on_image=plan.image is not None)
    if plan.auto:
        if cost >= (LEAST_ON_IMAGE if plan.image else LEAST_WITHOUT_IMAGE):
            _wake(plan, keywords)
    elif cost >= ADVISABLE:
        advise(plan, f"Julia spent {cost:.0f} s on {'code that its image lacks' if plan.image else 'compiling'} here")


ALWAYS_KEPT = 2
"""Recordings that an environment keeps although they say nothing new: of what a run on the image costs."""


def leave(use: str | None, own: Recording | None, *, on_image: bool) -> None:
    """Leave nothing behind that nobody needs: no mark, and of a run that learned nothing on its image no recording.

    A fork of this process may go on with both.

    Args:
        use: the mark that this process uses its image.
        own: what it recorded.
        on_image: whether it started on an image.
    """
    from ..base.liveness import release

    try:
        if use is not None and release(use):
            os.unlink(use)
        if own is not None and on_image and _taught_nothing(own) and release(own.log):
            own.discard()
    except OSError:
        pass  # the store is gone


def _taught_nothing(own: Recording) -> bool:
    from .recording import WORKLOAD_VARIABLE

    if WORKLOAD_VARIABLE in os.environ:  # whoever had it run reads what it recorded
        return False
    with open(own.log, "rb") as log, open(own.trace, "rb") as trace:
        log.readline()
        if not all(line.startswith((b"ready ", b"compiled ")) for line in log):
            return False
        if not all(b"Main." in line for line in trace):
            return False
    return len(os.listdir(os.path.dirname(own.log))) > 2 * ALWAYS_KEPT


def in_notebook(plan: Plan | None, recording: Recording | None) -> None:
    """Advise as Julia starts in a notebook, whose end nobody sees: when there is something to build an image of."""
    if plan is None or plan.environment is None or recording is None or plan.auto or plan.image is not None:
        return
    try:
        own = {os.path.basename(recording.log), os.path.basename(recording.trace)}
        from ..store.places import Store

        store = Store(plan.home)
        if (
            os.path.exists(store.profile(plan.environment))
            or set(os.listdir(store.recordings(plan.environment))) - own
        ):
            advise(plan, "Julia started without an image that fits")
    except OSError:
        pass


def _cost(log: str, trace: str, *, on_image: bool) -> float:
    """Seconds that an image could have saved this process, from its own recording."""
    ready = compiled = 0.0
    with open(log, "rb") as file:
        for line in file:
            word, _, rest = line.partition(b" ")
            if word == b"ready":
                ready = float(rest)
            elif word == b"compiled":
                compiled = float(rest)
    if not on_image:
        return ready + compiled
    with open(trace, "rb") as file:
        lines = file.readlines(1_000_000)
    return compiled * sum(b"Main." not in line for line in lines) / max(1, len(lines))


def _wake(plan: Plan, keywords: Mapping[str, Any]) -> None:
    """Start the process that decides, unless somebody did so lately."""
    from ..base.program import main_file, python_itself, python_path, script_directory, spawn_detached
    from ..store.places import Store
    from .options import user_options

    interpreter = python_itself()
    if interpreter is None:
        return  # it would be this program that starts once more
    mark = Store(plan.home).automatic(plan.environment or "")
    now = time.time()
    try:
        if now < os.stat(mark).st_mtime <= now + AFTER_A_FAILURE:
            return
    except OSError:
        pass
    os.close(os.open(mark, os.O_CREAT | os.O_WRONLY, 0o600))
    os.utime(mark, (now, now + AT_ONCE))
    request = {
        "home": plan.home,
        "environment": [plan.executable, plan.project, plan.libjulia, plan.bindir, "project" not in user_options()],
        "flags": plan.flags,
        "keywords": {name: os.fspath(v) if hasattr(v, "__fspath__") else v for name, v in keywords.items()},
        "script_directory": script_directory(),
        "path": sys.path,
        "options": [f"{k}={v}" for k, v in sys._xoptions.items() if k.startswith(("juliacall-", "juliapkg-"))],
        "main_file": main_file() or None,
    }
    spawn_detached(
        [interpreter, "-m", "pyjl_autoimage", "_automatic", repr(request)],  # importing json takes longer
        {**os.environ, "PYTHONPATH": python_path()},
    )


def advise(plan: Plan, why: str) -> None:
    """Say once, until image or manifest change, what would make this environment fast."""
    from ..base.files import read_json, write_atomically
    from ..store.places import Store

    store = Store(plan.home)
    file, environment = store.advice(plan.environment or ""), plan.environment or ""
    try:
        manifest = os.stat(os.path.join(plan.project or "", "Manifest.toml")).st_mtime_ns
    except OSError:
        manifest = 0
    now = f"{plan.image} {manifest}"
    try:
        with open(file, encoding="utf-8") as known:
            if known.read() == now:
                return
    except OSError:
        pass
    if (read_json(store.build_state(environment)) or {}).get("state") == "running":
        return
    try:
        write_atomically(file, now.encode())
    except OSError:
        return  # it could not be kept from being said again
    print(
        f"pyjl_autoimage: {why}. `python -m pyjl_autoimage build` makes an image for the next start; "
        "with PYJL_AUTOIMAGE_AUTO=1 that happens by itself.",
        file=sys.stderr,
    )
