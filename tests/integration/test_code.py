"""A program's own Julia code, evaluated, from the layer and from the image: never stale, and its errors its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

import pyjl_autoimage
from conftest import Place, make_place

TINY_UUID = "7d1f0d65-5b0e-4b8a-9a3e-0c7a3f1f2b11"

MODEL = """
using Tiny, Statistics

include("part.jl")

struct Shape
    sides::Int
end
area(shape::Shape) = part(shape.sides) + Tiny.number()
answer(n) = area(Shape(Int(n))) + mean([1.0, 3.0])
names_of(n) = join(["s$(i)" for i in 1:n if isodd(i)], ',')
"""

PROGRAM = """
import json, sys
from pyjl_autoimage import include, jl
model = include("model.jl")
compiled = jl.seval("m -> Base.PkgId(m).uuid !== nothing")(model)
print(json.dumps({"answer": float(model.answer(4)), "compiled": bool(compiled), "names": str(model.names_of(5))}))
"""


class Program:
    """A program in a directory of its own, with a model beside it."""

    def __init__(self, place: Place, directory: Path) -> None:
        self.place, self.directory = place, directory
        directory.mkdir()
        self.write("program.py", PROGRAM)
        self.write("model.jl", MODEL)
        self.write("part.jl", "part(n) = 10.0 * n\n")

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.directory / name).read_text(encoding="utf-8")
        assert text.count(old) == 1
        self.write(name, text.replace(old, new))

    def run(self) -> dict:
        result = self.place.run_file(self.directory / "program.py")
        return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def tiny_place(tmp_path_factory, prepared) -> Place:
    """A project that has a package tracked by path, and nothing else that takes time to load."""
    root = tmp_path_factory.mktemp("code")
    place = make_place(root, prepared)
    source = root / "Tiny"
    (source / "src").mkdir(parents=True)
    (source / "Project.toml").write_text(f'name = "Tiny"\nuuid = "{TINY_UUID}"\nversion = "0.1.0"\n')
    (source / "src" / "Tiny.jl").write_text("module Tiny\nnumber() = 0.5\nend\n")
    project = Path(place.environment.project, "Project.toml")
    project.write_text(project.read_text().replace("[deps]\n", f'[deps]\nTiny = "{TINY_UUID}"\n', 1))
    with open(place.manifest.path, "a", encoding="utf-8") as manifest:
        manifest.write(f'\n[[deps.Tiny]]\npath = "{source}"\nuuid = "{TINY_UUID}"\nversion = "0.1.0"\n')
    return place


@pytest.fixture(scope="module")
def layered(tiny_place: Place) -> Program:
    """A program that has run once, and for which a layer was built."""
    program = Program(tiny_place, tiny_place.root / "layered")
    first = program.run()
    assert first == {"answer": 42.5, "compiled": False, "names": "s1,s3,s5"}
    built = json.loads(tiny_place.cli("build", "--quick", "--json").stdout.splitlines()[-1])
    assert built["image"] is None
    assert len(built["layers"]) == 1, built
    assert not built["notes"]
    return program


def test_after_a_quick_build_the_code_comes_compiled(layered):
    assert layered.run() == {"answer": 42.5, "compiled": True, "names": "s1,s3,s5"}
    status = json.loads(layered.place.cli("status", "--json").stdout)
    assert [layer["program"] for layer in status["layers"]] == [str(layered.directory / "program.py")]
    assert status["layers"][0]["reasons"] == []


@pytest.mark.parametrize("file", ["model.jl", "part.jl"])
def test_a_changed_file_is_evaluated_afresh_and_the_old_one_comes_compiled_again(layered, file):
    before = (layered.directory / file).read_text()
    try:
        layered.edit(
            file, *(("10.0 * n", "20.0 * n") if file == "part.jl" else ("part(shape.sides)", "2part(shape.sides)"))
        )
        os.utime(layered.directory / file, (1, 1))  # a time in the past must not make it look unchanged
        assert layered.run() == {"answer": 82.5, "compiled": False, "names": "s1,s3,s5"}
    finally:
        layered.write(file, before)
    assert layered.run()["compiled"]


def test_files_that_appear_for_a_computed_include_count(tiny_place, tmp_path):
    program = Program(tiny_place, tiny_place.root / "computed")
    program.write(
        "model.jl",
        MODEL.replace(
            'include("part.jl")', 'for f in filter(endswith("part.jl"), readdir(@__DIR__)); include(f); end'
        ),
    )
    session = textwrap.dedent("""
        import json, pathlib
        from pyjl_autoimage import include
        here = pathlib.Path(__file__).parent
        a = float(include("model.jl").answer(4))
        (here / "zpart.jl").write_text("part(n) = 1.0")
        b = float(include("model.jl").answer(4))
        print(json.dumps([a, b]))
        """)
    program.write("program.py", session)
    result = program.place.run_file(program.directory / "program.py")
    assert json.loads(result.stdout.splitlines()[-1]) == [42.5, 3.5]


def test_a_cache_that_is_gone_or_damaged_is_not_waited_for(layered):
    layer = next(iter((layered.place.store / "v1" / "layers").iterdir()))
    depot, kept = layer / "depot", layer.with_name("kept")
    shutil.move(depot, kept)
    try:
        assert not layered.run()["compiled"]
        shutil.copytree(kept, depot)
        for library in depot.glob("compiled/*/model_*/*.so"):
            library.write_bytes(library.read_bytes()[:-4096])
        assert layered.run() == {"answer": 42.5, "compiled": False, "names": "s1,s3,s5"}
        assert not list(depot.glob("compiled/*/*/*.ji.tmp"))
    finally:
        shutil.rmtree(depot, ignore_errors=True)
        shutil.move(kept, depot)
    assert layered.run()["compiled"]


def test_a_layer_whose_dependency_changed_is_not_used(layered):
    source = layered.place.root / "Tiny" / "src" / "Tiny.jl"
    before = source.read_text()
    try:
        source.write_text(before.replace("0.5", "0.25"))
        assert layered.run() == {"answer": 42.25, "compiled": False, "names": "s1,s3,s5"}
        status = json.loads(layered.place.cli("status", "--json").stdout)
        assert any("Tiny" in reason and "changed" in reason for reason in status["layers"][0]["reasons"])
    finally:
        source.write_text(before)
    assert layered.run()["answer"] == 42.5


def test_a_layer_is_built_anew_when_julia_has_replaced_a_cache_that_it_stands_on(layered):
    (layer,) = json.loads(layered.place.cli("status", "--json").stdout)["layers"]
    facts = json.loads((layered.place.store / "v1" / "layers" / layer["id"] / "layer.json").read_text())
    (cache,) = [Path(path) for path in facts["caches"] if Path(path).parent.name == "Tiny"]
    cache.unlink(missing_ok=True)
    assert layered.run() == {"answer": 42.5, "compiled": False, "names": "s1,s3,s5"}, "Julia has compiled it anew"
    status = json.loads(layered.place.cli("status", "--json").stdout)
    assert status["summary"]["state"] == "stale"
    assert str(cache) in status["summary"]["why"][0]
    built = json.loads(layered.place.cli("build", "--quick", "--json").stdout.splitlines()[-1])
    assert built["layers"]
    assert layered.run()["compiled"]
    assert json.loads(layered.place.cli("status", "--json").stdout)["summary"]["state"] == "layer"


def test_two_programs_with_files_of_the_same_name_do_not_meet(layered):
    other = Program(layered.place, layered.place.root / "other")
    other.write("part.jl", "part(n) = -1.0\n")
    assert other.run() == {"answer": 1.5, "compiled": False, "names": "s1,s3,s5"}
    assert layered.run()["answer"] == 42.5


FAILING = """
from pyjl_autoimage import include
try:
    include("model.jl")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("model.jl", "f(x) = 1\n\ng(x = 2\n", ["JuliaError", "model.jl:3"]),
        ("part.jl", 'part(n) = 1\nerror("on purpose")\n', ["JuliaError", "on purpose", "part.jl:2"]),
        ("model.jl", "using NoSuchPackage\n", ["CodeError", "NoSuchPackage", "not in the project", "model.jl"]),
        ("model.jl", 'include("missing.jl")\n', ["JuliaError", "missing.jl"]),
    ],
)
def test_errors_point_at_the_user_s_file(tiny_place, tmp_path_factory, file, text, said):
    program = Program(tiny_place, tiny_place.root / f"failing-{abs(hash((file, text)))}")
    program.write("program.py", FAILING)
    program.write(file, text)
    printed = tiny_place.run_file(program.directory / "program.py").stdout
    for words in said:
        assert words in printed


DEFINING = '''
import json
from pyjl_autoimage import define, jl
code = define("""
struct Point
    x::Float64
end
double(p) = Point(2 * p.x)
value(x) = double(Point(x)).x
fail() = error("on purpose")
""", using=["Statistics"])
try:
    code.fail()
except Exception as error:
    where = [line.strip() for line in str(error).splitlines() if "program.py" in line]
compiled = jl.seval("m -> Base.PkgId(m).uuid !== nothing")(code)
print(json.dumps({"value": float(code.value(21.0)), "compiled": bool(compiled), "where": where}))
'''


def test_a_text_is_a_module_and_its_lines_are_those_of_the_python_file(tiny_place):
    program = Program(tiny_place, tiny_place.root / "defining")
    program.write("program.py", DEFINING)
    first = program.run()
    assert (first["value"], first["compiled"]) == (42.0, False)
    assert any("program.py:10" in line for line in first["where"]), first
    built = json.loads(tiny_place.cli("build", "--quick", "--json").stdout.splitlines()[-1])
    assert built["layers"]
    second = program.run()
    assert (second["value"], second["compiled"]) == (42.0, True)
    assert any("program.py:10" in line for line in second["where"]), second
    program.edit("program.py", "2 * p.x", "3 * p.x")
    assert program.run()["value"] == 63.0


def test_code_with_effects_at_its_top_level_stays_evaluated_and_says_why(tiny_place):
    program = Program(tiny_place, tiny_place.root / "effects")
    program.edit("model.jl", "using Tiny, Statistics", "using Tiny, Statistics, Random\nRandom.seed!(42)")
    assert not program.run()["compiled"]
    built = json.loads(tiny_place.cli("build", "--quick", "--json").stdout.splitlines()[-1])
    assert any("model.jl:3" in note and "seed!" in note for note in built["notes"]), built["notes"]
    assert program.run() == {"answer": 42.5, "compiled": False, "names": "s1,s3,s5"}


OWN = """
struct P
    x
end
Base.show(io::IO, p::P) = print(io, "P")
f(x) = (g(y) = y; g(x))
P(x::String, y) = P(x)
"documented"
Base.:+(a::P, b::Int) = a
module Inner
struct Q end
Base.length(::Q) = 1
end
"""


@pytest.mark.parametrize(
    ("text", "image", "effect"),
    [
        (OWN, "", ""),
        ("Base.:+(a::String, b::String) = a * b", "typeof(+), String, String", ""),
        ("import Base: show\nshow(io::IO, x::Vector{Missing}) = 1", "typeof(show)", ""),
        ("module Inner\nBase.length(::Nothing) = 0\nend", "typeof(length)", ""),
        ("(r::Regex)(s::String) = match(r, s)", "Tuple{Regex, String}", ""),
        ('VERSION > v"1.0" && (Base.zero(::Type{String}) = "")', "typeof(zero)", ""),
        ('macro m()\n:(Base.one(::Type{String}) = "")\nend\n@m', "typeof(one)", ":4: #= "),
        ("for n in (:sin, :cos)\n@eval Base.$n(x::String) = x\nend", "String", ""),
        ("__init__() = nothing", "__init__", ""),
        ("for n in (:a, :b)\n    @eval $n(x) = x\nend", "", ""),
        ("f(x) = x\n\nsort!([1])", "", ":3: sort!"),
        ("const A = Dict(1 => 2)\nA[1] = 3", "", ":2: A[1] = 3"),
        ('if true\n    @info "loaded"\nend', "", "@info"),
        ("@inline g(x) = x\nconst B = g(2)", "", ""),
    ],
)
def test_what_may_be_part_of_an_image_and_what_must_be_evaluated(place, tmp_path, text, image, effect):
    (tmp_path / "own.jl").write_text(text)
    julia = Path(pyjl_autoimage.__file__).parent / "julia"
    asked = f"""
        include({json.dumps(str(julia / "precompile_layer.jl"))})
        include({json.dumps(str(julia / "own_code.jl"))})
        module Own
            include({json.dumps(str(tmp_path / "own.jl"))})
        end
        println(AutoimageLayer.reason_against_image(Own))
        println(something(AutoimageOwnCode.first_effect_in([{json.dumps(str(tmp_path / "own.jl"))}]), ""))
        """
    command = [place.environment.executable, "--startup-file=no", "-O0", "-e", asked]
    against, found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-2:]
    for wanted, said in ((image, against), (effect, found)):
        assert wanted in said
        assert bool(wanted) == bool(said)


EFFECTS = """
atexit() do; end
foreach(push!(LOAD_PATH, "x")) do i; end
Threads.@spawn nothing
Base.@info ""
identity.([1, 2])
ENV["A"] *= ":/x"
COUNT += 1
@assert true
@ccall getpid()::Cint
x = Random.seed!(42)
x = let a = [1]; push!(a, 2) end
const A = println("x")
const A = print.([1])
const HOME = get(ENV, "HOME", "")
const STARTED = Base.time()
const N = 2 * Threads.nthreads()
haskey(ENV, "DEBUG") && (f() = 1)
if isinteractive() f() = 1 end
a.b = 3
while false end
@testset "x" begin end
@inbounds A[1] = 2
@unknown f(x) = x
run(`true`)
3 + 4
const ID = objectid(Ref(1))
const LINES = readlines("table.csv")
const TABLE = CSV.read("table.csv", DataFrame)
const TEXTS = map(read, ["a", "b"])
if isfile("local.jl") f() = 1 end
rows(p) = countlines(p); twice(p; n = 2) = n * rows(p); const ROWS = twice("x")
const GET = path -> read(path, String); const DATA = GET("x")
started() = Base.time(); module Inner; const AT = Main.started(); end
struct S; x; S() = new(objectid(Ref(1))); end; const IT = S()
macro host() gethostname() end; const HOST = (@host)
"""
DEFINITIONS = """
f(x::T) where {T} = x
f(x)::Int = push!(x, 1)
function f end
macro m() end
const A = Dict{String,Vector{Int}}("a" => map(x -> push!(x, 1), []))
const B, C = 1, sqrt(2)
global D::Int = 3
Alias{T} = Vector{T}
const VIEWS = @views [1, 2][1:1]
"doc" f
"doc" const E = r"x"
@enum Colour red green
Base.@kwdef struct P; x::Int = 1; end
abstract type Q end; primitive type R 8 end; mutable struct S end
using Base: show; import Base; export f
@static if Sys.iswindows() g() = 1 else g() = 2 end
if VERSION >= v"1.11" g() = 1 end
try import Nothing catch end
let hidden = Ref(0); counter() = hidden[] += 1 end
module Inner; h(x) = x; end
include("x.jl"); Base.include_dependency("x.csv")
@inline g() = run(`true`)
@views h(x) = x[1:2]
for (n, m) in ((:a, :b),) @eval $n(x) = $m(x) end
rows(p) = countlines(p)
include_dependency("x.csv"); const ROWS = countlines("x.csv")
step(time, load; read = 1) = (stat = time + load; stat + read); const S = step(1, 2; read = 3)
struct T; time::Float64; end; width(x) = x.time + x.hash; const W = width((time = 1, hash = 2)) + T(1.0).time
name() = :time; const NAME = name()
"""


def test_only_what_is_known_to_define_is_a_definition(julia, tmp_path):
    driver = Path(pyjl_autoimage.__file__).parent / "julia" / "own_code.jl"
    (tmp_path / "lines").write_text(EFFECTS + DEFINITIONS)
    asked = f"""
        include({json.dumps(str(driver))})
        for line in eachline({json.dumps(str(tmp_path / "lines"))})
            isempty(line) && continue
            code = Meta.parseall(line)
            AutoimageOwnCode.doubt([code])
            println(AutoimageOwnCode.effect(code) === nothing ? "defines: " : "acts: ", line)
        end
        """
    command = [julia, "--startup-file=no", "-O0", "-e", asked]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    wanted = [f"acts: {line}" for line in EFFECTS.split("\n") if line]
    assert found == wanted + [f"defines: {line}" for line in DEFINITIONS.split("\n") if line]


def test_names_recorded_while_the_code_was_evaluated_are_those_of_the_package(layered):
    profile = json.loads(next(layered.place.store.glob("v1/environments/*/profile.json")).read_text())
    own = [text for text in profile["statements"] if "model_" in text]
    assert own
    assert not any("Main.model_" in text for text in own)


# -- on an image that holds the code -----------------------------------------------------------------------

FIT = """
import json
from pathlib import Path
from pyjl_autoimage import include, jl
model = include("model.jl")
table = str(model.report(str(Path(__file__).with_name("cases.csv"))))
compiled = jl.seval("m -> Base.PkgId(m).uuid !== nothing")(model)
in_image = jl.seval("m -> Base.in_sysimage(Base.PkgId(m))")(model)
north = next(line.split() for line in table.splitlines() if "north" in line)
print(json.dumps({"R0": float(north[3]), "compiled": bool(compiled), "in_image": bool(in_image)}))
"""


@pytest.fixture
def fitted(built: Place) -> Program:
    """The example, on an image that was built after it had run."""
    directory = built.root / "model"
    if not directory.exists():
        pytest.skip("the prepared project has no DataFrames and CSV, which the example uses")
    program = Program.__new__(Program)
    program.place, program.directory = built, directory
    program.write("theirs.py", FIT)
    return program


def run_fit(program: Program) -> dict:
    return json.loads(program.place.run_file(program.directory / "theirs.py").stdout.splitlines()[-1])


def test_an_image_holds_the_program_s_own_code(fitted):
    assert run_fit(fitted) == {"R0": 3.01, "compiled": True, "in_image": True}


@pytest.mark.parametrize("file", ["model.jl", "integrate.jl"])
def test_on_an_image_a_changed_file_is_evaluated_afresh_until_a_layer_has_it(fitted, file):
    before = (fitted.directory / file).read_text()
    try:
        if file == "model.jl":
            fitted.edit(file, "= model.beta / model.gamma", "= 2 * model.beta / model.gamma")
        else:
            fitted.edit(file, "(h / 6) .* (k1", "(h / 6) .* (1 .* k1")
        answer = 6.02 if file == "model.jl" else 3.01
        assert run_fit(fitted) == {"R0": pytest.approx(answer, abs=0.02), "compiled": False, "in_image": False}
        if file == "model.jl":
            built = json.loads(fitted.place.cli("build", "--quick", "--json").stdout.splitlines()[-1])
            assert built["layers"]
            assert run_fit(fitted) == {"R0": pytest.approx(answer, abs=0.02), "compiled": True, "in_image": False}
    finally:
        fitted.write(file, before)
    assert run_fit(fitted) == {"R0": 3.01, "compiled": True, "in_image": True}
