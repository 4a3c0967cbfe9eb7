"""Locks between processes, which end with the process that holds them, however it ends (filelock)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import StoreError

__all__ = ["is_held", "lock"]


@contextmanager
def lock(path: str, timeout: float) -> Iterator[None]:
    """Hold a lock of the store; it is let go when its process ends, however it ends.

    Args:
        path: the lock file.
        timeout: seconds to wait for it.

    Raises:
        TimeoutError: another process holds it.
        StoreError: it cannot be created, or the file system has no locks.
    """
    from filelock import FileLock, Timeout

    held = FileLock(path)
    try:
        if sys.platform != "win32":
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            _is_held(path)  # where there are no locks, filelock makes files, which outlive whoever is killed
        held.acquire(timeout)
    except Timeout:
        raise TimeoutError(path) from None
    except (NotImplementedError, _NoLocks):
        raise StoreError(
            f"the file system of {os.path.dirname(path)} has no locks; "
            "put the store elsewhere with PYJL_AUTOIMAGE_HOME"
        ) from None
    except OSError as error:
        raise StoreError(f"{path} cannot be locked: {error.strerror or error}") from error
    try:
        yield
    finally:
        held.release()


def is_held(path: str) -> bool:
    """Whether a process holds this lock: on whichever host, in whichever container it lives."""
    try:
        if sys.platform != "win32":
            return _is_held(path)
        with lock(path, 0):
            return False
    except TimeoutError:
        return True
    except (StoreError, _NoLocks):
        return False  # nobody can build here


class _NoLocks(Exception):
    """The file system has none."""


def _is_held(path: str) -> bool:
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: whoever else asks sees the same
        return False
    except BlockingIOError:
        return True
    except OSError:
        raise _NoLocks from None
    finally:
        os.close(descriptor)
