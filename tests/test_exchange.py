"""A profile as a file, from one machine to another."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjl_autoimage.base.files import parsed_json
from pyjl_autoimage.errors import StoreError
from pyjl_autoimage.people import page
from pyjl_autoimage.profile import exchange, recordings
from pyjl_autoimage.profile.profile import Code, LoadedPackage, Profile, Program, Run, Statement

from standin import World, cli

UUID = "a93c6f00-e57d-5684-b7b6-d8193f3e46c0"
A, B = "precompile(Tuple{typeof(Base.a), Int64})", "precompile(Tuple{typeof(Base.b), Int64})"


def whole(here: str) -> Profile:
    return Profile(
        {A: Statement(3, 5.0, 1.5, {here, "-m there"}), B: Statement(1, 5.0, 0.0, {"/nowhere/x.py"})},
        {UUID: LoadedPackage("DataFrames", 2, 5.0)},
        {
            here: Program(3, 5.0, {UUID: 5.0}, ["c"]),
            "-m there": Program(1, 5.0),
            "/nowhere/x.py": Program(1, 5.0, {UUID: 5.0}),
        },
        {"c": Code("/secret/c.jl", "text of mine")},
        {"host-1-1": Run(here, 5.0)},
    )


def test_what_another_machine_can_use_arrives(tmp_path):
    here = tmp_path / "a.py"
    here.touch()
    content = exchange.text(whole(str(here)))
    assert "secret" not in content and "mine" not in content and "host-1-1" not in content
    read = exchange.read(content, "file")
    assert read.statements[A] == Statement(3, 0.0, 1.5, {str(here), "-m there"})
    assert read.statements[B].programs == set()
    assert read.packages[UUID].name == "DataFrames"
    assert set(read.programs) == {str(here), "-m there"} and list(read.programs[str(here)].packages) == [UUID]


def test_what_julia_wrote_is_read_as_well():
    read = exchange.read(f"#= 3.5 ms =# {A}\nrun(`rm -rf /`)\n{B} # recompile\n", "trace.jl")
    assert {text: s.milliseconds for text, s in read.statements.items()} == {A: 3.5, B: 0.0}


def test_statements_in_a_file_are_data():
    value = json.loads(exchange.text(whole("a.py")))
    value["statements"] += [
        ["run(`rm -rf /`)", 1, 0.0, [], 0],
        ["precompile(Tuple{typeof(AutoimageRecorder.f)})", 1, 0, [], 0],
    ]
    value["packages"]["no uuid"] = ["Evil", 1]
    value["packages"][UUID[:-1] + "1"] = ['A"; run(`rm`)', 1]
    read = exchange.read(json.dumps(value), "file")
    assert set(read.statements) == {A, B} and list(read.packages) == [UUID]


@pytest.mark.parametrize("content", ["", "hello", "{", "{}", '{"format": "x"}', "[" * 5000, "{" * 5000])
def test_what_is_no_profile_is_an_error(content):
    with pytest.raises(StoreError, match="FILE"):
        exchange.read(content, "FILE")


def test_a_file_of_a_later_version_and_one_that_is_too_large(monkeypatch):
    later = json.loads(exchange.text(whole("a.py"))) | {"version": exchange.VERSION + 1}
    with pytest.raises(StoreError, match="no profile that this version can read"):
        exchange.read(json.dumps(later), "FILE")
    monkeypatch.setattr(exchange, "LARGEST", 10)
    with pytest.raises(StoreError, match="FILE is too large"):
        exchange.read(f"{A}\n", "FILE")


def test_what_was_only_inferred_stays_so_elsewhere():
    told = exchange.read(exchange.text(Profile({A: Statement(1, inferred=True), B: Statement(1)})), "FILE")
    assert {text: s.inferred for text, s in told.statements.items()} == {A: True, B: False}


def test_interactive_use_is_a_program_everywhere():
    read = exchange.read(exchange.text(Profile({A: Statement(1, 5.0, 0.0, {""})}, {}, {"": Program(1, 5.0)})), "FILE")
    assert list(read.programs) == [""] and read.statements[A].programs == {""}


def with_statements(*statements: list[object]) -> str:
    return json.dumps({**json.loads(exchange.text(whole("a.py"))), "statements": list(statements)})


def test_a_statement_is_one_line():
    """A newline in a string of JSON would make several of it, and another one would be refused for what is wrong with it."""
    text = with_statements([f"{A}\nprecompile(Tuple{{NoSuch.f}})\n{B}", 1, 0.0, [], 0], [B, 1, 0.0, [], 0])
    assert set(exchange.read(text, "FILE").statements) == {B}


@pytest.mark.parametrize("number", ["1e999", "9" * 400, "NaN", "-1", "1e18", '"inf"', "true", "null"])
@pytest.mark.parametrize("field", [1, 2])
def test_a_number_that_cannot_be(number, field):
    given: list[object] = [A, 1, 0.0, [], 0]
    given[field] = "NUMBER"
    text = with_statements(given, [B, 1, 0.0, [], 0]).replace('"NUMBER"', number)
    assert set(exchange.read(text, "FILE").statements) == {B}, "the others are none the worse for it"


def test_a_time_in_a_trace_that_cannot_be():
    read = exchange.read(f"#= {'9' * 400} ms =# {A}\n#= 1.2.3 ms =# {B}\n", "trace.jl")
    assert {text: s.milliseconds for text, s in read.statements.items()} == {A: 0.0, B: 0.0}


def test_it_is_written_in_a_time_that_grows_with_it_alone():
    programs = {f"/p{n}.py": Program(1, 1.0) for n in range(200)}
    statements = {A.replace("a)", f"a{n})"): Statement(1, 1.0, 0.0, set(programs)) for n in range(2000)}
    full = Profile(statements, programs=programs)

    def seconds(write) -> float:
        began = time.process_time()
        write()
        return time.process_time() - began

    plain = min(seconds(lambda: json.dumps(full.to_json())) for _ in range(3))
    assert min(seconds(lambda: exchange.text(full)) for _ in range(3)) < 3 * plain


NAMES = st.text(st.characters(exclude_characters='"'), max_size=8)
TYPES = st.recursive(
    st.sampled_from(["Int64", "Base.Dict{K, V} where V where K", ":a", "-1", "'x'"])
    | st.builds('Base.var"{}"'.format, NAMES)
    | st.builds("Base.Val{{{}}}".format, st.floats() | st.integers()),
    lambda inner: (
        st.builds("Tuple{{{}}}".format, st.lists(inner, max_size=4).map(", ".join))
        | st.builds(
            lambda deep, kind: "(" * deep + kind + ")" * deep, st.sampled_from([1, 10, 45, 60, 10_000]), inner
        )
    ),
    max_leaves=12,
)
STATEMENTS = st.builds("precompile(Tuple{{typeof(Base.f), {}}})".format, TYPES)
NUMBERS = st.floats() | st.integers() | st.sampled_from([2**63, -(2**63), 10**400, 1e9, 0, True])
NOISE = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
GIVEN = st.lists(st.tuples(STATEMENTS, NUMBERS, NUMBERS, st.lists(st.integers(0, 3), max_size=2), NOISE), max_size=3)


@given(
    st.fixed_dictionaries({}, optional={"packages": NOISE, "programs": NOISE, "statements": NOISE | GIVEN}),
)
def test_anything_is_a_profile_that_can_be_kept_or_an_error(changed):
    value = json.loads(exchange.text(whole("a.py"))) | changed
    try:
        read = exchange.read(json.dumps(value), "FILE")
    except StoreError:
        return
    assert all(text.isprintable() for text in read.statements)
    assert Profile.from_json(parsed_json(json.dumps(read.to_json()))) == read
    page._profile(read, None)


@given(st.lists(STATEMENTS, max_size=4))
def test_what_is_given_as_lines_is_what_is_given_as_a_profile(lines):
    (given,) = [with_statements(*([line, 1, 0.0, [], 0] for line in [A, *lines]))]
    kept = {text for text in exchange.read(given, "FILE").statements if len(text.splitlines()) == 1}
    assert set(exchange.read("\n".join([A, *lines]), "FILE").statements) >= kept


def run(world: World, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return cli(world.environ, "profile", *arguments, cwd=world.root, given=given)


def test_from_one_store_to_another(tmp_path):
    one, other = World(tmp_path / "one"), World(tmp_path / "other")
    recordings.add(one.store, one.environment.id, whole("-m here"))
    file = tmp_path / "file"
    result = run(one, "export", str(file))
    assert (result.returncode, result.stdout) == (0, f"2 statements of 3 programs are in {file}\n")
    for new in (2, 0):
        result = run(other, "import", str(file))
        assert (result.returncode, result.stdout) == (0, f"2 statements in {file}, {new} of them new\n"), (
            result.stderr
        )
    arrived = recordings.load(other.store, other.environment.id)
    assert set(arrived.statements) == {A, B} and arrived.statements[A].runs == 3
    assert run(one, "export", "-").stdout == file.read_text()


def test_files_that_are_not_there(tmp_path):
    world = World(tmp_path / "world")
    result = run(world, "import", "nowhere")
    assert result.returncode == 1 and "nowhere cannot be read" in result.stderr
    result = run(world, "export", os.path.join("no", "where"))
    assert result.returncode == 1 and "cannot be written" in result.stderr
    result = run(world, "import", "-", given="hello")
    assert result.returncode == 1 and not Path(world.store.profile(world.environment.id)).exists()
