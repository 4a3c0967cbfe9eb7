"""Julia's project files: which packages a project has, exactly which source each one is, and what is
preferred of it.

Read the way Julia's own `base/loading.jl` reads them: both manifest formats, ``JuliaProject.toml`` and
``JuliaManifest.toml``, manifests named after a Julia version, a ``manifest = "..."`` entry, workspaces.
Nothing here starts Julia.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..base.reads import is_file, load_toml

__all__ = ["Manifest", "ManifestError", "Package", "load_manifest", "manifest_file", "project_file", "workspace_root"]


class ManifestError(ValueError):
    """A project or manifest that is missing or cannot be understood; the message names the file."""


@dataclass(frozen=True)
class Package:
    """One package of a manifest, and what identifies its source.

    A registered package has a `tree_sha1`, one added by URL a `url` and `rev` too, one tracked by path a
    `path` (absolute). A standard library has none of these: it comes with Julia.
    """

    name: str
    uuid: str
    version: str | None = None
    tree_sha1: str | None = None
    path: str | None = None
    url: str | None = None
    rev: str | None = None
    syntax: str | None = None
    """The version of Julia's syntax that it is parsed at (1.14 and later); None: that of Julia 1.13 and before."""
    deps_by_name: Mapping[str, str] = field(default_factory=dict)
    """name -> uuid of what it depends on."""
    weakdeps_by_name: Mapping[str, str] = field(default_factory=dict)
    """What triggers its extensions."""
    extensions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """extension -> the names of its triggers."""
    entry: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All that the manifest says of it, also what only Julia reads (``entryfile``, and what is yet to come)."""

    @property
    def deps(self) -> tuple[str, ...]:
        """The uuids of what it depends on."""
        return tuple(self.deps_by_name.values())

    @property
    def in_julia(self) -> bool:
        """Whether it is a standard library, whose source comes with Julia."""
        return self.tree_sha1 is None and self.path is None


@dataclass(frozen=True)
class Manifest:
    """A parsed manifest. `packages` is keyed by uuid."""

    path: str
    julia_version: str | None
    packages: Mapping[str, Package] = field(default_factory=dict)

    @property
    def extensions(self) -> set[str]:
        """The names of all extensions of its packages."""
        return {name for package in self.packages.values() for name in package.extensions}

    def by_name(self, name: str) -> list[Package]:
        """Every package of that name (a manifest may hold two with different uuids)."""
        return [package for package in self.packages.values() if package.name == name]

    def with_standard_libraries(self, uuids: Iterable[str], stdlib: str) -> Manifest:
        """This manifest, with those of `uuids` that it lacks but that come with Julia, and all that these use.

        A program loads them without any project that names them (``@stdlib`` of the load path). Most of them are
        part of Julia's own image no longer since Julia 1.11.

        Args:
            uuids: of packages that were loaded.
            stdlib: where Julia's own are.
        """
        if not set(uuids) - set(self.packages):
            return self
        own = {package.uuid: package for package in _standard_libraries(stdlib)}
        reached = _reach(uuids, {uuid: package.deps for uuid, package in {**own, **self.packages}.items()})
        lacking = {uuid: own[uuid] for uuid in sorted(reached - set(self.packages))}
        return replace(self, packages={**self.packages, **lacking})

    def closure(self, uuids: Iterable[str]) -> set[str]:
        """Those packages and all that they depend on; uuids that the manifest lacks are passed over."""
        return _reach(uuids, {uuid: package.deps for uuid, package in self.packages.items()})

    def dependents(self, uuids: Iterable[str]) -> set[str]:
        """Those packages and all that depends on them, however far."""
        reverse: dict[str, list[str]] = {uuid: [] for uuid in self.packages}
        for uuid, package in self.packages.items():
            for dependency in package.deps:
                reverse.setdefault(dependency, []).append(uuid)
        return _reach(uuids, reverse)


def _reach(starts: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    frontier = [uuid for uuid in starts if uuid in edges]
    while frontier:
        uuid = frontier.pop()
        if uuid not in seen:
            seen.add(uuid)
            frontier.extend(other for other in edges[uuid] if other in edges)
    return seen


PROJECT_NAMES = ("JuliaProject.toml", "Project.toml")
_MANIFEST_NAMES = ("JuliaManifest.toml", "Manifest.toml")
_PREFERENCES_NAMES = ("JuliaLocalPreferences.toml", "LocalPreferences.toml")


def project_file(project: str) -> str | None:
    """The project file of a project directory (or the file itself), None if there is none."""
    if is_file(project):
        return os.path.abspath(project)
    for name in PROJECT_NAMES:
        candidate = os.path.join(project, name)
        if is_file(candidate):
            return os.path.abspath(candidate)
    return None


def manifest_names(julia_version: str | None) -> tuple[str, ...]:
    """The names that this Julia looks for, first match wins.

    Names with a version (``Manifest-v1.11.toml``) are known since Julia 1.10.8 and 1.11
    (`base/loading.jl`, `manifest_names`).
    """
    parts = _version_parts(julia_version)
    if parts >= (1, 10, 8):
        tag = f"-v{parts[0]}.{parts[1]}.toml"
        return (f"JuliaManifest{tag}", f"Manifest{tag}", *_MANIFEST_NAMES)
    return _MANIFEST_NAMES


def _version_parts(version: str | None) -> tuple[int, ...]:
    parts = []
    for part in (version or "").split("-")[0].split("+")[0].split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def manifest_file(project: str, julia_version: str | None = None) -> str | None:
    """The manifest that Julia would use with this project, None if there is none."""
    file = project_file(project)
    directory = os.path.dirname(file) if file else os.path.abspath(project)
    table = _table(file)
    root = workspace_root(directory, julia_version)
    if root is not None:
        return manifest_file(root, julia_version)
    explicit = table.get("manifest")
    if isinstance(explicit, str):
        candidate = os.path.normpath(os.path.join(directory, explicit))
        if is_file(candidate):
            return candidate
    for name in manifest_names(julia_version):
        candidate = os.path.join(directory, name)
        if is_file(candidate):
            return candidate
    return None


def workspace_root(directory: str, julia_version: str | None) -> str | None:
    """The directory of the project whose ``[workspace]`` lists `directory` (Julia 1.12 and later)."""
    julia = _version_parts(julia_version)
    if julia and julia < (1, 12):
        return None
    current = os.path.abspath(directory)
    home = os.path.abspath(os.path.expanduser("~"))
    started_in_home = current.startswith(home)
    while True:
        parent = os.path.dirname(current)
        if parent == current or (started_in_home and not parent.startswith(home)):
            return None
        workspace = _table(project_file(parent)).get("workspace")
        projects = workspace.get("projects") if isinstance(workspace, dict) else None
        if isinstance(projects, list):
            for member in projects:
                path = os.path.join(parent, str(member))
                if os.path.isdir(path) and os.path.samefile(path, directory):
                    return parent
        current = parent


def _table(path: str | None) -> dict[str, Any]:
    """The parsed file, empty when it is missing or broken."""
    if path is None:
        return {}
    try:
        return load_toml(path)
    except (OSError, ValueError):
        return {}


def load_manifest(path: str) -> Manifest:
    """Parse a manifest of either format.

    Raises:
        ManifestError: it is missing, not TOML, or not a manifest.
    """
    try:
        table = load_toml(path)
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ManifestError(f"{path}: {error}") from None
    if "manifest_format" in table:
        entries = table.get("deps", {})
        julia_version = table.get("julia_version")
    else:  # the first format: the packages are the whole file
        entries = {name: value for name, value in table.items() if isinstance(value, list)}
        julia_version = None
    if not isinstance(entries, dict):
        raise ManifestError(f"{path}: deps must be a table")
    raw: list[tuple[str, dict[str, Any]]] = []
    for name, items in entries.items():
        if not isinstance(items, list):
            raise ManifestError(f"{path}: deps.{name} must be an array of tables")
        for item in items:
            if not isinstance(item, dict) or not isinstance(item.get("uuid"), str):
                raise ManifestError(f"{path}: an entry of deps.{name} has no uuid")
            raw.append((name, item))
    uuids: dict[str, list[str]] = {}
    for name, item in raw:
        uuids.setdefault(name, []).append(item["uuid"].lower())
    base = os.path.dirname(os.path.abspath(path))
    packages = {item["uuid"].lower(): _package(name, item, uuids, base) for name, item in raw}
    version = julia_version if isinstance(julia_version, str) else None
    return Manifest(os.path.abspath(path), version, packages)


def _standard_libraries(stdlib: str) -> Iterator[Package]:
    try:
        names = sorted(os.listdir(stdlib))
    except OSError:
        return
    for name in names:
        table = _table(os.path.join(stdlib, name, "Project.toml"))
        if isinstance(table.get("uuid"), str):
            known = ("uuid", "version", "deps", "weakdeps", "extensions")
            yield _package(name, {key: table[key] for key in known if key in table}, {}, stdlib)


def _package(name: str, item: dict[str, Any], uuids: Mapping[str, Sequence[str]], base: str) -> Package:
    def text(key: str) -> str | None:
        value = item.get(key)
        return value if isinstance(value, str) else None

    path = text("path")
    return Package(
        name=name,
        uuid=item["uuid"].lower(),
        version=text("version"),
        tree_sha1=text("git-tree-sha1"),
        path=os.path.normpath(os.path.join(base, path)) if path is not None else None,
        url=text("repo-url"),
        rev=text("repo-rev"),
        syntax=_syntax(item.get("syntax")),
        deps_by_name=_uuids_of(item.get("deps"), uuids),
        weakdeps_by_name=_uuids_of(item.get("weakdeps"), uuids),
        extensions=_extensions(item.get("extensions")),
        entry=item,
    )


def _syntax(table: Any) -> str | None:
    """Julia 1.14 takes what is older than 1.13, or not said, for 1.13 (`explicit_manifest_entry_load_spec`)."""
    version = str(table.get("julia_version")) if isinstance(table, dict) else ""
    major, minor = (*_version_parts(version), 0, 0)[:2]
    return f"{major}.{minor}" if (major, minor) > (1, 13) else None


def _uuids_of(deps: Any, uuids: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Dependencies are a list of names, or a table of names and uuids where a name is ambiguous."""
    if isinstance(deps, dict):
        return {str(name): str(uuid).lower() for name, uuid in deps.items()}
    if isinstance(deps, list):
        return {str(name): uuids[str(name)][0] for name in deps if str(name) in uuids}
    return {}


def _extensions(table: Any) -> dict[str, tuple[str, ...]]:
    """An extension's trigger is one name or a list of them."""
    if not isinstance(table, dict):
        return {}
    return {
        str(name): tuple(map(str, triggers)) if isinstance(triggers, list) else (str(triggers),)
        for name, triggers in table.items()
    }


# -- where a package's source is, and what is in it ----------------------------------------------------


_SLUG_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


# Rarely part of what a package's code is; where they are, the precompile cache names them. Everything else may be:
# macros read data files, too.
_NOT_SOURCE = {"test", "docs", "doc", "benchmark", "benchmarks", "node_modules", "Manifest.toml"}

# Where directories that are links are followed. Elsewhere these lead to data, which may be large.
_CODE = ("src", "ext")


# -- preferences ---------------------------------------------------------------------------------------
