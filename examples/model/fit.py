"""An epidemic model in a Julia file of its own, driven from Python.

    python examples/model/fit.py

The first run evaluates model.jl. After `python -m pyjl_autoimage build` it comes compiled, until it changes.
"""

from pathlib import Path

from pyjl_autoimage import include

model = include("model.jl")
print(model.report(str(Path(__file__).with_name("cases.csv"))))
