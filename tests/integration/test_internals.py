"""Which internals of Julia this Julia has: on a new one, what fails here says what has gone and what goes without it."""

from __future__ import annotations

import re
import subprocess

import pytest

from conftest import Place
from pyjl_autoimage.base.call import JULIA_SOURCES, julia_string

with open(f"{JULIA_SOURCES}/internals.jl", encoding="utf-8") as _file:
    TABLE = re.findall(r'^    \("([^"]+)", ".+", "([^"]+)",', _file.read(), re.MULTILINE)


@pytest.mark.parametrize(("name", "without"), TABLE, ids=[name for name, _ in TABLE])
def test_this_julia_has(place: Place, name: str, without: str) -> None:
    assert f"{name}: {without}" not in place.facts.lacks


def julia(place: Place, code: str) -> list[str]:
    command = [place.environment.executable, "--startup-file=no", "-e", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()


def test_what_is_gone_is_named_with_what_goes_without_it(place: Place) -> None:
    code = f"""
        include("{JULIA_SOURCES}/internals.jl")
        gone = ("Base.gone", "nothing", "nothing is lost", :(has(Base, :no_such_thing)))
        raises = ("Base.raises", "nothing", "all is well", :(Base.no_such_thing()))
        append!(Internals.TABLE, [gone, raises])
        foreach(row -> println(join(row, ": ")), Internals.lacking())
        """
    assert julia(place, code) == ["Base.gone: nothing is lost", "Base.raises: all is well"]


def test_every_method_is_visited_whatever_keeps_them(place: Place) -> None:
    code = f"""
        include("{JULIA_SOURCES}/versions.jl")
        module Mine; f() = 1; struct S end; (::S)(x) = x; module Inner; g(x) = 2; end; end
        found = Set{{String}}()
        visit_methods(m -> push!(found, string(m.module, '.', m.name)))
        println(issubset(("Main.Mine.f", "Main.Mine.S", "Main.Mine.Inner.g", "Base.sum"), found) || sort!([x for x in found if occursin("Mine", x)]))
        """
    assert julia(place, code) == ["true"]


def test_what_came_with_an_image_is_told_from_what_is_new(place: Place) -> None:
    code = f"""
        include("{JULIA_SOURCES}/versions.jl")
        f() = 1
        method = only(methods(f))
        println(knows_images(), ' ', in_image(first(methods(sum))), ' ', in_image(method))
        """
    assert julia(place, code) == ["true true false"]


def test_the_preferences_in_a_cache_are_read_in_either_form(place: Place) -> None:
    """A list of names, or as TOML whose of whom (1.14): also those that were not set."""
    blob = '[a]\nsize = 1\nnested = { x = 1 }\n[b]\nsize = 2\n[unset]\nb = ["length"]\n'
    code = f"""
        include("{JULIA_SOURCES}/versions.jl")
        print_all(found) = println(join(sort!(join.(found, ' ')), ", "))
        print_all(preferences_read(Base.UUID(1), ["size", "length"]))
        print_all(preferences_read(Base.UUID(1), {julia_string(blob)}))
        print_all(preferences_read(Base.UUID(1), ""))
        """
    own = "00000000-0000-0000-0000-000000000001"
    assert julia(place, code) == [f"{own} length, {own} size", "a nested, a size, b length, b size", ""]


def test_own_code_is_evaluated_where_julia_does_not_tell_what_it_is_made_of(place: Place) -> None:
    (place.root / "own.jl").write_text("module Inner; g() = 20; end\nf() = Inner.g() + 1\n")
    code = f"""
        code = replace(read("{JULIA_SOURCES}/code.jl", String), ":binunpack)" => ":no_such_thing)")
        Base.include_string(Main, code)
        first = AutoimageCode.evaluate("own", "{place.root}/own.jl", nothing, "")
        println(Base.invokelatest(() -> first.f()), ' ', AutoimageCode.facts(), ' ', isdefined(Main, :own))
        text = AutoimageCode.evaluate("text", "text.py", "using Dates; f() = Dates.value(Day(3))", "Dates")
        println(Base.invokelatest(() -> text.f()))
        """
    assert julia(place, code) == ["21 unknown= false", "3"]
