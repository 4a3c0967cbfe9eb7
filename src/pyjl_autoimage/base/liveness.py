"""Marks: files that a process holds locked for as long as it lives. Who gets the lock knows that it is dead.

A pid says nothing in another pid namespace or on another host; a lock ends with its process, however that ends, and
with the last of its forks: those go on with what it used. Where a lock says nothing (some network file systems grant
every lock to everybody, some have none), the age of the mark decides; a mark says in its name on which boot of which
machine it was made, and on that one its lock is believed.

Start-up uses this module, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DAY",
    "MONTH",
    "boot_id",
    "discard",
    "hold",
    "hostname",
    "is_dead",
    "is_of_this_boot",
    "mark_name",
    "release",
    "remove",
]

DAY = 86400.0
MONTH = 30 * DAY

_NEW = ".tmp"


def hostname() -> str:
    """The name of this host, safe to use in a file name."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return "".join(c if c.isalnum() else "_" for c in name) or "localhost"


_boot: str | None = None


def boot_id() -> str:
    """Names this boot of this machine; where that is not known, this host."""
    global _boot
    if _boot is None:
        try:
            with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
                _boot = file.read().decode("ascii").strip().replace("-", "")[:12]
        except OSError:
            _boot = f"boot_of_{hostname()}"
    return _boot


_own_names: dict[int, str] = {}  # by pid: a forked child is another process


def mark_name() -> str:
    """What this process calls its marks: ``host-pid-boot-random``. Host and pid are for people."""
    pid = os.getpid()
    name = _own_names.get(pid)
    if name is None:
        name = _own_names[pid] = f"{hostname()}-{pid}-{boot_id()}-{os.urandom(4).hex()}"
    return name


def is_of_this_boot(name: str) -> bool:
    """Whether a mark was made by a process of this machine, since it booted."""
    return name.split("-", 3)[2:3] == [boot_id()]


_held: dict[str, int] = {}


def hold(path: str) -> int:
    """Make a mark, and hold it as long as this process (or a fork of it) lives.

    It appears locked: nobody can find it before it is. Its directory is made where there is none.

    Returns:
        A descriptor that it can be written with.

    Raises:
        OSError: it cannot be made.
    """
    if path in _held and os.path.exists(path):
        return _held[path]
    new = path if sys.platform == "win32" else f"{path}{_NEW}"  # what is open cannot be renamed there
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
    try:
        descriptor = os.open(new, flags, 0o600)
    except FileNotFoundError:
        from .files import make_private

        make_private(os.path.dirname(path))
        descriptor = os.open(new, flags, 0o600)
    try:
        _lock(descriptor)
    except OSError:
        pass  # this file system has no locks: ages decide
    if new != path:
        os.rename(new, path)
    _held[path] = descriptor
    return descriptor


def discard(path: str) -> None:
    """Remove a file, if it is there and that can be done."""
    try:
        os.unlink(path)
    except OSError:
        pass


def release(path: str) -> bool:
    """Let a mark go. Whether it is dead then: a fork of this process may hold it still."""
    descriptor = _held.pop(path, -1)
    try:
        # A program that closes all descriptors, as daemons do, may have got this number for another file.
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            os.close(descriptor)
    except OSError:
        pass
    return is_dead(path, 0.0)


def remove(path: str) -> None:
    """Remove a mark that this process holds, and let it go. Nobody finds it unlocked, but on Windows."""
    descriptor = _held.pop(path, -1)
    if descriptor < 0:
        return
    if sys.platform == "win32":  # what is open cannot be removed there
        os.close(descriptor)
    discard(path)
    if sys.platform != "win32":
        os.close(descriptor)


def is_dead(path: str, seconds: float = MONTH, believe: Callable[[str], bool] = is_of_this_boot) -> bool:
    """Whether the process that made a mark is gone.

    Args:
        path: the mark.
        seconds: the age from which on a mark is taken for dead whose lock says nothing.
        believe: whether a lock that is free says all, by the mark's name.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except ValueError:
        return True  # a name of strangers that is none
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    try:
        try:
            if not _is_free(descriptor):
                return False
            if believe(os.path.basename(path)):
                return True
        except OSError:
            pass  # this file system has no locks
        import time

        return time.time() - os.fstat(descriptor).st_mtime >= seconds
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    _FAR = 1 << 30  # nobody can read or write what is locked, so that lies behind all content

    def _lock(descriptor: int) -> None:
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

    def _is_free(descriptor: int) -> bool:
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        return True

else:

    def _lock(descriptor: int) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _is_free(descriptor: int) -> bool:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: who looks at the same time sees the same
        except BlockingIOError:
            return False
        return True
