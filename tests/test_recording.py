"""The two files of a recording, and texts on their way to Julia and back."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjl_autoimage.base import call
from pyjl_autoimage.startup import recording


def create(directory: Path) -> recording.Recording | None:
    return recording.create(str(directory), image="1234", layer=None, flags={"optimize": "3"})


@pytest.mark.parametrize("program", ['/a "b"\\c.py', "/größe/\n.py", "-m m", ""])
def test_the_first_line_is_json_whatever_the_program_is_called(tmp_path, monkeypatch, program):
    monkeypatch.setattr(recording, "program_name", lambda: program)
    made = create(tmp_path / "recordings")
    assert made is not None and Path(made.trace).read_bytes() == b""
    made.note("ready 0.5")
    header, ready = Path(made.log).read_text(encoding="utf-8").splitlines()
    told = json.loads(header)
    assert (told["program"], told["image"], told["layer"], told["flags"]) == (
        program,
        "1234",
        None,
        {"optimize": "3"},
    )
    assert ready == "ready 0.5"


def test_a_line_that_is_not_written_whole_is_no_recording(tmp_path, monkeypatch):
    """A disk that is about to be full."""
    monkeypatch.setattr(recording.os, "write", lambda descriptor, data: len(data) - 1)
    assert create(tmp_path) is None
    assert os.listdir(tmp_path) == []


def test_a_log_that_is_gone_goes_without_the_line(tmp_path):
    made = create(tmp_path)
    assert made is not None
    made.discard()
    made.note("ready 0.5")
    assert os.listdir(tmp_path) == []


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_nothing_can_end_a_literal_of_julia_or_interpolate(text):
    literal = call.julia_string(text)
    inner = re.fullmatch(r'"((?:[A-Za-z0-9/._ -]|\\U[0-9a-f]{8})*)"', literal)
    assert inner
    assert re.sub(r"\\U(.{8})", lambda match: chr(int(match[1], 16)), inner[1]) == text
