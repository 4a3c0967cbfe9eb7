"""Which Julias, juliacalls and Pythons this version works with, and which cannot; more of it in docs/versions.md."""

from __future__ import annotations

__all__ = [
    "NEWEST_TRIED",
    "TRIED",
    "USUAL_SECONDS",
    "about_julia",
    "about_python",
    "against_juliacall",
    "against_python",
    "usual_seconds",
]

TRIED = ((1, 10), (1, 11), (1, 12), (1, 14))
"""The minor versions of Julia that the tests with a real one have run on; 1.11 and 1.14 while they were developed."""

NEWEST_TRIED = (1, 12)
"""The newest of them that had been released."""

# Of those that juliacall takes (1.10.3 and later): endoflife.date/julia. 1.10 is the long-term version, and 1.13 the
# newest in November 2026 (julialang.org/downloads).
_LAST_OF = {(1, 11): "1.11.9 of February 2026"}

USUAL_SECONDS = 300.0
"""What a build takes on two cores before one has been measured, on Julias before 1.12; on 1.12 it took 14 minutes."""

# Where PythonCall needs another Python than those before: its issue 694, and its CondaPkg.toml.
_CRASHING = {(3, 14, 0), (3, 14, 1)}

# juliacall's changelog, 0.9.32.
_FIRST_FREE_THREADED = (3, 14)


def usual_seconds(version: str) -> float:
    """Seconds that a build of an environment's first image takes by this Julia, measured on two cores.

    Args:
        version: as Julia prints its own, ``1.13.0-rc1``.
    """
    return USUAL_SECONDS if _minor(version) < (1, 12) else 2.8 * USUAL_SECONDS


def about_julia(version: str) -> str:
    """What is worth knowing of this version of Julia before one relies on images of it; empty where nothing is.

    Args:
        version: as Julia prints its own, ``1.13.0-rc1``.
    """
    tried = "{}.{}".format(*NEWEST_TRIED)
    proved = "an image is proved before any start uses it, so the worst is a build that fails"
    if "-" in version:
        return f"a pre-release, with which nobody has tried this version of pyjl_autoimage: {proved}"
    if _minor(version) > NEWEST_TRIED:
        return f"newer than {tried}, the newest that this version of pyjl_autoimage was tried with: {proved}"
    last = _LAST_OF.get(_minor(version))
    return f"it gets no fixes any more: {last} was its last release" if last else ""


def against_juliacall(version: str) -> str:
    """Why this juliacall cannot start on an image that holds PythonCall; empty where it can.

    Args:
        version: as its distribution tells it, ``0.9.26``.
    """
    known = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if known >= _OLDEST_JULIACALL:
        return ""
    oldest = ".".join(map(str, _OLDEST_JULIACALL))
    return f"juliacall {version} cannot start on an image with PythonCall in it, as {oldest} was the first to do"


# Its changelog; and before, it asked juliapkg at each start, whatever it was told.
_OLDEST_JULIACALL = (0, 9, 35)


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split("-")[0].split("+")[0].split(".")[:2]
    return int(major), int(minor)


def against_python(implementation: str, version: tuple[int, ...], *, free_threaded: bool) -> str:
    """Why juliacall cannot work with this Python, and which to use instead; empty where it can.

    Args:
        implementation: as `platform.python_implementation` names it.
        version: major, minor, micro.
        free_threaded: whether it was built without the global interpreter lock.
    """
    if implementation != "CPython":
        return (
            f"juliacall cannot work with {implementation}: Julia calls Python through CPython's C interface; "
            "use CPython 3.10 or later"
        )
    if free_threaded and version < _FIRST_FREE_THREADED:
        return "juliacall knows free-threaded Python from 3.14 on: use that, or a Python with the lock"
    if version[:3] in _CRASHING:
        return (
            "Python 3.14.0 and 3.14.1 take Julia's tasks for a stack overflow and end the process "
            "(PythonCall.jl 694): use 3.14.2 or later"
        )
    return ""


def about_python(*, free_threaded: bool) -> str:
    """What is worth knowing of a Python that can work; empty where nothing is."""
    return "juliacall's support of free-threaded Python is experimental (PythonCall.jl 653)" if free_threaded else ""
