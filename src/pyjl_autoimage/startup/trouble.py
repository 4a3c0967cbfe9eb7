"""Errors of ours that a program is kept from: where they are kept, and who is told."""

from __future__ import annotations

import sys
import time
import traceback
import warnings

from ..errors import SettingsError
from ..store.places import Store
from .plan import quick_home

__all__ = ["keep"]


def keep(error: Exception) -> None:
    """Keep an error of ours where `status` finds it. A wrong setting is the user's to know at once."""
    try:
        if isinstance(error, SettingsError):
            warnings.warn(f"plain start of Julia: {error}", RuntimeWarning, stacklevel=2)
    except RuntimeWarning:
        pass  # warnings have been made errors
    try:
        store = Store(quick_home({}))
        store.ensure(store.root)
        with open(store.hook_log, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sys.executable}\n")
            file.write("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    except Exception:
        pass  # a store that cannot be written
