"""What an image or a layer was built from, and whether that still holds.

A sysimage silently wins over the manifest, so an image whose requirements differ in the least from the
situation of this start is not used. `mismatches` goes through all of them, in a fixed order, and gives a line
for each difference: what `status` shows is what decided.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .julia.environment import Environment
from .julia.facts import JuliaFacts
from .julia.manifest import (
    Manifest,
    ManifestError,
    Package,
    load_manifest,
    manifest_file,
    preferences,
    source_digest,
    source_directory,
    workspace_root,
)

__all__ = [
    "BakedPackage",
    "Image",
    "Layer",
    "OwnCode",
    "Requirements",
    "Situation",
    "baked_package",
    "cache_header",
    "checked",
    "heap_of",
    "mismatches",
    "preferences_digest",
    "to_json",
]

SCHEMA = 2

LATER = {"heap_bytes", "syntax"}
"""Fields that were added since; without them what they default to holds."""


@dataclass(frozen=True)
class BakedPackage:
    """A package inside an image, and exactly which source it was."""

    name: str
    uuid: str
    version: str | None = None
    tree_sha1: str | None = None
    path: str | None = None
    digest: str | None = None
    """SHA-256 of the sources of a package tracked by path, or of a JLL that comes with Julia."""
    url: str | None = None
    rev: str | None = None
    source: str | None = None
    """The directory it was loaded from; images hold absolute paths."""
    preferences: str = ""
    """Digest of the package's preferences; empty when it has none."""
    in_julia: bool = False
    syntax: str | None = None
    """The version of Julia's syntax that it was parsed at (see `pyjl_autoimage.julia.manifest.Package`)."""


@dataclass(frozen=True)
class OwnCode:
    """Julia code of a program's own, as it was when it was compiled (see `pyjl_autoimage.code`).

    Not among the requirements: code that has changed since is evaluated afresh, the rest stays usable.
    """

    name: str
    """Of the Julia module."""
    uuid: str
    """Of the package that it is."""
    path: str
    files: Mapping[str, str]
    """path -> fingerprint of every file that it consists of."""
    apart: str = ""
    """Why it must not be part of an image, which every program of the environment starts on; empty: it may."""


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """All that must be the same when something compiled is used as when it was built."""

    environment: str
    """Id of the environment that it was built in."""
    project: str
    executable: str
    julia_version: str
    julia_commit: str
    word_size: int
    base_build_id: str
    cpu_target: str
    cpu: str
    """Identity of the CPU that built it (see `pyjl_autoimage.julia.facts.cpu_identity`)."""
    cpu_name: str
    juliacall: str
    """juliacall's version."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """The code generation flags that it was built with."""
    packages: tuple[BakedPackage, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Image(Requirements):
    """A built system image and what it was built from. Never changed after it is published."""

    id: str
    path: str
    """Of the shared library."""
    bytes: int
    """Of all its files."""
    sha256: str
    """Of all its files, one after the other."""
    built_at: float
    """Seconds since the epoch."""
    code: tuple[OwnCode, ...] = ()
    statements: int = 0
    """How many precompile statements it holds."""
    build_seconds: float = 0.0
    heap_bytes: int = 0
    """Of the file beside the library that holds Julia's heap (see `heap_of`); 0: the library holds it."""

    @property
    def files(self) -> dict[str, int]:
        """path -> bytes of all that it consists of, the library first."""
        library = {self.path: self.bytes - self.heap_bytes}
        return library | ({heap_of(self.path): self.heap_bytes} if self.heap_bytes else {})

    def to_json(self) -> dict[str, Any]:
        """As plain data; the path is the store's business."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str, path: str) -> Image:
        """Read an ``image.json``, as data from strangers.

        Raises:
            ValueError: it is not one that this version can read.
        """
        return cls(path=path, **checked(cls, text))


@dataclass(frozen=True, kw_only=True)
class Layer(Requirements):
    """A layer and what it was built from. Never changed after it is published."""

    id: str
    path: str
    """Its directory."""
    program: str
    """Whose it is (see `pyjl_autoimage.base.program.program_name`)."""
    image: str | None
    """Id of the image that it was precompiled on; None: on Julia's own."""
    built_at: float
    """Seconds since the epoch."""
    bytes: int
    package: str
    """The package with the compiled statements."""
    uuid: str
    """Of that package."""
    roots: tuple[str, ...]
    """uuids of the packages that must be loaded before the statements are of use."""
    contents: str
    """Digest of what went into it: statements and code."""
    caches: Mapping[str, str]
    """path -> `cache_header` of every precompile cache that it stands on, its own among them."""
    code: tuple[OwnCode, ...] = ()
    statements: int = 0
    build_seconds: float = 0.0

    def description(self, when: str) -> str:
        """What `julia/AutoimageRecorder/src/layer.jl` is told of it; `when`: load it at ``start`` or ``use``."""
        return "\n".join((self.path, self.package, self.uuid, when, *self.roots))

    def to_json(self) -> dict[str, Any]:
        """As plain data; the path is the store's business."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str, path: str) -> Layer:
        """Read a ``layer.json``, as data from strangers.

        Raises:
            ValueError: it is not one that this version can read.
        """
        return cls(path=path, **checked(cls, text))


def heap_of(library: str) -> str:
    """Where Julia 1.14 and later look for the heap of an image that does not hold it (julia pull request 61649)."""
    return f"{os.path.splitext(library)[0]}.ji"


def to_json(built: Requirements) -> dict[str, Any]:
    """An image or a layer as plain data, but for its path."""
    data = asdict(built)
    del data["path"]
    return {"schema": SCHEMA, **data}


def checked(kind: type[Requirements], text: str) -> dict[str, Any]:
    """The fields of an image or a layer in what `to_json` gave, as data from strangers.

    Raises:
        ValueError: it is not one that this version can read.
    """
    data = json.loads(text)
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        raise ValueError("not of this schema")
    lists = isinstance(data.get("packages"), list) and isinstance(data.get("code"), list)
    if not _has_fields(data, set(kind.__dataclass_fields__) - {"path"}) or not lists:
        raise ValueError("not the facts of an image or a layer")
    packages = tuple(_read_package(package) for package in data.pop("packages"))
    code = tuple(_read_code(code) for code in data.pop("code"))
    tables = {name: data.pop(name) for name in ("flags", "caches") if name in data}
    for name, value in data.items():
        expected = _TYPES.get(name, str)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise ValueError(f"{name} is not {value!r}")
        if isinstance(value, list):
            data[name] = tuple(str(item) for item in value)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ValueError(f"{name} is no table")
        data[name] = {str(key): str(value) for key, value in table.items()}
    return {**data, "packages": packages, "code": code}


def _has_fields(data: Mapping[str, Any], names: set[str]) -> bool:
    return names - LATER <= set(data) <= names


_TYPES: dict[str, Any] = {
    "bytes": int,
    "heap_bytes": int,
    "word_size": int,
    "statements": int,
    "built_at": (int, float),
    "build_seconds": (int, float),
    "image": (str, type(None)),
    "roots": list,
}


def _read_code(data: Any) -> OwnCode:
    if not isinstance(data, dict) or set(data) != set(OwnCode.__dataclass_fields__):
        raise ValueError("not a program's own code")
    if not isinstance(data["files"], dict):
        raise ValueError("the files of a program's own code are no table")
    files = {str(path): str(fingerprint) for path, fingerprint in data["files"].items()}
    return OwnCode(str(data["name"]), str(data["uuid"]), str(data["path"]), files, str(data["apart"]))


def _read_package(data: Any) -> BakedPackage:
    if not isinstance(data, dict) or not _has_fields(data, set(BakedPackage.__dataclass_fields__)):
        raise ValueError("not a package of an image")
    for name, value in data.items():
        optional = name not in ("name", "uuid", "preferences", "in_julia")
        if not isinstance(value, bool if name == "in_julia" else str) and not (optional and value is None):
            raise ValueError(f"{name} of a package is not {value!r}")
    return BakedPackage(**data)


@dataclass(frozen=True)
class Situation:
    """All that decides whether an image is valid here and now."""

    facts: JuliaFacts
    project: str
    manifest: Manifest
    preferences: Mapping[str, Mapping[str, Any]]
    """uuid -> preferences."""
    juliacall: str
    flags: Mapping[str, str]
    cpu: str

    @classmethod
    def of(cls, facts: JuliaFacts, project: str, *, juliacall: str, flags: Mapping[str, str], cpu: str) -> Situation:
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
            preferences(preference_projects(project, facts), manifest.packages),
            juliacall,
            dict(flags),
            cpu,
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


def preferences_digest(values: Mapping[str, Any]) -> str:
    """A digest that is the same for equal preferences, empty for none."""
    if not values:
        return ""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def baked_package(
    package: Package, depots: Sequence[str], package_preferences: Mapping[str, Any], stdlib: str = ""
) -> BakedPackage:
    """The identity of a package as the manifest has it now.

    Args:
        package: the package.
        depots: where its source may be.
        package_preferences: what is preferred of it.
        stdlib: where Julia's own are.

    Raises:
        OSError: the sources of a package tracked by path cannot be read.
    """
    return BakedPackage(
        name=package.name,
        uuid=package.uuid,
        version=package.version,
        tree_sha1=package.tree_sha1,
        path=package.path,
        digest=source_digest(package.path) if package.path is not None else _jll_digest(package, stdlib),
        url=package.url,
        rev=package.rev,
        source=source_directory(package, depots),
        preferences=preferences_digest(package_preferences),
        in_julia=package.in_julia,
        syntax=package.syntax,
    )


def _jll_digest(package: Package, stdlib: str) -> str | None:
    """What tells whether a JLL of Julia's own names the same libraries; None for any other package.

    Everything else that comes with a Julia goes by its version and build. These are rewritten in place where Julia's
    libraries get other names, so that Python's of the same name do not stand in for them (pyjuliapkg 97).
    """
    directory = os.path.join(stdlib, package.name)
    is_one = package.in_julia and package.name.endswith("_jll") and os.path.isdir(directory)
    return source_digest(directory) if is_one else None


def cache_header(path: str) -> str:
    """Tells a precompile cache of Julia's from any other of that name; empty if it cannot be read.

    It begins with the build ids of its modules (`write_header` in Julia's ``src/staticdata_utils.c``), and a cache
    that was built upon it wants exactly these.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read(1024)).hexdigest()[:16]
    except OSError:
        return ""


def mismatches(image: Requirements, now: Situation) -> list[str]:
    """Why this image, or layer, must not be used now, one line each; empty when it is valid."""
    return [*_julia(image, now), *_cpu(image, now), *_flags(image, now), *_packages(image, now)]


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


def _packages(image: Requirements, now: Situation) -> Iterator[str]:
    for baked in image.packages:
        current = now.manifest.packages.get(baked.uuid)
        if current is None:
            # A standard library that is part of Julia's own image need not be in a manifest.
            if not baked.in_julia:
                yield f"{baked.name} is in the image, not in the manifest"
            continue
        yield from _package(baked, current, now)


def _package(baked: BakedPackage, current: Package, now: Situation) -> Iterator[str]:
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
    elif baked.in_julia:
        if baked.digest is not None and baked.digest != _jll_digest(current, now.facts.stdlib):
            yield f"{name}, which comes with Julia, has another source in {now.facts.stdlib} now"
    elif baked.syntax != current.syntax:
        before, after = (syntax or "1.13 and before" for syntax in (baked.syntax, current.syntax))
        yield f"{name} was parsed as Julia {before} in the image, the manifest says {after} now"
    else:
        source = source_directory(current, now.facts.depots)
        if source is None:
            yield f"the source of {name} is not installed"
        elif baked.source is None or not _same_place(source, baked.source):
            yield f"{name} was at {baked.source} when the image was built, is at {source} now"
        elif baked.digest is not None:
            try:
                digest = source_digest(source)
            except OSError as error:
                yield f"the source of {name} cannot be read: {error}"
            else:
                if digest != baked.digest:
                    yield f"the source of {name} in {source} has changed"
    if baked.preferences != preferences_digest(now.preferences.get(baked.uuid, {})):
        yield f"the preferences of {name} have changed"


def _same_place(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)
