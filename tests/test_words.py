from __future__ import annotations

import os
import time

import pytest

from pyjl_autoimage.base import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0042, "4.2 ms"), (0.314, "0.31 s"), (12.3, "12 s"), (245, "4 min 05 s"), (0, "0.00 s"), (7500, "2 h 05 min")],
)
def test_times(seconds, text):
    assert words.seconds_text(seconds) == text


@pytest.mark.parametrize("number", [1e18, -1e18, float("inf"), float("-inf"), float("nan"), 2**63])
def test_no_number_is_too_large_for_words(number):
    for words_for in (words.seconds_text, words.moment_text):
        assert words_for(number)


@pytest.mark.parametrize(("seconds", "text"), [(0.0042, "0 s"), (12.3, "12 s"), (245, "4 min 05 s")])
def test_a_clock(seconds, text):
    assert words.clock_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.34, "about 0.3 s"), (12.3, "about 12 s"), (80, "about 80 s"), (245, "about 4 min")]
)
def test_estimates(seconds, text):
    assert words.about_text(seconds) == text


@pytest.mark.parametrize(
    ("ago", "text"), [(1, "just now"), (61, "1 minute ago"), (7300, "2 hours ago"), (90000, "1 day ago")]
)
def test_moments(ago, text):
    assert words.ago_text(time.time() - ago) == text


@pytest.mark.parametrize(
    ("number", "text"), [(12, "12 bytes"), (3100, "3 kB"), (312_000_000, "312 MB"), (1.26e9, "1.3 GB")]
)
def test_sizes(number, text):
    assert words.bytes_text(number) == text


def test_paths_and_programs(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USERPROFILE", "/home/somebody")
    assert words.path_text(os.path.join("/home/somebody", "x")) == f"~{os.sep}x"
    assert words.path_text("/home/somebody") == "~"
    assert words.path_text("/home/somebody2/x") == "/home/somebody2/x"
    assert words.program_text("") == "interactive use" and words.program_text("-m worker") == "-m worker"
