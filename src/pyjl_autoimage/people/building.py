"""`build`: start or join one, watch it, and say what became of it."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from .commands import FAILED, home, terminal

if TYPE_CHECKING:
    from ..build.state import Ran

__all__ = ["build_command"]


SECONDS_TO_BEGIN = 5.0

SECONDS_TO_CANCEL = 15.0

NAMED = 4


def build_command(options: argparse.Namespace) -> int:
    """What `build` does."""
    from dataclasses import asdict

    from ..build.begin import begin_here
    from ..profile.workloads import Caller, tasks
    from ..store.places import Store
    from .status import stdout_to_stderr
    from .terminal import say
    from .watching import watcher

    names = ("include", "exclude", "all_direct", "dev_packages", "cpu_target", "time_limit", "libraries")
    keywords = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    console = terminal(stderr=options.json)
    programs = options.train or []
    if options.of_program and len(programs) != 1:
        raise SettingsError("arguments behind -- are those of one program: --train PROGRAM")
    to_run = tasks(programs, options.of_program)
    with stdout_to_stderr(), _named_as_options(keywords):
        handle = begin_here(keywords, to_run, Caller.here(with_path=False), quick=options.quick)
    if options.no_wait:
        _wait_until_it_begins(handle)
        if handle.state().state == "failed":
            handle.wait()
        if options.json:
            print(json.dumps({"state": "running", "log": handle.log}))
        else:
            console.print(
                f"building in the background; `pyjl-autoimage status` shows how it stands. Log: {handle.log}"
            )
        return 0
    if handle.joined:
        console.print(_about_the_other(handle.state().quick, options.quick, keywords))
    own = {task.name for task in to_run}
    told: list[Ran] = []

    def and_tell_failures(watch: Any) -> Any:
        def tell(progress: Any) -> None:
            watch(progress)
            failed = [ran for ran in handle.state().workloads if ran.problem and ran.name in own]
            for ran in failed[len(told) :]:
                told.append(ran)
                _tell_of_workload(ran, console)

        return tell if own else watch

    try:
        with watcher(console, handle.log) as watch:
            image_id = handle.wait(watch=and_tell_failures(watch))
    except KeyboardInterrupt:
        return _cancel(handle, console)
    state = handle.state()
    # An image is built of what they recorded nevertheless, but what was asked for was more.
    untrained = bool(own) and all(ran.problem for ran in state.workloads if ran.name in own)
    status = FAILED if untrained else 0
    image = next((image for image in Store(home(keywords)).all_images() if image.id == image_id), None)
    if options.json:
        facts: dict[str, Any] = {"state": "done", "image": state.image, "layers": state.layers, "log": handle.log}
        facts["seconds"] = state.seconds
        size = {"bytes": image.bytes, "path": image.path} if image else {}
        said = {
            "left_out": state.left_out,
            "workloads": [asdict(ran) for ran in state.workloads],
            "notes": state.notes,
        }
        print(json.dumps({**facts, **size, **said}))
        return status
    _tell_what_was_built(state, image, console, told)
    if untrained:
        failed = ("Every program to train on failed", "red")
        say(console, failed, ", see above: what they recorded until then is used.")
    return status


@contextmanager
def _named_as_options(keywords: dict[str, Any]) -> Iterator[None]:
    """Let a wrong value be told by the name of the option that it was given to."""
    try:
        yield
    except SettingsError as error:
        name = str(error).partition("=")[0]
        if name not in keywords:
            raise
        raise SettingsError(f"{_option(name)} {str(error).removeprefix(f'{name}=')}") from None


def _option(name: str) -> str:
    return "--no-libraries" if name == "libraries" else f"--{name.replace('_', '-')}"


def _about_the_other(is_quick: bool, quick: bool, keywords: dict[str, Any]) -> str:
    """That another build runs, and what was asked of this one in vain."""
    vain = [*(["--quick"] if quick and not is_quick else []), *map(_option, keywords)]
    if not vain:
        return "a build of this environment runs already; watching it"
    do = "does" if len(vain) == 1 else "do"
    kind = "quick" if is_quick else "full"
    return f"a {kind} build runs already; watching that one, {', '.join(vain)} {do} not apply"


def _tell_what_was_built(state: Any, image: Any, console: Any, told: Sequence[Ran]) -> None:
    from ..base.words import bytes_text, count_text, seconds_text
    from .terminal import say

    built, took = ("Built", "bold green"), seconds_text(state.finished - state.started)
    if image is not None:
        packages, statements = count_text(len(image.packages), "package"), count_text(image.statements, "statement")
        held = f"{packages}, {statements}, {bytes_text(image.bytes)}"
        say(console, built, " image ", (image.id, "bold"), f" in {took}: {held}.")
        console.print("The next Python process starts on it.")
    elif state.layers:
        layers = f"{len(state.layers)} layers" if len(state.layers) > 1 else "a layer"
        say(console, built, f" {layers} in {took}. {_programs_of(state.layers)} from now on.")
    else:
        console.print("Nothing new was recorded: no layer is missing.")
    for ran in state.workloads:
        if ran not in told:
            _tell_of_workload(ran, console)
    _print_left_out(console, state.left_out)
    complaints = {f"workload {ran.name}: {ran.problem}" for ran in state.workloads}
    for note in state.notes:
        if note not in complaints:
            say(console, ("note:", "dim"), f" {note}")


def _programs_of(layers: Sequence[str]) -> str:
    """Which programs start with these layers, as half a sentence."""
    from ..base.words import program_text
    from ..store.places import Store

    programs = {layer.program for layer in Store(home({})).all_layers() if layer.id in layers}
    names = sorted(os.path.basename(program_text(program)) for program in programs)
    if not names:
        return "The programs that they are for start with them"
    shown = names if len(names) <= NAMED else [*names[: NAMED - 1], f"{len(names) - NAMED + 1} others"]
    if len(shown) == 1:
        return f"{'Interactive use' if shown == ['interactive use'] else shown[0]} starts with it"
    return f"{', '.join(shown[:-1])} and {shown[-1]} start with them"


def _tell_of_workload(ran: Ran, console: Any) -> None:
    from ..base.words import count_text, seconds_text
    from .terminal import say

    problem = ran.problem
    statements = f"{count_text(ran.statements, 'statement')}, {ran.new} of them new"
    did = ("ran", "dim")
    if problem:
        did = ("left out", "yellow") if problem.startswith("not run: ") else ("failed", "red")
        problem = f"{problem.removeprefix('not run: ')}; "
    say(console, did, f" {ran.name}: {problem}{statements}, {seconds_text(ran.seconds)}")


def _wait_until_it_begins(handle: Any) -> None:
    """So that `status` and `log` know of it at once. One that waits for another to end is not waited for."""
    import time

    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while handle.state().state == "starting" and time.monotonic() < deadline:
        time.sleep(0.05)


def _cancel(handle: Any, console: Any) -> int:
    """End a build, and say how that went when it has ended."""
    import time

    console.print("cancelling the build ...")
    handle.cancel()
    deadline = time.monotonic() + SECONDS_TO_CANCEL
    while not handle.done and time.monotonic() < deadline:
        time.sleep(0.1)
    if handle.done:
        console.print("cancelled: the image in use stays, and nothing half done is left")
    else:
        console.print(f"the build has not ended yet; `pyjl-autoimage status` shows when it has. Log: {handle.log}")
    return 130


def _print_left_out(console: Any, left_out: dict[str, str]) -> None:
    from .terminal import say

    for name, why in left_out.items():
        say(console, ("left out", "yellow"), f" {name}: {why}")
    if any("tracks it by path" in why for why in left_out.values()):
        console.print("PYJL_AUTOIMAGE_DEV_PACKAGES=bake bakes packages that are tracked by path.", style="dim")
