"""A forecast for each product: an event comes in as JSON on the standard input, the answer goes out as JSON.

    cd examples/container
    docker build --tag forecast .
    docker run --rm --interactive forecast < event.json

Or without a container: `python -m pyjl_autoimage build --train app.py`, then `python app.py < event.json`.
What the Dockerfile does, and why, is in README.md.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pyjl_autoimage import include, workload

trend = include("trend.jl")  # starts Julia: on the image


def handle(event: dict[str, Any]) -> dict[str, float]:
    """What each product will sell `ahead` days after its last one."""
    sales = event["sales"]
    products, days, counts = ([sale[name] for sale in sales] for name in ("product", "day", "count"))
    return dict(trend.forecast(products, days, counts, event["ahead"]))


@workload(packages=["DataFrames"])
def first_event() -> None:
    """What the image in the container shall hold: all that an event needs."""
    json.dumps(handle(json.loads(Path(__file__).with_name("event.json").read_text())))


if __name__ == "__main__":
    json.dump(handle(json.load(sys.stdin)), sys.stdout)
    print()
