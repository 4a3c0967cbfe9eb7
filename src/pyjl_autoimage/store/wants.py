"""Which environments start on which image: one that somebody else starts on is not an old one.

A start that decides notes it, one file for each program and its flags. (One that recalls its plan starts on the same
image again, and says that it was there by its recording.)
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Mapping

from ..base.files import names_in, read_json, write_json
from ..base.liveness import DAY, discard
from .places import Store

__all__ = ["note", "wanted_by"]

LONG = 30 * DAY
"""An environment whose project is not on this host, and that was not seen for so long, wants nothing any more."""


def note(
    store: Store, environment: str, project: str, program: tuple[str, Mapping[str, str]], image: str | None
) -> None:
    """Note which image a program starts on.

    Args:
        store: where.
        environment: id of its environment.
        project: of that.
        program: its name, and its flags.
        image: the image's id; None: it starts on none.

    Raises:
        OSError: it cannot be written.
        StoreError: the store cannot.
    """
    name, flags = program
    directory = store.wants(environment)
    path = os.path.join(directory, f"{zlib.crc32(repr((name, sorted(flags.items()))).encode()):08x}.json")
    if image is None:
        discard(path)
    else:
        store.ensure(directory)
        write_json(path, {"schema": 1, "image": image, "project": project})


def wanted_by(store: Store) -> dict[str, dict[str, str]]:
    """id of an image -> id of each environment whose programs start on it, and that one's project."""
    found: dict[str, dict[str, str]] = {}
    for environment in store.environment_ids():
        for name in names_in(store.wants(environment)):
            want = read_json(os.path.join(store.wants(environment), name)) or {}
            project = str(want.get("project"))
            if os.path.isdir(project) or time.time() - store.last_seen(environment) < LONG:
                found.setdefault(str(want.get("image")), {})[environment] = project
    return found
