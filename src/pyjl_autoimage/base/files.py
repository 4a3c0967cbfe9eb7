"""Files that appear whole, JSON, sizes and checksums.

A start comes here when it has to make or write something: what costs time to import waits until it is needed.
"""

from __future__ import annotations

import errno
import os

from ..errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

NO_HOME = "this user has no home directory; name a place with PYJL_AUTOIMAGE_HOME"

_NUMBER = 1e19
"""All sizes, counts and times are smaller: they can be added up, rounded and shown."""


def write_atomically(path: str, content: bytes, *, durable: bool = False, mode: int = 0o666) -> None:
    """Replace a file so that every reader sees the old or the new one, whole.

    Args:
        path: the file.
        content: all of it.
        durable: be sure that it is on the disk, not only on its way there.
        mode: permissions, of which the umask takes its share.

    Raises:
        OSError: it cannot be written.
    """
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise


def make_private(directory: str) -> None:
    """Make a directory, and those above it that are missing, each for its owner alone.

    Raises:
        OSError: it cannot be made; or it is ``~``, of a user who has no home.
    """
    if not os.path.isabs(directory):
        raise FileNotFoundError(errno.ENOENT, NO_HOME, directory)
    try:
        os.mkdir(directory, 0o700)
    except FileNotFoundError:
        make_private(os.path.dirname(directory))
        make_private(directory)
    except FileExistsError:
        if not os.path.isdir(directory):
            raise


def parsed_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is none; or it is nested too deeply, or holds a number that is none, or too large.
    """
    import json

    try:
        return json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_float)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > 19:
        raise ValueError(f"{text[:20]}... is too large")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not abs(value) < _NUMBER:
        raise ValueError(f"{text[:20]} is too large")
    return value


def read_json(path: str) -> dict[str, Any] | None:
    """The object in a JSON file; None when it is missing, unreadable or not an object."""
    try:
        with open(path, "rb") as file:
            value = parsed_json(file.read())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: str, value: Any, *, durable: bool = False) -> None:
    """Write a JSON file atomically.

    Raises:
        OSError: it cannot be written.
    """
    import json

    write_atomically(path, json.dumps(value, separators=(",", ":")).encode(), durable=durable)


def create_text(path: str) -> IO[str]:
    """Open a new file of the store for writing text.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        return open(path, "w", encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"the store cannot be written: {path}: {error.strerror or error}") from error


def names_in(directory: str) -> list[str]:
    """What a directory holds; nothing if it cannot be read."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def remove_tree(path: str) -> None:
    """Remove a directory and all below it, as far as that is possible."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def tree_size(path: str) -> int:
    """Bytes of all files below a directory (or of one file)."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    total = 0
    for root, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                pass
    return total


def file_sha256(*paths: str) -> str:
    """SHA-256 of a file's content, or of that of several, one after the other (hexadecimal).

    Raises:
        OSError: one cannot be read.
    """
    import hashlib

    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
