"""What a profile forgets, so that months of recordings of many programs do not make it grow for ever.

A run on an image does not compile what the image holds, so it says nothing against it: a statement is presumed
to be needed for as long as its programs run. Only a run without image that does not compile it is evidence.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from tempfile import gettempdir

from .profile import Origin, Profile, Program, Statement, is_of_main

__all__ = ["compact"]

DAY = 86400.0

AGE = 180 * DAY
"""What no run needed for so long is forgotten: programs that run once in a quarter keep what they need."""

AGE_UNBAKED = 30 * DAY
"""The same of statements that no image can hold: every run that needs one compiles, and records, it again."""

STATEMENTS_KEPT = 20_000
"""Some twenty times what a large program compiles; a build takes a minute or two for so many."""

SHARES = {Origin.RECORDED: 1.0, Origin.IMPORTED: 0.5, Origin.LIBRARY: 0.25}
"""Of these, what may come from where. What was recorded here comes first, and never makes room for what was not."""

PROGRAMS_KEPT = 200
"""Those that ran here, and not in a temporary directory, where scripts have a new name each time, stay longest."""

_TEMPORARY = ("/tmp/", "/var/tmp/", "/dev/shm/", "/private/tmp/", "/var/folders/", "/private/var/folders/")


def compact(profile: Profile, now: float) -> None:
    """Forget what has not been needed for long, and what is too much.

    Args:
        profile: is changed.
        now: seconds since the epoch.
    """
    needed = {
        text: _needed(statement.last, statement.last, statement.programs, profile.programs)
        for text, statement in profile.statements.items()
    }
    unbaked = {text for text in needed if text in profile.refused or is_of_main(text)}
    for text in unbaked:
        needed[text] = profile.statements[text].last
    kept = [text for text, when in needed.items() if now - when <= (AGE_UNBAKED if text in unbaked else AGE)]
    kept.sort(key=lambda text: _rank(text in unbaked, profile.statements[text], needed[text]), reverse=True)
    chosen: set[str] = set()
    for origin, share in SHARES.items():
        of_origin = [text for text in kept if profile.statements[text].origin is origin]
        chosen.update(of_origin[: min(int(share * STATEMENTS_KEPT), STATEMENTS_KEPT - len(chosen))])
    for text in [text for text in profile.statements if text not in chosen]:
        del profile.statements[text]
    profile.refused.intersection_update(profile.statements)

    for uuid, package in list(profile.packages.items()):
        users = [name for name, program in profile.programs.items() if uuid in program.packages]
        loaded = max((profile.programs[name].packages[uuid] for name in users), default=package.last)
        if now - _needed(package.last, loaded, users, profile.programs) > AGE:
            del profile.packages[uuid]
    for name, code in list(profile.code.items()):
        if now - code.last > AGE:
            del profile.code[name]

    elsewhere = (*_TEMPORARY, os.path.join(gettempdir(), ""))
    ranks = {n: (p.runs > 0, not n.startswith(elsewhere), p.last) for n, p in profile.programs.items()}
    programs = sorted(ranks, key=ranks.__getitem__, reverse=True)
    for name in programs:
        if name in programs[PROGRAMS_KEPT:] or now - profile.programs[name].last > AGE:
            del profile.programs[name]
    for program in profile.programs.values():
        program.code = [name for name in program.code if name in profile.code]
        program.packages = {uuid: last for uuid, last in program.packages.items() if uuid in profile.packages}
    for statement in profile.statements.values():
        statement.programs.intersection_update(profile.programs)


def _rank(unbaked: bool, statement: Statement, needed: float) -> tuple[bool, bool, float, int]:
    """What is kept when there is too much: what images can hold, and of that what was compiled, first."""
    return not unbaked, not statement.inferred, needed, statement.runs


def _needed(last: float, seen: float, users: Iterable[str], programs: Mapping[str, Program]) -> float:
    """When something was last needed, as far as one can know.

    Args:
        last: when it was last recorded.
        seen: when one of its programs last recorded it.
        users: the programs that have needed it.
        programs: all programs.
    """
    presumed = [programs[name].last for name in users if name in programs and programs[name].plain <= seen]
    return max([last, *presumed])
