"""Whose a statement is: read from what real Julias wrote."""

from __future__ import annotations

from collections import Counter

import pytest

from pyjl_autoimage.explain.attribution import JULIA, OURS, PROGRAM, owner


@pytest.mark.parametrize(
    ("types", "whose"),
    [
        ("typeof(CSV.detectcolumnnames), Array{UInt8, 1}, Int64, Parsers.Options, Any", "CSV"),
        ("typeof(Base.getindex), DataFrames.DataFrame, Base.Colon, Array{Symbol, 1}", "DataFrames"),
        ("typeof(Core.kwcall), NamedTuple{(:rev,), Tuple{Bool}}, typeof(Tables.sort), Int64", "Tables"),
        ('PythonCall.JlWrap.var"#f##0#f##1"{String}, PythonCall.Py', "PythonCall"),
        ("Type{InlineStrings.String7}, WeakRefStrings.PosLenString", "InlineStrings"),
        ('Main.var"#2#3", String', PROGRAM),
        ("typeof(Base.map), Main.Model.f, DataFrames.DataFrame", PROGRAM),
        ("typeof(model_9747b9c5.report), String", PROGRAM),
        ("typeof(Base.:(==)), Int64, Int64", JULIA),
        ("typeof(Core.Compiler.typeinf), Any", JULIA),
        ('typeof(Base.f), Base.Val{Symbol("Plots.jl is no module")}', JULIA),
        ("typeof(Base.f), Base.Val{'.'}, Base.Val{1.5}", JULIA),
        ("AutoimageRecorder.note, Base.PkgId", OURS),
        ("typeof(AutoimageStatements_1a2b.f)", OURS),
        ('anonymous.var"#1#2", Any', OURS),
    ],
)
def test_owner(types, whose):
    assert owner(f"precompile(Tuple{{{types}}})") == whose


@pytest.mark.parametrize("name", ["julia-1.10/trace-stock.jl", "julia-1.12/trace-stock-timed.jl"])
def test_what_owns_the_statements_of_a_real_run_are_packages(fixtures, name):
    owners = Counter(map(owner, (fixtures / name).read_text().splitlines()))
    assert {JULIA, PROGRAM, "PythonCall", "DataFrames", "CSV", "PooledArrays"} <= set(owners)
    assert not {"Core", "Base", "Main", "typeof", "Tuple"} & set(owners)
    assert all(name in (JULIA, PROGRAM) or name.isidentifier() for name in owners)
