"""Whether what an answer depends on is as it was noted (`pyjl_autoimage.base.reads`). Every start asks this."""

from __future__ import annotations

import os
import stat
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["checksum_of", "difference", "identity", "subdirectories", "version_said", "whole"]

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)


def difference(noted: Mapping[str, Any], again: dict[str, tuple[int, ...]] | None = None) -> str:
    """The first thing that is not as it was noted (`Reads.to_data`); empty where everything is.

    Args:
        noted: what was noted.
        again: gets how each directory of installed packages is now that had to be searched, because it was not as it
            was. Whoever notes that anew saves the next start the search.
    """
    for path, known in noted["contents"]:
        if checksum_of(path) != known:
            return str(path)
    look, access = os.stat, os.access
    for path, (known, content) in noted["files"]:
        try:
            status = look(path)
        except OSError:
            return str(path)
        if identity(status) != tuple(known) and (content is None or checksum_of(path) != content):
            return str(path)
    absent, places = noted["absent"], noted["places"]
    # The loops are C's, and so is the second argument: F_OK, which is 0, for each.
    if any(map(access, absent, bytes(len(absent)))):
        return next(str(path) for path in absent if access(path, 0))
    if not all(map(access, places, bytes(len(places)))):
        return next(str(path) for path in places if not access(path, 0))
    for path, target in noted["links"]:
        if os.path.realpath(path) != target:
            return str(path)
    for path, known, names, shelters in noted["directories"]:
        now = identity_of_directory(look(path))
        if now != known:
            # Names that are new are all that matters, and those whose content the directory answered for: what lay
            # in the others is among the files, there or absent.
            for name in set(subdirectories(path)).difference(names):
                if access(os.path.join(path, name, "juliapkg.json"), 0):
                    return os.path.join(str(path), name)
            if shelters and again is not None:
                again[path] = now
    for executable, version in noted["said"]:
        if version_said(executable) != version:
            return str(executable)
    return ""


def identity(status: os.stat_result) -> tuple[int, ...]:
    """What no other file has (the time of the inode's last change is nobody's to set); of a directory, its names."""
    if stat.S_ISDIR(status.st_mode):
        return status.st_ino, status.st_mtime_ns
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def identity_of_directory(status: os.stat_result) -> tuple[int, ...]:
    """The same, where times that were set back after a change must tell as well."""
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def checksum_of(path: str) -> int | None:
    """Of a file's content; None where it cannot be read."""
    try:
        return zlib.crc32(whole(path))
    except OSError:
        return None


def whole(path: str) -> bytes:
    """All of a file, with half the system calls of a file object.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, _READ)
    try:
        data = b""
        while block := os.read(descriptor, 1 << 16):
            data += block
        return data
    finally:
        os.close(descriptor)


def subdirectories(path: str) -> list[str]:
    """Where a juliapkg.json could lie below a directory of sys.path: not in what pip and Python keep there."""
    try:
        with os.scandir(path) as entries:
            # A link that leads nowhere may do so later.
            return sorted(
                e.name
                for e in entries
                if not e.name.endswith((".dist-info", ".egg-info", ".libs", "__pycache__"))
                and (e.is_dir() or e.is_symlink())
            )
    except OSError:
        return []


def version_said(executable: str) -> str:
    """What an executable says of its version: what juliapkg asks a Julia at each start (`julia_version`)."""
    import subprocess

    try:
        asked = subprocess.run([executable, "--version"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.decode(errors="replace")
