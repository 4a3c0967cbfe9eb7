"""A recording is data: what a building Julia accepts of it, and what it never evaluates."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from pyjl_autoimage.base.call import JULIA_SOURCES, call_latest, julia_string
from pyjl_autoimage.julia.items import report_at

FIXTURES = Path(__file__).parent.parent / "fixtures"


def of(part: str) -> str:
    return f"precompile(Tuple{{typeof(Base.identity), {part}}})"


ACCEPTED = [
    "precompile(Tuple{typeof(Base.:(==)), Int64, Int64})",
    "precompile(Tuple{typeof(Base.sum), Array{Float64, 1}})",
    "precompile(Tuple{typeof(Core.kwcall), NamedTuple{(:rev,), Tuple{Bool}}, typeof(Base.sort), Array{Int64, 1}})",
    "precompile(Tuple{Type{NamedTuple{(:a, :b), T} where T<:Tuple}, Tuple{Int64, Int64}})",
    "precompile(Tuple{typeof(Base.string), Int64, String})",
    of("Base.Val{-1}"),
    of("Base.Val{'x'}"),
    'precompile(Tuple{typeof(Base.identity), Base.Val{Symbol("#1")}})',
    'precompile(Tuple{Base.var"#13#14"{DataType}, Int64})',
    of("Base.Val{(1, :a, 0x02, 1.5, -9223372036854775808)}"),
    of("Base.Val{Char(0x00000041)}"),
    "precompile(Tuple{typeof(Base.:(\\)), Array{Float64, 2}, Array{Float64, 1}})",
    of("Type{Array{T, N} where N where T}"),
    of("Type{Array{T, 1} where Int8<:T<:Signed}"),
    of("Type{Array{T, N} where {T<:Real, N}}"),
    of("Type{Array{<:Integer, 1}}"),
    of("Type{Base.Ref{T} where T>:Nothing}"),
    of("NTuple{1000, Int64}"),
    "precompile(Tuple{typeof(sum), Vector{Int}})",
]
REFUSED = [
    "precompile(Tuple{run(`touch {trap}`)})",
    "precompile(Tuple{typeof(run(`touch {trap}`))})",
    'precompile(Tuple{(touch)("{trap}")})',
    'precompile(Tuple{Base.touch("{trap}")})',
    'precompile(Tuple{"$(touch("{trap}"))"})',
    'precompile(Tuple{Symbol("$(touch("{trap}"))")})',
    'precompile(Tuple{@eval touch("{trap}")})',
    'precompile(Tuple{begin touch("{trap}") end})',
    'precompile(Tuple{let; touch("{trap}"); end})',
    'precompile(Tuple{(x -> touch("{trap}"))(1)})',
    'precompile(Tuple{T} where T<:touch("{trap}"))',
    'precompile(Tuple{Int}); touch("{trap}")',
    'touch("{trap}")',
    "precompile(Tuple{",
    "precompile(Tuple{NoSuchPackage.f})",
    "precompile(Tuple{typeof(Base.identity, Base.sin)})",
    'precompile(Tuple{typeof(Base.identity), Base.Val{Symbol("\\"")}})',
    "precompile(Tuple{typeof(Base.identity), Base.Val{'var\"'(((\"}})",
    "precompile(Tuple{Main.Base.ENV.path})",
    "\0",
    "",
]


TOO_MUCH = [
    of("Tuple{Vararg{Int64, 100000000}}"),
    of("NTuple{100000000, Int64}"),
    of("Tuple{Vararg{" * 9 + "Int64" + ", 1000}}" * 9),
    of("Tuple{" * 3000 + "Int64" + "}" * 3000),
    of("A{" * 6000 + "Int" + "}" * 6000),
    of("(" * 9000 + "Int" + ")" * 9000),
    of("A" + "{}" * 9000),
    of("Base.Val{" + "-" * 5000 + "1}"),
    of("::" * 9000 + "Int"),
    of("begin " * 3000 + "1" + " end" * 3000),
    of("a:" * 9000 + "b"),
    of(f"Union{{{', '.join(f'Base.Val{{{n}}}' for n in range(2000))}}}"),
    of(f"Type{{T0{''.join(f' where T{n}<:T{n + 1}' for n in range(301))} where T301}}"),
    "precompile(Tuple{typeof(" + "a." * 9000 + "b), Int})",
    "precompile(Tuple{" + "(" * 9000,
]


def bake(place, tmp_path, lines):
    """What bake.jl reports on these lines (in a Julia that has the recorder and writes no image)."""
    (tmp_path / "statements.jl").write_text("".join(f"{line}\n" for line in lines))
    names = [julia_string(str(tmp_path / name)) for name in ("statements.jl", "report")]
    source = julia_string(os.path.join(JULIA_SOURCES, "bake.jl"))
    code = call_latest(f"Base.include(Module(:AutoimageBake), {source})", "bake", *names)
    command = [place.environment.executable, "--startup-file=no", "--compiled-modules=no", "-e"]
    load_path = os.pathsep.join((JULIA_SOURCES, "@stdlib"))
    subprocess.run(
        [*command, f"using AutoimageRecorder; {code}"],
        env=os.environ | {"JULIA_LOAD_PATH": load_path},
        check=True,
        capture_output=True,
    )
    report = report_at(str(tmp_path / "report"))
    assert report is not None
    return [int(value) for kind, value, *_ in report if kind == "unresolved"]


def julia_says(place, code, *arguments):
    """What a Julia prints that has bake.jl."""
    include = f"include({julia_string(os.path.join(JULIA_SOURCES, 'bake.jl'))})"
    command = [place.environment.executable, "--startup-file=no", "-e", f"{include}\n{code}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def known_to(place, lines: list[str]) -> list[str]:
    """Closures have numbers in their names, which differ from Julia to Julia: these are of 1.10."""
    return [line for line in lines if place.facts.version.startswith("1.10.") or 'var"#' not in line]


def test_statements_are_compiled(place, tmp_path):
    assert bake(place, tmp_path, known_to(place, ACCEPTED)) == []


INFERRED = [
    "Tuple{typeof(Base.foldl), typeof(Base.max), AbstractArray{UInt16, 3}}",
    "Tuple{typeof(Base.getindex), AbstractDict{K, V} where V where K, Any}",
]


def test_of_what_cannot_be_compiled_ahead_the_image_gets_what_inference_found(place):
    """Whoever calls it has to know: without, its inference would be most of a first call of a function in Main."""
    lines = "[" + ", ".join(julia_string(f"precompile({line})") for line in INFERRED) + "]"
    code = f"""
        kept(type) = any(Base.specializations(which(type))) do instance
            instance isa Core.MethodInstance && instance.specTypes == type && isdefined(instance, :cache)
        end
        for line in {lines}
            type = Bake.named(line)
            println(Bake.compile(type), ' ', kept(type), ' ', Bake.infer(type), ' ', kept(type))
        end
        """
    assert julia_says(place, code) == "false false true true\n" * len(INFERRED)


def test_nothing_else_is_evaluated(place, tmp_path):
    trap = tmp_path / "trap"
    lines = [line.replace("{trap}", str(trap)) for line in REFUSED]
    assert bake(place, tmp_path, lines) == list(range(1, len(lines) + 1))
    assert not trap.exists()


def test_file_names_cannot_inject_code(place, tmp_path):
    strange = tmp_path / 'a"; touch("trap"); "$(touch("trap"))\\'
    strange.mkdir()
    assert bake(place, strange, ACCEPTED[:1]) == []
    assert not list(tmp_path.rglob("trap"))


def test_a_line_costs_at_most_what_a_line_may_cost(place, tmp_path):
    began = time.monotonic()
    assert bake(place, tmp_path, TOO_MUCH) == list(range(1, len(TOO_MUCH) + 1))
    assert time.monotonic() - began < 60


def test_what_is_no_module_is_not_asked_for_its_parts(place):
    """A dot on another object calls code of a package's own."""
    code = """
        lazy = Core.eval(Base.__toplevel__, :(module Lazy
            struct Handle end
            const handle = Handle()
            const CALLED = String[]
            Base.getproperty(::Handle, name::Symbol) = (push!(CALLED, string(name)); Int)
        end))
        named(part) = Bake.named("precompile(Tuple{typeof(Base.identity), $part})", [lazy])
        println(named("Lazy.Handle"), ' ', named("Lazy.handle.a"), ' ', lazy.CALLED)
        """
    assert julia_says(place, code) == "Tuple{typeof(identity), Lazy.Handle} nothing String[]\n"


def test_a_field_may_be_as_long_a_tuple_as_any(place):
    code = """
        module Own; struct Held{N,T}; data::NTuple{N,T}; end; struct Sized{N} end; end
        named(part) = Bake.named("precompile(Tuple{typeof(Base.identity), $part})", [Own]) !== nothing
        print(named("Own.Held{9, Int}"), named("Own.Held{100000000, Int}"), named("Own.Sized{100000000}"))
        """
    assert julia_says(place, code) == "truefalsetrue"


def test_all_but_a_few_of_what_julia_itself_prints_is_understood_and_means_what_it_did(place, tmp_path):
    """Every method instance of Julia's own image, as its trace would name it."""
    code = """
        Base.include(Main, ARGS[1])
        number = 0
        each = open(ARGS[2], "w") do io
            types = Any[]
            visit_methods() do method
                for instance in Base.specializations(method)
                    instance isa Core.MethodInstance || continue
                    global number += 1
                    number % 7 == 0 || continue
                    push!(types, instance.specTypes)
                    print(io, "precompile(")
                    ccall(:jl_static_show, Csize_t, (Ptr{Cvoid}, Any), (flush(io); io.handle), instance.specTypes)
                    print(io, ")\\n")
                end
            end
            types
        end
        println(count(map((line, type) -> Bake.named(line) == type, readlines(ARGS[2]), each)), ' ', length(each))
        """
    versions = os.path.join(JULIA_SOURCES, "versions.jl")
    same, all_of_them = map(int, julia_says(place, code, versions, str(tmp_path / "printed")).split())
    assert all_of_them > 1000 and same >= 0.97 * all_of_them


def test_a_real_recording_of_base_is_accepted(place, tmp_path):
    lines = (FIXTURES / "julia-1.10" / "trace-stock.jl").read_text().splitlines()
    roots = [set(re.findall(r'(?<![\w.":#])([A-Za-z]\w*)\.', line)) for line in lines]
    base = [line for line, names in zip(lines, roots, strict=True) if names <= {"Base", "Core"}]
    base = known_to(place, base)
    assert len(base) > 80
    assert len(bake(place, tmp_path, base)) <= 0.05 * len(base)
