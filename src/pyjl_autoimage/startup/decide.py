"""Which image and which layer a start gets, the slow way, top to bottom; then the answer is remembered.

Start-up comes here only when its remembered answer does not hold any more (see `pyjl_autoimage.startup.plan`). The
verdicts on images and layers are those that builds, `status` and `clean` ask for as well.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from ..base.files import names_in, write_json
from ..base.program import program_name
from ..base.reads import Reads
from ..base.settings import Settings, settle
from ..base.unchanged import version_said
from ..errors import SetUpError, StoreError
from ..julia.environment import Environment, juliaup_configuration, locate
from ..julia.facts import JuliaFacts
from ..julia.manifest import ManifestError
from ..julia.sources import source_files
from ..julia.versions import against_juliacall
from ..store import wants
from ..store.built import BakedPackage, Image, recorder_files
from ..store.choice import best_first, best_valid, layers_of
from ..store.places import Store
from ..store.validity import Situation, is_below, julia_facts, may_hold, reasons_against_layer, situation_of, stated
from .options import code_flags, user_options
from .plan import Plan, editable_installs, quick_home, remember

__all__ = ["decide"]


def decide(settings: Mapping[str, Any], question: str | None, why: str = "") -> Plan:
    """The slow way: ask juliapkg, read the manifest, compare images; then remember the plan.

    Args:
        settings: keyword settings.
        question: what the plan is remembered for; None: it is not.
        why: why none that was remembered holds.

    Raises:
        SettingsError: a setting has an unknown name or a bad value.
        SetUpError: juliapkg failed, as it would for juliacall.
    """
    with Reads() as reads:
        settled = settle(settings)
        try:
            plan, lasting = _decide_with(settled, reads)
            if question is not None and lasting:
                remember(plan, question, reads)
        except SetUpError:
            raise  # juliacall would say the same, after as many minutes
        except Exception as error:
            # Whatever is wrong, the program starts as it would have without us; juliacall says what it has to.
            return Plan(home=settled.home or quick_home({}), notes=[f"plain start: {error}"])
    if plan.environment is not None and plan.project is not None:
        _note(Store(plan.home), plan.environment, plan.project, plan, why)
    return plan


def _note(store: Store, environment: str, project: str, plan: Plan, why: str) -> None:
    """For `status`, why the last start that could not be a quick one was not; and which image it wants to be kept."""
    try:
        path = store.slow_start(environment)
        if os.path.isdir(os.path.dirname(path)):
            write_json(path, {"schema": 1, "why": why, "when": time.time(), "program": program_name()})
            wants.note(store, environment, project, (program_name(), plan.flags), plan.image)
    except (OSError, StoreError):
        pass


def _decide_with(settings: Settings, reads: Reads) -> tuple[Plan, bool]:
    """The plan, and whether it holds for later starts as well."""
    store = Store(settings.home)
    options = user_options()
    if not settings.enabled or options.get("init") == "no":
        return Plan(home=store.home, enabled=False, notes=["standing aside: plain juliacall"]), False
    old = _against_juliacall(reads)
    if old:
        return Plan(home=store.home, enabled=False, notes=[f"plain start, not recorded: {old}"]), True
    environment = locate(options)
    distrusted = store.distrust_of_itself()
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
    if distrusted:
        plan.record = plan.auto = False
        plan.notes.append(f"plain start, not recorded: {distrusted}")
        return plan, False
    if "trace_compile" in options:
        plan.record = False
        plan.notes.append("juliacall was told to trace elsewhere: this process records nothing")
    reads.all_of((environment.executable, juliaup_configuration()))
    reads.link(environment.executable)
    if environment.libjulia:
        reads.file(environment.libjulia)
    if environment.managed:
        _note_juliapkg(environment, reads)
    facts: JuliaFacts | None = None
    if "sysimage" in options:
        plan.theirs = os.path.abspath(options["sysimage"])
        plan.notes.append(f"the system image was chosen by the user: {options['sysimage']}")
    else:
        facts = _choose(plan, environment, store, settings, reads)
    if not environment.managed and not (environment.libjulia and environment.bindir):
        # juliacall would start a Julia at each start, to ask for these two.
        facts = facts or julia_facts(environment, store)
        plan.libjulia, plan.bindir = environment.libjulia or facts.libjulia, environment.bindir or facts.bindir
    return plan, not environment.may_start_another(facts.bindir if facts else None)


def _against_juliacall(reads: Reads) -> str:
    """Why this juliacall is too old; empty where it is not, or nobody knows."""
    _note_juliacall(reads)
    try:
        return against_juliacall(version("juliacall"))
    except PackageNotFoundError:
        return ""  # a program that was packed without


def _note_juliapkg(environment: Environment, reads: Reads) -> None:
    """What juliapkg's answer depends on (`can_skip_resolve` and `deps_files` in its ``deps.py``)."""
    project = environment.project
    state = os.path.join(project, "pyjuliapkg")
    reads.decides(os.path.join(state, "meta.json"))
    # Another process may be at making these anew: juliapkg waits for its end.
    made_anew = (os.path.join(project, name) for name in ("Project.toml", "Manifest.toml"))
    reads.all_of((os.path.join(state, "juliapkg.json"), *made_anew))
    juliapkg = getattr(sys.modules.get("juliapkg"), "__file__", None)
    if juliapkg:  # it looks whether it runs from its own repository
        package = os.path.dirname(os.path.abspath(juliapkg))
        reads.file(os.path.join(os.path.dirname(os.path.dirname(package)), "pyproject.toml"))
    places = [*map(os.path.abspath, sys.path)]
    for _, mapping in editable_installs():
        places += mapping.values() if isinstance(mapping, dict) else ()
    for place in dict.fromkeys(places):
        reads.directory_of_sys_path(place)
    if environment.is_script():
        reads.said[environment.executable] = version_said(environment.executable)


def _choose(
    plan: Plan, environment: Environment, store: Store, settings: Settings, reads: Reads
) -> JuliaFacts | None:
    """Put the image that serves best, and the newest layer for it, into the plan; note what this depends on.

    Returns:
        What Julia said of itself, where there was anything to choose from.
    """
    trusted = settings.trusted_stores
    reads.all_of((store.images, store.layers, store.condemnations, *(Store(home).images for home in trusted)))
    layers = layers_of(store, program_name())
    if not layers and not any(names_in(Store(home).images) for home in (store.home, *trusted)):
        return None
    try:
        situation = situation_of(environment, store, plan.flags)
    except ManifestError as error:
        plan.notes.append(f"no image: {error}")
        return None
    facts = situation.facts
    reads.all_of((facts.libjulia, facts.base_sysimage))
    if environment.libjulia and not _same_file(environment.libjulia, facts.libjulia):
        plan.notes.append(f"plain start: {environment.libjulia} is loaded, {facts.libjulia} was asked what it is")
        return facts

    def look(image: Image) -> None:
        reads.all_of((*image.files, *recorder_files()))
        _note_packages(image.packages, situation, reads)

    may_be = partial(may_hold, now=situation)
    images = best_first(environment, store, program_name(), trusted, may_be)
    image = best_valid(images, store, situation, trusted, look)
    if image is not None:
        plan.image, plan.image_path, plan.image_files = image.id, image.path, image.files
        plan.shared = image.environment != environment.id
        plan.trusted = is_below(image.path, trusted)
        plan.code = [(code.name, code.uuid, dict(code.files), False) for code in image.code]
    for layer in layers:
        if layer.image != plan.image or any(stated(layer, situation)):
            continue
        reads.file(os.path.join(layer.path, "layer.json"))
        for cache in layer.caches:
            reads.exists(cache)  # Julia touches a cache whenever it loads it
        _note_packages(layer.packages, situation, reads)
        if not reasons_against_layer(layer, plan.image, situation, store):
            plan.layer, plan.layer_path = layer.id, layer.path
            plan.layer_use = layer.description("start" if settings.preload else "use")
            plan.code += [(code.name, code.uuid, dict(code.files), True) for code in layer.code]
            break
    return situation.facts


def _note_juliacall(reads: Reads) -> None:
    spec = find_spec("juliacall")
    if spec and spec.origin:
        reads.decides(spec.origin)


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _note_packages(packages: Sequence[BakedPackage], situation: Situation, reads: Reads) -> None:
    """The places and files that the packages of an image or a layer depend on."""
    for package in packages:
        if package.source:
            reads.exists(package.source)  # what is in it the manifest says
            for depot in situation.facts.depots if package.tree_sha1 else ():
                place = os.path.join(depot, "packages", package.name, os.path.basename(package.source))
                if place == package.source:
                    break
                reads.exists(place)  # Julia takes the first that there is
        reads.all_of(package.files)
        if package.digest:
            directory = package.path or os.path.join(situation.facts.stdlib, package.name)
            sources = [os.path.join(directory, relative) for relative, _ in source_files(directory)]
            reads.all_of((*sources, *{os.path.dirname(path) for path in sources}))
