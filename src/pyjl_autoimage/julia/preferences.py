"""Preferences: what Preferences.jl and Julia's own loading read for each package."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..base.reads import is_file
from .manifest import _PREFERENCES_NAMES, PROJECT_NAMES, _table, project_file

__all__ = ["preference_files", "preferences"]


def preference_files(project: str) -> tuple[str, ...]:
    """The files of one project that can hold preferences, whether or not they exist."""
    directory = project if os.path.isdir(project) else os.path.dirname(os.path.abspath(project))
    return tuple(os.path.join(directory, name) for name in (*PROJECT_NAMES, *_PREFERENCES_NAMES))


def preferences(projects: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The preferences of packages, merged as Julia merges them.

    Args:
        projects: directories (or project files) of the load path, first wins.

    Returns:
        uuid -> preferences, only for those that have any.
    """
    merged: dict[str, dict[str, Any]] = {}
    for project in reversed(projects):
        file = project_file(project)
        if file is None:
            continue
        table = _table(file)
        names = _names_by_uuid(table)
        layers = [table.get("preferences")]
        for name in _PREFERENCES_NAMES:
            candidate = os.path.join(os.path.dirname(file), name)
            if is_file(candidate):
                layers.append(_table(candidate))
                break
        for uuid, name in names.items():
            for layer in layers:
                chosen = layer.get(name) if isinstance(layer, dict) else None
                if isinstance(chosen, dict):
                    merged[uuid] = _merge(merged.get(uuid, {}), chosen)
    return {uuid: values for uuid, values in merged.items() if values}


def _names_by_uuid(project: Mapping[str, Any]) -> dict[str, str]:
    """Only a project's own (also weak and extra) dependencies, and itself, can have preferences in it."""
    names: dict[str, str] = {}
    for key in ("extras", "weakdeps", "deps"):
        table = project.get(key)
        if isinstance(table, dict):
            names.update({str(uuid).lower(): str(name) for name, uuid in table.items()})
    if isinstance(project.get("name"), str) and isinstance(project.get("uuid"), str):
        names[project["uuid"].lower()] = project["name"]
    return names


def _merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    clear = override.get("__clear__")
    if isinstance(clear, list):
        for key in clear:
            result.pop(str(key), None)
    for key, value in override.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merge(old, value)
        result[key] = value
    return result
