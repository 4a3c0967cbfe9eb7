"""Plain data, which anybody may have written, becomes what is declared, or an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    return _reader(kind)(value)


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What makes a value of this type, or raises. (A store may hold hundreds of images of hundreds of packages.)"""
    origin, of = get_origin(kind), get_args(kind)
    if origin is UnionType:
        first, plain = _reader(of[0]), {one: _reader(one) for one in of}
        return lambda value: plain.get(type(value), first)(value)
    if origin in (tuple, list):
        item = _reader(of[0])
        return lambda value: origin(map(item, _a(list, value, kind)))
    if origin in (dict, Mapping):
        item = _reader(of[1])
        return lambda value: {name: item(one) for name, one in _a(dict, value, kind).items()}
    if isinstance(kind, type) and is_dataclass(kind):
        readers = {name: _reader(hint) for name, hint in get_type_hints(kind).items()}
        return lambda value: kind(**_fields(readers, _a(dict, value, kind), kind))
    return lambda value: value if type(value) is kind else _simple(kind, value)


def _a(plain: type, value: Any, kind: Any) -> Any:
    if isinstance(value, plain):
        return value
    raise _refused(kind, value)


def _fields(readers: Mapping[str, Callable[[Any], Any]], value: dict[str, Any], kind: Any) -> dict[str, Any]:
    if readers.keys() != value.keys():
        raise _refused(kind, value)
    return {name: read(value[name]) for name, read in readers.items()}


def _simple(kind: Any, value: Any) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    raise _refused(kind, value)


def _refused(kind: Any, value: Any) -> ValueError:
    return ValueError(f"{value!r:.80} is no {getattr(kind, '__name__', kind)}")
