"""What a first call of a Julia function costs, with PythonCall's callers specialised for it or compiled once for all.

Runs plain juliacall and this package, which sets the callers (`docs/pythoncall.md`), in turn, both without an image
and without recording; prints medians as JSON and as a table.

    python benchmarks/first_call.py --runs 5 --json docs/images/first_call.json
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

import results

CALLS = {
    "small": "a function of one line",
    "keyword": "one with a keyword",
    "tables": "a report on tables",
    "later": "a later call (microseconds)",
}
HOW = {"specialised": "from juliacall import Main as jl", "once": "from pyjl_autoimage import jl"}


def main() -> int:
    options = results.parser(__doc__)
    options.add_argument("--runs", type=int, default=5, help="processes of each kind")
    options.add_argument("--child", choices=HOW)
    given = options.parse_args()
    if given.child:
        print(json.dumps(child(given.child)))
        return 0
    samples: dict[str, list[dict]] = {how: [] for how in HOW}
    for _ in range(given.runs):
        for how in HOW:
            samples[how].append(run(how))
    medians = {
        how: {call: statistics.median(s[call] for s in runs) for call in CALLS} for how, runs in samples.items()
    }
    result = {
        "runs": given.runs,
        "machine": results.machine(),
        "julia": samples["once"][0]["julia"],
        "median": medians,
    }
    lines = [f"{'':32}{'specialised':>14}{'once':>14}"]
    lines += [
        f"{label:32}{medians['specialised'][call]:>14.3f}{medians['once'][call]:>14.3f}"
        for call, label in CALLS.items()
    ]
    results.show(result, given, "\n".join(lines))
    return 0


def run(how: str) -> dict:
    result = subprocess.run(
        [sys.executable, __file__, "--child", how],
        env={**os.environ, "PYJL_AUTOIMAGE_RECORD": "0", "PYJL_AUTOIMAGE_HOME": os.path.join(os.sep, "nowhere")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def child(how: str) -> dict:
    names: dict = {}
    exec(HOW[how], names)
    jl = names["jl"]
    from pyjl_autoimage.people.demos import tables

    load, function = tables.source("with-csv")
    jl.seval(load)
    for code in ("small(x) = x + 1", "keyword(x; by) = x + by", "warm(x) = x", "warm_keyword(x; y) = x", function):
        jl.seval(code)
    jl.warm(1), jl.warm_keyword(1, y=1)  # what every program compiles once, whatever it calls
    times = {
        "small": timed(lambda: jl.small(1)),
        "keyword": timed(lambda: jl.keyword(1, by=2)),
        "tables": timed(lambda: jl.report(tables.text())),
    }
    small, count = jl.small, 20_000
    times["later"] = 1e6 * timed(lambda: [small(1) for _ in range(count)]) / count
    return {**times, "julia": str(jl.VERSION)}


def timed(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
