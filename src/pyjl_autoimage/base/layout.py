"""What every start needs of a store: where that lies, who could have written it, and the mark of its use.

All else about it is in `pyjl_autoimage.store.places`. Start-up comes here: it imports next to nothing.
"""

from __future__ import annotations

import os
import stat

from .liveness import hold, mark_name

__all__ = ["Layout", "belongs_to_us", "depot_of", "others_can_write"]

LAYOUT = "v1"


def depot_of(directory: str) -> str:
    """The Julia depot of an image or a layer, in its directory: caches that were made for it alone."""
    return os.path.join(directory, "depot")


class Layout:
    """A store at `home`. Creating the object touches nothing on disk."""

    def __init__(self, home: str) -> None:
        self.home: str = home
        self.root: str = os.path.join(home, LAYOUT)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.home!r})"

    @property
    def launches(self) -> str:
        """Directory of cached start-up answers."""
        return os.path.join(self.root, "launch")

    def launch(self, name: str) -> str:
        """File of one cached start-up answer."""
        return os.path.join(self.launches, f"{name}.plan")

    @property
    def uses(self) -> str:
        """Directory with a directory for each image, of the marks of processes that use it."""
        return os.path.join(self.root, "uses")

    @property
    def booting(self) -> str:
        """Directory of the marks of processes that load an image just now (see `pyjl_autoimage.startup.guard`)."""
        return os.path.join(self.root, "booting")

    def environment(self, environment_id: str) -> str:
        """The directory of one environment."""
        return os.path.join(self.root, "environments", environment_id)

    def recordings(self, environment_id: str) -> str:
        """Directory of an environment's recordings."""
        return os.path.join(self.environment(environment_id), "recordings")

    def mark_use(self, image_id: str) -> str | None:
        """Note that this process uses an image, so that nobody removes it; None if that cannot be noted."""
        directory = os.path.join(self.uses, image_id)
        mark = os.path.join(directory, mark_name())
        try:
            hold(mark)
        except OSError:
            return None
        return mark

    def distrust(self, *paths: str) -> str | None:
        """Why files of the store must not be loaded: somebody else can write one, or a directory on its way.

        Loading an image runs its code. Root is trusted; so is a directory with the sticky bit, in which nobody
        can replace what is ours.
        """
        if not hasattr(os, "getuid"):
            return None
        seen: dict[str, os.stat_result] = {}
        return next(filter(None, (self._distrust(path, seen) for path in paths)), None)

    def _distrust(self, path: str, seen: dict[str, os.stat_result]) -> str | None:
        home, real = self.home, path
        if not (_is_real(home, seen) and _is_real(path, seen)):
            home, real = os.path.realpath(home), os.path.realpath(path)
        # Nobody else gets at what is below a store of ours alone, whatever its modes are (umask 002).
        sheltered = real.startswith(os.path.join(home, "")) and _is_private(home, seen)
        # A link in a directory that others can write may lead elsewhere a moment later.
        against = _against_chain(home if sheltered else real, seen)
        return against or (None if path == real else _against_chain(path, seen))


def _look(path: str, seen: dict[str, os.stat_result]) -> os.stat_result:
    """`os.lstat`, once for each path."""
    status = seen.get(path)
    if status is None:
        status = seen[path] = os.lstat(path)
    return status


def _is_real(path: str, seen: dict[str, os.stat_result]) -> bool:
    """Whether a path is as `os.path.realpath` gives it: that looks at each directory on its way, for links."""
    if path != os.path.abspath(path):
        return False
    try:
        while not stat.S_ISLNK(_look(path, seen).st_mode):
            parent = os.path.dirname(path)
            if parent == path:
                return True
            path = parent
    except OSError:
        pass
    return False


def _is_private(directory: str, seen: dict[str, os.stat_result]) -> bool:
    try:
        status = _look(directory, seen)
    except OSError:
        return False
    return status.st_uid == os.getuid() and not status.st_mode & 0o077


def _against_chain(path: str, seen: dict[str, os.stat_result]) -> str | None:
    """Who else could write a path, or a directory on its way."""
    current = path
    while True:
        try:
            status = _look(current, seen)
        except OSError as error:
            return f"{current} cannot be read: {error.strerror}"
        if not belongs_to_us(status):
            return f"{current} belongs to another user"
        if others_can_write(status) and not status.st_mode & stat.S_ISVTX and not stat.S_ISLNK(status.st_mode):
            return f"{current} can be written by other users"
        parent = os.path.dirname(current)
        if parent == current:
            return None
        current = parent


def belongs_to_us(status: os.stat_result) -> bool:
    """Whether a file is this user's, or root's."""
    return not hasattr(os, "getuid") or status.st_uid == 0 or status.st_uid == os.getuid()


def others_can_write(status: os.stat_result) -> bool:
    """Whether its permissions let somebody else write a file."""
    if not hasattr(os, "getuid") or not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False
    # A group of one's own, with the number of the user: the usual thing where umask is 002.
    groups = 0 if status.st_gid == os.getuid() == os.getgid() else stat.S_IWGRP
    return bool(status.st_mode & (groups | stat.S_IWOTH))
