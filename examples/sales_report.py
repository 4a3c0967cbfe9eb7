"""A sales report with DataFrames and CSV, from Python.

    python examples/sales_report.py            # the first time: as slow as plain juliacall, but recorded
    python -m pyjl_autoimage build
    python examples/sales_report.py            # from now on: fast

Needs DataFrames and CSV in the Julia project: `python -c "import juliapkg; juliapkg.add('DataFrames'); ..."`.
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
