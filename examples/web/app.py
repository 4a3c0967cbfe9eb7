"""A web service whose first request is as fast as any: sales as CSV come in, totals of each region go out as JSON.

    pip install flask    # and this package: `pip install .` in its repository
    cd examples/web
    python -m pyjl_autoimage build --train app.py    # once: bakes what `first_request` compiles
    python app.py
    curl --data-binary @sales.csv http://127.0.0.1:8000/totals

Flask, because the whole service is then one function, and needs no server to be trained or tested.

Julia's garbage collector waits for the thread that started Julia. A call from another thread hangs as soon as it
collects, while the first one is busy in Python. So Julia is started where requests are answered: by the import of
this module, in a server that has one thread. For several requests at a time, take several processes:

    gunicorn --workers 4 app:app    # its default workers have one thread each, and import the app themselves
"""

import os
import threading

from flask import Flask, request

from pyjl_autoimage import include, workload

sales = include("sales.jl")  # starts Julia: on the image, before the server listens
from juliacall import JuliaError  # not before: this alone would start Julia without an image

JULIA_THREAD = threading.get_ident()

app = Flask(__name__)


@app.before_request
def refuse_other_threads() -> None:
    if threading.get_ident() != JULIA_THREAD:  # an error is better than a hang
        raise RuntimeError("Julia runs on another thread: serve this with one thread a process")


@app.post("/totals")
def totals() -> dict[str, float] | tuple[dict[str, str], int]:
    try:
        return dict(sales.totals(request.get_data(as_text=True)))
    except JuliaError:
        return {"error": "expected CSV with the columns region and amount"}, 400


@workload(packages=["CSV", "DataFrames"])
def first_request() -> None:
    """What an image shall hold: all that a request needs, good or bad."""
    client = app.test_client()
    with app.open_resource("sales.csv") as file:
        client.post("/totals", data=file.read())
    client.post("/totals", data="nonsense")


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "8000")), threaded=False)
