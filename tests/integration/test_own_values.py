"""What own code leaves in its globals: what means something in one process alone stays evaluated, and is named."""

from __future__ import annotations

import json

import pytest

from conftest import Place, make_place

# name -> the file, and what the build says of it (nothing: it comes compiled).
FILES = {
    "const": (
        'using PythonCall\n\nconst math = pyimport("math")\nprobe() = pyconvert(Float64, math.sqrt(4.0))',
        "const.jl:3: math holds a PythonCall.Py",
    ),
    "plainglobal": (
        'using PythonCall\ntable = pydict(a = 1)\nprobe() = pyconvert(Int, table["a"])',
        "plainglobal.jl:2: table holds a PythonCall",
    ),
    "macro": (
        "using PythonCall\n@py import json\nprobe() = pyconvert(String, json.dumps(pylist([1, 2])))",
        "macro.jl:2: ",
    ),
    "hidden": (
        "using PythonCall\nstruct Tool\n    f::Py\nend\n"
        'const TOOL = Tool(pyimport("os").getcwd)\nprobe() = pyconvert(String, TOOL.f()) != ""',
        "hidden.jl:5: TOOL holds a PythonCall.Py",
    ),
    "filled": (
        "using PythonCall\nconst math = PythonCall.pynew()\n"
        '__init__() = PythonCall.pycopy!(math, pyimport("math"))\nprobe() = pyconvert(Float64, math.sqrt(9.0))',
        "",
    ),
    "temporary": ("const TMP = mktempdir()\nprobe() = isdir(TMP)", "temporary.jl:1: mktempdir"),
    "elsewhere": (
        "place() = mktempdir()\nconst TMP = place()\nprobe() = isdir(TMP)",
        "at its top level it makes temporary files",
    ),
    "dl": (
        'using Libdl\nconst COS = dlsym(dlopen("libm.so.6"), :cos)\nprobe() = ccall(COS, Float64, (Float64,), 0.0)',
        "dl.jl:2: COS holds a Ptr",
    ),
    "cfun": (
        "const ADD = @cfunction(+, Cint, (Cint, Cint))\nprobe() = ccall(ADD, Cint, (Cint, Cint), 1, 2)",
        "cfun.jl:1: ADD holds a Ptr",
    ),
    "rng": (
        "using Random\nconst RNG = Xoshiro()\nprobe() = rand(RNG, UInt64)",
        "rng.jl:2: RNG holds a Random.Xoshiro",
    ),
    "salt": ("draw() = rand(UInt64)\nconst SALT = draw()\nprobe() = SALT", "at its top level it draws random numbers"),
    "log": ('const LOG = open(tempname(), "w")\nprobe() = write(LOG, "x")', "log.jl:1: "),
    "caught": (
        'let io = Ref(identity(stdout))\n    global probe() = isopen(io[])\nend',
        "caught.jl:1: ",
    ),
    "timer": ("const BEAT = Timer(0.1)\nprobe() = (wait(BEAT); 1)", "timer.jl:1: BEAT holds a Timer"),
    "task": ("const WORK = Threads.@spawn(1 + 1)\nprobe() = fetch(WORK)", "task.jl:1: "),
    "waiting": ("make() = Task(() -> 3)\nconst WORK = make()\nprobe() = 1", "waiting.jl:2: WORK holds a Task"),
    "table": (
        'rows() = countlines(joinpath(@__DIR__, "table.csv"))\nconst ROWS = rows()\nprobe() = ROWS',
        "table.jl:2: rows",
    ),
    "named": (
        'include_dependency("named.csv")\nconst ROWS = countlines(joinpath(@__DIR__, "named.csv"))\nprobe() = ROWS',
        "",
    ),
    "identity": (
        "const KNOWN = Dict{Any,Int}(Ref(k) => k for k in 1:50)\nprobe() = sum(get(KNOWN, k, 0) for k in collect(keys(KNOWN)))",
        "identity.jl:1: KNOWN holds a Dict",
    ),
    "within": (
        "struct Key\n    x\nend\nconst SEEN = Set([(Key([k]), k) for k in 1:50])\nprobe() = sum(k in SEEN for k in collect(SEEN))",
        "within.jl:4: SEEN holds a Dict",
    ),
    "by value": (
        'const BY = Dict(Int => 1, :a => 2, "b" => 3, (1, "c") => 4, sin => 5, [1] => 6, nothing => 7)\n'
        "const IDS = IdDict(Ref(1) => 1)\n"
        "probe() = (sum(BY[k] for k in collect(keys(BY))), IDS[first(keys(IDS))])",
        "",
    ),
    "clock": ("const WHEN = time_ns()\nprobe() = time_ns() - WHEN < 60_000_000_000", "clock.jl:1: time_ns"),
    "says": ('hello() = println("hello")\nconst SAID = hello()\nprobe() = 1', "at its top level it prints: hello"),
    "setter": ('set() = (ENV["OF_SETTER"] = "x"; 1)\nconst SET = set()\nprobe() = ENV["OF_SETTER"]', "it changes ENV"),
    "late": ('tell() = atexit(() -> println("late"))\nconst L = tell()\nprobe() = 1', "is called at the end"),
    "plain": (
        'const TABLE = Dict("a" => [1, 2], "b" => Int[])\nconst WORDS = r"^a+$"\nconst BIG = big(3)^50\n'
        "const LOCK = ReentrantLock()\nconst SOME = Ref{Any}(nothing)\nconst QUEUE = Channel{Int}(3)\n"
        'probe() = lock(() -> (match(WORDS, "aa").match, sum(TABLE["a"]), BIG % 7, isready(QUEUE)), LOCK)',
        "",
    ),
    "ends": ("leave() = ccall(:abort, Cvoid, ())\nccall(:jl_generating_output, Cint, ()) == 1 && leave()\nprobe() = 1", "it"),
}  # fmt: skip

PROGRAM = """
import json, sys
from pathlib import Path
from pyjl_autoimage import include, jl
is_compiled = jl.seval("m -> Base.PkgId(m).uuid !== nothing")
found = {}
for path in sorted(Path(__file__).parent.glob("*.jl")):
    code = include(path)
    found[path.stem] = [bool(is_compiled(code)), str(code.probe())]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, prepared) -> tuple[dict, list[dict], list[str]]:
    """What each file gave before a build and twice after it, and what the build said."""
    place: Place = make_place(tmp_path_factory.mktemp("values"), prepared)
    directory = place.root / "program"
    directory.mkdir()
    for name, (text, _) in FILES.items():
        (directory / f"{name}.jl").write_text(f"{text}\n", encoding="utf-8")
    for name in ("table.csv", "named.csv"):
        (directory / name).write_text("a\nb\n")
    program = directory / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")

    def run() -> dict:
        lines = place.run_file(program).stdout.splitlines()
        return json.loads(next(line for line in lines if line.startswith("{")))

    first = run()
    built = json.loads(place.cli("build", "--quick", "--json").stdout.splitlines()[-1])
    assert len(built["layers"]) == 1, built
    second = run()
    (directory / "table.csv").write_text("a\nb\nc\n")
    return first, [second, run()], built["notes"]


@pytest.mark.parametrize("name", FILES)
def test_each_file_gives_what_it_gives_when_it_is_evaluated(runs, name: str) -> None:
    first, later, notes = runs
    why = FILES[name][1]
    said = [note for note in notes if f"{name}.jl is evaluated in each process" in note]
    assert bool(said) == bool(why), notes
    assert why in "".join(said)
    for run in later:
        compiled, value = run[name]
        assert compiled is not bool(why)
        if name not in ("rng", "salt", "table"):
            assert value == first[name][1]


def test_numbers_that_are_drawn_differ_from_run_to_run(runs) -> None:
    first, later, _ = runs
    for name in ("rng", "salt"):
        assert len({run[name][1] for run in (first, *later)}) == 3


def test_a_file_is_read_in_each_run(runs) -> None:
    first, later, _ = runs
    assert [run["table"][1] for run in (first, *later)] == ["2", "2", "3"]


def test_packages_that_no_layer_can_load(prepared, tmp_path_factory):
    """One fails here, for want of a licence; one starts a timer, which a precompilation waits for. The others do not."""
    from acting import add_packages

    place = make_place(tmp_path_factory.mktemp("unlicensed"), prepared)
    add_packages(place, place.root / "dev")
    (place.root / "own.jl").write_text("double(x) = 2x\n")
    (place.root / "watch.jl").write_text("using Resident\nworks() = isopen(Resident.WORK[])\n")
    program = place.root / "program.py"
    program.write_text(
        "import os\nfrom pyjl_autoimage import include, jl\n"
        "if 'LICENSED_KEY' in os.environ: jl.seval('using Licensed; Licensed.answer()')\n"
        "jl.seval('using Layered; Layered.ready()')\n"
        "own, watch = include('own.jl'), include('watch.jl')\n"
        "compiled = jl.seval('m -> Base.PkgId(m).uuid !== nothing')\n"
        "print(own.double(21), watch.works(), compiled(own), compiled(watch))\n"
    )
    assert place.run_file(program, LICENSED_KEY="x").stdout.endswith("42 True False False\n")
    built = json.loads(place.cli("build", "--quick", "--json").stdout.splitlines()[-1])
    licensed, resident, watch = sorted(built["notes"], key=lambda note: note.partition("compiled with")[2] or "~")
    assert "with Licensed: it cannot be loaded here" in licensed and "no key for Licensed" in licensed
    assert "with Resident: it leaves something running" in resident
    assert "watch.jl is evaluated in each process: of Resident, which it uses: it leaves something running" in watch
    assert place.run_file(program).stdout == "42 True True False\n"
    assert place.run_file(program, LICENSED_KEY="x").stdout == "42 True True False\n"
    again = json.loads(place.cli("build", "--quick", "--json", LICENSED_KEY="x").stdout.splitlines()[-1])
    assert sorted(again["notes"]) == sorted([resident, watch]) and again["layers"] != built["layers"]
