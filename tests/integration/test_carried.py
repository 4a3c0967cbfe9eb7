"""Workloads in a real Julia: carried to a fresh process, recorded, and what they leave in an image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

HEAD = """
import json, sys
from pyjl_autoimage import jl
from pyjl_autoimage.build.perform import run
from pyjl_autoimage.profile.workloads import Caller, tasks
def carry(given, **environ):
    (task,) = tasks(given)
    with open("output", "w") as log:
        outcome = run(task, caller=Caller.here(with_path=True), token="token", directory=".", environ=environ,
                      packages=None, limit=300, log=log)
    print(json.dumps({"problem": outcome.problem, "output": open("output").read()}))
"""


def carried(place, code: str, **environ: str) -> dict:
    """What a workload printed in its own process, and why it failed."""
    return json.loads(place.python(HEAD + code, **environ).stdout.splitlines()[-1])


def test_a_function_takes_what_it_has_of_julia_along(place):
    code = """
Dates, base, plus = jl.seval("import Dates; Dates"), jl.Base, jl.seval("+")
class Thing:
    pass
thing = Thing(); thing.year = 2024
def f():
    print(jl.nameof(Dates), Dates.isleapyear(thing.year), base.sum([1, 2]), plus(20, 22), jl.seval("1 + 1"))
carry(f)
"""
    assert carried(place, code) == {"problem": "", "output": "Dates True 3 42 2\n"}


def test_julia_code_and_scripts(place):
    (place.root / "script.jl").write_text(
        'struct A end; f(::A) = "in $(basename(@__FILE__)) $ARGS"\nprintln(f(A()))\n'
    )
    assert carried(place, "carry('x = 1; y = x + 1; println(y)')")["output"] == "2\n"
    assert carried(place, "carry('script.jl')")["output"] == "in script.jl String[]\n"
    failed = carried(place, "carry('sqrt(-1)')")
    assert failed["problem"].startswith("it ended with status 1: ") and "sqrt was called" in failed["problem"]
    assert "DomainError" in failed["output"] and "workload:1" in failed["output"]
    assert carried(place, "carry('exit(7)')")["problem"] == "it ended with status 7"


def test_what_a_killed_workload_compiled_is_kept(place):
    code = "carry('''\nsum(abs2, view(Int16[1, 2], 1:2))\nccall(:raise, Cint, (Cint,), 9)\n''')"
    assert carried(place, code)["problem"] == "it died of SIGKILL"
    traces = Path(place.store / "v1" / "environments" / place.environment.id / "recordings").glob("*.jl")
    assert any("Int16" in trace.read_text() for trace in traces)


def test_what_a_library_brings_along_is_part_of_the_image(built):
    told = {ran["name"]: ran for ran in built.history[-1]["workloads"]}
    if not told:
        pytest.skip("the prepared project has no DataFrames, which the example library wraps")
    assert {name: ran["problem"] for name, ran in told.items()} == {
        "shop-tables: totals": "",
        "shop-tables: sorting": "",
    }
    assert told["shop-tables: totals"]["statements"] > told["shop-tables: totals"]["new"] > 0
    code = """
import json, shop_tables
from pyjl_autoimage.startup.start import session
sold = shop_tables.totals(["bread", "milk", "bread"], [2.5, 1.0, 2.5])
statements = [line for line in open(session.recording.trace) if "Main." not in line]
baked = shop_tables.jl.seval("Base.in_sysimage(Base.PkgId(ShopTables))")
print(json.dumps([sold, session.on_image, bool(baked), len(statements)]))
"""
    sold, on_image, baked, compiled = built.json(f"import pyjl_autoimage.hook as hook; hook.install()\n{code}")
    assert (sold, on_image, baked) == ({"bread": 5.0, "milk": 1.0}, True, True), "though it is tracked by path"
    assert compiled < told["shop-tables: totals"]["statements"] / 4
