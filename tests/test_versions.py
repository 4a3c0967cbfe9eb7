"""What is said of versions of Julia and Python, and that the page about them agrees."""

from __future__ import annotations

import re

import pytest

from pyjl_autoimage.julia import versions

from pages import DOCS, ROOT

PAGE = DOCS / "versions.md"
NOT_TRIED = "*not tried yet*"


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("1.10.4", ""),
        ("1.11.9", "it gets no fixes any more"),
        ("1.12.7", ""),
        ("1.12.0-rc1", "a pre-release"),
        ("1.13.1", "newer than 1.12, the newest"),
        ("1.14.0-DEV.123", "a pre-release"),
        ("2.0.0", "newer than 1.12"),
    ],
)
def test_a_julia_that_was_not_tried_or_gets_no_fixes_is_named(version, told):
    about = versions.about_julia(version)
    assert about.startswith(told) and bool(about) is bool(told)


@pytest.mark.parametrize(
    ("implementation", "version", "free_threaded", "against"),
    [
        ("CPython", (3, 10, 13), False, ""),
        ("CPython", (3, 14, 1), False, "use 3.14.2 or later"),
        ("CPython", (3, 14, 2), False, ""),
        ("CPython", (3, 13, 9), True, "from 3.14 on"),
        ("CPython", (3, 14, 2), True, ""),
        ("CPython", (3, 15, 0), True, ""),
        ("PyPy", (3, 11, 11), False, "juliacall cannot work with PyPy"),
        ("GraalVM", (3, 12, 8), False, "juliacall cannot work with GraalVM"),
    ],
)
def test_pythons_that_juliacall_cannot_work_with(implementation, version, free_threaded, against):
    found = versions.against_python(implementation, version, free_threaded=free_threaded)
    assert against in found and bool(found) is bool(against)


def rows(heading: str) -> dict[str, list[str]]:
    """The first table below a heading: its rows by their first cell."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    table = re.search(r"(^\|.*\n)+", section, re.M)
    assert table is not None
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]
    return {row[0]: row for row in cells}


def test_the_page_names_the_julias_that_were_tried():
    ran = {julia for julia, row in rows("Julia").items() if row[2] != NOT_TRIED}
    assert ran == {f"{major}.{minor}" for major, minor in versions.TRIED}
    assert versions.NEWEST_TRIED in versions.TRIED


def test_the_page_names_the_julias_that_get_no_fixes():
    ended = {julia for julia, row in rows("Julia").items() if "no fixes" in row[1]}
    assert ended == {julia for julia in rows("Julia") if "no fixes" in versions.about_julia(f"{julia}.0")}


def test_the_page_names_every_python_that_we_claim_to_support():
    claimed = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ran = {python for python, row in rows("Python").items() if row[2] and row[2] != NOT_TRIED}
    assert claimed and set(claimed) <= ran
