"""Locks between processes, which end with the process that holds them, however it ends (filelock)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import StoreError

__all__ = ["lock"]


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
        held.acquire(timeout)
    except Timeout:
        raise TimeoutError(path) from None
    except NotImplementedError:
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
