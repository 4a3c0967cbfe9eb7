"""Plain data becomes what is declared, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjl_autoimage.base.data import typed
from pyjl_autoimage.base.files import parsed_json


@dataclass
class Inner:
    name: str | None
    share: float = 0.0


@dataclass
class Outer:
    inner: tuple[Inner, ...]
    tables: Mapping[str, list[int]] = field(default_factory=dict)
    true: bool = True


WHOLE = {"inner": [{"name": None, "share": 1}, {"name": "a", "share": 0.5}], "tables": {"a": [1]}, "true": False}


def test_what_fits():
    assert typed(Outer, WHOLE) == Outer((Inner(None, 1.0), Inner("a", 0.5)), {"a": [1]}, False)
    assert type(typed(Outer, WHOLE).inner[0].share) is float
    assert asdict(typed(Outer, WHOLE))["inner"] == tuple(WHOLE["inner"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"true": 1},
        {"true": None},
        {"inner": {}},
        {"inner": [{}]},
        {"inner": ["a"]},
        {"inner": [{"name": "a"}]},
        {"inner": [{"name": 1, "share": 1}]},
        {"inner": [{"name": "a", "share": "1"}]},
        {"tables": []},
        {"tables": {"a": [True]}},
        {"tables": {"a": [1.0]}},
    ],
)
def test_what_does_not(change):
    with pytest.raises(ValueError, match="is no "):
        typed(Outer, {**WHOLE, **change})


@given(st.text() | st.binary())
def test_any_text_is_json_or_an_error(text):
    try:
        parsed_json(text)
    except ValueError:
        pass


@pytest.mark.parametrize(
    "text", ["[" * 10_000, '{"a":' * 10_000, "NaN", "[-Infinity]", "1e999", "-1e19", "9" * 20, "9" * 9999]
)
def test_no_number_and_no_depth_is_too_much(text):
    with pytest.raises(ValueError):
        parsed_json(text)


def test_what_is_ours_is_read():
    assert parsed_json("[1e18, -5, 0.25, 1795740000000000000]") == [1e18, -5, 0.25, 1795740000000000000]
