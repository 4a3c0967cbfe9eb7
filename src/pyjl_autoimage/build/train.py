"""Training: run workloads, build, run them on the new image, until a run compiles nothing more that can be baked.

A first image makes Julia run code that no recording has: what is compiled *for* the code in an image, what
inference no longer had to be asked. So a run on it still compiles a few methods; the next image holds those.
All of this happens in the build process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import AutoimageError
from ..julia.manifest import load_manifest, manifest_file
from ..profile import libraries, profile, recordings
from ..profile.profile import Origin, Profile, Statement
from ..profile.workloads import Task
from . import perform
from .perform import Outcome
from .state import Ran

if TYPE_CHECKING:
    from ..store.built import Image
    from .work import Work

__all__ = ["bare_start", "record", "train"]

# A first image leaves a dozen methods of a program to be compiled, a second one none or a few. What a third
# leaves is compiled anew in every run (code that is generated with new names), and no further image has it.
GENERATIONS = 3

STATEMENTS_OF_A_FILE = 100_000
"""What a file of statements may hold at most: a hundred times what a large program compiles."""


def train(work: Work, build: Callable[[], Image | None], *, once: bool = False) -> Image | None:
    """Run what the build was asked to run, build, and do so again while that helps.

    Args:
        work: the build; its `tasks` are what to train on. Without any, one image is built.
        build: builds, proves and publishes one image (None: layers only).
        once: never build again.

    Returns:
        The last image that was published.

    Raises:
        AutoimageError: the first image could not be built.
        OSError: the store cannot be written.
    """
    top = work.directory
    image: Image | None = None
    work.state.generations = 2 if work.tasks and not once else 1  # as a rule: see above
    for generation in range(1, GENERATIONS + 1):
        work.state.generation = generation
        work.directory = os.path.join(top, str(generation))
        os.makedirs(work.place("tmp"), mode=0o700)
        missing = record(work, generation)
        if image is not None and not _another_one_helps(work, image, missing):
            break
        try:
            image = build()
        except (AutoimageError, OSError) as error:
            if image is None:
                raise
            work.note(f"image {image.id} stays in use, the one after it could not be built: {error}")
            break
        if once or not work.tasks:
            break
    return image


def _another_one_helps(work: Work, image: Image, ran: Profile) -> bool:
    missing = set(ran.bakeable()).intersection(recordings.load(work.store, work.environment.id).untried())
    if not any(run.image == image.id for run in ran.recent.values()):
        work.note(f"no workload started on the new image {image.id}, so there is nothing more to learn from them")
        return False
    compiled = sum(run.compiled for run in ran.recent.values())
    work.say(f"on image {image.id} the workloads compiled {len(missing)} more statements ({compiled:.2f} s)")
    return bool(missing)


def record(work: Work, generation: int = 1) -> Profile:
    """Run workloads, each in a fresh process: what the build was asked to run, and in the first generation what
    libraries bring along.

    Returns:
        What the runs that the build was asked for recorded.
    """
    own = [(task, True) for task in work.tasks]
    if work.settings.libraries and generation == 1:
        found, problems = libraries.gather(work.caller.path)
        own += [(task, False) for task in found]
        for problem in problems:
            work.note(problem)
    ran = Profile()
    if not own:
        return ran
    work.enter("workloads")
    known = set(recordings.merge(work.store, work.environment.id).statements)
    for task, is_own in own:
        work.detail(task.name)
        outcome, recorded = _run(work, task)
        given = set(_statements_in(outcome.statements))
        if given:
            origin = Origin.IMPORTED if is_own else Origin.LIBRARY
            recordings.add(work.store, work.environment.id, Profile(dict.fromkeys(given, Statement())), origin)
        compiled = given.union(text for text in recorded.bakeable() if not recorded.statements[text].inferred)
        _report(work, outcome, len(compiled), len(compiled - known), generation)
        known |= compiled
        recordings.merge(work.store, work.environment.id)
        if is_own:
            ran.statements.update(recorded.statements)
            ran.recent.update(recorded.recent)
    return ran


def bare_start(work: Work) -> None:
    """Record the start of Julia alone: the import gets fast where nothing else was ever recorded."""
    work.detail("recording a first start")
    _run(work, Task("start", "julia", "nothing"), profile.BARE_START)


def _run(work: Work, task: Task, token: str = "") -> tuple[Outcome, Profile]:
    work.say(f"workload: {task.name}")
    token = token or os.urandom(8).hex()
    outcome = perform.run(
        task,
        caller=work.caller,
        token=token,
        directory=work.directory,
        environ={
            "PYJL_AUTOIMAGE_HOME": work.store.home,
            "PYJL_AUTOIMAGE": "1",
            "PYJL_AUTOIMAGE_RECORD": "1",
            "PYJL_AUTOIMAGE_AUTO": "0",
            **(work.environment.variables if task.kind.startswith("julia") else {}),  # no program that sees more
        },
        packages=_names_in(work.environment.project),
        limit=work.settings.time_limit,
        log=work.log,
    )
    return outcome, recordings.of_workload(work.store, work.environment.id, token)


def _names_in(project: str) -> list[str] | None:
    path = manifest_file(project)
    try:
        return None if path is None else [package.name for package in load_manifest(path).packages.values()]
    except (AutoimageError, OSError, ValueError):
        return None


def _statements_in(files: Sequence[str]) -> Iterable[str]:
    for path in files:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                for _, line in zip(range(STATEMENTS_OF_A_FILE), file, strict=False):
                    parsed = recordings.parse_statement(line)
                    if parsed is not None:
                        yield parsed[0]
        except OSError:
            continue


def _report(work: Work, outcome: Outcome, statements: int, new: int, generation: int) -> None:
    name = outcome.task.name
    if outcome.problem:
        work.note(f"workload {name}: {outcome.problem}")
    work.say(f"workload {name}: {statements} statements, {new} of them new, {outcome.seconds:.1f} s")
    seconds = round(outcome.seconds, 2)
    work.state.workloads.append(Ran(name, generation, outcome.problem, statements, new, seconds))
