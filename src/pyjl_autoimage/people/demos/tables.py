"""A sales report with DataFrames and CSV: parse, join, group, unstack, describe.

Prints one JSON object: seconds until Julia was up, until the packages were loaded, until the first result,
and for a second call. Timed from the start of this module; ``process`` counts from the start of Python.

    python -m pyjl_autoimage.people.demos.tables [with-csv | without-csv | standard-library]
"""

from __future__ import annotations

import json
import os
import sys
import time

REPORT = """
function report(text)
    sales = READ(text)
    prices = DataFrame(product = ["apple", "pear", "plum"], price = [0.5, 0.7, 0.2])
    joined = innerjoin(sales, prices, on = :product)
    joined.value = joined.count .* joined.price
    by_region = combine(groupby(joined, [:region, :product]), :value => sum => :value)
    wide = unstack(by_region, :region, :product, :value)
    sort!(wide, :region)
    summary = describe(joined, :mean, :std, :min, :max)
    return string(sprint(show, MIME("text/plain"), wide), '\\n', sprint(show, MIME("text/plain"), summary))
end
"""

READ_CSV = "CSV.read(IOBuffer(text), DataFrame)"
READ_BY_HAND = """(let rows = [split(line, ',') for line in split(strip(text), '\\n')[2:end]]
        DataFrame(region = [String(r[1]) for r in rows], product = [String(r[2]) for r in rows],
                  count = [parse(Int, r[3]) for r in rows])
    end)"""

STANDARD_LIBRARY = """
function report(text)
    rows = [split(line, ',') for line in split(strip(text), '\\n')[2:end]]
    prices = Dict("apple" => 0.5, "pear" => 0.7, "plum" => 0.2)
    values = Dict{String,Vector{Float64}}()
    for (region, product, count) in rows
        push!(get!(values, String(region), Float64[]), parse(Int, count) * prices[product])
    end
    design = hcat([v[1:100] for (_, v) in sort!(collect(values), by = first)]...)
    weights = (design' * design + I) \\ (design' * ones(size(design, 1)))
    lines = [string(Date(2024, 1, 1) + Day(i), ' ', round(w, digits = 6)) for (i, w) in enumerate(weights)]
    return join(lines, '\\n')
end
"""


def source(variant: str) -> tuple[str, str]:
    """What to load, and the program's own function, in Julia."""
    if variant == "standard-library":
        return "using LinearAlgebra, Dates", STANDARD_LIBRARY
    packages = "using DataFrames, Statistics" + (", CSV" if variant == "with-csv" else "")
    return packages, REPORT.replace("READ(text)", READ_CSV if variant == "with-csv" else READ_BY_HAND)


def text() -> str:
    """Two thousand sales."""
    regions, products = ["north", "south", "east", "west"], ["apple", "pear", "plum"]
    lines = [f"{regions[i % 4]},{products[i * 7 % 3]},{i * 13 % 29 + 1}" for i in range(2000)]
    return "\n".join(["region,product,count", *lines])


def process_started() -> float:
    """When this process started, in seconds since the epoch (given by whoever started it, else now)."""
    return float(os.environ.get("DEMO_STARTED") or time.time())


def main(variant: str = "with-csv") -> None:
    """Run it and print the times."""
    started, began = process_started(), time.perf_counter()
    if os.environ.get("DEMO_PLAIN"):
        from juliacall import Main as jl
    else:
        from pyjl_autoimage import jl
    up = time.perf_counter()
    load, function = source(variant)
    jl.seval(load)
    loaded = time.perf_counter()
    jl.seval(function)
    argument = text()
    answer = str(jl.report(argument))
    first = time.perf_counter()
    jl.report(argument)
    second = time.perf_counter()
    times = {
        "import": up - began,
        "load": loaded - up,
        "first_call": first - loaded,
        "second_call": second - first,
        "first_result": first - began,
        "process": time.time() - started,
        "answer": hash_of(answer),
    }
    print(json.dumps(times))


def hash_of(answer: str) -> str:
    """A short digest, so that every run can be seen to give the same answer."""
    import zlib

    return f"{zlib.crc32(answer.encode()):08x}"


if __name__ == "__main__":
    main(*sys.argv[1:2])
