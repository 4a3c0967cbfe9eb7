"""What an answer depends on, noted by who reads it.

A reader opens files by `content` and asks `is_file`. While somebody makes an answer (``with Reads() as reads:``),
what was opened, and what was looked for and not there, is noted at once, so a change in between is a change later.
Later, `difference` says whether all of it is as it was. Start-up comes here: it imports next to nothing.
"""

from __future__ import annotations

import os
import stat
import sys
import time
import zlib
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["CLOCK_GRAIN_NS", "Reads", "active", "content", "difference", "identity", "is_file", "load_toml"]

# A file changed within the clock's grain of the moment we looked may change again unseen. Two seconds is
# the coarsest grain of file systems in use (FAT).
CLOCK_GRAIN_NS = 2_000_000_000

_active: dict[int, Reads] = {}
"""thread -> who notes there."""


class Reads:
    """What an answer depends on."""

    def __init__(self) -> None:
        self.since: int = time.time_ns()
        self.contents: dict[str, int | None] = {}
        """path -> checksum of a file that decides, which every start reads again; None where there is none."""
        self.files: dict[str, tuple[tuple[int, ...], int | None]] = {}
        """path -> `identity` of a file or a directory, which every start looks at again, and the checksum of a small
        file: one that was only touched is the same."""
        self.absent: dict[str, None] = {}
        """What must not appear."""
        self.places: dict[str, None] = {}
        """What must go on to exist."""
        self.links: dict[str, str] = {}
        """path -> where it leads to."""
        self.directories: dict[str, tuple[int, list[str]]] = {}
        """Of sys.path, where juliapkg looks one level below: path -> time of the last change, names."""
        self.said: dict[str, str] = {}
        """executable -> what it says of its version: a launcher that may start another Julia next time."""
        self.settled: bool = True
        """False if something changed so lately that it may change again unseen."""
        self._outer: Reads | None = None

    def __enter__(self) -> Reads:
        self._outer = _active.get(get_ident())
        _active[get_ident()] = self
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer is None:
            del _active[get_ident()]
        else:
            _active[get_ident()] = self._outer

    def file(self, path: str) -> None:
        """Note how a file (or a directory's list of names) is; where there is none, none may appear."""
        try:
            status = os.stat(path)
        except OSError:
            self.absent[path] = None
            return
        self.files[path] = identity(status), _checksum(path) if _is_small(status) else None
        self._settle(status.st_mtime_ns)

    def _settle(self, changed: int) -> None:
        self.settled &= not self.since - CLOCK_GRAIN_NS <= changed <= time.time_ns()

    def all_of(self, paths: Iterable[str]) -> None:
        """`file` for each."""
        for path in paths:
            self.file(path)

    def exists(self, path: str) -> None:
        """Note a path that must go on to exist; where it does not, it must not appear."""
        (self.places if os.path.exists(path) else self.absent)[path] = None

    def link(self, path: str) -> None:
        """Note where a path leads to. Times and sizes do not tell: some systems set all times to one value."""
        self.links[path] = os.path.realpath(path)

    def directory_of_sys_path(self, path: str) -> None:
        """Note where juliapkg looks for ``juliapkg.json``: in a directory of sys.path, and one level below."""
        try:
            changed = os.stat(path).st_mtime_ns
        except OSError:
            self.absent[path] = None
            return
        names = subdirectories(path)
        # A directory that has just changed gets no trusted time: it is listed at every start until then.
        trusted = changed < self.since - CLOCK_GRAIN_NS
        self.directories[path] = (changed if trusted else -1, names)
        self.all_of(os.path.join(path, name, "juliapkg.json") for name in ("", *names))

    def decides(self, path: str) -> None:
        """Note the content of a file that decides, wherever it is read."""
        try:
            content(path, self)
        except OSError:
            pass

    def add(self, noted: Mapping[str, Any]) -> None:
        """Depend on the files that another answer, which was kept (`to_data`), depends on."""
        self.contents.update(map(tuple, noted["contents"]))
        self.files.update((path, (tuple(known), checksum)) for path, (known, checksum) in noted["files"])
        self.absent.update(dict.fromkeys(noted["absent"]))
        self.places.update(dict.fromkeys(noted["places"]))
        self.links.update(map(tuple, noted["links"]))

    def to_data(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "contents": list(self.contents.items()),
            "files": list(self.files.items()),
            "absent": list(self.absent),
            "places": list(self.places),
            "links": list(self.links.items()),
            "directories": [(path, *noted) for path, noted in self.directories.items()],
            "said": list(self.said.items()),
        }


def identity(status: os.stat_result) -> tuple[int, ...]:
    """What no other file has (the time of the inode's last change is nobody's to set); of a directory, its names."""
    if stat.S_ISDIR(status.st_mode):
        return status.st_ino, status.st_mtime_ns
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_small(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size <= 1_000_000


def _checksum(path: str) -> int | None:
    """Of a file's content; None where it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return zlib.crc32(file.read())
    except OSError:
        return None


def active() -> Reads | None:
    """Who makes an answer in this thread just now."""
    return _active.get(get_ident())


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


def difference(noted: Mapping[str, Any]) -> str:
    """The first thing that is not as it was noted (`Reads.to_data`); empty where everything is."""
    for path, checksum in noted["contents"]:
        if _checksum(path) != checksum:
            return str(path)
    look, access = os.stat, os.access
    for path, (known, checksum) in noted["files"]:
        try:
            status = look(path)
        except OSError:
            return str(path)
        if identity(status) != tuple(known) and (checksum is None or _checksum(path) != checksum):
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
    for path, changed, names in noted["directories"]:
        # Names that are new are all that matters: what lay in the others is among the files, there or absent.
        if look(path).st_mtime_ns != changed:
            for name in set(subdirectories(path)).difference(names):
                if access(os.path.join(path, name, "juliapkg.json"), 0):
                    return os.path.join(str(path), name)
    for executable, version in noted["said"]:
        if version_said(executable) != version:
            return str(executable)
    return ""


def version_said(executable: str) -> str:
    """What an executable says of its version: what juliapkg asks a Julia at each start (`julia_version`)."""
    import subprocess

    try:
        asked = subprocess.run([executable, "--version"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.decode(errors="replace")


def content(path: str, reads: Reads | None = None) -> bytes:
    """All of a file that decides, noted.

    Raises:
        OSError: it cannot be read.
    """
    reads = reads or active()
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        if reads is not None:
            reads.contents[path] = None
        raise
    if reads is not None:
        reads.contents[path] = zlib.crc32(data)
    return data


def is_file(path: str) -> bool:
    """As `os.path.isfile`, noted."""
    reads = active()
    if reads is not None:
        reads.exists(path)
    return os.path.isfile(path)


def load_toml(path: str) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not TOML, or not UTF-8.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    return tomllib.loads(content(path).decode())
