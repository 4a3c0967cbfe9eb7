"""What recorded runs say: medians by what a run started on, and what a build would bring."""

from __future__ import annotations

import pytest

from pyjl_autoimage.build import measured
from pyjl_autoimage.profile.profile import Profile, Program, Run, Statement

from standin import World


@pytest.fixture
def image(tmp_path):
    return World(tmp_path).image(id="i", built_at=50.0)


def profile_of(*runs: Run, **more) -> Profile:
    return Profile(recent={str(number): run for number, run in enumerate(runs)}, **more)


def run(program="a.py", started=1.0, ready=1.0, compiled=2.0, **more) -> Run:
    return Run(program, started, ready=ready, compiled=compiled, ended=True, **more)


def test_medians_by_program_and_by_what_a_run_started_on():
    recorded = profile_of(
        run(ready=1.0, compiled=9.0), run(ready=3.0, compiled=11.0), run(ready=1.2, compiled=10.0),
        run(layer="l", ready=0.7, compiled=2.0),
        run(image="i", layer="l", ready=0.2, compiled=0.0),
        run("b.py", started=2.0, image="i", ready=0.3, compiled=0.5),
    )  # fmt: skip
    b, a = measured.times(recorded)
    assert (b["program"], a["program"]) == ("b.py", "a.py"), "what ran last comes first"
    assert a["plain"] == {"runs": 3, "ready_seconds": 1.2, "compile_seconds": 10.0}
    assert a["layer"] == {"runs": 1, "ready_seconds": 0.7, "compile_seconds": 2.0}
    assert a["image"] == {"runs": 1, "ready_seconds": 0.2, "compile_seconds": 0.0}
    assert b["plain"] is None and b["layer"] is None


def test_a_run_that_did_not_live_to_say_what_it_compiled_says_how_it_started():
    killed = Run("a.py", 1.0, ready=1.4)
    assert measured.times(profile_of(killed))[0]["plain"] == {
        "runs": 1,
        "ready_seconds": 1.4,
        "compile_seconds": None,
    }
    (entry,) = measured.times(profile_of(killed, run(ready=1.6, compiled=3.0)))
    assert entry["plain"] == {"runs": 2, "ready_seconds": 1.5, "compile_seconds": 3.0}


def test_a_run_that_never_came_up_and_those_of_builds_alone_say_nothing():
    recorded = profile_of(Run("a.py", 1.0), run("-m pyjl_autoimage"), run("b.py", workload=True))
    assert measured.times(recorded) == []
    assert measured.estimate(recorded, None, {}) is None


def test_without_an_image_the_gain_is_that_of_the_plain_runs():
    recorded = profile_of(run(), programs={"a.py": Program(costs=[11.0, 13.0, 12.0])})
    recorded.recent["0"] = run(ready=1.0, compiled=11.0)
    gain = measured.estimate(recorded, None, {})
    assert gain == {"program": "a.py", "seconds": 12.0, "now_seconds": 12.0, "then_seconds": None}


def test_what_runs_on_an_image_cost_is_taken_off():
    plain = run(ready=1.0, compiled=11.0, started=9.0)
    known = {"a.py": Program(costs=[12.0])}
    others = profile_of(plain, run("b.py", image="i", ready=0.5, compiled=4.0), programs=known)
    assert measured.estimate(others, None, {})["seconds"] == 11.5, "what a start on one costs any program"
    own = profile_of(plain, run(image="i", ready=0.5, compiled=1.5), programs=known)
    assert measured.estimate(own, None, {})["seconds"] == 10.0


def test_with_a_layer_the_gain_is_what_it_leaves():
    runs = [run(ready=1.0, compiled=11.0), run(layer="l", ready=0.8, compiled=1.7, started=2.0)]
    assert measured.estimate(profile_of(*runs), None, {"a.py": "l"})["now_seconds"] == 2.5
    recorded = profile_of(*runs, programs={"a.py": Program(costs=[12.0])})
    assert measured.estimate(recorded, None, {"a.py": "another"})["now_seconds"] == 12.0, (
        "that layer is not used any more"
    )


def test_plain_runs_of_long_ago_still_tell_what_a_build_would_bring():
    recorded = profile_of(run(image="gone", ready=0.2, compiled=0.3), programs={"a.py": Program(costs=[12.0])})
    assert measured.estimate(recorded, None, {})["seconds"] == 11.5


def test_on_an_image_the_gain_is_what_it_lacks_and_another_could_hold(image):
    known = Statement(last=60.0, given=True)
    statements = {"new": Statement(last=60.0), "known": known, "old": Statement(last=1.0)}
    recorded = profile_of(
        run(image="i", compiled=1.0, started=60.0), run(image="i", compiled=3.0, started=61.0),
        run("b.py", image="i", compiled=70.0), statements=statements,
    )  # fmt: skip
    gain = measured.estimate(recorded, image, {})
    assert gain["seconds"] == 1.0, "half of what was compiled since, 4 s in two runs"
    statements["new"].given = True
    assert measured.estimate(recorded, image, {})["seconds"] == 0.0


def test_on_an_image_on_which_nothing_has_run_nothing_is_known(image):
    assert measured.estimate(profile_of(run()), image, {}) is None


def test_of_what_starts_use_now_only_runs_on_this_image_and_layer_count(image):
    recorded = profile_of(
        run(image="old", compiled=5.0, started=60.0), run(image="i", compiled=4.0, started=61.0),
        run(image="i", layer="l", compiled=0.1, started=62.0), statements={"new": Statement(last=60.0)},
    )  # fmt: skip
    layers = {"a.py": "l"}
    assert measured.times(recorded, "i", layers)[0]["image"]["compile_seconds"] == 0.1
    assert measured.estimate(recorded, image, layers)["seconds"] == 0.1
    assert measured.times(recorded, "i")[0]["image"]["compile_seconds"] == 4.0
    latest = {"runs": 1, "ready_seconds": 1.0, "compile_seconds": 0.1}
    assert measured.times(recorded, "newest")[0]["image"] == latest, "nothing ran on it yet: the last run before it"
    assert measured.estimate(recorded, image, {"a.py": "newest"}) is None


def test_on_layers_only_runs_on_the_present_one_count():
    recorded = profile_of(run(layer="old", compiled=5.0), run(layer="l", compiled=0.5, started=2.0))
    assert measured.times(recorded, None, {"a.py": "l"})[0]["layer"]["compile_seconds"] == 0.5
