"""Which image and which layer a start gets, the slow way, top to bottom; then the answer is remembered.

Start-up comes here only when its remembered answer does not hold any more (see `pyjl_autoimage.launch`). The
verdicts on images and layers are those that builds, `status` and `clean` ask for as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from . import launch
from .base.files import as_noted, read_json, stat_notes, write_json
from .base.program import program_name, script_directory
from .base.settings import Settings, settle
from .image import BakedPackage, Image, Layer, Situation, cache_header, mismatches, preference_projects
from .julia.environment import Environment, juliaup_configuration, locate
from .julia.facts import JuliaFacts, cpu_identity, probe
from .julia.manifest import manifest_names, preference_files, source_files
from .launch import Plan, Witnesses
from .options import code_flags, user_options
from .store import Store

__all__ = [
    "decide",
    "images_of",
    "julia_facts",
    "layers_of",
    "reasons_against",
    "reasons_against_layer",
    "situation_of",
    "valid_image",
]


def decide(settings: Mapping[str, Any], question: str | None) -> Plan:
    """The slow way: ask juliapkg, read the manifest, compare images; then remember the answer."""
    settled = settle(settings)
    try:
        return _decide_with(settled, question)
    except Exception as error:
        # Whatever is wrong, the program starts as it would have without us; juliacall says what it has to.
        return Plan(home=settled.home or launch.quick_home({}), notes=[f"plain start: {error}"])


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
        launch.remember(plan, question, witnesses)
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
    image = _newest_valid(images, store, situation, trusted, witnesses)
    if image is not None:
        plan.image, plan.image_path, plan.image_files = image.id, image.path, image.files
        plan.trusted = _is_below(image.path, trusted)
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


def valid_image(
    environment: Environment, store: Store, situation: Situation, trusted: Sequence[str] = ()
) -> Image | None:
    """The newest image that is valid now; None if there is none."""
    return _newest_valid(images_of(environment, store, trusted), store, situation, trusted)


def _newest_valid(
    images: Sequence[Image],
    store: Store,
    situation: Situation,
    trusted: Sequence[str],
    witnesses: Witnesses | None = None,
) -> Image | None:
    """The first valid image. Whatever becomes of those behind it is nothing to witness."""
    suspicious = any(store.condemned(image.id) for image in images)
    for image in images:
        if witnesses is not None:
            witnesses.files += image.files
            _witness_packages(image.packages, situation, witnesses)
        if not reasons_against(image, situation, store, trusted=trusted, thorough=suspicious):
            return image
    return None


def layers_of(environment: Environment, store: Store, program: str) -> list[Layer]:
    """The layers of a program, newest first."""
    return [i for i in store.all_layers() if i.environment == environment.id and i.program == program]


def reasons_against_layer(layer: Layer, image: str | None, situation: Situation, store: Store) -> list[str]:
    """Why a layer must not be used by a start on this image (None: on Julia's own); empty when it may."""
    distrusted = store.distrust(layer.path)
    reasons = [f"not trusted: {distrusted}"] if distrusted else []
    if layer.image != image:
        reasons.append(f"precompiled for {f'image {layer.image}' if layer.image else 'Julia without an image'}")
    reasons += mismatches(layer, situation)
    if not reasons:
        # Julia keeps ten caches of a package, and replaces one when the package is precompiled anew.
        reasons += [f"Julia's precompile cache {path} is not the same any more" for path in _other_caches(layer)]
    return reasons


def _other_caches(layer: Layer) -> list[str]:
    return [path for path, header in layer.caches.items() if cache_header(path) != header]


def images_of(environment: Environment, store: Store, trusted: Sequence[str] = ()) -> list[Image]:
    """The images of an environment, the user's own and those of trusted stores, newest first."""
    stores = [store, *(type(store)(home) for home in trusted)]
    images = [i for place in stores for i in place.all_images() if i.environment == environment.id]
    return sorted(images, key=lambda image: image.built_at, reverse=True)


def _is_below(path: str, directories: Sequence[str]) -> bool:
    return any(path.startswith(os.path.join(directory, "")) for directory in directories)


def reasons_against(
    image: Image, situation: Situation, store: Store, *, trusted: Sequence[str] = (), thorough: bool = False
) -> list[str]:
    """Why an image of this environment is not valid now; empty when it is.

    Args:
        image: the image.
        situation: what it is compared with.
        store: the user's store (verdicts on images are kept there).
        trusted: stores whose images are not asked who could have written them.
        thorough: compare its checksum, too (a second for a few hundred megabytes).
    """
    condemned = store.condemned(image.id)
    distrusted = None if _is_below(image.path, trusted) else store.distrust(*image.files)
    reasons = [f"condemned: {condemned}"] if condemned else []
    reasons += [f"not trusted: {distrusted}"] if distrusted else []
    return [*reasons, *store.damage(image, thorough=thorough), *mismatches(image, situation)]


def situation_of(environment: Environment, store: Store, flags: Mapping[str, str]) -> Situation:
    """What images are compared with.

    Raises:
        JuliaNotFoundError: the executable is no usable Julia.
        ManifestError: the project has no manifest, or a broken one.
    """

    return Situation.of(
        julia_facts(environment, store),
        environment.project,
        juliacall=version("juliacall"),
        flags=flags,
        cpu=cpu_identity(),
    )


def julia_facts(environment: Environment, store: Store, *, fresh: bool = False) -> JuliaFacts:
    """What this environment's Julia says of itself: remembered until its files change, else asked again."""
    path = store.facts(environment.id)
    variables = ("JULIA_DEPOT_PATH", "JULIA_LOAD_PATH", "HOME", "JULIAUP_CHANNEL")
    asked = [*(os.environ.get(name, "") for name in variables), os.path.realpath(environment.julia)]
    kept = None if fresh else read_json(path)
    if kept and kept.get("schema") == 1 and kept.get("asked") == asked:
        try:
            facts = JuliaFacts.from_json(kept["facts"])
            same = environment.julia != environment.executable or not environment.may_start_another(facts.bindir)
            if same and as_noted(kept["witnesses"]):
                return facts
        except (KeyError, TypeError, ValueError, IndexError):
            pass
    facts = probe(environment)
    witnesses = stat_notes([environment.julia, juliaup_configuration(), facts.libjulia, facts.base_sysimage])
    try:
        store.ensure(store.environment(environment.id))
        write_json(path, {"schema": 1, "asked": asked, "witnesses": witnesses, "facts": facts.to_json()})
    except Exception:
        pass  # asked again next time
    return facts


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
        if package.digest:
            directory = package.path or os.path.join(situation.facts.stdlib, package.name)
            sources = [os.path.join(directory, relative) for relative, _ in source_files(directory)]
            witnesses.files += [*sources, *{os.path.dirname(path) for path in sources}]
