"""What recorded runs say about speed: what starts cost with and without an image, and what another build would bring.

Nothing is measured here: every run has noted how long its start took and how long it compiled.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import median
from types import MappingProxyType
from typing import Any

from ..profile.profile import OURS, Profile, Run
from ..store.built import Image

__all__ = ["TIERS", "estimate", "gain_over", "latest_program", "times"]

TIERS = ("plain", "layer", "image")


def theirs(run: Run) -> str | None:
    """The path of the image that a library or the user chose for a run; None where it was on ours, or on none."""
    return run.image if run.image and os.path.isabs(run.image) else None


def tier(run: Run) -> str:
    """What a run started on: ``image`` (with or without a layer), ``layer`` or ``plain``."""
    return "image" if run.image else "layer" if run.layer else "plain"


def _runs(recorded: Profile) -> list[Run]:
    """The user's latest runs that came up, newest first: somebody waited for them."""
    runs = [run for run in recorded.recent.values() if run.ready and not run.workload and run.program != OURS]
    return sorted(runs, key=lambda run: run.started, reverse=True)


def latest_program(recorded: Profile) -> str | None:
    """The program that ran last."""
    return next((run.program for run in _runs(recorded)), None)


def times(
    recorded: Profile, image: str | None = None, layers: Mapping[str, str] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """What the latest runs of each program cost, the program that ran last first.

    Of what starts use now, only runs on this very image and layer count; while there are none, the last run on an
    image (or a layer) before it.

    Args:
        recorded: the profile.
        image: id of the image that the next start uses.
        layers: program -> id of the layer that its next start uses.

    Returns:
        For each program a dictionary with its name as ``program``, and for each of `TIERS` None or ``runs`` (how
        many), ``ready_seconds`` (from our first line to a running Julia) and ``compile_seconds`` (compiling after
        that; None if no run has ended), both medians. As ``theirs`` the path of the image that its last run was
        on, where a library or the user had chosen that: no image of ours makes such a program faster.
    """
    runs = _runs(recorded)
    found = []
    for name in dict.fromkeys(run.program for run in runs):
        on = {kind: [run for run in runs if (run.program, tier(run)) == (name, kind)] for kind in TIERS}
        now = "image" if image else "layer" if name in layers else "plain"
        if now != "plain":
            on[now] = _present(on[now], image, layers.get(name)) or on[now][:1]
        last = next(run for run in runs if run.program == name)
        found.append({"program": name, **{kind: _times_of(on[kind]) for kind in TIERS}, "theirs": theirs(last)})
    return found


def _present(runs: Iterable[Run], image: str | None, layer: str | None) -> list[Run]:
    """The runs that started on this image and this layer (None: without)."""
    return [run for run in runs if (run.image, run.layer) == (image, layer)]


def _times_of(runs: Iterable[Run]) -> dict[str, Any] | None:
    runs = list(runs)
    if not runs:
        return None
    compiled = [run.compiled for run in runs if run.ended]
    return {
        "runs": len(runs),
        "ready_seconds": round(median(run.ready for run in runs), 4),
        "compile_seconds": round(median(compiled), 4) if compiled else None,
    }


def gain_over(image: Image, recorded: Profile) -> float:
    """Seconds that recorded runs on an image spent compiling what the next image could hold.

    Runs say how long they compiled in all. That counts for the share of statements that no build has tried yet
    among those that were recorded since the image was built.
    """
    since = {text for text, statement in recorded.statements.items() if statement.last > image.built_at}
    bakeable = since.intersection(recorded.untried())
    compiled = sum(run.compiled for run in recorded.recent.values() if run.image == image.id)
    return compiled * len(bakeable) / max(1, len(since))


def estimate(recorded: Profile, image: Image | None, layers: Mapping[str, str]) -> dict[str, Any] | None:
    """What an image, or another one, would save each run of the program that ran last, about.

    With an image: what runs on it (and on the program's layer) still compiled, as far as no image was built with it.
    Without one: what plain runs (or those on the program's layer) cost, less what runs on an image did, if any are
    known.

    Args:
        recorded: the profile.
        image: the one that is valid now.
        layers: program -> id of the layer that its next start uses.

    Returns:
        ``program``, ``seconds`` (saved in each run), ``now_seconds`` and ``then_seconds`` (what a run costs now and
        would on an image; None where that is not known). None if no run says anything.
    """
    program = latest_program(recorded)
    if program is None:
        return None
    own = [run for run in _runs(recorded) if run.program == program and run.ended]
    if image is not None:
        on_it = _present(own, image.id, layers.get(program))
        if not on_it:
            return None
        alone = replace(recorded, recent={str(number): run for number, run in enumerate(on_it)})
        return _estimate(program, gain_over(image, alone) / len(on_it), _cost(on_it), None)
    now = _cost(_present(own, None, layers[program])) if program in layers else None
    if now is None:
        plain = recorded.programs[program].costs if program in recorded.programs else []
        now = median(plain) if plain else None
    if now is None:
        return None
    then = _cost([run for run in own if run.image is not None][:1])
    if then is None:
        then = next((run.ready for run in _runs(recorded) if run.image is not None), None)
    return _estimate(program, max(0.0, now - (then or 0.0)), now, then)


def _cost(runs: Iterable[Run]) -> float | None:
    costs = [run.ready + run.compiled for run in runs]
    return median(costs) if costs else None


def _estimate(program: str, seconds: float, now: float | None, then: float | None) -> dict[str, Any]:
    rounded = [None if value is None else round(value, 3) for value in (seconds, now, then)]
    return {"program": program, **dict(zip(("seconds", "now_seconds", "then_seconds"), rounded, strict=True))}
