"""The quick part of a build, top to bottom: layers, one a program, that are of use after seconds.

Each lies on the image that its program starts on now, or on Julia's own, and holds the program's own code and
what its runs compiled beyond that image.
"""

from __future__ import annotations

import os
import time

from ..base.files import tree_size
from ..errors import AutoimageError, BuildError
from ..julia.facts import JuliaFacts
from ..profile.profile import Profile, Program
from ..startup.code import fingerprints, module_uuid, unchanged
from ..store import choice, validity
from ..store.built import Image, Layer, OwnCode, baked_package, cache_header
from ..store.publish import new_layer, publish_layer, remove_layer
from ..store.validity import Situation
from .layer import Parts, Report, roots_of, write_packages
from .made import changed_since, completed
from .precompiling import LayerJulia, precompile
from .recipe import PYTHONCALL_UUID
from .work import Work

__all__ = ["build_layers"]

PROGRAMS = 3
"""Layers of one build at most: those of the programs that ran last. Each takes some twenty seconds."""

WORTHWHILE_SECONDS = 1.0
"""With an image in use, a build that goes on to the next image makes no layer for less compilation than this."""

LAYERS_KEPT = 2
"""Of one program. The last but one serves processes that chose it before the last was there."""


def build_layers(
    work: Work, facts: JuliaFacts, situation: Situation, recorded: Profile, *, hosts_python: bool, quick: bool
) -> dict[str, OwnCode]:
    """Build the layers that are missing.

    Args:
        work: the build.
        facts: of its Julia.
        situation: the project as it is now.
        recorded: the merged profile.
        hosts_python: whether a Julia process can host this Python, so that PythonCall can be loaded.
        quick: whether layers are all that was asked for.

    Returns:
        module -> the own code that some valid layer holds as it is now.

    Raises:
        BuildError: (`quick`) a layer could not be built. Otherwise that is a note, and no reason to go without
            an image.
    """
    programs = sorted(recorded.programs.items(), key=lambda item: item[1].last, reverse=True)
    for name, program in programs[:PROGRAMS]:
        try:
            trusted = work.settings.trusted_stores
            image = choice.valid_image(work.environment, work.store, name, situation, trusted)
            parts = _parts(name, program, recorded, situation, image, hosts_python)
            if _has_nothing_new(name, work.environment.id, parts, recorded, image, quick):
                continue
            if any(layer.contents == parts.contents for layer in _valid_layers(work, situation, name, image)):
                continue
            layer = _build(work, facts, situation, name, parts, image)
            work.state.layers.append(layer.id)
            _remove_old(work, name)
        except (AutoimageError, OSError) as error:
            if quick:
                raise
            work.note(f"no layer for {name or 'interactive use'}: {error}")
    return {
        code.name: code
        for layer in reversed(list(work.store.all_layers()))
        if layer.environment == work.environment.id
        for code in layer.code
        if code.name in recorded.code and unchanged(code.files)
    }


def _parts(
    name: str, program: Program, recorded: Profile, situation: Situation, image: Image | None, hosts_python: bool
) -> Parts:
    manifest = situation.manifest
    barred = set() if hosts_python else {PYTHONCALL_UUID, *manifest.dependents([PYTHONCALL_UUID])}
    loaded = [uuid for uuid in {**program.packages, PYTHONCALL_UUID: 0.0} if uuid not in barred]
    code = {module: recorded.code[module] for module in program.code if module in recorded.code}
    return Parts(
        package=f"AutoimageStatements_{module_uuid(name)[:8]}",
        image=image.id if image else None,
        roots=roots_of(manifest, loaded),
        statements=[text for text in recorded.bakeable() if name in recorded.statements[text].programs],
        code={module: own for module, own in code.items() if own.text is not None or os.path.isfile(own.path)},
    )


def _has_nothing_new(
    name: str, environment: str, parts: Parts, recorded: Profile, image: Image | None, quick: bool
) -> bool:
    if image is None:
        return not parts.statements
    baked = {code.name for code in image.code if unchanged(code.files)}
    if any(module not in baked for module in parts.code):
        return False
    if quick and image.environment == environment:  # another's was built from what others recorded
        known = map(recorded.statements.__getitem__, parts.statements)
        return all(one.last <= image.built_at or (one.inferred and one.given) for one in known)
    runs = [run for run in recorded.recent.values() if run.program == name and run.image == image.id]
    last = max(runs, key=lambda run: run.started, default=None)
    return last is None or last.compiled < WORTHWHILE_SECONDS


def _valid_layers(work: Work, situation: Situation, program: str, image: Image | None) -> list[Layer]:
    on = image.id if image else None
    return [
        layer
        for layer in choice.layers_of(work.store, program)
        if not validity.reasons_against_layer(layer, on, situation, work.store)
        and all(unchanged(code.files) for code in layer.code)
    ]


def _build(
    work: Work, facts: JuliaFacts, situation: Situation, program: str, parts: Parts, image: Image | None
) -> Layer:
    work.detail(os.path.basename(program))
    began = time.time()
    layer_id = os.urandom(8).hex()
    directory = new_layer(work.store, layer_id)
    try:
        write_packages(directory, parts)
        report = precompile(work, LayerJulia(work, facts, situation, directory, image), parts)
        layer = _publish(work, situation, layer_id, program, parts, report, image, began)
    except BaseException:
        remove_layer(work.store, layer_id)
        raise
    for module, why in report.failed.items():
        work.state.notes.append(f"{parts.code[module].path} is evaluated in each process: {why}")
    for name, why in report.without.items():
        work.state.notes.append(f"no layer has what was compiled with {name}: {why}")
    work.say(f"layer {layer_id} for {program or 'interactive use'}: {report.statements} statements")
    return layer


def _publish(
    work: Work,
    situation: Situation,
    layer_id: str,
    program: str,
    parts: Parts,
    report: Report,
    image: Image | None,
    began: float,
) -> Layer:
    directory = work.store.layer(layer_id)
    code = []
    for module, files in report.files.items():
        ours = [path for path in files if not path.startswith(os.path.join(directory, ""))]
        newest = max((os.stat(path).st_mtime for path in ours if os.path.exists(path)), default=0.0)
        found = fingerprints(ours)
        if "" in found.values() or newest >= began:
            raise BuildError(f"{parts.code[module].path} changed while it was precompiled; build again")
        apart = report.not_for_images.get(module, "")
        code.append(OwnCode(module, parts.uuid(module), parts.code[module].path, found, apart))
    manifest, facts = situation.manifest, situation.facts
    used = {*parts.roots.values(), *(uuid for own in parts.code.values() for uuid in own.deps.values())}
    as_stated = [
        baked_package(manifest.packages[uuid], facts.depots, situation.preferences.get(uuid, {}), facts.stdlib)
        for uuid in sorted(manifest.closure([uuid for uuid in used if uuid in manifest.packages]))
    ]
    packages = completed(as_stated, report.made, manifest, situation.preferences)
    changed = changed_since(report.made, packages, began)
    if changed:
        raise BuildError(f"{changed[0]} changed while the layer was precompiled; build again")
    layer = Layer(
        id=layer_id,
        path=directory,
        program=program,
        image=image.id if image else None,
        built_at=round(time.time(), 3),
        bytes=tree_size(directory),
        package=parts.package,
        uuid=parts.uuid(parts.package),
        roots=(
            *(uuid for name, uuid in parts.roots.items() if name not in report.without),
            *(own.uuid for own in code),
        ),
        contents="" if report.without else parts.contents,  # what cannot be loaded is tried again
        caches={path: cache_header(path) for path in report.caches},
        code=tuple(code),
        statements=report.statements,
        build_seconds=round(time.time() - began, 1),
        **situation.requirements(work.environment, packages),
    )
    publish_layer(work.store, layer)
    return layer


def _remove_old(work: Work, program: str) -> None:
    layers = choice.layers_of(work.store, program)
    for layer in [one for one in layers if one.environment == work.environment.id][LAYERS_KEPT:]:
        remove_layer(work.store, layer.id)
