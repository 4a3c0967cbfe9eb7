"""What Julia 1.14 makes of a module, made by hand: there is no such Julia to test with yet."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import pyjl_autoimage

SOURCES = Path(pyjl_autoimage.__file__).parent / "julia"


def said(julia: str, source: str, code: str) -> list[str]:
    """The lines that Julia prints when it has included one of our files, and evaluates this."""
    asked = f"include({json.dumps(str(SOURCES / source))})\n{code}"
    command = [julia, "--startup-file=no", "-O0", "-e", asked]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


# A module as Julia 1.10 writes it, and as 1.14 does.
MODULE = """
body = Meta.parseall({text}).args
as_written(version...) = Expr(:module, version..., true, :Inner, Expr(:block, body...))
both = (as_written(), as_written(v"1.14"))
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("f(x) = x", "nothing"),
        ("f(x) = x\nsort!([1])", "sort!([1])"),
        ("module Within\nconst A = 1\n@info A\nend", "@info"),
    ],
)
def test_what_a_module_does_at_its_top_level_is_seen_in_either_form(julia, text, found):
    code = MODULE.format(text=json.dumps(text)) + "foreach(ex -> println(AutoimageOwnCode.effect(ex)), both)"
    three, four = said(julia, "own_code.jl", code)
    assert three == four and found in three


@pytest.mark.parametrize(
    ("written", "made", "syntax"),
    [
        ("AutoimageCode.module_in_main()", ":module true :own", None),
        ('Expr(:module, v"1.14", true, :M, Expr(:block))', ':module v"1.14.0" true :own', "syntax=1.14.0"),
        ("Expr(:module, true, :M, Expr(:block))", ":module true :own", ""),
    ],
)
def test_own_code_becomes_a_module_as_julia_makes_one(julia, written, made, syntax):
    code = f"""
        written = {written}
        made = AutoimageCode.alike(written, :own, Expr(:block))
        println(join(repr.((made.head, made.args[1:end-1]...)), ' '))
        println(made.args[end] == Expr(:block) && written.args[end-1] === :M)
        println(AutoimageCode.syntax(written))
        """
    form, kept, version = said(julia, "code.jl", code)
    assert kept == "true"
    if syntax is None:  # as this Julia itself has it
        assert version in ("", f"syntax={form.split()[1][2:-1]}")
        form = " ".join(part for part in form.split() if not part.startswith("v"))
    else:
        assert version == syntax
    assert form == made


def test_code_is_evaluated_with_what_it_includes(julia, tmp_path):
    (tmp_path / "own.jl").write_text('include("part.jl")\nmodule Inner\nanswer() = 42\nend\n')
    (tmp_path / "part.jl").write_text("part() = Inner.answer()\n")
    code = f"""
        own = AutoimageCode.evaluate("own_1a", {json.dumps(str(tmp_path / "own.jl"))}, nothing, "")
        println(Base.invokelatest(own.part), ' ', parentmodule(own) === own, ' ', isdefined(Main, :own_1a))
        foreach(println, split(AutoimageCode.facts(), '\\0'))
        """
    answer, *facts = said(julia, "code.jl", code)
    assert answer == "42 true false"
    assert [fact for fact in facts if fact.startswith("file=")] == [
        f"file={tmp_path / name}" for name in ("own.jl", "part.jl")
    ]


@pytest.mark.parametrize("syntax", ["", '[syntax]\njulia_version = "1.14.0"\n'])
def test_the_files_of_a_package_are_parsed_as_its_project_says(julia, tmp_path, syntax):
    """As far as this Julia knows several syntaxes."""
    (tmp_path / "Project.toml").write_text(f'name = "own_1a"\n{syntax}')
    (tmp_path / "own.jl").write_text("f(x) = x\n\nsort!([1])\n")
    project, file = (json.dumps(str(tmp_path / name)) for name in ("Project.toml", "own.jl"))
    code = f"println(AutoimageOwnCode.first_effect_in([{file}], AutoimageOwnCode.alike({project})))"
    assert said(julia, "own_code.jl", code) == [f"{tmp_path / 'own.jl'}:3: sort!([1])"]
