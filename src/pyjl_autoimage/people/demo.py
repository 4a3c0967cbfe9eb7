"""``pyjl-autoimage demo``: a real program run stock, recorded, built, and run again, side by side.

It lives in a store and a Julia project of its own, and leaves nothing behind but what it printed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from ..base import settings
from ..base.reads import CLOCK_GRAIN_NS
from ..base.words import seconds_text
from ..build.begin import begin
from ..errors import AutoimageError, JuliaNotFoundError
from ..julia.environment import Environment, locate
from ..julia.manifest import ManifestError, load_manifest, manifest_file
from ..store.places import Store
from .status import stdout_to_stderr
from .terminal import say, working
from .watching import watcher

__all__ = ["demo"]

DATAFRAMES_UUID = "a93c6f00-e57d-5684-b7b6-d8193f3e46c0"
CSV_UUID = "336ed68f-0bac-5ca0-87d4-7b16caf5d00b"
JULIAPKG_JSON = {"packages": {"DataFrames": {"uuid": DATAFRAMES_UUID}, "CSV": {"uuid": CSV_UUID}}}

VARIANTS = {
    "with-csv": "a sales report with DataFrames and CSV",
    "without-csv": "a sales report with DataFrames",
    "standard-library": "a least-squares fit with Julia's standard library",
}


@dataclass(frozen=True)
class _Stage:
    """Where the demo plays."""

    environ: dict[str, str]
    variant: str
    environment: Environment


def demo(console: Any, *, keep: bool = False, as_json: bool = False) -> int:
    """Run the demo; its exit status.

    Raises:
        JuliaNotFoundError: there is no usable Julia.
        BuildError: the image could not be built.
    """
    settled = settings.settle()
    home = os.path.join(Store(settled.home).home, "demo")
    try:
        Store(home).ensure(home)
        stage = _set_up(home, settled, console)
        return _play(stage, home, settled, console, as_json)
    finally:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)


def _play(stage: _Stage, home: str, settled: settings.Settings, console: Any, as_json: bool) -> int:
    console.print(f"The program: {VARIANTS[stage.variant]}.")
    with working(console, "running it once, recorded"):
        _run(stage, home, plain=False)
    with working(console, "running it on plain juliacall"):
        stock = _run(stage, home, plain=True)
    console.print(f"Plain juliacall: first result after {seconds_text(stock['first_result'])}.")
    console.print("Building an image: 5 to 10 minutes, 6 to 9 GB of memory. Ctrl-C stops it.")
    # The demo bakes whatever its project has: also packages that a prepared project tracks by path.
    wanted = settled.with_values(home=home, dev_packages="bake", libraries=False)
    began = time.monotonic()
    handle = begin(stage.environment, wanted, {})
    try:
        with watcher(console, handle.log) as watch:
            handle.wait(watch=watch)
    except KeyboardInterrupt:
        handle.cancel()
        while not handle.done:
            time.sleep(0.1)
        raise
    took = time.monotonic() - began
    with working(console, "running it on the image"):
        # The first start on an image reads it from disk, and remembers what it found: nothing that has just changed.
        time.sleep(CLOCK_GRAIN_NS / 1e9)
        _run(stage, home, plain=False)
        fast = _run(stage, home, plain=False)
    state = handle.state()
    if as_json:
        result = {"variant": stage.variant, "stock": stock, "image": fast, "build_seconds": took}
        print(json.dumps({**result, "left_out": state.left_out}))
    else:
        _show(stock, fast, took, console)
        for name, why in state.left_out.items():
            say(console, ("left out", "yellow"), f" {name}: {why}")
    if stock["answer"] != fast["answer"]:
        console.print("The answers differ.", style="bold red")
        return 1
    return 0


def _set_up(home: str, settled: settings.Settings, console: Any) -> _Stage:
    """A Julia project of the demo's own, or the current one where no package can be downloaded."""
    project = os.path.join(home, "project")
    reason = ""
    if os.environ.get("PYTHON_JULIAPKG_OFFLINE") == "yes" or sys._xoptions.get("juliapkg-offline") == "yes":
        reason = "PYTHON_JULIAPKG_OFFLINE is set"
    elif os.environ.get("PYTHON_JULIACALL_PROJECT"):
        reason = "PYTHON_JULIACALL_PROJECT names a project"
    else:
        os.makedirs(os.path.join(project, "pyjuliapkg"), exist_ok=True)
        with open(os.path.join(project, "pyjuliapkg", "juliapkg.json"), "w", encoding="utf-8") as file:
            json.dump(JULIAPKG_JSON, file)
        environ = {**os.environ, "PYTHON_JULIAPKG_PROJECT": project}
        with working(console, "setting up a Julia project with DataFrames and CSV (the first time takes minutes)"):
            found, problem = _locate_in(environ)
        if found is not None:
            return _Stage(environ, "with-csv", found)
        reason = f"the packages could not be installed ({problem})"
    with stdout_to_stderr():
        environment = locate(outdated=True)
    variant, left_out = _what_the_project_has(environment)
    say(console, ("No Julia project of its own:", "yellow"), f" {reason}; using {environment.project}.")
    if left_out:
        say(console, ("Left out:", "yellow"), f" {', '.join(left_out)}: not in that project.")
    return _Stage(dict(os.environ), variant, environment)


def _locate_in(environ: dict[str, str]) -> tuple[Environment | None, str]:
    """Let juliapkg set a project up, in a process of its own: it keeps its state for good in one."""
    code = (
        "import dataclasses, json, sys\n"
        "from pyjl_autoimage.julia.environment import locate\n"
        "from pyjl_autoimage.people.status import stdout_to_stderr\n"
        "from pyjl_autoimage.errors import JuliaNotFoundError\n"
        "try:\n"
        "    with stdout_to_stderr():\n"
        "        found = dataclasses.asdict(locate())\n"
        "except JuliaNotFoundError as error:\n"
        "    found = {'error': str(error)}\n"
        "print(json.dumps(found))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(result.stdout.splitlines()[-1])
        if "error" not in answer:
            return Environment(**answer), ""
        problem = answer["error"].splitlines()[0]
    except (ValueError, IndexError, TypeError):
        problem = "juliapkg ended unexpectedly"
    said = [line for line in result.stderr.splitlines() if line.startswith("ERROR:")]
    return None, said[-1] if said else problem


def _what_the_project_has(environment: Environment) -> tuple[str, list[str]]:
    """The variant of the program that a project allows, and what it lacks for a better one.

    Raises:
        JuliaNotFoundError: it has no PythonCall: juliapkg leaves it so when it is told to stay offline.
    """
    path = manifest_file(environment.project)
    try:
        names = {package.name for package in load_manifest(path).packages.values()} if path else set()
    except ManifestError as error:
        raise JuliaNotFoundError(f"the Julia project cannot be read: {error}") from None
    if "PythonCall" not in names:
        raise JuliaNotFoundError(
            f"the Julia project {environment.project} has no PythonCall, and none can be downloaded. "
            "Set PYTHON_JULIAPKG_PROJECT to a project that has it, or go online once with `import juliacall`"
        )
    missing = [name for name in ("DataFrames", "CSV") if name not in names]
    if "DataFrames" in missing:
        return "standard-library", missing
    return ("without-csv" if missing else "with-csv"), missing


def _run(stage: _Stage, home: str, *, plain: bool) -> dict[str, Any]:
    """The program in a fresh Python process; its times in seconds."""
    environ = {**stage.environ, "PYJL_AUTOIMAGE_HOME": home, "DEMO_STARTED": repr(time.time())}
    if plain:
        environ["DEMO_PLAIN"] = "1"
    result = subprocess.run(
        [sys.executable, "-m", "pyjl_autoimage.people.demos.tables", stage.variant],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise AutoimageError(f"the demo's program failed:\n{result.stderr.strip()[-2000:]}")
    times: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return times


def _show(stock: dict[str, Any], fast: dict[str, Any], took: float, console: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=None, header_style="bold")
    for heading, justify in (
        ("", "left"),
        ("plain juliacall", "right"),
        ("with the image", "right"),
        ("", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    rows = {
        "import": "import",
        "load packages": "load",
        "first call": "first_call",
        "second call": "second_call",
        "time to the first result": "first_result",
        "whole process": "process",
    }
    for label, key in rows.items():
        ratio = stock[key] / fast[key] if fast[key] else 0.0
        strong = "bold" if key == "first_result" else ""
        table.add_row(
            Text(label, strong),
            seconds_text(stock[key]),
            Text(seconds_text(fast[key]), f"{strong} green"),
            "over 100x" if ratio > 100 else f"{ratio:.1f}x" if ratio >= 1.05 else "",
        )
    console.print(table)
    console.print(f"The image was built in {seconds_text(took)}. Both gave the same answer.")
    console.print(
        "The program's own Julia code is a string here, which Julia compiles when it is first called. In a file, "
        "which `include` of this package gives as a module, it comes compiled, too. Next: docs/quickstart.md"
    )
