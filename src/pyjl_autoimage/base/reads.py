"""What an answer depends on, noted by who reads it.

A reader opens files by `content` and asks `is_file`. While somebody makes an answer (``with Reads() as reads:``),
what was opened, and what was looked for and not there, is noted at once, so a change in between is a change later.
Later, `difference` (`pyjl_autoimage.base.unchanged`) says whether all of it is as it was.
"""

from __future__ import annotations

import os
import stat
import sys
import time
import zlib
from _thread import get_ident

from .unchanged import checksum_of, identity, identity_of_directory, subdirectories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["CLOCK_GRAIN_NS", "Reads", "active", "content", "installed_in", "is_file", "load_toml", "may_be_trusted"]

# A file changed within the clock's grain of the moment we looked may change again unseen. Two seconds is
# the coarsest grain of file systems in use (FAT).
CLOCK_GRAIN_NS = 2_000_000_000

_active: dict[int, Reads] = {}
"""thread -> who notes there."""


class Reads:
    """What an answer depends on."""

    def __init__(self) -> None:
        self.since: int = _time_of_files()
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
        self.directories: dict[str, tuple[tuple[int, ...], list[str], bool]] = {}
        """Of sys.path, where juliapkg looks one level below: path -> how it is (nothing where that has just changed),
        the names below which it was noted what is there, and whether there are more."""
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
        checksum, changed = checksum_of(path) if _is_small(status) else None, status.st_mtime_ns
        self.files[path] = identity(status), checksum
        if self.since - CLOCK_GRAIN_NS <= changed <= time.time_ns():
            # Some libraries write the same juliapkg.json at each import: the content tells, as long as it is that
            # young, where the file system's clock is fine enough to tell that it was there before.
            if checksum is not None and changed < self.since and changed % 1_000_000_000:
                self.contents[path] = checksum
            else:
                self.settled = False

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
        """Note where juliapkg looks for ``juliapkg.json``: in a directory of sys.path, and one level below.

        For what an installer has put there, the directory answers: whatever installs another one makes a new
        ``.dist-info`` beside it. So it does for Python's own packages. The rest is looked at one by one.
        """
        try:
            status = os.stat(path)
        except OSError:
            self.absent[path] = None
            return
        below, installed = subdirectories(path), installed_in(path)
        names = [name for name in below if not (name in installed and _holds_none(path, name))]
        # A directory that has just changed gets no trusted time: it is listed at every start until then.
        trusted = status.st_mtime_ns < self.since - CLOCK_GRAIN_NS
        self.directories[path] = identity_of_directory(status) if trusted else (), names, len(names) < len(below)
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
        """As plain data, without what a file's content says as well."""
        told = self.contents
        return {
            "contents": list(told.items()),
            "files": [(path, how) for path, how in self.files.items() if how[1] is None or told.get(path) != how[1]],
            "absent": list(self.absent),
            "places": [path for path in self.places if told.get(path) is None],
            "links": list(self.links.items()),
            "directories": [(path, *noted) for path, noted in self.directories.items()],
            "said": list(self.said.items()),
        }


def _time_of_files() -> int:
    """Now, by a clock that is not ahead of the one that files get their times from."""
    if sys.platform == "linux":
        return time.clock_gettime_ns(5)  # CLOCK_REALTIME_COARSE, the very same one
    return time.time_ns() - 20_000_000  # a tick of Windows' clock is 16 ms


def may_be_trusted(directory: tuple[int, ...]) -> bool:
    """Whether a directory that looks so just now (`identity_of_directory`) will look another way when it changes."""
    return directory[1] < time.time_ns() - 2 * CLOCK_GRAIN_NS


def _is_small(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size <= 1_000_000


def installed_in(path: str) -> set[str]:
    """The names in a directory of sys.path that installers have written down as theirs; in Python's, its own."""
    found: set[bytes] = set()
    if path == os.path.dirname(getattr(os, "__file__", "")):  # a frozen program may have none
        return set(sys.stdlib_module_names)
    try:
        for name in os.listdir(path):
            if name.endswith(".dist-info"):
                try:
                    with open(os.path.join(path, name, "RECORD"), "rb") as file:
                        found.update(line.partition(b"/")[0] for line in file)
                except OSError:
                    pass  # some distributions of Linux leave it out
    except OSError:
        pass
    return set(map(os.fsdecode, found))


def _holds_none(path: str, name: str) -> bool:
    """Whether a package has no juliapkg.json, and lies where it seems to."""
    directory = os.path.join(path, name)
    return not os.path.islink(directory) and not os.path.lexists(os.path.join(directory, "juliapkg.json"))


def active() -> Reads | None:
    """Who makes an answer in this thread just now."""
    return _active.get(get_ident())


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
