"""Builds that start by themselves, and the one line of advice for those who have them off.

A program that ends looks at its own recording alone and at the time of one small file, and may wake a detached
process (`main`), which decides with all the facts at hand. The end of the program costs milliseconds for it:
imports stay within the functions that need them.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .environment import Environment
    from .image import Image
    from .launch import Plan
    from .profile import Profile
    from .runtime import Session
    from .settings import Settings
    from .store import Store

__all__ = ["advise", "at_exit", "decide", "main"]

WORTH = 10.0
"""A second that somebody waits for Julia is worth this many seconds of a build in the background."""

LEAST_WITHOUT_IMAGE = 1.0
"""Seconds of start and compilation that a run must have cost for a first image. (A plain start costs 1.2 s.)"""

LEAST_ON_IMAGE = 0.05
"""Seconds that a run on an image must have compiled for anybody to be woken."""

ADVISABLE = 2.0
"""Seconds for which advice is given."""

AT_ONCE = 60.0
"""Seconds in which the end of one program wakes somebody; fifty that end together wake one."""

NOT_YET = 300.0
"""Seconds until the same question is asked again."""

BETWEEN_BUILDS = 3600.0
AFTER_A_FAILURE = 86400.0

GIGABYTES_NEEDED = 6.0
"""A build takes 5.5 GB with one compiling thread."""


# -- as a program ends -----------------------------------------------------------------------------------


def at_exit(session: Session, keywords: Mapping[str, Any]) -> None:
    """Look whether a build may pay, and wake somebody to decide; or advise who has that off."""
    plan = session.plan
    if plan is None or plan.environment is None or session.recording is None or os.environ.get("CI"):
        return
    cost = _cost(session.recording.log, session.recording.trace, on_image=plan.image is not None)
    if plan.auto:
        if cost >= (LEAST_ON_IMAGE if plan.image else LEAST_WITHOUT_IMAGE):
            _wake(plan, keywords)
    elif cost >= ADVISABLE:
        advise(plan, f"Julia spent {cost:.0f} s on {'code that its image lacks' if plan.image else 'compiling'} here")


def in_notebook(session: Session) -> None:
    """Advise as Julia starts in a notebook, whose end nobody sees: when there is something to build an image of."""
    plan = session.plan
    if plan is None or plan.environment is None or session.recording is None or plan.auto or plan.image is not None:
        return
    try:
        own = {os.path.basename(session.recording.log), os.path.basename(session.recording.trace)}
        from .store import Store

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
    from .options import user_options
    from .processes import python_path, script_directory, spawn_detached
    from .store import Store

    mark = Store(plan.home).automatic(plan.environment or "")
    now = time.time()
    try:
        if now < os.stat(mark).st_mtime <= now + AFTER_A_FAILURE:
            return
    except OSError:
        pass
    os.close(os.open(mark, os.O_CREAT | os.O_WRONLY, 0o600))
    os.utime(mark, (now, now + AT_ONCE))
    main_module = sys.modules.get("__main__")
    request = {
        "home": plan.home,
        "environment": [plan.executable, plan.project, plan.libjulia, plan.bindir, "project" not in user_options()],
        "flags": plan.flags,
        "keywords": {name: os.fspath(v) if hasattr(v, "__fspath__") else v for name, v in keywords.items()},
        "script_directory": script_directory(),
        "path": sys.path,
        "options": [f"{k}={v}" for k, v in sys._xoptions.items() if k.startswith(("juliacall-", "juliapkg-"))],
        "main_file": getattr(main_module, "__file__", None),
    }
    spawn_detached(
        [sys.executable, "-m", "pyjl_autoimage", "_automatic", repr(request)],  # importing json takes longer
        {**os.environ, "PYTHONPATH": python_path()},
    )


def advise(plan: Plan, why: str) -> None:
    """Say once, until image or manifest change, what would make this environment fast."""
    from .store import Store, read_json, write_atomically

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


# -- the process that decides ----------------------------------------------------------------------------


def main(request: str) -> int:
    """What ``python -m pyjl_autoimage _automatic REQUEST`` does: decide, note why, and perhaps start a build."""
    from ast import literal_eval

    from . import builder, settings
    from .environment import Environment
    from .locks import lock
    from .store import Store
    from .workloads import Caller

    asked = literal_eval(request)
    if hasattr(os, "nice"):
        os.nice(10)
    environment = Environment(*asked["environment"])
    pyproject = settings.find_pyproject(asked["script_directory"])
    settled = settings.from_everywhere({**asked["keywords"], "home": asked["home"]}, pyproject=pyproject)
    store = Store(settled.home)
    try:
        with lock(f"{store.automatic(environment.id)}.lock", 0):
            builds, why, pause = decide(store, environment, settled, asked["flags"])
            if builds:
                caller = Caller(os.getcwd(), tuple(asked["path"]), tuple(asked["options"]), asked["main_file"])
                builder.begin(environment, settled, asked["flags"], caller=caller)
            _note(store.automatic(environment.id), why, pause)
    except TimeoutError:
        pass  # somebody else decides
    return 0


def _note(mark: str, why: str, pause: float) -> None:
    from .store import write_json

    now = time.time()
    write_json(mark, {"schema": 1, "why": why, "when": round(now)})
    os.utime(mark, (now, now + pause))


def decide(
    store: Store, environment: Environment, settled: Settings, flags: Mapping[str, str]
) -> tuple[bool, str, float]:
    """Whether to build now, why or why not, and for how many seconds not to ask again.

    Raises:
        AutoimageError: the project has no usable manifest, or the store cannot be written.
    """
    from . import builder, choice, profile
    from .jobs import USUAL_SECONDS, State

    state = State.read(store, environment.id)
    if state is not None:
        ago = time.time() - (state.finished or state.started)
        if state.state == "running":
            return False, "a build is running", NOT_YET
        if state.state != "done" and ago < AFTER_A_FAILURE:
            return False, f"the last build has {state.state}", BETWEEN_BUILDS
        if ago < BETWEEN_BUILDS:
            return False, "the last build is not an hour old", BETWEEN_BUILDS - ago
    if on_battery():
        return False, "the machine runs on battery", NOT_YET
    memory = builder.available_gigabytes()
    if memory is not None and memory < GIGABYTES_NEEDED:
        return False, f"only {memory:.1f} GB of memory are free", NOT_YET
    recorded = profile.merge(store, environment.id)
    situation = choice.situation_of(environment, store, flags)
    image = choice.valid_image(environment, store, situation, settled.trusted_stores)
    if image is not None:
        seconds = sum(state.seconds.values()) if state is not None and state.image else USUAL_SECONDS
        gain = gain_over(image, recorded)
        if gain * WORTH < seconds:
            return False, f"{gain:.1f} s compiled beyond the image do not pay for a build of {seconds:.0f} s", NOT_YET
        return True, f"recorded runs compiled {gain:.1f} s beyond the image", BETWEEN_BUILDS
    newest = next(iter(choice.images_of(environment, store)), None)
    if newest is not None:
        why = choice.reasons_against(newest, situation, store)[0]
        if why.startswith(("condemned", "not trusted")):
            return False, f"another image would not help: the last one is {why}", BETWEEN_BUILDS
    costs = [run.ready + run.compiled for run in recorded.recent.values() if run.image is None]
    if max(costs, default=0.0) < LEAST_WITHOUT_IMAGE:
        return False, "no recorded run was slow", NOT_YET
    return True, "the image is stale" if newest else "there is no image", BETWEEN_BUILDS


def gain_over(image: Image, recorded: Profile) -> float:
    """Seconds that recorded runs on an image spent compiling what the next image could hold.

    Runs say how long they compiled in all. That counts for the share of statements that no build has tried yet
    among those that were recorded since the image was built.
    """
    since = {text for text, statement in recorded.statements.items() if statement.last > image.built_at}
    bakeable = since.intersection(recorded.untried())
    compiled = sum(run.compiled for run in recorded.recent.values() if run.image == image.id)
    return compiled * len(bakeable) / max(1, len(since))


def on_battery() -> bool:
    """Whether the machine runs on battery; False where that cannot be known."""
    if sys.platform == "win32":
        import ctypes

        status = (ctypes.c_ubyte * 12)()  # SYSTEM_POWER_STATUS: its first byte is 0 without external power
        return bool(ctypes.windll.kernel32.GetSystemPowerStatus(status)) and status[0] == 0
    if sys.platform == "darwin":
        import subprocess

        told = subprocess.run(["pmset", "-g", "ps"], capture_output=True, text=True, check=False)
        return "'Battery Power'" in told.stdout
    return discharging("/sys/class/power_supply")


def discharging(directory: str) -> bool:
    """Whether a battery of the machine itself is being used up, by Linux' own account."""

    def says(supply: str, name: str) -> str:
        try:
            with open(os.path.join(directory, supply, name), encoding="ascii") as file:
                return file.read().strip()
        except (OSError, ValueError):
            return ""

    try:
        supplies = os.listdir(directory)
    except OSError:
        return False
    return any(
        says(supply, "type") == "Battery"
        and says(supply, "scope") != "Device"  # that of a mouse
        and says(supply, "status") == "Discharging"
        for supply in supplies
    )
