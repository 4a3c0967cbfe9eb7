"""What an image or a layer was built from: all of it is kept with it, and must be the same when it is used."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..base.call import JULIA_SOURCES, RECORDER
from ..base.data import typed
from ..base.files import file_sha256, parsed_json
from ..julia.manifest import Package
from ..julia.sources import source_digest, source_directory

__all__ = [
    "BakedPackage",
    "Image",
    "Layer",
    "OwnCode",
    "Requirements",
    "baked_package",
    "cache_header",
    "content_of",
    "heap_of",
    "preference_digest",
    "preferences_digest",
    "recorder_digest",
    "recorder_files",
    "to_json",
]

SCHEMA = 3


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
    files: Mapping[str, str] = field(default_factory=dict)
    """path -> `content_of` what else it is made of, wherever that lies; of one tracked by path, of all."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Preferences of other packages that it read: uuid and name -> `preference_digest`."""


@dataclass(frozen=True)
class OwnCode:
    """Julia code of a program's own, as it was when it was compiled (see `pyjl_autoimage.startup.code`).

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
    """Id of the environment that it was built in. That one, its project and its executable are no requirement."""
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
    programs: tuple[str, ...] = ()
    """Whose statements and own code it holds (see `pyjl_autoimage.base.program.program_name`)."""
    statements: int = 0
    """How many precompile statements it holds."""
    build_seconds: float = 0.0
    pyjl_autoimage: str = ""
    """Digest of our Julia code in it (see `recorder_digest`)."""
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
        return cls.from_data(parsed_json(text), path)

    @classmethod
    def from_data(cls, data: Any, path: str) -> Image:
        """The same, parsed.

        Raises:
            ValueError: it is not one that this version can read.
        """
        found: Image = _read(cls, data, path)
        return found


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
        found: Layer = _read(cls, parsed_json(text), path)
        return found


def recorder_files() -> list[str]:
    """Our own Julia code in every image: the recorder, and what that includes from beside it."""
    own = os.path.join(JULIA_SOURCES, RECORDER, "src")
    included = [os.path.join(JULIA_SOURCES, name) for name in ("callers.jl", "versions.jl")]
    return [*included, *(os.path.join(own, name) for name in sorted(os.listdir(own)))]


def recorder_digest() -> str:
    """Tells it from that of any other version."""
    return file_sha256(*recorder_files())[:16]


def heap_of(library: str) -> str:
    """Where Julia 1.14 and later look for the heap of an image that does not hold it (julia pull request 61649)."""
    return f"{os.path.splitext(library)[0]}.ji"


def to_json(built: Requirements) -> dict[str, Any]:
    """An image or a layer as plain data, but for its path."""
    data = asdict(built)
    del data["path"]
    return {"schema": SCHEMA, **data}


def _read(kind: Any, data: Any, path: str) -> Any:
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or "path" in data:
        raise ValueError("not of this schema")
    return typed(kind, {**{name: value for name, value in data.items() if name != "schema"}, "path": path})


def preferences_digest(values: Mapping[str, Any]) -> str:
    """A digest that is the same for equal preferences, empty for none."""
    if not values:
        return ""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def preference_digest(preferences: Mapping[str, Mapping[str, Any]], uuid: str, name: str) -> str:
    """The same for one preference; empty where it is not set.

    Args:
        preferences: uuid -> preferences.
        uuid: of the package that it is about.
        name: of the preference.
    """
    values = preferences.get(uuid, {})
    return preferences_digest({name: values[name]}) if name in values else ""


def content_of(path: str) -> str:
    """Tells a file's content, or what names are in a directory, from any other; empty where there is neither."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return hashlib.sha256("\0".join(sorted(os.listdir(path))).encode(errors="surrogateescape")).hexdigest()
        return file_sha256(path) if stat.S_ISREG(mode) else ""
    except OSError:
        return ""


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
        digest=source_digest(package.path) if package.path is not None else jll_digest(package, stdlib),
        url=package.url,
        rev=package.rev,
        source=source_directory(package, depots),
        preferences=preferences_digest(package_preferences),
        in_julia=package.in_julia,
        syntax=package.syntax,
    )


def jll_digest(package: Package, stdlib: str) -> str | None:
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
