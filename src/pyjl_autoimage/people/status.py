"""How things stand, as data: what `pyjl_autoimage.status` gives, and what the command line shows."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from typing import Any

from ..base import settings
from ..base.files import read_json, tree_size
from ..base.settings import Settings
from ..build import handle, measured
from ..build.state import State, expected_seconds
from ..errors import AutoimageError
from ..hook import enable
from ..julia.environment import Environment, locate
from ..julia.versions import usual_seconds
from ..profile import recordings
from ..profile.profile import Profile
from ..startup.code import unchanged
from ..startup.options import code_flags, user_options
from ..startup.start import session
from ..store import choice, validity
from ..store.built import Image, Layer
from ..store.places import Store
from ..store.validity import Situation

__all__ = ["status", "stdout_to_stderr"]


RUNS_SHOWN = 5


def status(**keywords: Any) -> dict[str, Any]:
    """How things stand for this program's environment. Changes nothing, installs nothing.

    Args:
        keywords: any field of `pyjl_autoimage.base.settings.Settings`; the environment wins over them.

    Returns:
        Plain data, with times in seconds (moments since the epoch) and sizes in bytes, and these keys:

        - ``summary``: ``state``, ``fast`` (whether the next start is) and ``why`` (a list of lines). The state is
          ``image`` (a valid image), ``layer`` (no image, but a layer for at least one program), ``stale`` (there are
          images or layers, none of them valid; ``why`` gives the reasons against the newest), ``recorded`` (runs, but
          no image yet), ``nothing`` or ``off``.
        - ``estimate``: what a build would bring, about: ``program`` (the one that ran last), ``seconds`` (saved in
          each of its runs), ``now_seconds``, ``then_seconds`` (None where not known), ``build_seconds`` (what a build
          takes). None when no recorded run says anything.
        - ``times``: for each program, the one that ran last first, ``program`` and, under ``plain``, ``layer`` and
          ``image``, None or the medians of its latest such runs: ``runs``, ``ready_seconds``, ``compile_seconds``.
        - ``saved``: ``seconds`` that ``runs`` on images and layers saved, each against the usual plain run of its
          program.
        - ``environment``: ``julia_version``, ``executable``, ``project``, ``id``.
        - ``image``: None, or ``id``, ``shared_by`` (None, or the project that it was built for, where that is another
          one), ``path``, ``built_at``, ``bytes``, ``caches_bytes`` (of what lies beside the
          library), ``packages``, ``statements``, ``changed`` (paths of programs' own Julia code in it that has been
          edited since, and so is evaluated).
        - ``rejected``: ``id``, ``reasons`` and ``bytes`` of each image that is not used here, and whether it is only
          ``superseded`` by a newer one.
        - ``layers``: ``id``, ``program``, ``reasons`` (why it cannot be used; empty when it can), ``used`` (whether
          the next start of its program does), ``built_at``, ``bytes``, ``statements``, ``code``, ``changed`` of each.
        - ``profile``: ``statements``, ``recordings`` (how many), ``packages`` (names), ``included`` (Julia
          files that are compiled in each process of the program that ran last, since they are no package's, and
          ``lines`` of each), ``aside`` (files that were one, could not be read, and count no more).
        - ``runs``: the latest: what each still compiled and what that cost.
        - ``build``: the current or last one: ``state`` (``none``, ``running``, ``done``, ``failed``, ``cancelled``),
          ``progress`` (None, or ``phase``, ``detail``, ``fraction``, ``elapsed_seconds``, ``left_seconds``,
          ``memory_bytes`` of one that runs), ``log``, ``error``, ``started``, ``finished``,
          ``image`` and ``layers`` (ids of what it made), ...
        - ``disk``: bytes of this environment's ``images``, ``layers`` and ``recordings``, and of the whole ``store``.
        - ``slow_start``: None, or of the last start that had to look at everything anew (a tenth of a second or so,
          beside what it had no image for): ``program``, ``when`` and ``why``, what had changed since the one before.
        - ``session``: what became of start-up in this process.
        - ``hook``: ``enabled`` (the file that puts it into every program of this Python, or None) and ``error`` (what
          it last kept from a program).
        - ``store``: its path.
        - ``unreadable``: how many ``images`` of how many ``bytes`` only another version of this package can read.
        - ``unwritable``: None, or why nothing can be recorded in the store.

    Raises:
        JuliaNotFoundError: there is no usable Julia, or its project has not been set up.
        SettingsError: a setting has an unknown name or a bad value.
    """
    settled = settings.settle(keywords)
    with stdout_to_stderr():
        options = user_options()
        environment = locate(options, install=False)
        return _status(settled, environment, options)


def _status(settled: Settings, environment: Environment, options: dict[str, str]) -> dict[str, Any]:
    store = Store(settled.home)
    facts = validity.julia_facts(environment, store)
    recorded = recordings.peek(store, environment.id)
    program = measured.latest_program(recorded) or ""
    images = choice.best_first(environment, store, program, settled.trusted_stores)
    layers = [i for i in store.all_layers() if i.environment == environment.id or i.program in recorded.programs]
    situation = _situation(environment, store, code_flags(options)) if images or layers else None
    sizes = {image.path: tree_size(os.path.dirname(image.path)) for image in images}
    chosen, against_images = _choose(images, situation, store, settled.trusted_stores)
    own = [image for image in images if image.environment == environment.id]
    against = [_rejected(image, why, sizes, chosen, store) for image, why in against_images]
    rejected = [entry for entry in against if entry["id"] in {image.id for image in own}]
    others = [entry for entry in against if entry not in rejected]
    against_layers = {layer.id: _against(layer, chosen, situation, store) for layer in layers}
    used = _used([layer for layer in layers if not against_layers[layer.id]], recorded)
    fresh = _unchanged_code([*([chosen] if chosen else []), *(i for i in layers if used.get(i.program) == i.id)])
    layers_data = [_layer(i, against_layers[i.id], used.get(i.program) == i.id, fresh) for i in layers]
    state = State.read(store, environment.id)
    unreadable = store.unreadable_images()
    times = measured.times(recorded, chosen.id if chosen else None, used)
    gain = measured.estimate(recorded, chosen, used)
    return {
        "summary": _summary(settled, options, chosen, rejected, layers_data, recorded, times),
        "estimate": gain and {**gain, "build_seconds": round(expected_seconds(state, usual_seconds(facts.version)))},
        "times": times,
        "saved": {"seconds": round(recorded.saved, 2), "runs": recorded.saved_runs},
        "environment": {
            "id": environment.id,
            "julia_version": facts.version,
            "executable": environment.executable,
            "project": environment.project,
        },
        "image": _image(chosen, fresh, sizes, None if chosen in own else chosen.project) if chosen else None,
        "rejected": [*rejected, *others],
        "layers": layers_data,
        "profile": {
            "statements": sum(not statement.inferred for statement in recorded.statements.values()),
            "inferred": sum(statement.inferred for statement in recorded.statements.values()),
            "recordings": recorded.runs,
            "packages": sorted(package.name for package in recorded.packages.values()),
            "included": _included(recorded),
            "aside": recordings.aside(store, environment.id),
        },
        "runs": [
            {
                "program": run.program,
                "started": run.started,
                "image": run.image,
                "layer": run.layer,
                "workload": run.workload,
                "ready_seconds": run.ready,
                "statements": run.statements,
                "compile_seconds": run.compiled,
            }
            for run in sorted(recorded.recent.values(), key=lambda run: run.started, reverse=True)[:RUNS_SHOWN]
        ],
        "build": {
            "state": state.state if state else "none",
            "log": store.build_log(environment.id) if state else None,
            "phase": state.phase if state else None,
            "progress": _progress(state) if state and state.state == "running" else None,
            "error": (state.error or None) if state else None,
            "started": state.started if state else None,
            "finished": (state.finished or None) if state else None,
            "left_out": state.left_out if state else {},
            "workloads": [asdict(ran) for ran in state.workloads] if state else [],
            "notes": state.notes if state else [],
            "image": state.image if state else None,
            "layers": state.layers if state else [],
            "automatic": settled.auto_rebuild,
            "automatic_decision": (read_json(store.automatic(environment.id)) or {}).get("why"),
        },
        "disk": {
            "images": sum(sizes[image.path] for image in own if _is_in(image.path, store)),
            "layers": sum(tree_size(layer.path) for layer in layers),
            "recordings": tree_size(store.environment(environment.id)),
            "store": tree_size(store.home),
        },
        "slow_start": _slow_start(store, environment),
        "session": {
            "started": session.plan is not None,
            "on_image": session.on_image,
            "recording": session.recording.trace if session.recording else None,
            "notes": list(session.notes),
        },
        "hook": {"enabled": enable.enabled(), "error": enable.last_error(store)},
        "store": store.home,
        "unreadable": {
            "images": len(unreadable),
            "bytes": sum(tree_size(os.path.join(store.images, image_id)) for image_id in unreadable),
        },
        "unwritable": store.unwritable(),
    }


def _slow_start(store: Store, environment: Environment) -> dict[str, Any] | None:
    noted = read_json(store.slow_start(environment.id)) or {}
    if not isinstance(noted.get("when"), float):
        return None
    return {"program": str(noted.get("program")), "when": noted["when"], "why": str(noted.get("why"))}


def _is_in(path: str, store: Store) -> bool:
    return path.startswith(os.path.join(store.images, ""))


def _situation(environment: Environment, store: Store, flags: dict[str, str]) -> Situation | str:
    """What images and layers are compared with, or why there is nothing to compare with."""
    try:
        return validity.situation_of(environment, store, flags)
    except (AutoimageError, ValueError) as error:
        return str(error)


def _choose(
    images: Sequence[Image], situation: Situation | str | None, store: Store, trusted: tuple[str, ...]
) -> tuple[Image | None, list[tuple[Image, list[str]]]]:
    """The image that the next start uses, and the reasons against each of the others."""
    chosen: Image | None = None
    rejected = []
    thorough = choice.suspicious(images, store)
    for image in images:
        if isinstance(situation, Situation):
            reasons = validity.reasons_against(image, situation, store, trusted=trusted, thorough=thorough)
        else:
            reasons = [str(situation)]
        if reasons:
            rejected.append((image, reasons))
        elif chosen is not None:
            which = "a newer" if _is_older(image, chosen) else "another"
            rejected.append((image, [f"{which} image is in use ({chosen.id})"]))
        else:
            chosen = image
    return chosen, rejected


def _is_older(image: Image, other: Image) -> bool:
    return image.environment == other.environment and image.built_at < other.built_at


def _rejected(
    image: Image, reasons: list[str], sizes: Mapping[str, int], chosen: Image | None, store: Store
) -> dict[str, Any]:
    newer = f"a newer image is in use ({chosen.id if chosen else ''})"
    superseded = reasons == [newer] and _is_in(image.path, store)
    return {"id": image.id, "reasons": reasons, "superseded": superseded, "bytes": sizes[image.path]}


def _summary(
    settled: Settings,
    options: dict[str, str],
    chosen: Image | None,
    rejected: list[dict[str, Any]],
    layers: list[dict[str, Any]],
    recorded: Profile,
    times: list[dict[str, Any]],
) -> dict[str, Any]:
    if not settled.enabled:
        where = settled.origins.get("enabled", "a setting")
        return {"state": "off", "fast": False, "why": [f"{where} says that Julia starts as with plain juliacall"]}
    if "sysimage" in options:
        return {
            "state": "off",
            "fast": False,
            "why": [f"juliacall was told which image to use: {options['sysimage']}"],
        }
    if times and all(entry["theirs"] for entry in times):
        paths = sorted({entry["theirs"] for entry in times})
        return {"state": "off", "fast": False, "why": [f"programs choose their image themselves: {', '.join(paths)}"]}
    usable = any(not layer["reasons"] for layer in layers)
    against = rejected or (layers if not usable else [])
    why = [] if chosen else against[0]["reasons"] if against else ["there is no image yet"]
    if not (chosen or rejected or layers or recorded.runs):
        return {"state": "nothing", "fast": False, "why": ["nothing has been recorded, and there is no image"]}
    state = "image" if chosen else "layer" if usable else "stale" if against else "recorded"
    return {"state": state, "fast": state in ("image", "layer"), "why": why}


def _included(recorded: Profile) -> list[dict[str, Any]]:
    ran = recorded.programs.get(measured.latest_program(recorded) or "")
    own = {path for code in recorded.code.values() for path in (code.path, *code.files)}
    found = []
    for path in ran.included if ran else ():
        try:
            with open(path, "rb") as file:
                lines = sum(1 for _ in file)
        except (OSError, ValueError):
            continue  # it was a temporary one
        if path not in own:
            found.append({"path": path, "lines": lines})
    return found


def _image(image: Image, fresh: Set[str], sizes: Mapping[str, int], shared_by: str | None) -> dict[str, Any]:
    return {
        "id": image.id,
        "shared_by": shared_by,
        "path": image.path,
        "built_at": image.built_at,
        "bytes": image.bytes,
        "caches_bytes": max(0, sizes[image.path] - image.bytes),
        "packages": [{"name": package.name, "version": package.version} for package in image.packages],
        "statements": image.statements,
        "changed": _changed(image, fresh),
    }


def _against(layer: Layer, image: Image | None, situation: Situation | str | None, store: Store) -> list[str]:
    if isinstance(situation, Situation):
        return validity.reasons_against_layer(layer, image.id if image else None, situation, store)
    return [str(situation)]


def _layer(layer: Layer, reasons: list[str], used: bool, fresh: Set[str]) -> dict[str, Any]:
    return {
        "id": layer.id,
        "program": layer.program,
        "built_at": layer.built_at,
        "bytes": layer.bytes,
        "statements": layer.statements,
        "code": [code.path for code in layer.code],
        "changed": _changed(layer, fresh),
        "reasons": reasons,
        "used": used,
    }


def _used(valid: Sequence[Layer], recorded: Profile) -> dict[str, str]:
    """program -> the layer that its next start uses: the newest. Interactive use counts if there was any."""
    interactive = any(run.program == "" and not run.workload for run in recorded.recent.values())
    return {layer.program: layer.id for layer in reversed(valid) if layer.program or interactive}


def _unchanged_code(holders: Sequence[Image | Layer]) -> set[str]:
    """Modules of programs' own code that some image or layer in use holds as it is now."""
    return {own.name for holder in holders for own in holder.code if unchanged(own.files)}


def _changed(holder: Image | Layer, fresh: Set[str]) -> list[str]:
    """Paths of own code that has been edited since, and that nothing else in use holds as it is now."""
    return [own.path for own in holder.code if own.name not in fresh and not unchanged(own.files)]


def _progress(state: State) -> dict[str, Any]:
    return {
        "phase": state.phase,
        "detail": state.detail,
        "fraction": round(state.fraction, 3),
        "elapsed_seconds": round(state.elapsed, 1),
        "left_seconds": round(state.expected - state.elapsed, 1),
        "memory_bytes": handle.memory_of(state.pid),
    }


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """What juliapkg, and the Julias that it starts, print must not mix with what we print for programs."""
    sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:
        yield
        return
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
