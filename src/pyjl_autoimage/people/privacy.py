"""What may be shown to strangers: no secrets, no name of whoever it is about."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ..base.words import path_text

__all__ = ["shown_environment", "without_secrets"]

_SHOWN = ("PYTHON_JULIA", "JULIA", "PYJL_", "_PYJL_")
"""How the names of variables begin that a start or a build depends on."""

_SHOWN_TOO = ("CI", "CONDA_PREFIX", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH", "PYTHONPATH", "VIRTUAL_ENV")

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASS|CREDENTIAL|AUTH|PRIVATE|KEY", re.IGNORECASE)
_SECRET_URL = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@'\"]+@", re.IGNORECASE)
_SECRET_WORD = re.compile(
    r"((?:token|secret|passw(?:or)?d|api[_-]?key|authorization|credentials?)['\"]?\s*[=:]\s*(?:bearer\s+)?['\"]?)"
    r"[^\s'\"&,;]+",
    re.IGNORECASE,
)
_LEAST_SECRET = 6
"""Characters. What is shorter (``yes``, ``1``) is no secret, and would be found everywhere."""

_PATHS_SHOWN = 12


def shown_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that an issue report needs, by name; none that could hold a secret."""
    shown = {}
    for name in sorted(environ):
        if (name.startswith(_SHOWN) or name in _SHOWN_TOO) and not _is_secret(name):
            value = _shortened(environ[name]) if name == "PATH" else environ[name]
            shown[name] = without_secrets(value, environ)
    return shown


def _is_secret(name: str) -> bool:
    return bool(_SECRET_NAME.search(name))


def _shortened(path: str) -> str:
    entries = path.split(os.pathsep)
    more = len(entries) - _PATHS_SHOWN
    return os.pathsep.join([*entries[:_PATHS_SHOWN], *([f"... and {more} more"] if more > 0 else [])])


def without_secrets(value: Any, environ: Mapping[str, str]) -> Any:
    """A copy of a text, or of plain data, without what must not be shown.

    The home directory becomes ``~``; what stands before the host of a URL, what follows a word like ``token=``, and
    the values of variables whose names say that they are secret become ``***``.
    """
    if isinstance(value, str):
        return _without(value, environ)
    if isinstance(value, Mapping):
        return {_without(str(k), environ): without_secrets(v, environ) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(item, environ) for item in value]
    return value


def _without(text: str, environ: Mapping[str, str]) -> str:
    for name, value in environ.items():
        if len(value) >= _LEAST_SECRET and _is_secret(name) and not os.path.exists(value):
            text = text.replace(value, "***")
    text = _SECRET_URL.sub(r"\1***@", text)
    text = _SECRET_WORD.sub(r"\1***", text)
    return path_text(text, environ.get("HOME") or environ.get("USERPROFILE"))
