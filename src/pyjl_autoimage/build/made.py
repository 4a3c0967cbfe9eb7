"""What the packages of an image or a layer are made of: Julia says it, in the headers of their precompile caches.

A package is more than its directory: what it includes from elsewhere, what its macros read, and preferences, also
those of others. What was loaded without a cache goes by its directory alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..julia.items import items_of
from ..julia.manifest import Manifest
from ..store.built import BakedPackage, content_of, preference_digest

__all__ = ["Made", "changed_since", "completed", "made_in", "read_made"]


@dataclass(frozen=True)
class Made:
    """A package, or an extension of one."""

    uuid: str
    name: str
    cache: str
    """The precompile cache that it was loaded from."""
    files: tuple[str, ...]
    preferences: tuple[tuple[str, str], ...]
    """Those that were read while it was compiled: the uuid of whom they are about, and the name."""


def read_made(path: str) -> tuple[Made, ...]:
    """What `julia/made.jl` wrote into a file; nothing if there is none."""
    try:
        with open(path, "rb") as file:
            return made_in(items_of(file.read()))
    except OSError:
        return ()


def made_in(items: Iterable[Sequence[str]]) -> tuple[Made, ...]:
    """The same from its items; other ones are passed over."""
    found: dict[str, Made] = {}
    for kind, uuid, *of in items:
        if kind == "made":
            name, cache, *files = of
            found[uuid] = Made(uuid, name, cache, tuple(files), ())
        elif kind == "read":
            _, about, preference = of
            one = found[uuid]
            found[uuid] = replace(one, preferences=(*one.preferences, (about, preference)))
    return tuple(found.values())


def completed(
    packages: Iterable[BakedPackage],
    made: Iterable[Made],
    manifest: Manifest,
    preferences: Mapping[str, Mapping[str, Any]],
) -> tuple[BakedPackage, ...]:
    """The packages, each with the files and preferences that it is made of beyond what identifies it already.

    Args:
        packages: as the manifest has them.
        made: what was loaded.
        manifest: says whose extensions are whose.
        preferences: uuid -> preferences, as they are now.
    """
    parts: dict[str, list[Made]] = {}
    for one in made:
        whose = [package.uuid for package in manifest.packages.values() if one.name in package.extensions]
        for uuid in [one.uuid] if one.uuid in manifest.packages else whose:
            parts.setdefault(uuid, []).append(one)
    return tuple(_completed(package, parts.get(package.uuid, ()), preferences) for package in packages)


def _completed(
    package: BakedPackage, parts: Iterable[Made], preferences: Mapping[str, Mapping[str, Any]]
) -> BakedPackage:
    files = {path for part in parts for path in part.files if not _is_vouched_for(path, package)}
    read = {item for part in parts for item in part.preferences if item[0] != package.uuid}
    return replace(
        package,
        files={path: content_of(path) for path in sorted(files)},
        others={f"{uuid} {name}": preference_digest(preferences, uuid, name) for uuid, name in sorted(read)},
    )


def _is_vouched_for(path: str, package: BakedPackage) -> bool:
    """Whether Julia's build or the tree hash says what is in a file. ``deps`` is where ``Pkg.build`` writes."""
    if package.in_julia:
        return True
    if package.path is not None or package.source is None:
        return False
    real, source = os.path.realpath(path), os.path.join(os.path.realpath(package.source), "")
    return real.startswith(source) and not real.startswith(os.path.join(source, "deps", ""))


def changed_since(made: Iterable[Made], packages: Iterable[BakedPackage], began: float) -> list[str]:
    """The files that were written while something was built of them.

    What is newer than the cache that was made of it was written afterwards, and not by the package itself as it was
    compiled. (Julia touches a cache that it loads. A time in the future says nothing.)

    Args:
        made: what was loaded.
        packages: what is kept of their files.
        began: when the build did, in seconds since the epoch.
    """
    loaded = {path: _modified(one.cache) for one in made for path in one.files}
    kept = sorted({path for package in packages for path in package.files})
    return [path for path in kept if max(began, loaded[path]) < _modified(path) <= time.time()]


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
