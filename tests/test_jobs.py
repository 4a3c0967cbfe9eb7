"""A build as seen from outside: its state, what that amounts to, its memory and its log."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjl_autoimage.base.liveness import hostname, mark_name
from pyjl_autoimage.build import handle, history
from pyjl_autoimage.build import state as jobs
from pyjl_autoimage.build.handle import Build
from pyjl_autoimage.build.state import PHASES, Ended, State
from pyjl_autoimage.errors import AutoimageError, BuildError
from pyjl_autoimage.julia.versions import usual_seconds

from standin import buildable_world, building, ended, environ_of, julia_that_builds, python, wait_for


def test_a_build_whose_process_died_has_failed(store):
    State("t", f"{hostname()}-99999999-1", phase="native code").write(
        store, store.ensure(store.environment("e")) and "e"
    )
    state = State.read(store, "e")
    assert state is not None and state.state == "failed"
    assert "killed while it was in phase 'native code'" in state.error


def test_progress_uses_what_the_last_build_took(store):
    store.ensure(store.environment("e"))
    state = State("t", mark_name(), phase="load", started=time.time() - 60, phase_started=time.time())
    state.usual = {
        "prepare": 1,
        "builder": 1,
        "precompile": 58,
        "load": 10,
        "statements": 10,
        "native code": 100,
    }
    progress = state
    assert progress.state == "running" and progress.phase == "load"
    assert 190 < progress.expected < 260
    assert 0.2 < progress.fraction < 0.4


def test_a_handle_of_a_build_that_never_began(store):
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(9)"])
    process.wait()
    store.ensure(store.environment("e"))
    handle = Build(store, "e", "token", process)
    assert handle.done
    with pytest.raises(BuildError, match="ended with status 9"):
        handle.wait()


def test_a_handle_can_be_dropped(tmp_path):
    world = buildable_world(tmp_path)
    julia_that_builds(world, meanwhile="sleep 1")
    code = "import gc, pyjl_autoimage as a\nh = a.rebuild(wait=False)\ndel h\ngc.collect()\n"
    result = python(environ_of(world), "-W", "always::ResourceWarning", "-c", code, cwd=world.root)
    wait_for(lambda: ended(world))
    assert result.returncode == 0 and result.stderr == ""


@pytest.mark.parametrize("own", [True, False])
def test_a_build_that_another_one_has_followed_at_once_ended_as_it_did(store, own):
    process = subprocess.Popen([sys.executable, "-c", ""]) if own else None
    store.ensure(store.environment("e"))
    for token, result in (("a", {"state": "done", "image": "i"}), ("b", {"state": "failed", "error": "no memory"})):
        history.note(store, "e", State(token, "p", started=5.0, finished=9.0, **result))
    building(store, "e", "c")
    if process is not None:
        process.wait()
    assert Build(store, "e", "a", process).wait() == "i"
    with pytest.raises(BuildError, match="no memory"):
        Build(store, "e", "b", process).wait()
    with pytest.raises(BuildError, match="ended with status 0 before it began" if own else "replaced by another"):
        Build(store, "e", "of long ago", process).wait()


def test_who_waits_for_a_build_may_give_up_on_it(store):
    store.ensure(store.environment("e"))
    building(store, "e", "a")
    with pytest.raises(TimeoutError, match="it goes on"):
        Build(store, "e", "a", None).wait(0.01)


def test_a_build_that_waits_for_another_says_so(store):
    store.ensure(store.environment("e"))
    building(store, "e", "another")
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    progress = Build(store, "e", "token", process).progress
    process.kill()
    process.communicate()
    assert (progress.state, progress.detail) == ("starting", "another build ends first")


@given(
    st.dictionaries(
        st.sampled_from([*State("t", "p").to_json(), "other"]),
        st.none() | st.integers() | st.text(max_size=5) | st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
        max_size=6,
    )
)
def test_strangers_words_about_a_build_are_refused_or_harmless(tmp_path_factory, changes):
    from pyjl_autoimage.base.files import write_json
    from pyjl_autoimage.store.places import Store

    store = Store(str(tmp_path_factory.mktemp("store")))
    store.ensure(store.environment("e"))
    write_json(store.build_state("e"), {**State("t", "p").to_json(), **changes})
    state = State.read(store, "e")
    if state is not None:
        assert 0 <= state.fraction <= 1


# -- how far it is ---------------------------------------------------------------------------------------


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def begun(clock, **more) -> State:
    return State("t", mark_name(), started=clock.now, phase_started=clock.now, **more)


@given(st.lists(st.floats(0.0, 400.0), min_size=len(PHASES), max_size=len(PHASES)))
def test_progress_never_goes_back_and_is_never_full_before_the_end(durations):
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        state = begun(clock)
        seen = [state.fraction]
        for phase, seconds in zip([name for name in PHASES if name != "workloads"], durations, strict=False):
            state.enter(phase)
            for _ in range(4):
                clock.now += seconds / 4
                seen.append(state.fraction)
        assert seen == sorted(seen) and seen[-1] < 1
        state.leave()
        state.state, state.finished = "done", clock.now
        done = state
        assert done.fraction == 1 and done.expected == done.elapsed


def test_fraction_and_times_say_the_same(clock):
    state = begun(clock, usual=dict.fromkeys(PHASES, 10.0))
    for phase in ("prepare", "layer", "builder"):
        state.enter(phase)
        clock.now += 5
    progress = state
    assert (progress.elapsed, progress.expected) == (15.0, 15.0 + 5.0 + 80.0), (
        "the rest of this phase, and eight more"
    )
    assert progress.fraction == pytest.approx(0.15)
    assert progress.ended == [Ended("prepare", 5.0), Ended("layer", 5.0)]


def test_a_phase_that_counts_is_as_far_as_it_says(clock):
    state = begun(clock, usual={name: 10.0 if name == "statements" else 0.0 for name in PHASES})
    state.enter("statements")
    state.detail = "300/400"
    assert state.expected == pytest.approx(2.5)


def test_a_quick_build_is_expected_to_end_with_its_layers(clock):
    state = begun(clock, usual=dict.fromkeys(PHASES, 10.0), quick=True)
    assert state.expected == 20.0, "prepare and layer"


def test_training_is_expected_to_build_twice_and_learns_from_the_first(clock):
    state = begun(clock, usual=dict.fromkeys(PHASES, 10.0), generations=2)
    state.enter("workloads")
    assert state.expected == 2 * 10.0 * len(PHASES)
    for phase in [name for name in PHASES if name != "workloads"]:
        state.enter(phase)
        clock.now += 20
    state.generation = 2
    state.enter("workloads")
    progress = state
    assert progress.expected == pytest.approx(20.0 * (len(PHASES) - 1) + 20.0 * (len(PHASES) - 1))
    assert 0.4 < progress.fraction < 0.6 and progress.generation == 2


def test_what_phases_usually_take_is_learned_from_the_last_build_that_had_them(clock):
    image = begun(clock, state="done", usual={"workloads": 7.0}, seconds={"layer": 5.0, "native code": 100.0})
    quick = begun(clock, state="done", quick=True, seconds={"layer": 9.0})
    quick.learn(image)
    failed = begun(clock, state="failed", seconds={"layer": 999.0})
    failed.learn(quick)
    state = begun(clock)
    state.learn(failed)
    known = {name: seconds for name, seconds in state.usual.items() if seconds}
    assert known == {"workloads": 7.0, "layer": 9.0, "native code": 100.0}
    assert set(state.usual) == set(PHASES), "what a whole build did without takes no time"
    state.learn(None)
    assert state.usual["layer"] == 9.0
    state.expect(1000.0)
    assert state.usual["layer"] == 9.0, "what was measured counts"


def test_what_a_build_is_expected_to_take(clock):
    assert jobs.expected_seconds(None) == pytest.approx(jobs.USUAL_SECONDS, rel=0.1)
    last = begun(clock, state="done", seconds=dict.fromkeys(PHASES, 2.0))
    assert jobs.expected_seconds(last) == 2.0 * (len(PHASES) - 1), "without workloads"
    newer, older = (jobs.expected_seconds(None, usual_seconds(julia)) for julia in ("1.13.0-rc1", "1.11.9"))
    assert 12 * 60 < newer < 15 * 60 and older == jobs.expected_seconds(None)
    assert jobs.expected_seconds(last, 1e9) == jobs.expected_seconds(last), "what was measured counts"


def test_what_is_written_is_read(store):
    store.ensure(store.environment("e"))
    state = building(store, "e", quick=True, generation=2, generations=2, ended=[Ended("prepare", 1.5)])
    assert State.read(store, "e") == state
    assert state.pid == os.getpid() and replace(state, process="nonsense").pid == 0


# -- memory and log ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
def test_memory_is_that_of_the_whole_group_of_processes():
    holds = "import sys; held = bytearray(b'x') * 60_000_000; print(flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holds!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    memory = handle.memory_of(process.pid)
    process.stdin.close()
    process.wait()
    assert memory is not None and memory > 60_000_000
    assert handle.memory_of(process.pid) is None, "they are gone"
    assert handle.memory_of(0) is None


def test_without_a_build_there_is_no_log(store):
    with pytest.raises(AutoimageError, match="no build"):
        list(handle.log_pieces(store, "e"))


def test_a_log_is_followed_until_the_build_has_ended(store):
    state = building(store, "e")
    with open(store.build_log("e"), "w", encoding="utf-8") as log:
        log.write("first\n")
        log.flush()
        pieces = handle.log_pieces(store, "e", follow=True)
        assert next(pieces) == "first\n"
        assert list(handle.log_pieces(store, "e")) == ["first\n"], "without follow, what there is"

        def end():
            log.write("last\n")
            log.flush()
            state.state = "failed"
            state.write(store, "e")

        timer = threading.Timer(0.3, end)
        timer.start()
        assert "".join(pieces) == "last\n"
        timer.join()
