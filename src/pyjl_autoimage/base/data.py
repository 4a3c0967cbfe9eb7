"""Plain data, which anybody may have written, becomes what is declared, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

__all__ = ["typed"]


def typed(kind: Any, value: Any) -> Any:
    """A value of JSON as one of this type: a dataclass, a tuple, list or table, or a text, number, truth or None.

    Raises:
        ValueError: it is none.
    """
    origin, of = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        kinds = _fields(kind)
        if kinds.keys() == value.keys():
            return kind(**{name: typed(kinds[name], item) for name, item in value.items()})
    elif origin is UnionType:
        return typed(next((one for one in of if one is type(value)), of[0]), value)
    elif origin in (tuple, list) and isinstance(value, list):
        return origin(typed(of[0], item) for item in value)
    elif origin in (dict, Mapping) and isinstance(value, dict):
        return {name: typed(of[1], item) for name, item in value.items()}
    elif type(value) is kind or (kind is float and type(value) is int):
        return kind(value) if value is not None else None
    raise ValueError(f"{value!r:.80} is no {getattr(kind, '__name__', kind)}")


@cache
def _fields(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
