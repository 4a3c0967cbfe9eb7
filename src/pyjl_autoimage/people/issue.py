"""What `doctor` found, as one file for an issue report: all that whoever reads it would ask for, and no secrets."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from .._version import __version__
from ..errors import AutoimageError
from .doctor import Check
from .privacy import shown_environment, without_secrets
from .status import status

__all__ = ["gather", "text"]


def gather(checks: Iterable[Check], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The content of a report, as plain data without secrets.

    Args:
        checks: what `pyjl_autoimage.people.doctor.examine` gave.
        environ: the variables (``os.environ`` when None).

    Raises:
        SettingsError: a setting has an unknown name or a bad value.
    """
    environ = os.environ if environ is None else environ
    try:
        stands: dict[str, Any] = status()
        del stands["session"]  # of this process, which starts nothing
    except AutoimageError as error:
        stands = {"error": str(error)}
    found = {
        "pyjl_autoimage": __version__,
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "checks": [asdict(check) for check in checks],
        "options": sorted(f"-X {name}={value}" for name, value in sys._xoptions.items() if name.startswith("julia")),
        "status": stands,
    }
    return {**without_secrets(found, environ), "environment": shown_environment(environ)}


def text(found: Mapping[str, Any]) -> str:
    """A report for people, as a text that can be pasted into an issue."""
    lines = [
        f"pyjl_autoimage {found['pyjl_autoimage']}, doctor's report of {found['made']}",
        "",
        "## Checks",
        "",
        "```text",
    ]
    for check in found["checks"]:
        mark = "ok " if check["ok"] else "BAD"
        lines.append(f"{mark}  {check['what']}: {_indented(check['found'])}")
        if check["remedy"]:
            lines.append(f"     -> {_indented(check['remedy'])}")
    lines += ["```", "", "## Environment", "", "```text"]
    lines += [f"{name}={value}" for name, value in found["environment"].items()]
    lines += found["options"]
    lines += ["```", "", "## Status", "", "```text"]
    lines += [f"{name}: {json.dumps(_with_short_lists(value))}" for name, value in found["status"].items()]
    return "\n".join([*lines, "```", ""])


def _with_short_lists(value: Any) -> Any:
    """Packages as a line of text: what is read by people need not name the parts of each."""
    if isinstance(value, list):
        return [_with_short_lists(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _names_of(inner) if name == "packages" and isinstance(inner, list) else _with_short_lists(inner)
        for name, inner in value.items()
    }


def _names_of(packages: Iterable[Any]) -> str:
    parts = (p if not isinstance(p, dict) else f"{p.get('name')} {p.get('version') or ''}".rstrip() for p in packages)
    return ", ".join(map(str, parts))


def _indented(said: str) -> str:
    return said.replace("\n", "\n     ")
