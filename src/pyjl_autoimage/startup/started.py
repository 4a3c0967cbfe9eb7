"""What became of this process's start, for whoever asks."""

from __future__ import annotations

import os
from typing import NamedTuple

from .start import running, session

__all__ = ["Started", "started"]


class Started(NamedTuple):
    """How Julia was started in this process, as juliacall was really given it."""

    image: str | None
    """Id of the system image of ours that it is on; None where it is on none."""
    sysimage: str | None
    """Path of the system image that it was given, of ours or the user's own; None: Julia's own."""
    layer: str | None
    """Id of the layer that it uses."""
    recorded: bool
    """Whether this process is being recorded."""
    notes: tuple[str, ...]
    """What was out of the ordinary: why an image was not used, or nothing is recorded."""


def started() -> Started | None:
    """Whether this process is on an image, and why not.

    Returns:
        None as long as Julia does not run in this process.
    """
    juliacall = running()
    if juliacall is None:
        return None
    plan = session.plan
    sysimage = juliacall.CONFIG.get("opt_sysimage")
    image = plan.image if plan is not None and session.on_image else None
    layer = plan.layer if plan is not None else None
    notes = tuple(session.notes)
    if image is None and sysimage is None and not notes:
        notes = ("no image was valid when Julia started; `python -m pyjl_autoimage status` tells of each why",)
    return Started(image, sysimage and os.fspath(sysimage), layer, session.tracing, notes)
