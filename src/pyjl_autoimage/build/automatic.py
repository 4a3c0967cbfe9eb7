"""Builds that start by themselves: the process that a program's end has woken (`startup/ending.py`) decides.

It has all the facts at hand, and time.
"""

from __future__ import annotations

import os
import sys
import time
from ast import literal_eval
from collections.abc import Mapping

from ..base import settings
from ..base.files import write_json
from ..base.locks import lock
from ..base.settings import Settings
from ..julia.environment import Environment
from ..julia.versions import usual_seconds
from ..profile import recordings
from ..profile.workloads import Caller
from ..startup.ending import AFTER_A_FAILURE, LEAST_WITHOUT_IMAGE
from ..store import choice, validity
from ..store.places import Store
from . import machine, measured
from .begin import begin
from .state import State

__all__ = ["decide", "main"]

WORTH = 10.0
"""A second that somebody waits for Julia is worth this many seconds of a build in the background."""

NOT_YET = 300.0
"""Seconds until the same question is asked again."""

BETWEEN_BUILDS = 3600.0

GIGABYTES_NEEDED = 6.0
"""A build takes 5.5 GB with one compiling thread."""


def main(request: str) -> int:
    """What ``python -m pyjl_autoimage _automatic REQUEST`` does: decide, note why, and perhaps start a build."""
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
                begin(environment, settled, asked["flags"], caller=caller)
            _note(store.automatic(environment.id), why, pause)
    except TimeoutError:
        pass  # somebody else decides
    return 0


def _note(mark: str, why: str, pause: float) -> None:
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
    memory = machine.available_gigabytes()
    if memory is not None and memory < GIGABYTES_NEEDED:
        return False, f"only {memory:.1f} GB of memory are free", NOT_YET
    recorded = recordings.merge(store, environment.id)
    situation = validity.situation_of(environment, store, flags)
    program = measured.latest_program(recorded) or ""
    image = choice.valid_image(environment, store, program, situation, settled.trusted_stores)
    if image is not None:
        seconds = (
            sum(state.seconds.values())
            if state is not None and state.image
            else usual_seconds(situation.facts.version)
        )
        gain = measured.gain_over(image, recorded)
        if gain * WORTH < seconds:
            return False, f"{gain:.1f} s compiled beyond the image do not pay for a build of {seconds:.0f} s", NOT_YET
        return True, f"recorded runs compiled {gain:.1f} s beyond the image", BETWEEN_BUILDS
    # Those of programs with other flags, or for other kinds of CPU, are as good as they were.
    own = [image for image in store.all_images() if image.environment == environment.id]
    newest = next((image for image in own if not validity.of_another_kind(image, situation)), None)
    if newest is not None:
        why = next(iter(validity.reasons_against(newest, situation, store, thorough=True)), "")
        if why.startswith(("condemned", "not trusted")):
            return False, f"another image would not help: the last one is {why}", BETWEEN_BUILDS
    costs = [run.ready + run.compiled for run in recorded.recent.values() if run.image is None]
    if max(costs, default=0.0) < LEAST_WITHOUT_IMAGE:
        return False, "no recorded run was slow", NOT_YET
    return True, "the image is stale" if newest else "there is no image", BETWEEN_BUILDS


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
