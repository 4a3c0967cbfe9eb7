"""One start of Julia, timed phase by phase in a process of its own.

The process starts as any program does. What juliacall asks of libjulia, and when, tells the phases apart: it loads
the library, parses options, initialises Julia, and evaluates ``using PythonCall``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base.program import python_path
from ..errors import AutoimageError

__all__ = ["PHASES", "Start", "time_start"]

PHASES = {
    "plan": "which Julia, project and image (ours)",
    "juliacall": "juliacall itself, up to libjulia",
    "libjulia": "loading libjulia and its options",
    "julia": "initialising Julia, the image included",
    "pythoncall": "PythonCall",
    "finish": "setting up layer and packages (ours)",
}
"""The phases of a start in their order, and what each is."""

_MARK = "pyjl_autoimage start: "
_TIME_LIMIT = 600.0


@dataclass(frozen=True)
class Start:
    """How one start went."""

    image: str | None
    """Id of the image; None on Julia's own."""
    seconds: float
    phases: dict[str, float] = field(default_factory=dict)
    """Phase -> seconds, in order, of those that could be told apart."""


def time_start(environ: Mapping[str, str] | None = None) -> Start:
    """Start Julia in a fresh process, unrecorded, as a program without layers of its own would be started here.

    Args:
        environ: variables to set besides this process's own (``PYJL_AUTOIMAGE=0`` times a plain start).

    Raises:
        AutoimageError: Julia did not start; the message holds the last that was said.
    """
    options = [f"-X{name}={value}" for name, value in sys._xoptions.items() if name.startswith("julia")]
    quiet = {"PYJL_AUTOIMAGE_RECORD": "0", "PYJL_AUTOIMAGE_AUTO": "0", "PYTHONPATH": python_path()}
    try:
        result = subprocess.run(
            [sys.executable, *options, "-m", "pyjl_autoimage.explain.timing"],
            env={**os.environ, **quiet, **(environ or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AutoimageError(f"Julia was not up after {_TIME_LIMIT:.0f} s") from None
    told = [line for line in result.stdout.splitlines() if line.startswith(_MARK)]
    if result.returncode or not told:
        status = result.returncode
        how = f"signal {-status}" if status < 0 else f"status {status}"
        said = next((line for line in reversed(result.stderr.splitlines()) if line.strip()), "")
        raise AutoimageError(f"the process ended with {how}{f': {said.strip()}' if said else ''}")
    return Start(**json.loads(told[-1].removeprefix(_MARK)))


def _main() -> None:
    """Start Julia and tell how long what took. In a process that has loaded next to nothing."""
    import ctypes
    from time import perf_counter

    from ..startup import start
    from ..startup.door import start as begin

    marks: dict[str, float] = {}
    ends = {"jl_init_with_image__threading": "libjulia", "jl_init_with_image": "libjulia", "jl_eval_string": "julia"}

    class Library(ctypes.PyDLL):
        """What is first asked of libjulia ends the phase before."""

        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            marks.setdefault("juliacall", perf_counter())
            super().__init__(*arguments, **keywords)

        def __getattr__(self, name: str) -> Any:
            if name in ends:
                marks.setdefault(ends[name], perf_counter())
            return super().__getattr__(name)

    plain_finish = start.finish

    def finish(juliacall: Any) -> None:
        marks.setdefault("pythoncall", perf_counter())
        plain_finish(juliacall)

    plain_prepare = start.prepare

    def prepare(settings: Mapping[str, Any]) -> Any:
        plan = plain_prepare(settings)
        marks.setdefault("plan", perf_counter())
        return plan

    start.plan_for({})  # for the timed one the answer is there, as it is in any but the first start
    start.prepare, start.finish = prepare, finish
    ctypes.PyDLL = Library  # type: ignore[misc]
    began = perf_counter()
    begin()
    marks["finish"] = perf_counter()
    phases, last = {}, began
    for phase in PHASES:
        if phase in marks:
            phases[phase], last = round(marks[phase] - last, 6), marks[phase]
    image = start.session.plan.image if start.session.plan else None
    told = {"image": image, "seconds": round(last - began, 6), "phases": phases}
    print(f"\n{_MARK}{json.dumps(told)}", flush=True)


if __name__ == "__main__":
    _main()
