"""Where a package's source is, and what is in it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence

from .manifest import _CODE, _NOT_SOURCE, _SLUG_CHARACTERS, Package

__all__ = ["source_digest", "source_directory", "source_files"]


def source_directory(package: Package, depots: Sequence[str]) -> str | None:
    """The directory of a package's source as this depot stack finds it.

    None for a standard library, and when it is not installed. The directory's name is Julia's own
    ``Base.version_slug`` of uuid and tree hash (`base/loading.jl`).
    """
    if package.path is not None:
        return package.path if os.path.isdir(package.path) else None
    if package.tree_sha1 is None:
        return None
    try:
        content = int(package.uuid.replace("-", ""), 16).to_bytes(16, "little")
        tree = bytes.fromhex(package.tree_sha1)
    except (ValueError, OverflowError):
        return None
    crc = _crc32c(tree, _crc32c(content))
    for depot in depots:
        for length in (5, 4):  # four characters were used before Julia 1.3
            directory = os.path.join(depot, "packages", package.name, _slug(crc, length))
            if os.path.isdir(directory):
                return directory
    return None


def _crc32c(data: bytes, crc: int = 0) -> int:
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _slug(number: int, length: int) -> str:
    characters = []
    for _ in range(length):
        number, digit = divmod(number, len(_SLUG_CHARACTERS))
        characters.append(_SLUG_CHARACTERS[digit])
    return "".join(characters)


def source_files(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """The files that make up a package tracked by path, sorted, as (relative path, status)."""
    followed = {os.path.realpath(directory)}
    for root, directories, names in os.walk(directory, followlinks=True):
        top = root == directory
        within = os.path.relpath(root, directory).split(os.sep)[0]
        directories[:] = [
            name
            for name in sorted(directories)
            if name[0] != "."
            and not (top and name in _NOT_SOURCE)
            and _is_walked(os.path.join(root, name), name if top else within, followed)
        ]
        for name in sorted(names):
            if name[0] == "." or (top and name in _NOT_SOURCE):
                continue
            path = os.path.join(root, name)
            try:
                status = os.stat(path)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield os.path.relpath(path, directory).replace(os.sep, "/"), status


def _is_walked(path: str, part: str, followed: set[str]) -> bool:
    """Whether a directory is a real one, or a link to code that was not `followed` yet (links may be circular)."""
    if not os.path.islink(path):
        return True
    target = os.path.realpath(path)
    if part not in _CODE or target in followed:
        return False
    followed.add(target)
    return True


def source_digest(directory: str) -> str:
    """A SHA-256 over names and contents of a package's source files (hexadecimal).

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for relative, _ in source_files(directory):
        with open(os.path.join(directory, relative), "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
        digest.update(f"{relative}\0{content}\n".encode())
    return digest.hexdigest()
