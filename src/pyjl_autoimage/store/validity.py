"""Whether what was built still holds here and now: the twin of docs/validity.md.

A sysimage silently wins over the manifest, so an image whose requirements differ in the least from the
situation of this start is not used. `mismatches` goes through all of them, in a fixed order, and gives a line
for each difference: what `status` shows is what decided. What can be told without a look at the image's own files
comes first: a store may hold hundreds of images, and few are worth that look.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from ..base.files import read_json, write_json
from ..base.reads import Reads, active
from ..base.unchanged import difference, version_said
from ..julia.environment import Environment, juliaup_configuration, what_julia_goes_by
from ..julia.facts import JuliaFacts, ask, cpu_identity, named_environments, probe
from ..julia.manifest import Manifest, ManifestError, Package, load_manifest, manifest_file, workspace_root
from ..julia.preferences import preferences
from ..julia.sources import source_digest, source_directory
from .built import (
    BakedPackage,
    Image,
    Layer,
    Requirements,
    cache_header,
    content_of,
    jll_digest,
    preference_digest,
    preferences_digest,
    recorder_digest,
)
from .places import Store
from .publish import damage

__all__ = [
    "Situation",
    "is_below",
    "julia_facts",
    "may_hold",
    "mismatches",
    "objections",
    "preference_projects",
    "reasons_against",
    "reasons_against_layer",
    "situation_of",
    "stated",
]


OTHER_RECORDER = "it holds the recorder of another version of pyjl_autoimage"


@dataclass(frozen=True)
class Situation:
    """All that decides whether an image is valid here and now."""

    facts: JuliaFacts
    project: str
    manifest: Manifest
    preferences: Mapping[str, Mapping[str, Any]]
    """uuid -> preferences, also of packages that the manifest lacks."""
    juliacall: str
    flags: Mapping[str, str]
    cpu: str
    environment: str = ""
    """Id of the environment, in which an image may be condemned that works in others."""

    @classmethod
    def of(
        cls,
        facts: JuliaFacts,
        project: str,
        *,
        juliacall: str,
        flags: Mapping[str, str],
        cpu: str,
        environment: str = "",
    ) -> Situation:
        """Read the project's files as they are now.

        Raises:
            ManifestError: there is no manifest, or it cannot be parsed.
        """
        path = manifest_file(project, facts.version)
        if path is None:
            raise ManifestError(f"{project} has no manifest")
        manifest = load_manifest(path)
        return cls(
            facts,
            project,
            manifest,
            preferences(preference_projects(project, facts)),
            juliacall,
            dict(flags),
            cpu,
            environment,
        )

    def requirements(
        self, environment: Environment, packages: Iterable[BakedPackage], *, cpu_target: str = "native"
    ) -> dict[str, Any]:
        """The fields of `Requirements` for something that is built of these packages here and now."""
        return {
            "environment": environment.id,
            "project": environment.project,
            "executable": environment.executable,
            "julia_version": self.facts.version,
            "julia_commit": self.facts.commit,
            "word_size": self.facts.word_size,
            "base_build_id": self.facts.base_build_id,
            "cpu_target": cpu_target,
            "cpu": self.cpu,
            "cpu_name": self.facts.cpu_name,
            "juliacall": self.juliacall,
            "flags": self.flags,
            "packages": tuple(packages),
        }


def preference_projects(project: str, facts: JuliaFacts) -> list[str]:
    """The projects whose preferences count, in the order of Julia's load path; a workspace's after its member's."""
    projects = [project]
    while (root := workspace_root(_directory(projects[-1]), facts.version)) is not None:
        projects.append(root)
    return projects + [path for path in facts.load_path if os.path.dirname(path) != os.path.abspath(project)]


def mismatches(image: Requirements, now: Situation) -> list[str]:
    """Why this image, or layer, must not be used now, one line each; empty when it is valid."""
    return [*stated(image, now), *_found(image, now)]


def stated(image: Requirements, now: Situation) -> Iterator[str]:
    """The mismatches that need no look at files of packages: Julia, flags, what manifest and preferences say."""
    yield from _julia(image, now)
    yield from _cpu(image, now)
    yield from _flags(image, now)
    for baked in image.packages:
        current = now.manifest.packages.get(baked.uuid)
        if current is not None:
            yield from _as_stated(baked, current)
            yield from _preferred(baked, now)
        elif not baked.in_julia:
            # A standard library that is part of Julia's own image need not be in a manifest.
            yield f"{baked.name} is in the image, not in the manifest"


def may_hold(facts: Any, now: Situation) -> bool:
    """Whether the facts of an image, as they stand in its file, say nothing against it that `stated` would.

    Most of many images are refused for these, and need not be read in full.

    Raises:
        LookupError, TypeError, AttributeError: they are no facts of an image.
    """
    told = facts["julia_commit"], facts["base_build_id"], facts["juliacall"], facts["flags"]
    if told != (now.facts.commit, now.facts.base_build_id, now.juliacall, now.flags):
        return False
    for baked in facts["packages"]:
        current = now.manifest.packages.get(baked["uuid"])
        if current is None and not baked["in_julia"]:
            return False
        if current is not None and (current.version, current.tree_sha1) != (baked["version"], baked["tree_sha1"]):
            return False
    return True


def _found(image: Requirements, now: Situation) -> Iterator[str]:
    """The mismatches of files: where packages lie, and what is in them."""
    for baked in image.packages:
        current = now.manifest.packages.get(baked.uuid)
        if current is not None and not any(_as_stated(baked, current)):
            yield from _on_disk(baked, current, now)


def _julia(image: Requirements, now: Situation) -> Iterator[str]:
    facts = now.facts
    if image.julia_version != facts.version:
        yield f"built for Julia {image.julia_version}, this is Julia {facts.version}"
    elif image.julia_commit != facts.commit:
        yield f"built for another build of Julia {facts.version} ({image.julia_commit[:10] or 'unknown'})"
    elif image.base_build_id != facts.base_build_id:
        yield "built on top of another default system image"
    if image.word_size != facts.word_size:
        yield f"built for {image.word_size} bits, this Julia has {facts.word_size}"
    if image.juliacall != now.juliacall:
        yield f"juliacall {image.juliacall} in the image, {now.juliacall} installed"
    path = facts.load_path[0] if facts.load_path else ""
    if os.path.realpath(os.path.dirname(path)) != os.path.realpath(_directory(now.project)):
        yield "JULIA_LOAD_PATH does not begin with the project"


def _directory(project: str) -> str:
    return os.path.dirname(project) if os.path.isfile(project) else project


def _cpu(image: Requirements, now: Situation) -> Iterator[str]:
    if image.cpu_target == "native" and image.cpu != now.cpu:
        yield f"built for another CPU ({image.cpu_name}), this is {now.facts.cpu_name}"


def _flags(image: Requirements, now: Situation) -> Iterator[str]:
    for name in sorted({*image.flags, *now.flags}):
        built, given = image.flags.get(name), now.flags.get(name)
        if built != given:
            yield f"--{name.replace('_', '-')} is {given or 'default'}, {built or 'default'} in the image"


def of_another_kind(image: Requirements, now: Situation) -> bool:
    """Whether it was built for other flags or another CPU: for another kind of start in the same environment."""
    return any((*_cpu(image, now), *_flags(image, now)))


def _as_stated(baked: BakedPackage, current: Package) -> Iterator[str]:
    name = baked.name
    if baked.version != current.version:
        yield f"{name} {baked.version or '?'} in the image, {current.version or '?'} in the manifest"
    elif baked.path != current.path:
        before, after = baked.path or "a registry", current.path or "a registry"
        yield f"{name} comes from {before} in the image, from {after} now"
    elif (baked.url, baked.rev) != (current.url, current.rev):
        yield f"{name} comes from {baked.url} at {baked.rev} in the image, {current.url} at {current.rev} now"
    elif baked.tree_sha1 != current.tree_sha1:
        yield f"{name} {baked.version or ''} has another source in the manifest (git-tree-sha1)"
    elif baked.syntax != current.syntax and not baked.in_julia:
        before, after = (syntax or "1.13 and before" for syntax in (baked.syntax, current.syntax))
        yield f"{name} was parsed as Julia {before} in the image, the manifest says {after} now"


def _on_disk(baked: BakedPackage, current: Package, now: Situation) -> Iterator[str]:
    name = baked.name
    if baked.in_julia:
        if baked.digest is not None and baked.digest != jll_digest(current, now.facts.stdlib):
            yield f"{name}, which comes with Julia, has another source in {now.facts.stdlib} now"
    else:
        source = source_directory(current, now.facts.depots)
        if source is None:
            yield f"the source of {name} is not installed"
        elif baked.source is None or not _same_place(source, baked.source):
            yield f"{name} was at {baked.source} when the image was built, is at {source} now"
        elif changed := [path for path, content in baked.files.items() if content_of(path) != content]:
            more = f" and {len(changed) - 1} more" if changed[1:] else ""
            yield f"the source of {name} has changed: {changed[0]}{more}"
        elif baked.digest is not None:
            try:
                digest = source_digest(source)
            except OSError as error:
                yield f"the source of {name} cannot be read: {error}"
            else:
                if digest != baked.digest:
                    yield f"the source of {name} in {source} has changed"


def _preferred(baked: BakedPackage, now: Situation) -> Iterator[str]:
    name = baked.name
    if baked.preferences != preferences_digest(now.preferences.get(baked.uuid, {})):
        yield f"the preferences of {name} have changed"
    for other, digest in baked.others.items():
        uuid, _, preference = other.partition(" ")
        if digest != preference_digest(now.preferences, uuid, preference):
            whose = now.manifest.packages[uuid].name if uuid in now.manifest.packages else uuid
            yield f"the preference {preference} of {whose}, which {name} reads, has changed"


def _same_place(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


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


def is_below(path: str, directories: Sequence[str]) -> bool:
    """Whether a path is in one of these directories."""
    return any(path.startswith(os.path.join(directory, "")) for directory in directories)


def reasons_against(
    image: Image, situation: Situation, store: Store, *, trusted: Sequence[str] = (), thorough: bool = False
) -> list[str]:
    """Why an image is not valid now; empty when it is.

    Args:
        image: the image.
        situation: what it is compared with.
        store: the user's store (verdicts on images are kept there).
        trusted: stores whose images are not asked who could have written them.
        thorough: compare its checksum, too (a second for a few hundred megabytes).
    """
    return list(objections(image, situation, store, trusted=trusted, thorough=thorough))


def objections(
    image: Image, situation: Situation, store: Store, *, trusted: Sequence[str] = (), thorough: bool = False
) -> Iterator[str]:
    """`reasons_against`, one by one: who wants the first only need not wait for what the others take."""
    condemned = store.condemned(image.id, situation.environment)
    if condemned:
        yield f"condemned: {condemned}"
    distrusted = None if is_below(image.path, trusted) else store.distrust(*image.files)
    if distrusted:
        yield f"not trusted: {distrusted}"
    differs = False
    for reason in (*damage(store, image), *mismatches(image, situation)):
        differs = True
        yield reason
    if image.pyjl_autoimage != recorder_digest():
        differs = True
        yield OTHER_RECORDER
    if thorough and not differs:
        yield from damage(store, image, thorough=True)


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
        environment=environment.id,
    )


def julia_facts(
    environment: Environment, store: Store, *, fresh: bool = False, ask: Callable[[Sequence[str]], bytes] = ask
) -> JuliaFacts:
    """What this environment's Julia says of itself: remembered until what it goes by changes, else asked again.

    Args:
        environment: whose Julia.
        store: where that is remembered.
        fresh: ask in any case.
        ask: runs a process, and gives what that prints.

    Raises:
        JuliaNotFoundError: the executable is no usable Julia.
    """
    path = store.facts(environment.id)
    asked = what_julia_goes_by(environment)
    kept = None if fresh else read_json(path)
    if kept and kept.get("schema") == 2 and kept.get("asked") == asked:
        try:
            facts = JuliaFacts.from_json(kept["facts"])
            same = environment.julia != environment.executable or not environment.may_start_another(facts.bindir)
            if same and not difference(kept["reads"]):
                _depend_on(kept["reads"])
                return facts
        except (OSError, KeyError, TypeError, ValueError, IndexError):
            pass
    reads = Reads()
    reads.all_of((environment.julia, juliaup_configuration()))
    if environment.managed and environment.is_script():
        reads.said[environment.executable] = version_said(environment.executable)
    facts = probe(environment, ask)
    reads.all_of((facts.libjulia, facts.base_sysimage))
    for file in named_environments(facts):
        reads.exists(file)
    _depend_on(reads.to_data())
    try:
        store.ensure(store.environment(environment.id))
        write_json(path, {"schema": 2, "asked": asked, "reads": reads.to_data(), "facts": facts.to_json()})
    except Exception:
        pass  # asked again next time
    return facts


def _depend_on(noted: Mapping[str, Any]) -> None:
    reads = active()
    if reads is not None:
        reads.add(noted)
