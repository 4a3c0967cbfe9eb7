"""What Python's first call of a Julia function costs beyond the function: nothing is specialised for it, nothing that
a program can see changes, and what was only inferred is noted for the next build."""

from __future__ import annotations

import pytest

from conftest import Place
from pyjl_autoimage.profile.profile import INFERRED
from pyjl_autoimage.profile.recordings import parse_statement

CALLS = """
import json
{begin}
jl.seval("function add(x, y = 1; by = 0)\\n x + y + by\\nend")
jl.seval("fail(x) = error(x)")
jl.seval("twice(f, x) = f(f(x))")
jl.seval("struct Point; x; y; end")
jl.seval("(p::Point)(k) = p.x + k * p.y")

def outcome(call):
    try:
        return repr(call())
    except BaseException as error:
        return f"{{type(error).__name__}}: {{str(error).splitlines()[0]}}"

outcomes = [outcome(call) for call in (
    lambda: jl.add(1),
    lambda: jl.add(1, 2),
    lambda: jl.add(1, by=5),
    lambda: jl.add("a"),
    lambda: jl.add(1, 2, 3),
    lambda: jl.add(1, nothing=1),
    lambda: jl.add(),
    lambda: jl.fail("on purpose"),
    lambda: jl.add.jl_call_nogil(2, 3),
    lambda: jl.add._jl_raw()(2, 3),
    lambda: jl.twice(lambda x: x + 1, 5),
    lambda: jl.twice(lambda x: x / 0, 5),
    lambda: jl.seval("f -> map(f, 1:3)")(lambda x: x * 2),
    lambda: jl.Point(1, 2)(3),
    lambda: jl.Point(1),
    lambda: jl.Point(1, 2).z,
    lambda: jl.sum([1, 2, 3]),
    lambda: jl.Dict([("a", 1)])["b"],
)]
print(json.dumps(outcomes))
"""

SPECIALISED = """
sort!([string(instance.specTypes)
       for instance in Base.specializations(only(methods(PythonCall.JlWrap.pyjlany_call)))
       if instance isa Core.MethodInstance && occursin("Main.", string(instance.specTypes))])
"""


@pytest.fixture(scope="module")
def outcomes(place: Place) -> list[str]:
    """What plain juliacall does."""
    return place.json(CALLS.format(begin="from juliacall import Main as jl"), PYJL_AUTOIMAGE="0")


@pytest.mark.parametrize("record", ["1", "0"])
def test_calls_do_what_they_do_in_plain_juliacall(place: Place, outcomes: list[str], record: str) -> None:
    code = CALLS.format(begin="from pyjl_autoimage import jl")
    assert place.json(code, PYJL_AUTOIMAGE_RECORD=record) == outcomes


def test_on_an_image_too(built: Place) -> None:
    plain = built.json(CALLS.format(begin="from juliacall import Main as jl"), PYJL_AUTOIMAGE="0")
    begin = "from pyjl_autoimage import jl; assert jl.seval('Base.in_sysimage(Base.PkgId(PythonCall))')"
    assert built.json(CALLS.format(begin=begin)) == plain


@pytest.mark.parametrize("record", ["1", "0"])
def test_nothing_is_specialised_for_a_function_that_python_calls(place: Place, record: str) -> None:
    code = f"""
import json
from pyjl_autoimage import jl
jl.seval("first_one(x) = x + 1")
jl.seval("second_one(x; y) = x + y")
assert jl.first_one(1) == 2 and jl.second_one(1, y=2) == 3
print(json.dumps([str(text) for text in jl.seval('''{SPECIALISED}''')]))
"""
    assert place.json(code, PYJL_AUTOIMAGE_RECORD=record) == []


def test_a_method_of_another_shape_is_left_alone(place: Place) -> None:
    code = """
import json
from pyjl_autoimage import jl
import os, pyjl_autoimage
here = os.path.join(os.path.dirname(pyjl_autoimage.__file__), "julia", "callers.jl")
jl.seval("module Fake; module JlWrap; pyjlany_call(self::Int, args, kwargs, more) = 1; end; struct Py end; end")
jl.seval("module Callers end")
jl.seval(f"Base.include(Callers, {json.dumps(here)})")
before = jl.seval("only(methods(Fake.JlWrap.pyjlany_call)).nospecialize")
jl.seval("Callers.unspecialize_callers(Fake)")
print(json.dumps([before, jl.seval("only(methods(Fake.JlWrap.pyjlany_call)).nospecialize")]))
"""
    before, after = place.json(code)
    assert before == after


def test_what_a_run_only_inferred_is_noted_as_it_ends(place: Place) -> None:
    code = """
import json
from pyjl_autoimage import jl, start
import pyjl_autoimage.startup.start as runtime
jl.seval("using LinearAlgebra, Dates")
jl.seval("report(n) = (m = [Rational{Int}(i, j) for i in 1:n, j in 1:n]; string(m * m, Dates.today() - Date(2020)))")
jl.report(2)
print(json.dumps(runtime.session.recording.trace))
"""
    trace = place.json(code)
    with open(trace, encoding="utf-8") as file:
        lines = file.read().splitlines()
    inferred = [line.removeprefix(INFERRED) for line in lines if line.startswith(INFERRED)]
    compiled = {parse_statement(line)[0] for line in lines if not line.startswith(INFERRED) and parse_statement(line)}
    assert len(inferred) > 20 and len(compiled) > 5
    assert all(line.startswith("precompile(Tuple{") for line in inferred)
    assert any("Rational{Int64}" in line for line in inferred)
    assert lines.index(f"{INFERRED}{inferred[0]}") == len(lines) - len(inferred), "nothing is written among them"


def test_a_run_that_compiled_next_to_nothing_notes_nothing(built: Place) -> None:
    code = "import json, pyjl_autoimage.startup.start as runtime\nfrom pyjl_autoimage import jl\nprint(json.dumps(runtime.session.recording.trace))"
    with open(built.json(code), encoding="utf-8") as file:
        assert INFERRED not in file.read()
