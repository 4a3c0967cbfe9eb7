"""What a profile forgets and what it keeps."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjl_autoimage.base.files import write_json
from pyjl_autoimage.profile import ageing, exchange, recordings
from pyjl_autoimage.profile.ageing import AGE, AGE_UNBAKED, DAY, compact
from pyjl_autoimage.profile.profile import Code, LoadedPackage, Origin, Profile, Program, Statement
from pyjl_autoimage.store.places import Store

NOW = 2_000_000_000.0
UUID = "a93c6f00-e57d-5684-b7b6-d8193f3e46c0"
ENVIRONMENT = "0123456789abcdef"


def statement(name: str) -> str:
    return f"precompile(Tuple{{typeof(Base.{name}), Int64}})"


def program(last: float, plain: float = 0.0, **more) -> Program:
    return Program(1, NOW - last, plain=NOW - plain if plain else 0.0, **more)


def kept(statements: dict[str, Statement], programs: dict[str, Program], **more) -> set[str]:
    whole = Profile(statements={statement(n): s for n, s in statements.items()}, programs=programs, **more)
    compact(whole, NOW)
    return {text[len("precompile(Tuple{typeof(Base.") :].split(")")[0] for text in whole.statements}


def test_what_an_image_holds_is_needed_for_as_long_as_its_program_runs():
    old = {"baked": Statement(1, NOW - 3 * AGE, 0, {"a.py"}), "nobodys": Statement(1, NOW - 3 * AGE, 0, {"gone.py"})}
    assert kept(old, {"a.py": program(DAY), "gone.py": program(2 * AGE)}) == {"baked"}


def test_a_plain_run_that_does_without_is_evidence():
    statements = {
        "dropped": Statement(9, NOW - AGE - DAY, 0, {"a.py"}),
        "lately": Statement(1, NOW - AGE + DAY, 0, {"a.py"}),
        "of another": Statement(1, NOW - AGE - DAY, 0, {"a.py", "b.py"}),
    }
    programs = {"a.py": program(DAY, plain=2 * DAY), "b.py": program(DAY, plain=3 * AGE)}
    assert kept(statements, programs) == {"lately", "of another"}


def test_what_no_image_can_hold_goes_sooner():
    last = NOW - AGE_UNBAKED - DAY
    whole = Profile(
        {
            statement("refused"): Statement(5, last, 0, {"a.py"}),
            statement("refused lately"): Statement(1, NOW - DAY, 0, {"a.py"}),
            'precompile(Tuple{Main.var"#1#2"})': Statement(5, last, 0, {"a.py"}),
            statement("f"): Statement(5, last, 0, {"a.py"}),
        },
        programs={"a.py": program(DAY)},
        refused={statement("refused"), statement("refused lately"), statement("gone")},
    )
    compact(whole, NOW)
    assert set(whole.statements) == {statement("f"), statement("refused lately")}
    assert whole.refused == {statement("refused lately")}


def test_too_many_statements_leave_those_needed_last_and_most(monkeypatch):
    monkeypatch.setattr(ageing, "STATEMENTS_KEPT", 2)
    statements = {
        "often": Statement(9, NOW - DAY),
        "once": Statement(1, NOW - DAY),
        "before": Statement(99, NOW - 2 * DAY),
    }
    assert kept(statements, {}) == {"often", "once"}
    statements["x), Main.T, typeof(Base.y"] = Statement(99, NOW)
    assert kept(statements, {}) == {"often", "once"}


def test_what_was_only_inferred_never_takes_the_place_of_what_was_compiled(monkeypatch):
    monkeypatch.setattr(ageing, "STATEMENTS_KEPT", 2)
    statements = {
        "inferred": Statement(9, NOW, inferred=True),
        "compiled": Statement(1, NOW - 2 * DAY),
        "too": Statement(1, NOW - DAY),
    }
    assert kept(statements, {}) == {"compiled", "too"}


def test_what_was_recorded_here_makes_no_room_for_what_was_given(monkeypatch):
    monkeypatch.setattr(ageing, "STATEMENTS_KEPT", 8)
    of = {"own": (Origin.RECORDED, 5), "import": (Origin.IMPORTED, 9), "library": (Origin.LIBRARY, 9)}
    statements = {
        f"{name} {n}": Statement(1, NOW - DAY * (name == "own"), origin=origin)
        for name, (origin, count) in of.items()
        for n in range(count)
    }
    left = [name.split()[0] for name in kept(statements, {})]
    assert [left.count(name) for name in of] == [5, 3, 0]
    for n in range(4):
        del statements[f"own {n}"]
    left = [name.split()[0] for name in kept(statements, {})]
    assert [left.count(name) for name in of] == [1, 4, 2], "nor does the one kind for the other"


def full_of_own(store: Store) -> set[str]:
    """What a team's programs need, last recorded some days ago: on an image nothing records it again."""
    own = {statement(f"f{n}"): Statement(3, time.time() - 3 * DAY, 0.0, {"/prog.py"}) for n in range(5000)}
    store.ensure(store.environment(ENVIRONMENT))
    write_json(store.profile(ENVIRONMENT), Profile(own, programs={"/prog.py": Program(3, time.time())}).to_json())
    return set(own)


@pytest.mark.parametrize("origin", [Origin.IMPORTED, Origin.LIBRARY])
def test_an_import_pushes_out_nothing_that_was_recorded_here(store: Store, origin):
    own = full_of_own(store)
    given = "".join(f"{statement(f'g{n}')}\n" for n in range(25_000))
    recordings.add(store, ENVIRONMENT, exchange.read(given, "trace.jl"), origin)
    left = recordings.merge(store, ENVIRONMENT).statements
    assert own <= set(left) and 5000 < len(left) <= ageing.STATEMENTS_KEPT
    assert set(recordings.load(store, ENVIRONMENT).statements) == set(left)


def test_what_was_given_and_is_recorded_here_counts_as_recorded(store: Store):
    recordings.add(store, ENVIRONMENT, Profile({statement(n): Statement() for n in "ab"}), Origin.LIBRARY)
    recordings.add(store, ENVIRONMENT, Profile({statement(n): Statement() for n in "bc"}), Origin.IMPORTED)
    directory = Path(store.ensure(store.recordings(ENVIRONMENT)))
    (directory / "host-1-1.jl").write_text(f"{statement('c')}\n")
    (directory / "host-1-1.log").write_text("{}\n")
    found = recordings.merge(store, ENVIRONMENT).statements
    assert [found[statement(n)].origin for n in "abc"] == [Origin.LIBRARY, Origin.IMPORTED, Origin.RECORDED]


def test_programs_packages_and_code_age_as_well():
    whole = Profile(
        {statement("f"): Statement(1, NOW, 0, {"new.py", "old.py"})},
        {UUID: LoadedPackage("A", 1, NOW - AGE - DAY), UUID[::-1]: LoadedPackage("B", 1, NOW - AGE - DAY)},
        {"new.py": program(DAY, packages={UUID: NOW - AGE - DAY}, code=["c", "d"]), "old.py": program(AGE + DAY)},
        {"c": Code("c.jl", last=NOW), "d": Code("d.jl", last=NOW - AGE - DAY)},
    )
    compact(whole, NOW)
    assert list(whole.packages) == [UUID]
    assert list(whole.programs) == ["new.py"] and whole.programs["new.py"].code == ["c"] == list(whole.code)
    assert whole.statements[statement("f")].programs == {"new.py"}


def test_programs_in_temporary_directories_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(ageing, "PROGRAMS_KEPT", 3)
    whole = Profile(programs={f"/tmp/{number}.py": program(number * DAY) for number in range(9)})
    compact(whole, NOW)
    assert list(whole.programs) == ["/tmp/0.py", "/tmp/1.py", "/tmp/2.py"]


def test_programs_of_temporary_directories_and_those_that_never_ran_here_go_first(monkeypatch, tmp_path):
    monkeypatch.setattr(ageing, "PROGRAMS_KEPT", 3)
    monkeypatch.setattr(ageing, "gettempdir", lambda: str(tmp_path))
    own = {f"/home/me/{number}.py": program(9 * DAY) for number in range(2)}
    passing = {name: program(DAY) for name in (f"{tmp_path}/a.py", "/tmp/b.py", "/var/tmp/c.py")}
    given = {f"-m given{number}": Program(0, NOW) for number in range(9)}
    whole = Profile(programs={**given, **passing, **own, "/tmpx/d.py": program(99 * DAY)})
    compact(whole, NOW)
    assert set(whole.programs) == {*own, "/tmpx/d.py"}


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.builds(Statement, st.integers(0, 9), st.floats(0, NOW), st.just(0.0), st.sets(st.sampled_from("xyz"))),
    ),
    st.dictionaries(
        st.sampled_from("xyz"), st.builds(Program, last=st.floats(0, NOW), plain=st.floats(0, NOW)), max_size=3
    ),
)
def test_compacting_twice_is_compacting_once(statements, programs):
    whole = Profile({statement(name): s for name, s in statements.items()}, programs=programs)
    compact(whole, NOW)
    once = whole.to_json()
    compact(whole, NOW)
    assert whole.to_json() == once
    assert all(s.programs <= set(whole.programs) for s in whole.statements.values())


def test_what_a_build_refused_is_not_tried_again_until_the_packages_change(store: Store):
    recordings.add(store, ENVIRONMENT, Profile({statement(n): Statement() for n in "abc"}))
    recordings.note_image(store, ENVIRONMENT, [], [statement("a")], "packages 1")
    read = recordings.load(store, ENVIRONMENT)
    assert set(read.bakeable("packages 1")) == {statement("b"), statement("c")}
    assert set(read.bakeable("packages 2")) == set(read.bakeable()) == {statement(n) for n in "abc"}
    recordings.note_image(store, ENVIRONMENT, [], [statement("b")], "packages 1")
    assert recordings.load(store, ENVIRONMENT).bakeable("packages 1") == [statement("c")]
    recordings.note_image(store, ENVIRONMENT, [], [statement("c")], "packages 2")
    assert set(recordings.load(store, ENVIRONMENT).bakeable("packages 2")) == {statement("a"), statement("b")}


def test_what_a_build_has_tried_is_known(store: Store):
    recordings.add(store, ENVIRONMENT, Profile({statement(n): Statement() for n in "ab"}))
    recordings.note_image(store, ENVIRONMENT, [statement("a"), statement("gone")], [], "packages")
    recordings.add(store, ENVIRONMENT, Profile({statement(n): Statement() for n in "ac"}))
    assert set(recordings.load(store, ENVIRONMENT).untried()) == {statement("b"), statement("c")}
