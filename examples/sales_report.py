"""A sales report with DataFrames and CSV, from Python.

    cd examples
    python sales_report.py              # the first time: as slow as plain juliacall, but recorded
    python -m pyjl_autoimage build
    python sales_report.py              # from now on: fast

`juliapkg.json` beside it asks for DataFrames and CSV.
"""

import time

began = time.perf_counter()

from pyjl_autoimage import jl

jl.seval("using DataFrames, CSV")

report = jl.seval(
    """
    function report(text)
        sales = CSV.read(IOBuffer(text), DataFrame)
        by_region = combine(groupby(sales, :region), :count => sum => :count)
        sort!(by_region, :count, rev = true)
    end
    """
)

table = report("region,count\nnorth,3\nsouth,5\nnorth,4\neast,1\n")
print(table)
print(f"first result after {time.perf_counter() - began:.2f} s")
