"""The quickstart, word for word: until its build it is what makes the place `built`, from there on it goes on here."""

from __future__ import annotations

import re

import pytest

from conftest import BUILD, quickstart


@pytest.fixture(scope="module")
def typed(built):
    """Every block of commands of the quickstart with what it printed, in order."""
    if not built.typed:
        pytest.skip("the prepared project has no DataFrames and CSV, which the quickstart uses")
    built.follow(quickstart()[1])
    return built.typed


def test_every_command_of_the_quickstart_was_run(typed):
    before, after = quickstart()
    shown = [step.text for step in (*before, *after) if step.language == "sh"]
    assert [script for script, _ in typed if script != BUILD] == shown
    assert any(script == BUILD for script, _ in typed)


def test_the_program_answers_the_same_before_and_after_the_build(typed):
    answers = {
        re.sub(r"first result after [\d.]+ s", "", answer)
        for script, printed in typed
        if "sales" in script
        for answer in re.findall(r"3.2 DataFrame.*?first result after [\d.]+ s", printed, re.S)
    }
    ran = sum(script.count("python sales") for script, _ in typed)
    assert ran == 5 and len(answers) == 1
    assert all(printed.count("first result after") == script.count("python sales") for script, printed in typed)


def test_status_says_that_it_is_fast(typed):
    (printed,) = (printed for script, printed in typed if script.endswith("status\n"))
    assert "Fast." in printed


def test_the_unedited_program_runs(typed):
    (printed,) = (printed for script, printed in typed if "plain.py" in script)
    assert printed == "3\n"


def test_nothing_is_wrong_and_the_image_in_use_is_not_to_be_cleaned(typed):
    told = dict(typed)
    assert "bad" not in told["python -m pyjl_autoimage doctor\n"].split()
    assert ": the next start uses it" in told["python -m pyjl_autoimage clean --dry-run\n"]
