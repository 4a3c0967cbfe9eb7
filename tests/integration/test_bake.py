"""A recording is data: what a building Julia accepts of it, and what it never evaluates."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pyjl_autoimage.julia.call import JULIA_SOURCES, call_latest, julia_string

FIXTURES = Path(__file__).parent.parent / "fixtures"

ACCEPTED = [
    "precompile(Tuple{typeof(Base.:(==)), Int64, Int64})",
    "precompile(Tuple{typeof(Base.sum), Array{Float64, 1}})",
    "precompile(Tuple{typeof(Core.kwcall), NamedTuple{(:rev,), Tuple{Bool}}, typeof(Base.sort), Array{Int64, 1}})",
    "precompile(Tuple{Type{NamedTuple{(:a, :b), T} where T<:Tuple}, Tuple{Int64, Int64}})",
    "precompile(Tuple{typeof(Base.string), Int64, String})",
    "precompile(Tuple{typeof(Base.identity), Base.Val{-1}})",
    "precompile(Tuple{typeof(Base.identity), Base.Val{'x'}})",
    'precompile(Tuple{typeof(Base.identity), Base.Val{Symbol("#1")}})',
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
    "\0",
    "",
]


def bake(place, tmp_path, lines):
    """What bake.jl reports on these lines (in a Julia that writes no image)."""
    (tmp_path / "statements.jl").write_text("".join(f"{line}\n" for line in lines))
    names = [julia_string(str(tmp_path / name)) for name in ("statements.jl", "report")]
    source = julia_string(os.path.join(JULIA_SOURCES, "bake.jl"))
    code = call_latest(f"Base.include(Module(:AutoimageBake), {source})", "bake", *names)
    subprocess.run([place.environment.executable, "--startup-file=no", "-e", code], check=True, capture_output=True)
    report = (tmp_path / "report").read_text().splitlines()
    assert report[-1] == "end"
    return [int(line.split("\t")[1]) for line in report if line.startswith("unresolved\t")]


def test_statements_are_compiled(place, tmp_path):
    assert bake(place, tmp_path, ACCEPTED) == []


INFERRED = [
    "Tuple{typeof(Base.foldl), typeof(Base.max), AbstractArray{UInt16, 3}}",
    "Tuple{typeof(Base.getindex), AbstractDict{K, V} where V where K, Any}",
]


def test_of_what_cannot_be_compiled_ahead_the_image_gets_what_inference_found(place):
    """Whoever calls it has to know: without, its inference would be most of a first call of a function in Main."""
    lines = "[" + ", ".join(julia_string(f"precompile({line})") for line in INFERRED) + "]"
    code = f"""
        include({julia_string(os.path.join(JULIA_SOURCES, "bake.jl"))})
        kept(type) = any(Base.specializations(which(type))) do instance
            instance isa Core.MethodInstance && instance.specTypes == type && isdefined(instance, :cache)
        end
        for line in {lines}
            type = Bake.named(line, Module())
            println(Bake.compile(type), ' ', kept(type), ' ', Bake.infer(type), ' ', kept(type))
        end
        """
    command = [place.environment.executable, "--startup-file=no", "-e", code]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == "false false true true\n" * len(INFERRED)


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


def test_most_of_a_real_recording_of_base_is_accepted(place, tmp_path):
    lines = (FIXTURES / "julia-1.10" / "trace-stock.jl").read_text().splitlines()
    base = [line for line in lines if not any(name in line for name in ("PythonCall", "DataFrames", "CSV", "Tables"))]
    assert len(bake(place, tmp_path, base)) < len(base)
