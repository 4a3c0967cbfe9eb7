"""What goes into an image, and the Julia project that it is built from.

PackageCompiler takes only direct dependencies, loads their whole closure, and precompiles the whole project
that it is given. So it is given a project of ours: the user's manifest cut down to what is wanted, with the
wanted packages as direct dependencies, and the user's preferences.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..base.call import JULIA_SOURCES, RECORDER, RECORDER_UUID
from ..base.reads import installed_in, load_toml
from ..base.settings import Settings
from ..errors import BuildError
from ..julia.facts import JuliaFacts
from ..julia.items import report_at
from ..julia.manifest import Manifest, Package, project_file
from ..profile.profile import Code, Profile
from ..startup.code import module_uuid
from ..store.built import BakedPackage, OwnCode, baked_package
from ..store.validity import Situation
from .layer import write_code_package

__all__ = ["Recipe", "choose", "write_project"]

PYTHONCALL_UUID = "6099a3de-0909-46bc-b1f4-468b9a2dfc0d"


@dataclass(frozen=True)
class Recipe:
    """What an image will hold."""

    packages: tuple[Package, ...]
    """The wanted ones; their dependencies come along."""
    closure: frozenset[str]
    """The uuids of all packages of the image."""
    left_out: Mapping[str, str]
    """name -> why it is not in the image."""
    expected: Mapping[str, BakedPackage]
    """uuid -> the exact source that must be found in the image."""
    code: Mapping[str, Code] = field(default_factory=dict)
    """module -> the programs' own code that comes along."""


def choose(
    situation: Situation,
    profile: Profile,
    settings: Settings,
    *,
    without: Mapping[str, str] = MappingProxyType({}),
    code: Collection[str] = (),
) -> Recipe:
    """Choose the packages of an image.

    Args:
        situation: the project as it is now.
        profile: what the recorded runs loaded.
        settings: `include`, `exclude`, `all_direct` and `dev_packages` count.
        without: why packages (by uuid), and what depends on them, cannot be in the image.
        code: names of the modules of programs' own code that may come along.

    Raises:
        BuildError: an included package is not in the manifest, or PythonCall cannot be baked.
    """
    manifest = situation.manifest
    wanted: dict[str, None] = {PYTHONCALL_UUID: None}
    left_out: dict[str, str] = {}
    if PYTHONCALL_UUID not in manifest.packages:
        raise BuildError(f"PythonCall is not in {manifest.path}; `import juliacall` once sets the project up")
    for uuid, loaded in profile.packages.items():
        if uuid in manifest.packages:
            wanted[uuid] = None
        elif loaded.name not in manifest.extensions and loaded.name not in profile.code:
            left_out[loaded.name] = "not in the project's manifest"
    for name in settings.include:
        found = manifest.by_name(name)
        if not found:
            raise BuildError(f"{name} cannot be included: it is not in {manifest.path}")
        wanted.update((package.uuid, None) for package in found)
    if settings.all_direct:
        wanted.update((uuid, None) for uuid in _direct_dependencies(situation.project) if uuid in manifest.packages)
    barred = _barred(manifest, settings, without)
    if PYTHONCALL_UUID in barred and PYTHONCALL_UUID not in without:
        raise BuildError(
            f"PythonCall cannot be left out of an image, but {barred[PYTHONCALL_UUID]}; "
            "bake packages tracked by path with PYJL_AUTOIMAGE_DEV_PACKAGES=bake"
        )
    for uuid in [uuid for uuid in wanted if uuid in barred]:
        del wanted[uuid]
        left_out[manifest.packages[uuid].name] = barred[uuid]
    names: dict[str, str] = {}
    for uuid in list(wanted):
        package = manifest.packages[uuid]
        if names.setdefault(package.name, uuid) != uuid:  # a project names its dependencies uniquely
            del wanted[uuid]
            left_out[f"{package.name} ({uuid})"] = "another package has the same name"
    closure = manifest.closure(wanted)
    own = {}
    for name in code:
        missing = [package for package, uuid in profile.code[name].deps.items() if uuid not in closure]
        if missing:
            left_out[name] = f"{profile.code[name].path} uses {', '.join(missing)}, not in the image"
        else:
            own[name] = profile.code[name]
    facts = situation.facts
    expected = {
        uuid: baked_package(manifest.packages[uuid], facts.depots, situation.preferences.get(uuid, {}), facts.stdlib)
        for uuid in closure
    }
    missing = sorted(b.name for b in expected.values() if not b.in_julia and b.source is None)
    if missing:
        raise BuildError(f"not installed: {', '.join(missing)}; `juliapkg resolve` (or Pkg.instantiate) does that")
    return Recipe(
        tuple(manifest.packages[uuid] for uuid in wanted),
        frozenset(closure),
        dict(sorted(left_out.items())),
        expected,
        own,
    )


def _direct_dependencies(project: str) -> list[str]:
    file = project_file(project)
    deps = load_toml(file).get("deps", {}) if file else {}
    return [str(uuid).lower() for uuid in deps.values()]


def _barred(manifest: Manifest, settings: Settings, reasons: Mapping[str, str]) -> dict[str, str]:
    """uuid -> why that package must not be in an image: by itself, or by what it depends on."""
    roots = dict(reasons)
    for package in manifest.packages.values():
        if package.name in settings.exclude:
            roots[package.uuid] = "it is excluded"
        elif package.path is not None and settings.dev_packages == "skip" and not _came_in_a_wheel(package.path):
            roots[package.uuid] = "the manifest tracks it by path"
    barred = dict(roots)
    for root, why in roots.items():
        for uuid in manifest.dependents([root]):
            barred.setdefault(uuid, f"it depends on {manifest.packages[root].name}: {why}")
    return barred


def _came_in_a_wheel(path: str) -> bool:
    """Whether an installer of Python's put a directory where it is: unlike a checkout, nobody edits it there."""
    parts = os.path.normpath(path).split(os.sep)
    site = next((at for at, name in enumerate(parts) if name in ("site-packages", "dist-packages")), len(parts))
    return len(parts) > site + 1 and parts[site + 1] in installed_in(os.sep.join(parts[: site + 1]))


def write_project(directory: str, recipe: Recipe, situation: Situation) -> None:
    """Write the project that PackageCompiler gets.

    Raises:
        OSError: it cannot be written.
        ManifestError: the manifest is gone.
    """
    import tomlkit

    os.makedirs(directory, exist_ok=True)
    deps = {package.name: package.uuid for package in recipe.packages}
    deps |= {name: module_uuid(name) for name in recipe.code}
    project: dict[str, Any] = {"deps": dict(sorted({**deps, RECORDER: RECORDER_UUID}.items()))}
    preferred = {
        # A package may read preferences of one that is not there, whose name another one may have.
        situation.manifest.packages[uuid].name if uuid in recipe.closure else uuid: (uuid, dict(values))
        for uuid, values in situation.preferences.items()
    }
    if preferred:
        # Julia hears preferences only of what a project names; "extras" names what is no dependency of it.
        project["extras"] = {name: uuid for name, (uuid, _) in preferred.items() if name not in deps}
        project["preferences"] = {name: values for name, (_, values) in preferred.items()}
    with open(os.path.join(directory, "Project.toml"), "w", encoding="utf-8") as file:
        tomlkit.dump(project, file)
    manifest = _manifest(recipe, situation)
    for name, code in recipe.code.items():
        manifest["deps"][name] = [
            write_code_package(os.path.join(directory, "code", name), name, module_uuid(name), code)
        ]
    with open(os.path.join(directory, "Manifest.toml"), "w", encoding="utf-8") as file:
        tomlkit.dump(manifest, file)


def _manifest(recipe: Recipe, situation: Situation) -> dict[str, Any]:
    manifest = situation.manifest
    entries: dict[str, list[dict[str, Any]]] = {}
    for uuid in recipe.closure:
        package = manifest.packages[uuid]
        entry = {key: value for key, value in package.entry.items() if key != "registries"}
        if package.path is not None:
            entry["path"] = package.path
        # As tables of name and uuid, not as lists of names: a name may be ambiguous, or cut away.
        entry["deps"] = dict(package.deps_by_name)
        if package.weakdeps_by_name:
            entry["weakdeps"] = dict(package.weakdeps_by_name)
        entries.setdefault(package.name, []).append(entry)
    recorder = os.path.join(JULIA_SOURCES, RECORDER)
    entries[RECORDER] = [{"uuid": RECORDER_UUID, "path": recorder, "version": "1.0.0"}]
    return {
        "julia_version": situation.facts.version,
        "manifest_format": "2.0",
        "deps": dict(sorted(entries.items())),
    }


def identity(recipe: Recipe, facts: JuliaFacts, code: Iterable[OwnCode]) -> str:
    """Sixteen hexadecimal digits that change with any package and any own code of an image, and with Julia."""
    packages = sorted(repr((b.uuid, b.version, b.tree_sha1, b.path, b.digest)) for b in recipe.expected.values())
    own = sorted(repr((c.name, sorted(c.files.items()))) for c in code)
    return hashlib.sha256("\n".join([facts.commit, *packages, *own]).encode()).hexdigest()[:16]


def held(report: str, recipe: Recipe, facts: JuliaFacts) -> tuple[tuple[BakedPackage, ...], list[int], list[int]]:
    """Read what the building Julia reports to hold, and compare it with the snapshot.

    Returns:
        The packages of the image, and the numbers (from 1) of the statements that could not be resolved, and of
        those of which it holds no code, but what inference found.

    Raises:
        BuildError: the report is incomplete, a package's version or source is not what the manifest said, or it was
            another Julia that built: a launcher may have been given another one meanwhile.
    """
    items = report_at(report)
    if items is None:
        raise BuildError("the building Julia did not say what the image holds")
    told = next((item[1:] for item in items if item[0] == "julia"), None)
    if told != [facts.version, facts.commit, facts.base_build_id]:
        which = f"Julia {told[0]} ({told[1][:10]})" if told else "a Julia that did not say which one it is"
        raise BuildError(
            f"{which} built the image, and it is for Julia {facts.version} ({facts.commit[:10]}); build again"
        )
    packages: list[BakedPackage] = []
    numbers: dict[str, list[int]] = {"unresolved": [], "inferred": []}
    for kind, value, *of in items:
        if kind in numbers:
            numbers[kind].append(int(value))
            continue
        wanted = recipe.expected.get(value)
        if wanted is None:
            continue  # an extension (part of its package), a standard library's extension, or our recorder
        _compare(wanted, *of)
        packages.append(wanted)
    packages.sort(key=lambda package: package.name)
    return tuple(packages), numbers["unresolved"], numbers["inferred"]


def _compare(wanted: BakedPackage, name: str, version: str, source: str) -> None:
    if wanted.version is not None and version and version != wanted.version and not wanted.in_julia:
        raise BuildError(f"{name} {version} was built in, the manifest says {wanted.version}")
    if wanted.source is not None and os.path.realpath(source) != os.path.realpath(wanted.source):
        raise BuildError(f"{name} was built in from {source}, the manifest says {wanted.source}")


def changed_sources(recipe: Recipe, situation: Situation, depots: Sequence[str]) -> list[str]:
    """The packages tracked by path whose sources changed while the image was built from them."""
    return [
        baked.name
        for uuid, baked in recipe.expected.items()
        if baked.path is not None
        and baked_package(situation.manifest.packages[uuid], depots, {}).digest != baked.digest
    ]
