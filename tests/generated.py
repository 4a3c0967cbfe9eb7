"""Julia files as programs have them, put together by chance: what they do from a layer is what they do evaluated.

    python tests/generated.py --files 2000 --seed 1     # by hand, with a real Julia; hours

A file is a handful of features: statements at its top level, and an expression that would notice if they had run
elsewhere, at another time, or not at all. (`{n}` makes their names differ, `{k}` is a number.)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from conftest import Place

FEATURES = {
    # what only defines
    "constant": ("const A{n} = {k} + 1", "A{n}"),
    "typed global": ("D{n}::Int = {k}\nbump{n}() = (global D{n} += 1; D{n})", "bump{n}()"),
    "dictionary": ('const T{n} = Dict("a" => [{k}], "b" => Int[])\npush!_{n}(x) = push!(T{n}["b"], x)', 'push!_{n}(2); string(T{n}["b"], T{n}["a"])'),
    "struct": ("struct S{n}\n    x::Int\nend\nBase.show(io::IO, s::S{n}) = print(io, 'S', s.x)", "string(S{n}({k}))"),
    "mutable": ("mutable struct M{n}\n    x\nend\nconst IT{n} = M{n}({k})", "(IT{n}.x += 1; IT{n}.x)"),
    "parametric": ("struct P{n}{{T}}\n    x::T\nend\nP{n}(x::String) = P{n}(length(x))", 'P{n}("abc").x + {k}'),
    "abstract": ("abstract type Q{n} end\nstruct R{n} <: Q{n} end\nf{n}(::Q{n}) = {k}", "f{n}(R{n}())"),
    "operator": ("struct O{n}\n    x\nend\nBase.:+(a::O{n}, b::Int) = a.x + b", "O{n}({k}) + 1"),
    "piracy": ("Base.length(::Val{{{n}{k}}}) = {k}", "length(Val({n}{k}))"),
    "iterate": ("struct C{n} end\nBase.iterate(::C{n}, s = 1) = s > 3 ? nothing : (s, s + 1)\nBase.length(::C{n}) = 3", "sum(x for x in C{n}())"),
    "closure": ("let count = Ref({k})\n    global next{n}() = (count[] += 1)\nend", "(next{n}(); next{n}())"),
    "macro": ("macro m{n}(x)\n    :($(esc(x)) + {k})\nend\ng{n}(x) = @m{n} x", "g{n}(1)"),
    "generated": ("@generated h{n}(x::T) where {{T}} = T === Int ? :(x + {k}) : :(0)", "(h{n}(1), h{n}(1.0))"),
    "keywords": ("k{n}(x; y = {k}, z...) = (x, y, length(z))", "k{n}(1; a = 2)"),
    "loop of methods": ("for name in (:a, :b)\n    @eval $(Symbol(name, :_{n}))(x) = x + {k}\nend", "a_{n}(1) + b_{n}(2)"),
    "enum": ("@enum E{n} red{n} green{n} = {k}", "Int(green{n})"),
    "kwdef": ("Base.@kwdef struct W{n}\n    x::Int = {k}\nend", "W{n}().x"),
    "docstring": ('"What {n} is."\ndoc{n}() = {k}', "doc{n}()"),
    "submodule": ("module I{n}\nconst X = Ref({k})\n__init__() = X[] += 1\nget() = X[]\nend", "I{n}.get()"),
    "init": ("const READY{n} = Ref(0)\n__init__() = READY{n}[] += {k}", "READY{n}[]"),
    "regex": ('const X{n} = r"(\\d+)-{k}"', 'match(X{n}, "12-{k}")[1]'),
    "big": ("const B{n} = big({k})^40\nconst F{n} = BigFloat({k}) / 3", "string(B{n}, ' ', F{n})"),
    "lock": ("const L{n} = ReentrantLock()", "lock(() -> {k}, L{n})"),
    "channel": ("const H{n} = Channel{{Int}}(3)", "(put!(H{n}, {k}); take!(H{n}))"),
    "symbols": ("const Y{n} = Set([:a, Symbol({k})])", "Symbol({k}) in Y{n}"),
    "function table": ("const FS{n} = [sin, x -> x + {k}]", "FS{n}[2](1)"),
    "view": ("const V{n} = view(collect(1:10), {k}:{k}+1)", "sum(V{n})"),
    "version": ('@static if VERSION >= v"1.12"\n    v{n}() = "new"\nelse\n    v{n}() = "old"\nend', "v{n}()"),
    "logic": ("const Z{n} = {k} > 3 ? :large : :small", "Z{n}"),
    "statistics": ("using Statistics\nmiddle{n}(x) = median(x)", "middle{n}([1, {k}, 9])"),
    "dates": ("using Dates\nconst DAY{n} = Date(2020, 1, {k})", "string(DAY{n} + Day(1))"),
    "weak": ("const WK{n} = WeakRef(nothing)", "WK{n}.value === nothing"),
    "atomic": ("const AT{n} = Threads.Atomic{{Int}}({k})", "Threads.atomic_add!(AT{n}, 1)"),
    "tuple names": ("const U{n}, UU{n} = {k}, ({k}, 'x')", "(U{n}, UU{n})"),
    "identity": ("const OBJECT{n} = Ref({k})\nconst KNOWN{n} = IdDict(OBJECT{n} => 1)", "KNOWN{n}[OBJECT{n}]"),
    "hashes": ("const HASHED{n} = Dict(Ref(1) => {k})\nconst KEY{n} = first(keys(HASHED{n}))", "get(HASHED{n}, KEY{n}, 0)"),
    # what acts, or means something in its own process alone
    "prints": ('println("loading {n}")', "1"),
    "prints behind": ("say{n}(x) = (println(x); x)\nconst SAID{n} = say{n}({k})", "SAID{n}"),
    "sets a variable": ('ENV["GENERATED_{n}"] = "{k}"', 'ENV["GENERATED_{n}"]'),
    "sets it behind": ('set{n}() = (ENV["BEHIND_{n}"] = "{k}"; 1)\nconst SET{n} = set{n}()', 'ENV["BEHIND_{n}"]'),
    "reads a variable": ('const HOME{n} = get(ENV, "GENERATED", "")', "HOME{n}"),
    "adds up": ("SUM{n} = 0\nSUM{n} += {k}\nCOUNTED{n} = Ref(0)\nCOUNTED{n}[] += 1", "(SUM{n}, COUNTED{n}[])"),
    "broadcasts": ("const BC{n} = zeros(3)\nBC{n} .= {k}", "BC{n}"),
    "at exit": ('atexit() do\n    println("bye {n}")\nend', "2"),
    "at exit behind": ('later{n}() = (atexit(() -> println("bye behind {n}")); 1)\nconst LATER{n} = later{n}()', "LATER{n}"),
    "seeds": ("using Random\nRandom.seed!({k})", "rand(UInt16)"),
    "own generator": ("using Random\nconst OWN{n} = Xoshiro({k})", "rand(OWN{n}, UInt16)"),
    "generator": ("using Random\nconst CHANCE{n} = MersenneTwister()", "rand(CHANCE{n}, UInt64) isa UInt64"),
    "temporary": ("const TMP{n} = mktempdir()", "isdir(TMP{n})"),
    "temporary behind": ("tmp{n}() = tempname()\nconst TN{n} = tmp{n}()\ntouch{n}() = (write(TN{n}, 'x'); filesize(TN{n}))", "touch{n}()"),
    "file": ('const IO{n} = open(@__FILE__)\nline{n}() = (seekstart(IO{n}); length(readline(IO{n})) >= 0)', "line{n}()"),
    "task": ("const TASK{n} = Threads.@spawn {k} + 1", "fetch(TASK{n})"),
    "task behind": ("start{n}() = @async({k} + 1)\nconst STARTED{n} = start{n}()", "fetch(STARTED{n})"),
    "timer": ("const TIMER{n} = Timer(60)", "isopen(TIMER{n})"),
    "condition": ("const CONDITION{n} = Base.Event()\nnotify(CONDITION{n})", "(wait(CONDITION{n}); {k})"),
    "cfunction": ("const CF{n} = @cfunction(abs, Cint, (Cint,))", "ccall(CF{n}, Cint, (Cint,), -{k})"),
    "symbol of a library": ('using Libdl\nconst DL{n} = dlsym(dlopen("libm.so.6"), :fabs)', "ccall(DL{n}, Float64, (Float64,), -{k}.0)"),
    "pointer": ("const DATA{n} = [{k}, 2]\nconst POINTER{n} = pointer(DATA{n})", "unsafe_load(POINTER{n})"),
    "clock": ("const WHEN{n} = time()", "time() - WHEN{n} < 600"),
    "object id": ("const THING{n} = Ref(1)\nconst ID{n} = objectid(THING{n})", "objectid(THING{n}) == ID{n}"),
    "hash of an object": ("const ANY{n} = Ref({k})\nconst HASH{n} = hash(ANY{n})", "hash(ANY{n}) == HASH{n}"),
    "process behind": ("pid{n}() = getpid()\nconst PID{n} = pid{n}()", "PID{n} == getpid()"),
    "reads behind": ('rows{n}() = countlines(joinpath(@__DIR__, "table.csv"))\nconst READ{n} = rows{n}()', "READ{n}"),
    "own names": ("step{n}(time, load) = time + load\nconst STEP{n} = step{n}(1, {k})", "STEP{n}"),
    "finalizer": ("const FINAL{n} = finalizer(x -> nothing, Ref({k}))", "FINAL{n}[]"),
    "redefinition": ("again{n}() = 1\nconst FIRST{n} = again{n}()\nagain{n}() = {k}", "(FIRST{n}, again{n}())"),
    "logger": ("using Logging\nglobal_logger(NullLogger())", "(@info(\"hidden\"); 3)"),
    "python object": ('using PythonCall\nconst PY{n} = pyimport("math")', "pyconvert(Int, PY{n}.floor({k}.5))"),
    "python behind": ("using PythonCall\nmutable struct Holder{n}\n    x::Any\nend\nmake{n}() = Holder{n}(pylist([{k}]))\nconst HELD{n} = make{n}()", "pyconvert(Int, HELD{n}.x[0])"),
    "python later": ('using PythonCall\nconst NEW{n} = PythonCall.pynew()\nmodule IP{n}\nimport ..NEW{n}, PythonCall\n__init__() = PythonCall.pycopy!(NEW{n}, PythonCall.pyimport("math"))\nend', "pyconvert(Int, NEW{n}.floor({k}.5))"),
    "included": ('include("part.jl")', "part()"),
    "read file": ('include_dependency("table.csv")\nconst ROWS{n} = countlines(joinpath(@__DIR__, "table.csv"))', "ROWS{n}"),
}  # fmt: skip

ONCE = frozenset({"init", "included"})
"""Features that a file has once at most."""


@dataclass(frozen=True)
class File:
    """A file, and the features that it is made of."""

    features: tuple[str, ...]
    text: str


@st.composite
def files(draw: st.DrawFn) -> File:
    """A file with some features, in some order."""
    names = draw(st.lists(st.sampled_from(sorted(FEATURES)), min_size=1, max_size=5))
    chosen = tuple(name for at, name in enumerate(names) if name not in ONCE or name not in names[:at])
    parts, probes = [], []
    for number, name in enumerate(chosen):
        statements, probe = (text.format(n=number, k=draw(st.integers(1, 9))) for text in FEATURES[name])
        parts.append(statements)
        probes.append(f"({probe})")
    text = "\n\n".join(parts)
    return File(chosen, f"{text}\n\nprobe() = string.(({', '.join(probes)},))\n")


PROGRAM = """
import sys
from pyjl_autoimage import include, jl
compiled = jl.seval("m -> Base.PkgId(m).uuid !== nothing")
for path in sys.argv[1:]:
    try:
        code = include(path)
        print(path, *code.probe(), sep=" | ", flush=True)
        print(path, bool(compiled(code)), file=sys.stderr)
    except Exception as error:
        print(path, type(error).__name__, str(error).splitlines()[0], sep=" | ", flush=True)
"""

AT_ONCE = 10
"""Files in one process."""


def differences(place: Place, directory: Path, given: Sequence[File]) -> tuple[list[str], Counter[str], int]:
    """Run files evaluated, build a layer, run them again.

    Returns:
        What differed: the file, and both outputs. How often each feature was tried. How many files came compiled.
    """
    directory.mkdir(parents=True)
    (directory / "part.jl").write_text("part() = 42\n")
    (directory / "table.csv").write_text("a\nb\nc\n")
    (directory / "program.py").write_text(PROGRAM)
    paths = []
    for number, file in enumerate(given):
        paths.append(directory / f"file{number}.jl")
        paths[-1].write_text(file.text)

    def run(chosen: Sequence[Path], **environ: str) -> tuple[str, int, str]:
        command = [sys.executable, "program.py", *(path.name for path in chosen)]
        result = place.run(["sh", "-c", 'cd "$0" && exec "$@"', str(directory), *command], check=False, **environ)
        return result.stdout, result.returncode, result.stderr

    def both(chosen: Sequence[Path]) -> tuple[tuple[str, int], tuple[str, int], int]:
        plain, ours = run(chosen, PYJL_AUTOIMAGE="0"), run(chosen)
        return plain[:2], ours[:2], sum(line.endswith(".jl True") for line in ours[2].splitlines())

    groups = [paths[at : at + AT_ONCE] for at in range(0, len(paths), AT_ONCE)]
    for group in groups:
        run(group)
    place.cli("build", "--quick")
    found, compiled = [], 0
    for group in groups:
        plain, ours, number = both(group)
        compiled += number
        if plain != ours:
            for path in group:  # which of them
                plain, ours, _ = both([path])
                if plain != ours:
                    found.append(f"{path.read_text()}\nplain: {plain}\nours:  {ours}\n")
    return found, Counter(name for file in given for name in file.features), compiled


def generated(number: int, chance: int) -> list[File]:
    """So many files; the same ones for the same seed."""
    found: list[File] = []

    @seed(chance)
    @settings(max_examples=number, phases=[Phase.generate], database=None, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(files())
    def collect(file: File) -> None:
        found.append(file)

    collect()
    return found[:number]


def main() -> int:
    """Try many files with the prepared project of the tests."""
    import tempfile

    sys.path.insert(0, str(Path(__file__).parent / "integration"))
    from conftest import make_place

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--layer", type=int, default=50, help="files of one layer")
    options = parser.parse_args()
    features, wrong, compiled, tried = Counter[str](), 0, 0, 0
    with tempfile.TemporaryDirectory() as root:
        prepared = Path.home() / ".julia" / "environments" / "pyjuliapkg"
        for at in range(0, options.files, options.layer):
            place = make_place(Path(root) / str(at), prepared)
            given = generated(min(options.layer, options.files - at), options.seed + at)
            found, used, number = differences(place, place.root / "files", given)
            features += used
            wrong, compiled, tried = wrong + len(found), compiled + number, tried + len(given)
            print(*found, sep="\n", end="", flush=True)
            print(f"{tried} files, {compiled} compiled, {wrong} differ", flush=True)
    print(json.dumps(dict(features.most_common()), indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
