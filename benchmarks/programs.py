"""The programs that the benchmarks time; each prints one JSON object of seconds and megabytes.

    python benchmarks/programs.py import|tables|tables-file|model HOW

HOW is ``plain`` (juliacall itself), ``ours`` or, for the model, ``main``: through us, but with the model included
into Main, where nothing can cache it. ``tables`` gives its Julia function as a string, as most programs do;
``tables-file`` has the same text in a file.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

began = time.perf_counter()
started = float(os.environ.get("BENCH_STARTED") or time.time())
MODEL = Path(__file__).parent.parent / "examples" / "model"


def main(program: str, how: str) -> None:
    if how == "plain":
        from juliacall import Main as jl
    else:
        from pyjl_autoimage import jl
    times = {"import": time.perf_counter() - began}
    if program == "tables":
        tables(jl, times)
    elif program == "tables-file":
        tables_file(jl, how, times)
    elif program == "model":
        model(jl, how, times)
    times["process"] = time.time() - started
    times["resident_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(times))


def tables(jl, times: dict) -> None:
    from pyjl_autoimage.people.demos import tables as demo

    load, function = demo.source("with-csv")
    before = time.perf_counter()
    jl.seval(load)
    times["load"] = time.perf_counter() - before
    before = time.perf_counter()
    jl.seval(function)
    text = demo.text()
    answer = str(jl.report(text))
    calls(times, before, lambda: jl.report(text), answer)


def tables_file(jl, how: str, times: dict) -> None:
    from pyjl_autoimage.people.demos import tables as demo

    path = Path(__file__).parent.parent / ".bench" / "tables.jl"
    text = "\n".join(demo.source("with-csv"))
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    before = time.perf_counter()
    module = included(jl, how, path)
    times["load"] = time.perf_counter() - before
    before = time.perf_counter()
    text = demo.text()
    answer = str(module.report(text))
    calls(times, before, lambda: module.report(text), answer)


def included(jl, how: str, path: Path):
    if how == "ours":
        from pyjl_autoimage import include

        return include(path)
    jl.include(str(path))
    return jl


def model(jl, how: str, times: dict) -> None:
    before = time.perf_counter()
    module = included(jl, how, MODEL / "model.jl")
    times["load"] = time.perf_counter() - before
    before = time.perf_counter()
    data = str(MODEL / "cases.csv")
    answer = str(module.report(data))
    calls(times, before, lambda: module.report(data), answer)


def calls(times: dict, before: float, again, answer: str) -> None:
    import zlib

    now = time.perf_counter()
    times["first_call"] = now - before
    times["first_result"] = now - began
    again()
    times["second_call"] = time.perf_counter() - now
    times["answer"] = f"{zlib.crc32(answer.encode()):08x}"


if __name__ == "__main__":
    main(*sys.argv[1:])
