"""What a started process keeps in memory, with and without an image, and what two of them share. Linux only.

    python benchmarks/memory.py --json memory.json

Starts the packages of `people/demos/tables.py` on plain juliacall and on the image that a program gets here now
(see `status`; build one first), once alone and then twice at the same time, and prints megabytes: resident (RSS),
its proportional part (PSS: a page that n processes map counts 1/n for each), and private (what one more costs).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pyjl_autoimage.people.demos import tables

import results

PROGRAM = """
import time
if {plain}:
    from juliacall import Main as jl
else:
    from pyjl_autoimage import jl
jl.seval({load!r})
print("ready", jl.seval("unsafe_string(Base.JLOptions().image_file)"), flush=True)
time.sleep(3600)
"""
KINDS = {"stock": True, "image": False}


def main() -> int:
    parser = results.parser(__doc__)
    parser.add_argument("--variant", default="with-csv", choices=["with-csv", "without-csv", "standard-library"])
    options = parser.parse_args()
    result = {kind: memory(tables.source(options.variant)[0], plain=plain) for kind, plain in KINDS.items()}
    results.show(result, options, table(result))
    return 0


def memory(load: str, *, plain: bool, environ: Mapping[str, str] | None = None) -> dict:
    """Start Julia in one Python process and then in another beside it, and read what they keep in memory.

    Args:
        load: Julia code that each runs.
        plain: on plain juliacall instead of on the image.
        environ: their environment; None for this one.

    Returns:
        The image file and its bytes, and for "one" and "two" (each of two processes at once) the bytes that
        are resident, proportional and private.
    """
    processes = []
    try:
        processes.append(started(load, plain, environ))
        image = ready(processes[0])
        one = usage(processes[0].pid)
        processes.append(started(load, plain, environ))
        ready(processes[1])
        two = [usage(process.pid) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return {
        "image": os.path.basename(image),
        "image_bytes": os.path.getsize(image),
        "one": one,
        "two": {name: sum(each[name] for each in two) // 2 for name in one},
    }


def started(load: str, plain: bool, environ: Mapping[str, str] | None) -> subprocess.Popen[str]:
    code = PROGRAM.format(plain=plain, load=load)
    environ = None if environ is None else dict(environ)
    return subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True)


def ready(process: subprocess.Popen[str]) -> str:
    """Wait until Julia is up and has loaded everything; the image file. (juliapkg may print something before.)"""
    return next(line.split(maxsplit=1)[1].strip() for line in process.stdout if line.startswith("ready "))


def usage(pid: int) -> dict[str, int]:
    """Bytes of a process that are resident, its proportional part of them, and those that it alone has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":", 1) for line in lines)}
    return {
        "resident": fields["Rss"],
        "proportional": fields["Pss"],
        "private": fields["Private_Clean"] + fields["Private_Dirty"],
    }


def table(result: dict) -> str:
    columns = [(kind, count) for kind in result for count in ("one", "two")]
    lines = [f"{'MB for each process':24}" + "".join(f"{kind + ', ' + count:>14}" for kind, count in columns)]
    for name in ("resident", "proportional", "private"):
        lines.append(f"{name:24}" + "".join(f"{result[kind][count][name] / 1e6:>14.0f}" for kind, count in columns))
    lines.append(f"{'image file':24}" + "".join(f"{result[kind]['image_bytes'] / 1e6:>28.0f}" for kind in result))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
