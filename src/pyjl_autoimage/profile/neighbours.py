"""What other environments of the store know of the same packages: a first build has nothing else to go by."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping

from ..store.places import Store
from .ageing import compact
from .profile import LoadedPackage, Origin, Profile, Statement
from .recordings import load

__all__ = ["known_elsewhere"]

_ROOTS = re.compile(r"(?<![\w.!])([^\W\d]\w*)\.")
"""The modules that a statement names, by the first part of each path."""


def known_elsewhere(
    store: Store, environment_id: str, packages: Mapping[str, str], modules: Collection[str]
) -> Profile:
    """The statements of other environments' profiles that name modules of this one alone, and packages they loaded.

    No programs, no own code, and no runs: those are others'. Nothing is written.

    Args:
        store: where.
        environment_id: whose build it is for.
        packages: uuid -> name of what its manifest has.
        modules: names of its modules: packages and extensions.
    """
    known = {"Base", "Core", *modules}
    found = Profile()
    for other in store.environment_ids():
        profile = load(store, other) if other != environment_id else Profile()
        for text in profile.bakeable():
            theirs = profile.statements[text]
            if known.issuperset(_ROOTS.findall(text)):
                kept = found.statements.setdefault(text, Statement(inferred=True, origin=Origin.IMPORTED))
                kept.inferred = kept.inferred and theirs.inferred
                kept.runs, kept.last = max(kept.runs, theirs.runs), max(kept.last, theirs.last)
                kept.milliseconds = max(kept.milliseconds, theirs.milliseconds)
        for uuid, package in profile.packages.items():
            if uuid in packages:
                mine = found.packages.setdefault(uuid, LoadedPackage(packages[uuid]))
                mine.runs, mine.last = max(mine.runs, package.runs), max(mine.last, package.last)
    compact(found, time.time())
    return found
