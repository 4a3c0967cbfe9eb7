"""A Julia that already runs: what is said of it, and how it is recorded from now on."""

from __future__ import annotations

import os
import sys
import warnings
from _thread import RLock
from collections.abc import Mapping
from typing import Any

from ..base.program import PACKAGE
from ..base.settings import settle
from ..julia.environment import Environment
from ..store.places import Store
from . import recording
from .options import FLAG_DEFAULTS, code_flags
from .plan import Plan, quick_home
from .start import running, session

__all__ = ["already_running", "attach", "detach"]

_lock: RLock = RLock()


def already_running(settings: Mapping[str, Any]) -> None:
    """Warn who asked for a start of ours that there was one before."""
    session.plan = Plan(home=quick_home(settings))
    message = (
        "juliacall was running before pyjl_autoimage started, so this process uses no image of ours. "
        "Import jl from pyjl_autoimage before anything imports juliacall, or run the program with "
        "`python -m pyjl_autoimage run`. pyjl_autoimage.attach() records what it compiles from now on."
    )
    session.notes.append("juliacall was already running")
    warnings.warn(message, RuntimeWarning, stacklevel=_level_of_the_user())


def _level_of_the_user() -> int:
    """How far above its caller, as `warnings.warn` counts, the first code is that is not of this package."""
    ours, level = os.path.join(PACKAGE, ""), 0
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not ("importlib" in file and "_bootstrap" in file):  # which that function does not count
            level += 1
            if not os.path.abspath(file).startswith(ours):
                break
        frame = frame.f_back  # type: ignore[assignment]
    return level


def attach(**settings: Any) -> bool:
    """Record what a Julia that is already up compiles from now on, and the packages it has loaded.

    Returns:
        True when this process is being recorded (also when it already was). False, with a warning that
        says why, when it cannot be.

    Raises:
        SettingsError: a setting has an unknown name or a bad value.
        RuntimeError: Julia is not running in this process yet.
    """
    with _lock:
        juliacall = running()
        if juliacall is None:
            raise RuntimeError("Julia is not running yet; pyjl_autoimage.start() starts it and records")
        if session.tracing:
            return True
        problem = _attach(juliacall, settings)
        if problem:
            warnings.warn(f"this process is not recorded: {problem}", RuntimeWarning, stacklevel=2)
        return not problem


def _attach(juliacall: Any, settings: Mapping[str, Any]) -> str | None:
    if juliacall.CONFIG.get("lib") is None:
        return "this Python was started by Julia"
    settled = settle(settings)
    if session.recording is None:
        config = juliacall.CONFIG
        environment = Environment(os.path.abspath(config["exepath"]), os.path.abspath(config["project"]))
        flags = {name: config.get(f"opt_{name}") for name in FLAG_DEFAULTS}
        session.recording = recording.create(
            Store(settled.home).recordings(environment.id),
            image=_image(config.get("opt_sysimage"), Store(settled.home)),
            flags=code_flags({name: str(value) for name, value in flags.items() if value is not None}),
        )
        if session.recording is None:
            return f"{Store(settled.home).recordings(environment.id)} cannot be written"
    if not recording.attach_trace(juliacall, session.recording):
        session.recording.discard()
        session.recording = None
        return "this Julia already traces its compilations elsewhere (it opens its trace file once)"
    session.tracing = True
    if not recording.attach_packages(juliacall, session.recording):
        session.notes.append("the packages that this process loads are not recorded")
    return None


def _image(sysimage: str | None, store: Store) -> str | None:
    """An image of ours by its id, another by its path."""
    if sysimage is not None and sysimage.startswith(os.path.join(store.images, "")):
        return os.path.basename(os.path.dirname(sysimage))
    return sysimage


def detach() -> None:
    """Stop recording this process. What was recorded stays; `attach` goes on."""
    with _lock:
        juliacall = running()
        if juliacall is not None and session.tracing and juliacall.CONFIG.get("lib") is not None:
            recording.detach_trace(juliacall)
            session.tracing = False
