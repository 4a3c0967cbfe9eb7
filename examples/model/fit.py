"""An epidemic model in a Julia file of its own, driven from Python.

    cd examples/model
    python fit.py                       # the first time: model.jl is evaluated, and what it compiles recorded
    python -m pyjl_autoimage build
    python fit.py                       # from now on model.jl comes compiled, until it changes

`juliapkg.json` beside it asks for CSV and DataFrames.
"""

from pathlib import Path

from pyjl_autoimage import include

model = include("model.jl")
print(model.report(str(Path(__file__).with_name("cases.csv"))))
