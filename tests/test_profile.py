from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjl_autoimage.base.liveness import boot_id, hold, hostname, mark_name
from pyjl_autoimage.build import measured
from pyjl_autoimage.errors import StoreError
from pyjl_autoimage.profile import profile, recordings
from pyjl_autoimage.profile.ageing import compact
from pyjl_autoimage.profile.profile import Profile
from pyjl_autoimage.profile.recordings import parse_statement
from pyjl_autoimage.store.places import Store

ENVIRONMENT = "0123456789abcdef"
DATAFRAMES = "a93c6f00-e57d-5684-b7b6-d8193f3e46c0"


def record(store, name, statements, log="", header=True):
    directory = store.ensure(store.recordings(ENVIRONMENT))
    if name.startswith(mark_name()):
        hold(os.path.join(directory, f"{name}.log"))
    with open(os.path.join(directory, f"{name}.jl"), "a", encoding="utf-8") as file:
        file.write(statements)
    with open(os.path.join(directory, f"{name}.log"), "a", encoding="utf-8") as file:
        if header:
            file.write(json.dumps({"schema": 1, "started": 1.0, "image": None, "flags": {}}) + "\n")
        file.write(log)


def dead(number=1):
    return f"{hostname()}-999999{number}-{boot_id()}-{number:08x}"


def living():
    return f"{mark_name()}-cafe"


def statement(number):
    return f"precompile(Tuple{{typeof(Base.f{number}), Int64}})"


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("julia-1.10/trace-stock.jl", 268),
        ("julia-1.10/trace-on-image.jl", 13),
        ("julia-1.10/trace-on-second-image.jl", 4),
        ("julia-1.12/trace-stock-timed.jl", 245),
        ("julia-1.12/trace-on-image-timed.jl", 4),
    ],
)
def test_every_line_that_real_julias_printed_is_understood(fixtures, file, count):
    lines = (fixtures / file).read_text(encoding="utf-8").splitlines()
    parsed = [parse_statement(line) for line in lines]
    assert None not in parsed
    assert len(parsed) == count
    assert all(text.startswith("precompile(Tuple{") and text.endswith("})") for text, _ in parsed)


def test_times_are_read(fixtures):
    lines = (fixtures / "julia-1.12" / "trace-stock-timed.jl").read_text(encoding="utf-8").splitlines()
    times = [parse_statement(line)[1] for line in lines]
    assert times[0] == 9.8 and max(times) == 6279.9
    assert parse_statement("#= 59.1 ms =# precompile(Tuple{typeof(Pkg.f)}) # recompile") == (
        "precompile(Tuple{typeof(Pkg.f)})",
        59.1,
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "precompile(Tuple{typeof(f), In",
        'run(`rm -rf /`); precompile(Tuple{Int})"',
        "precompile(f, (Int,))",
        "precompile(Tuple{typeof(AutoimageRecorder.note), Base.PkgId})",
        f"precompile(Tuple{{typeof(f), NamedTuple{{({':a, ' * 7000})}}}})",
        f"precompile(Tuple{{{'Tuple{' * 60}Int{'}' * 60}}})",
        f"precompile(Tuple{{{'(' * 10_000}}})",
        "precompile(Tuple{typeof(f)})\nprecompile(Tuple{typeof(g)})",
        "precompile(Tuple{typeof(f), \x1b[31m})",
        "precompile(Tuple{typeof(f), \0})",
    ],
)
def test_other_lines_are_no_statements(line):
    assert parse_statement(line) is None


@given(st.text(max_size=200))
def test_noise_is_parsed_or_refused(line):
    parsed = parse_statement(line)
    assert parsed is None or parsed[0].startswith("precompile(Tuple{")


def test_brackets_beside_brackets_are_not_deep():
    line = f"precompile(Tuple{{{', '.join(['Tuple{Base.Val{(1, 2)}}'] * 100)}}})"
    assert parse_statement(line) == (line, 0.0)


def test_merge_counts_each_line_once_and_removes_what_is_used_up(store):
    record(store, dead(), f"{statement(1)}\n{statement(2)}\n", f"package {DATAFRAMES} DataFrames\n")
    record(store, dead(2), f"{statement(2)}\n")
    first = recordings.merge(store, ENVIRONMENT)
    assert {text: s.runs for text, s in first.statements.items()} == {statement(1): 1, statement(2): 2}
    assert first.packages[DATAFRAMES].name == "DataFrames"
    assert first.runs == 2
    assert os.listdir(store.recordings(ENVIRONMENT)) == []
    again = recordings.merge(store, ENVIRONMENT)
    assert again.statements == first.statements
    assert again.runs == 2
    assert again.consumed == {}


def test_what_a_run_only_inferred_is_kept_as_such_until_a_run_compiles_it(store):
    of_main = "precompile(Tuple{typeof(Main.f), Int64})"
    noted = "".join(f"{profile.INFERRED}{text}\n" for text in (statement(1), statement(2), of_main))
    record(store, dead(), f"{statement(3)}\n{noted}")
    first = recordings.merge(store, ENVIRONMENT)
    assert {text: s.inferred for text, s in first.statements.items()} == {
        statement(1): True,
        statement(2): True,
        statement(3): False,
    }
    assert set(first.bakeable()) == set(first.statements), "builds are given all of them"
    assert [run.statements for run in first.recent.values()] == [1], "only one method was compiled"
    record(store, dead(2), f"{statement(1)}\n{profile.INFERRED}{statement(3)}\n")
    again = recordings.merge(store, ENVIRONMENT)
    assert [text for text, s in again.statements.items() if s.inferred] == [statement(2)]
    assert [text for text, s in recordings.load(store, ENVIRONMENT).statements.items() if s.inferred] == [
        statement(2)
    ]


def test_a_recording_that_was_empty_when_first_seen_counts_as_a_run(store):
    name = living()
    record(store, name, "", header=False)
    assert recordings.merge(store, ENVIRONMENT).runs == 0
    record(store, name, f"{statement(1)}\n")
    assert recordings.merge(store, ENVIRONMENT).runs == 1
    assert recordings.merge(store, ENVIRONMENT).runs == 1


def test_a_living_process_is_counted_as_it_goes(store):
    record(store, living(), f"{statement(1)}\n{statement(2)[:20]}")
    assert list(recordings.merge(store, ENVIRONMENT).statements) == [statement(1)]
    assert len(os.listdir(store.recordings(ENVIRONMENT))) == 2
    record(store, living(), f"{statement(2)[20:]}\n{statement(3)}\n", header=False)
    merged = recordings.merge(store, ENVIRONMENT)
    assert {text: s.runs for text, s in merged.statements.items()} == {statement(n): 1 for n in (1, 2, 3)}
    assert merged.runs == 1


def test_a_merge_killed_before_it_removed_counts_nothing_twice(store):
    record(store, dead(), f"{statement(1)}\n")
    directory = store.recordings(ENVIRONMENT)
    saved = {name: open(os.path.join(directory, name), "rb").read() for name in os.listdir(directory)}
    once = recordings.merge(store, ENVIRONMENT)
    raw = json.loads(open(store.profile(ENVIRONMENT), "rb").read())
    raw["consumed"] = once.consumed
    for name, content in saved.items():  # as if the process had died between writing and removing
        with open(os.path.join(directory, name), "wb") as file:
            file.write(content)
    with open(store.profile(ENVIRONMENT), "w", encoding="utf-8") as file:
        json.dump(raw, file)
    again = recordings.merge(store, ENVIRONMENT)
    assert again.statements[statement(1)].runs == 1
    assert again.runs == 1
    assert os.listdir(directory) == []


def test_peek_writes_nothing(store):
    record(store, dead(), f"{statement(1)}\n")
    assert list(recordings.peek(store, ENVIRONMENT).statements) == [statement(1)]
    assert not os.path.exists(store.profile(ENVIRONMENT))
    assert len(os.listdir(store.recordings(ENVIRONMENT))) == 2


def test_statements_of_main_cannot_be_baked():
    read = Profile()
    for text in (
        'precompile(Tuple{Main.var"#1#2", String})',
        "precompile(Tuple{typeof(PythonCall.f), Main.T})",
        "precompile(Tuple{typeof(MyMain.f)})",
        "precompile(Tuple{typeof(Base.Mainline)})",
    ):
        read.statements[text] = profile.Statement(1)
    assert read.bakeable() == [
        "precompile(Tuple{typeof(MyMain.f)})",
        "precompile(Tuple{typeof(Base.Mainline)})",
    ]


def test_flags_of_the_latest_recording_count(store):
    for number, (started, flags) in enumerate([(5.0, {"optimize": "3"}), (2.0, {}), (4.0, {"inline": "no"})]):
        line = json.dumps({"schema": 1, "started": started, "flags": flags}) + "\n"
        record(store, dead(number), "", line, header=False)
    assert recordings.merge(store, ENVIRONMENT).flags == {"optimize": "3"}


@given(st.binary(max_size=400))
def test_a_broken_profile_is_an_empty_one(tmp_path_factory, noise):
    store = Store(str(tmp_path_factory.mktemp("store")))
    store.ensure(store.environment(ENVIRONMENT))
    with open(store.profile(ENVIRONMENT), "wb") as file:
        file.write(noise)
    assert recordings.load(store, ENVIRONMENT) == Profile()


def whole() -> Profile:
    return Profile(
        {statement(1): profile.Statement(2, 5.0, 1.5, {"a.py"}, True)},
        {DATAFRAMES: profile.LoadedPackage("DataFrames", 1, 5.0)},
        {"a.py": profile.Program(1, 5.0, {DATAFRAMES: 5.0}, ["c"], ["x.jl"], 5.0, [1.0])},
        {"c": profile.Code("c.jl", None, ["CSV"], ["c.jl"], {"CSV": "u"}, 5.0, "1.14.0")},
        {"host-1-1": profile.Run("a.py", 5.0, ready=1.0, compiled=2.0, ended=True)},
        {"host-1-1": [10, 20]},
        {"optimize": "3"},
        5.0,
        1,
        {statement(1)},
        "packages",
        3.0,
        1,
    )


@given(
    st.sampled_from(sorted(whole().to_json())),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=10,
    ),
)
def test_any_json_is_a_profile_or_an_empty_one(key, value):
    written = whole().to_json()
    assert Profile.from_json(written) == whole()
    try:
        read = Profile.from_json({**written, key: value})
    except ValueError:
        return
    compact(read, time.time())
    assert read.to_json().keys() == written.keys()


# -- a profile that cannot be read ---------------------------------------------------------------------------


def profile_of(store, content=None) -> Path:
    """The file, with a statement in it, or with this."""
    record(store, dead(), f"{statement(1)}\n")
    recordings.merge(store, ENVIRONMENT)
    path = Path(store.profile(ENVIRONMENT))
    if content is not None:
        path.write_bytes(content)
    return path


CHANGES = {
    "merge": lambda store: recordings.merge(store, ENVIRONMENT),
    "add": lambda store: recordings.add(store, ENVIRONMENT, Profile({statement(2): profile.Statement()})),
    "image": lambda store: recordings.note_image(store, ENVIRONMENT, [], [], "packages"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_profile_of_another_version_is_put_aside(store, change):
    later = json.dumps({**whole().to_json(), "schema": profile.SCHEMA + 1}).encode()
    path = profile_of(store, later)
    CHANGES[change](store)
    (aside,) = recordings.aside(store, ENVIRONMENT)
    assert Path(aside).read_bytes() == later and Path(aside).parent == path.parent
    assert statement(1) not in recordings.load(store, ENVIRONMENT).statements
    CHANGES[change](store)
    assert recordings.aside(store, ENVIRONMENT) == [aside]


@pytest.mark.parametrize(
    "last", [b"]", b"", b"}}", b'"x": ' + b"[" * 10_000, b',"saved":1e999}', b',"runs":-Infinity}']
)
def test_one_that_was_damaged_is_put_aside(store, last):
    path = profile_of(store)
    damaged = path.read_bytes()[:-1] + last
    path.write_bytes(damaged)
    assert recordings.peek(store, ENVIRONMENT).statements == {}, "who only looks leaves it where it is"
    assert path.read_bytes() == damaged
    recordings.merge(store, ENVIRONMENT)
    assert [Path(aside).read_bytes() for aside in recordings.aside(store, ENVIRONMENT)] == [damaged]


def test_the_last_few_are_kept_aside(store):
    for number in range(recordings.ASIDE_KEPT + 3):
        profile_of(store, str(number).encode())
    recordings.merge(store, ENVIRONMENT)
    kept = [Path(aside).read_text() for aside in recordings.aside(store, ENVIRONMENT)]
    assert kept == [str(number) for number in range(3, recordings.ASIDE_KEPT + 3)]


def test_one_that_cannot_be_put_aside_is_not_overwritten(store, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = profile_of(store, b"{")
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(StoreError, match="nor put aside: Permission denied"):
        recordings.merge(store, ENVIRONMENT)
    assert path.read_bytes() == b"{"


LARGE = st.sampled_from(["9" * 19, "9" * 400, "9" * 5000, "0.0.1", "1", "." * 9])


@given(LARGE, LARGE, LARGE, st.sampled_from(["1e18", "-1e18", "1e999", "NaN", "9" * 30, "[]", "true"]))
def test_what_any_recording_makes_of_a_profile_can_be_read(tmp_path_factory, took, ready, compiled, started):
    store = Store(str(tmp_path_factory.mktemp("store")))
    header = f'{{"started": {started}, "image": null, "program": "a.py", "flags": {{}}}}\n'
    for number in range(3):
        log = f"{header}ready {ready}\ncompiled {compiled}\n"
        record(store, dead(number), f"#= {took} ms =# {statement(1)}\n", log, header=False)
    merged = recordings.merge(store, ENVIRONMENT)
    assert recordings.load(store, ENVIRONMENT) == Profile.from_json(merged.to_json())
    assert list(recordings.load(store, ENVIRONMENT).statements) == [statement(1)]
    assert measured.times(merged) is not None


@pytest.mark.parametrize(("noted", "known"), [({}, ""), ({"syntax": "1.14.0"}, "1.14.0"), ({"syntax": 1.14}, "")])
def test_the_syntax_that_own_code_was_parsed_at(store, noted, known):
    facts = {"name": "c", "path": "/c.jl", "text": None, "using": [], "files": ["/c.jl"], "deps": {}, **noted}
    record(store, dead(), "", f"code {json.dumps(facts)}\n")
    read = recordings.merge(store, ENVIRONMENT)
    assert read.code["c"].syntax == known


def test_packages_of_ours_are_not_what_a_program_loads(store):
    lines = f"package {DATAFRAMES[:-1]}1 AutoimageStatements_1a\npackage {DATAFRAMES} DataFrames\n"
    record(store, dead(), f"{statement(1)}\n", lines)
    assert list(recordings.merge(store, ENVIRONMENT).packages) == [DATAFRAMES]


def test_a_lock_that_somebody_holds_for_long_is_an_error_that_says_so(store):
    with (
        recordings.locked(store, ENVIRONMENT),
        pytest.raises(StoreError, match="another process has been merging"),
        recordings.locked(store, ENVIRONMENT, timeout=0.1),
    ):
        pass


def test_what_is_written_is_read_back(store):
    record(store, dead(), f"#= 3.5 ms =# {statement(1)}\n", f"package {DATAFRAMES} DataFrames\n")
    merged = recordings.merge(store, ENVIRONMENT)
    read = recordings.load(store, ENVIRONMENT)
    assert read.statements[statement(1)].milliseconds == 3.5
    assert read.to_json() == merged.to_json() | {"consumed": read.consumed}


WRITER = """
import os, sys, random
sys.path[:0] = {path!r}
from pyjl_autoimage.build import measured
from pyjl_autoimage.profile import profile, recordings
from pyjl_autoimage.profile.ageing import compact
from pyjl_autoimage.startup import recording
from pyjl_autoimage.store.places import Store
store = Store({home!r})
number = int(sys.argv[1])
written = recording.create(store.recordings({environment!r}), image=None, flags={{}})
with open(written.trace, "ab", buffering=0) as file:
    for line in range(40):
        text = "precompile(Tuple{{typeof(Base.f%d_%d), Int64}})\\n" % (number, line)
        cut = random.randrange(len(text))
        file.write(text[:cut].encode()); file.write(text[cut:].encode())
        if line % 10 == number % 10:
            recordings.merge(store, {environment!r})
    file.write(b"precompile(Tuple{{torn")
os._exit(0)
"""


def test_twenty_processes_record_and_merge_at_once(store):
    code = WRITER.format(path=sys.path, home=store.home, environment=ENVIRONMENT)
    processes = [subprocess.Popen([sys.executable, "-c", code, str(number)]) for number in range(20)]
    assert [process.wait(120) for process in processes] == [0] * 20
    merged = recordings.merge(store, ENVIRONMENT)
    assert len(merged.statements) == 20 * 40
    assert {s.runs for s in merged.statements.values()} == {1}
    assert merged.runs == 20
    assert os.listdir(store.recordings(ENVIRONMENT)) == []


def test_random_interleavings_of_writing_and_merging(store):
    """Whatever is merged when, and however lines are cut, each complete line counts once."""
    source = random.Random(3)
    written = 0
    for name in (dead(n) for n in range(5)):
        text = "".join(f"{statement(written + n)}\n" for n in range(10))
        written += 10
        while text:
            cut = source.randrange(1, 60)
            record(store, f"{living()}{name[-8:]}", text[:cut], header=False)
            text = text[cut:]
            if source.random() < 0.3:
                recordings.merge(store, ENVIRONMENT)
    merged = recordings.merge(store, ENVIRONMENT)
    assert len(merged.statements) == written
    assert {s.runs for s in merged.statements.values()} == {1}


# -- programs, their runs and their code -----------------------------------------------------------------


LATELY = float(round(time.time())) - 3600


def begin(program, started=LATELY, image=None, layer=None):
    header = {"schema": 1, "started": started, "image": image, "layer": layer, "program": program, "flags": {}}
    return json.dumps(header) + "\n"


def test_each_program_keeps_what_it_compiled_and_loaded(store):
    record(store, dead(1), f"{statement(1)}\n{statement(2)}\n", begin("a.py"), header=False)
    record(store, dead(2), f"{statement(2)}\n", begin("b.py") + f"package {DATAFRAMES} DataFrames\n", header=False)
    recordings.merge(store, ENVIRONMENT)
    kept = recordings.load(store, ENVIRONMENT)
    assert kept.statements[statement(1)].programs == {"a.py"}
    assert kept.statements[statement(2)].programs == {"a.py", "b.py"}
    assert not kept.programs["a.py"].packages
    assert list(kept.programs["b.py"].packages) == [DATAFRAMES]


def test_a_run_says_what_it_cost_although_it_is_read_in_pieces(store):
    name = living()
    record(store, name, f"{statement(1)}\n", begin("a.py", LATELY, "1234") + "ready 0.25\n", header=False)
    recordings.merge(store, ENVIRONMENT)
    record(store, name, f"{statement(2)}\n", "compiled 1.5\n", header=False)
    run = recordings.merge(store, ENVIRONMENT).recent[name]
    assert (run.program, run.started, run.image, run.ready) == ("a.py", LATELY, "1234", 0.25)
    assert (run.statements, run.compiled) == (2, 1.5)
    assert recordings.load(store, ENVIRONMENT).statements[statement(2)].programs == {"a.py"}


def test_only_the_latest_runs_are_kept_and_those_that_still_write(store):
    living_one = living()
    record(store, living_one, "", begin("old.py", 0.0), header=False)
    for number in range(profile.RUNS_KEPT + 10):
        record(store, dead(number), f"{statement(1)}\n", begin("a.py", 100.0 + number), header=False)
    recordings.merge(store, ENVIRONMENT)
    kept = recordings.merge(store, ENVIRONMENT)
    assert living_one in kept.recent
    assert len(kept.recent) == profile.RUNS_KEPT + 1
    assert min(run.started for name, run in kept.recent.items() if name != living_one) == 110.0


def test_code_is_known_from_the_run_that_evaluated_it(store):
    facts = {"name": "model_1a2b", "path": "/p/model.jl", "files": ["/p/model.jl", "/p/b.jl"], "deps": {"CSV": "u"}}
    record(store, dead(1), "", f"{begin('a.py')}code {json.dumps(facts)}\n", header=False)
    record(store, dead(2), "", begin("b.py") + 'code {"name": "model_1a2b", "path": "/p/model.jl"}\n', header=False)
    recordings.merge(store, ENVIRONMENT)
    kept = recordings.load(store, ENVIRONMENT)
    assert kept.code["model_1a2b"].files == ["/p/model.jl", "/p/b.jl"]
    assert kept.code["model_1a2b"].deps == {"CSV": "u"}
    assert kept.programs["a.py"].code == kept.programs["b.py"].code == ["model_1a2b"]


@pytest.mark.parametrize(
    "line", ['code {"name": 3, "path": "p"}', "code {", "ready 1.2.3", "compiled -", "package x"]
)
def test_a_line_that_is_not_one_of_ours_counts_as_nothing(store, line):
    record(store, dead(1), f"{statement(1)}\n", f"{begin('a.py')}{line}\n", header=False)
    kept = recordings.merge(store, ENVIRONMENT)
    assert (kept.packages, kept.code) == ({}, {})
    assert kept.recent[dead(1)].ready == 0.0
    assert list(kept.statements) == [statement(1)]


# -- what runs have saved ----------------------------------------------------------------------------------


def told(program, image=None, ready=1.0, compiled=2.0, layer=None, workload=None, started=LATELY):
    header = json.loads(begin(program, started, image, layer)) | {"workload": workload}
    return f"{json.dumps(header)}\nready {ready}\ncompiled {compiled}\n"


def test_a_run_on_an_image_saves_what_the_usual_plain_run_of_its_program_costs_more(store):
    for number, log in enumerate(
        [
            told("a.py", compiled=9.0), told("a.py", compiled=11.0), told("a.py", compiled=10.0),
            told("a.py", "i", 0.2, 0.3), told("a.py", None, 0.7, 1.8, layer="l"),
            told("b.py", "i", 0.2, 0.3),  # of which no plain run is known
            told("", compiled=99.0), told("", "i", 0.2, 0.3),  # two sessions at a prompt, which may do anything
        ]
    ):  # fmt: skip
        record(store, dead(number), "", log, header=False)
    assert recordings.peek(store, ENVIRONMENT).saved == pytest.approx(10.5 + 8.5)
    kept = recordings.merge(store, ENVIRONMENT)
    assert (kept.saved, kept.saved_runs) == (pytest.approx(19.0), 2)
    again = recordings.merge(store, ENVIRONMENT)
    assert (again.saved, again.saved_runs) == (pytest.approx(19.0), 2), "each counts once"


def test_savings_outlive_the_runs_that_made_them(store):
    record(store, dead(0), "", told("a.py", compiled=9.0, started=LATELY - 1), header=False)
    recordings.merge(store, ENVIRONMENT)
    for number in range(1, profile.RUNS_KEPT + 11):
        record(store, dead(number), "", told("a.py", "i", 0.5, 0.5), header=False)
    recordings.merge(store, ENVIRONMENT)
    kept = recordings.merge(store, ENVIRONMENT)
    assert dead(0) not in kept.recent
    assert (kept.saved, kept.saved_runs) == (pytest.approx(9.0 * (profile.RUNS_KEPT + 10)), profile.RUNS_KEPT + 10)
    assert kept.programs["a.py"].costs == [10.0]


def test_nobody_waited_for_what_a_build_ran_and_a_run_that_was_killed_says_nothing(store):
    record(store, dead(0), "", told("a.py", compiled=9.0), header=False)
    record(store, dead(1), "", told("a.py", "i", workload="1234"), header=False)
    record(store, dead(2), "", told("a.py", "i").replace("compiled 2.0\n", ""), header=False)
    kept = recordings.merge(store, ENVIRONMENT)
    assert (kept.saved, kept.saved_runs) == (0.0, 0)
    assert [run.ended for _, run in sorted(kept.recent.items())] == [True, True, False]


def test_a_run_that_is_read_in_pieces_saves_once(store):
    record(store, dead(0), "", told("a.py", compiled=9.0), header=False)
    lines = told("a.py", "i", 0.5, 0.5)
    record(store, living(), "", lines[:-9], header=False)
    assert recordings.merge(store, ENVIRONMENT).saved_runs == 0
    record(store, living(), "", lines[-9:], header=False)
    assert recordings.merge(store, ENVIRONMENT).saved == pytest.approx(9.0)
    assert recordings.merge(store, ENVIRONMENT).saved_runs == 1


def test_a_bare_start_of_a_build_is_no_program(store):
    record(store, dead(0), f"{statement(1)}\n", told("", workload=profile.BARE_START), header=False)
    record(store, dead(1), f"{statement(2)}\n", told("", workload="t0"), header=False)
    kept = recordings.merge(store, ENVIRONMENT)
    assert kept.runs == 2 and not kept.statements[statement(1)].programs
    assert kept.programs[""].runs == 1 and kept.statements[statement(2)].programs == {""}
