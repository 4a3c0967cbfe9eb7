"""Which image and which layer a start gets, the slow way, top to bottom; then the answer is remembered.

Start-up comes here only when its remembered answer does not hold any more (see `pyjl_autoimage.startup.plan`). The
verdicts on images and layers are those that builds, `status` and `clean` ask for as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from ..base.program import program_name, script_directory
from ..base.settings import Settings, settle
from ..julia.environment import Environment, juliaup_configuration, locate
from ..julia.facts import JuliaFacts
from ..julia.manifest import manifest_names, preference_files, source_files
from ..store.built import BakedPackage, Image
from ..store.places import Store
from ..store.validity import (
    Situation,
    images_of,
    is_below,
    layers_of,
    newest_valid,
    preference_projects,
    reasons_against_layer,
    situation_of,
)
from .options import code_flags, user_options
from .plan import Plan, Witnesses, quick_home, remember

__all__ = ["decide"]


def decide(settings: Mapping[str, Any], question: str | None) -> Plan:
    """The slow way: ask juliapkg, read the manifest, compare images; then remember the answer."""
    settled = settle(settings)
    try:
        return _decide_with(settled, question)
    except Exception as error:
        # Whatever is wrong, the program starts as it would have without us; juliacall says what it has to.
        return Plan(home=settled.home or quick_home({}), notes=[f"plain start: {error}"])


def _decide_with(settings: Settings, question: str | None) -> Plan:
    witnesses = Witnesses()
    store = Store(settings.home)
    options = user_options()
    if not settings.enabled or options.get("init") == "no":
        return Plan(home=store.home, enabled=False, notes=["standing aside: plain juliacall"])
    environment = locate(options)
    plan = Plan(
        home=store.home,
        environment=environment.id,
        executable=environment.executable,
        project=environment.project,
        libjulia=environment.libjulia,
        bindir=environment.bindir,
        flags=code_flags(options),
        record=settings.record,
        auto=settings.auto_rebuild,
    )
    if "trace_compile" in options:
        plan.record = False
        plan.notes.append("juliacall was told to trace elsewhere: this process records nothing")
    witnesses.files += (*_pyproject_candidates(), environment.executable, juliaup_configuration())
    witnesses.links.append(environment.executable)
    if environment.libjulia:
        witnesses.files.append(environment.libjulia)
    if environment.managed:
        witnesses.of_juliapkg(environment.project)
    facts: JuliaFacts | None = None
    if "sysimage" in options:
        plan.notes.append(f"the system image was chosen by the user: {options['sysimage']}")
    else:
        facts = _choose(plan, environment, store, settings, witnesses)
    if question is not None and not environment.may_start_another(facts.bindir if facts else None):
        remember(plan, question, witnesses)
    return plan


def _pyproject_candidates() -> Iterator[str]:
    """The file that settings came from, and every place nearer to the script where one could appear."""
    directory = script_directory()
    while True:
        candidate = os.path.join(directory, "pyproject.toml")
        yield candidate
        parent = os.path.dirname(directory)
        if os.path.isfile(candidate) or parent == directory:
            return
        directory = parent


def _choose(
    plan: Plan, environment: Environment, store: Store, settings: Settings, witnesses: Witnesses
) -> JuliaFacts | None:
    """Put the newest valid image, and the newest layer for it, into the plan; note what this depends on.

    Returns:
        What Julia said of itself, where there was anything to choose from.
    """
    trusted = settings.trusted_stores
    witnesses.files += (store.images, store.layers, store.condemnations, *(Store(home).images for home in trusted))
    images = images_of(environment, store, trusted)
    layers = layers_of(environment, store, program_name())
    if not images and not layers:
        return None
    situation = situation_of(environment, store, plan.flags)
    _witness_situation(situation, witnesses)

    def look(image: Image) -> None:
        witnesses.files += image.files
        _witness_packages(image.packages, situation, witnesses)

    image = newest_valid(images, store, situation, trusted, look)
    if image is not None:
        plan.image, plan.image_path, plan.image_files = image.id, image.path, image.files
        plan.trusted = is_below(image.path, trusted)
        plan.code = [(code.name, code.uuid, dict(code.files), False) for code in image.code]
    for layer in layers:
        witnesses.files.append(os.path.join(layer.path, "layer.json"))
        for cache in layer.caches:
            witnesses.exists_or_not(cache)  # Julia touches a cache whenever it loads it
        _witness_packages(layer.packages, situation, witnesses)
        if not reasons_against_layer(layer, plan.image, situation, store):
            plan.layer, plan.layer_path = layer.id, layer.path
            plan.layer_use = layer.description("start" if settings.preload else "use")
            plan.code += [(code.name, code.uuid, dict(code.files), True) for code in layer.code]
            break
    return situation.facts


def _witness_situation(situation: Situation, witnesses: Witnesses) -> None:
    """The files that the validity of any image or layer depends on."""

    facts = situation.facts
    files = witnesses.files
    files += [facts.libjulia, facts.base_sysimage, situation.manifest.path]
    directory = os.path.dirname(situation.manifest.path)
    files += [os.path.join(directory, name) for name in manifest_names(facts.version)]
    for project in preference_projects(situation.project, facts):
        files += preference_files(project)
    spec = find_spec("juliacall")
    if spec and spec.origin:
        files.append(spec.origin)


def _witness_packages(packages: Sequence[BakedPackage], situation: Situation, witnesses: Witnesses) -> None:
    """The places and files that the packages of an image or a layer depend on."""
    for package in packages:
        if package.source:
            witnesses.exists_or_not(package.source)  # what is in it the manifest says
        witnesses.files += package.files
        if package.digest:
            directory = package.path or os.path.join(situation.facts.stdlib, package.name)
            sources = [os.path.join(directory, relative) for relative, _ in source_files(directory)]
            witnesses.files += [*sources, *{os.path.dirname(path) for path in sources}]
