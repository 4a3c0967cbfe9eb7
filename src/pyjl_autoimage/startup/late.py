"""Options that a library gives juliacall when Julia runs already, because the program had started it first."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator

__all__ = ["tell"]

_PREFIXES = ("PYTHON_JULIACALL_", "JULIA_NUM_THREADS")


def tell(names: Iterable[str]) -> None:
    """Say once which of them have no effect any more, and who gives them.

    Args:
        names: variables that were not there when Julia started.
    """
    given = ", ".join(f"{name}={os.environ[name]}" for name in sorted(names) if name.startswith(_PREFIXES))
    if not given:
        return
    whose = next(_whose(), "")
    message = (
        f"{given}{f' (set by {whose})' if whose else ''}: too late, Julia runs already. "
        "Leave its start to the library: drop `from pyjl_autoimage import jl`, and start the program by "
        "`python -m pyjl_autoimage run PROGRAM`, or once for all by `python -m pyjl_autoimage enable`"
    )
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    except RuntimeWarning:
        pass  # warnings have been made errors


def _whose() -> Iterator[str]:
    """Modules that speak of such options, the newest first."""
    for name, module in reversed([*sys.modules.items()]):
        path = getattr(module, "__file__", None)
        if name.split(".")[0] in ("pyjl_autoimage", "juliacall", "juliapkg") or not str(path).endswith(".py"):
            continue
        try:
            with open(str(path), encoding="utf-8", errors="replace") as file:
                if _PREFIXES[0] in file.read():
                    yield name
        except OSError:
            continue
