"""The build, top to bottom: profile, snapshot, Julia, proof, publication.

Nothing is visible to a start-up before the last step, one rename.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from ..base.files import file_sha256
from ..errors import BuildError, StoreError
from ..julia.call import RECORDER
from ..julia.environment import Environment
from ..julia.versions import usual_seconds
from ..profile import recordings
from ..profile.profile import Profile
from ..startup.code import module_uuid, unchanged
from ..store import validity
from ..store.built import Image, OwnCode, heap_of, recorder_digest
from ..store.places import depot_of
from ..store.publish import publish_image
from ..store.validity import Situation
from . import clean, layering, recipe, train, verify
from .julia import keep_only_caches, make_library, precompile_outside
from .machine import affordable_threads, can_host_python, check_compiler
from .made import changed_since, completed, read_made
from .packagecompiler import builder_project
from .recipe import Recipe
from .work import Work, beside

__all__ = ["build"]


NO_LIBPYTHON = (
    "this Python has no shared libpython, so no Julia process could host it; the image is built without PythonCall"
)


NOTHING_RECORDED = (
    "nothing had been recorded: this image makes only `import juliacall` fast; "
    "run your program and build again, or build --train PROGRAM"
)


NOTHING_FOR_LAYERS = "nothing has been recorded: run your program, or build --train PROGRAM"


def build(work: Work, *, quick: bool = False) -> Image | None:
    """Build and publish layers; then build, prove and publish one image, unless it is to be `quick`.

    Raises:
        AutoimageError: it could not be built; nothing was published.
        OSError: the store cannot be written; nothing was published.
    """
    began = time.time()
    work.enter("prepare")
    facts = validity.julia_facts(work.environment, work.store, fresh=True)
    recorder = recorder_digest()
    work.state.expect(usual_seconds(facts.version))
    for lack in facts.lacks:
        work.note(f"this Julia lacks {lack}")
    if not quick:
        check_compiler(facts)
    recorded = _recorded(work, quick=quick)
    flags = recorded.flags if recorded.runs else work.flags
    with _project_lock(work.environment):
        situation = _situation(work, flags, recorded)
        recipe.choose(situation, recorded, work.settings)  # what cannot be built is said before anything else

    hosts_python = can_host_python(situation.manifest.packages[recipe.PYTHONCALL_UUID], facts.depots)
    threads = work.settings.image_threads or affordable_threads()

    def layers() -> dict[str, OwnCode]:
        return layering.build_layers(work, facts, situation, recorded, hosts_python=hosts_python, quick=quick)

    if quick or recorded.code:  # what could be precompiled of a program's own code goes into the image as well
        work.enter("layer")
        own, meanwhile = layers(), None
        if quick:
            return None
    else:
        own, meanwhile = {}, layers

    with beside(meanwhile):
        work.enter("builder")
        with _project_lock(work.environment):
            situation = _situation(work, flags, recorded)
            without = None if hosts_python else NO_LIBPYTHON
            fit = [name for name, code in own.items() if not code.apart]
            chosen = recipe.choose(situation, recorded, work.settings, without_pythoncall=without, code=fit)
            recipe.write_project(work.place("project"), chosen, situation)
        identity = recipe.identity(chosen, facts, (own[name] for name in chosen.code))
        statements = recorded.bakeable(identity)
        _tell(work, chosen, statements)
        builder = builder_project(work, facts)
        library = make_library(work, facts, builder, chosen, statements, flags, threads)
    as_stated, unresolved, inferred = recipe.held(work.place("report"), chosen)
    made = read_made(work.place("made"))
    packages = completed(as_stated, made, situation.manifest, situation.preferences)
    refused = {statements[number - 1] for number in unresolved if number <= len(statements)}
    changed = recipe.changed_sources(chosen, situation, facts.depots)
    changed += [own[name].path for name in chosen.code if not unchanged(own[name].files)]
    changed += changed_since(made, packages, began)
    changed += [RECORDER] * (recorder != recorder_digest())
    if changed:
        raise BuildError(f"the sources of {', '.join(changed)} changed while the image was built; build again")
    compiled = [text for text in statements if not recorded.statements[text].inferred]
    # Of what was only inferred nobody would miss the code.
    late = len(refused.union(statements[number - 1] for number in inferred).intersection(compiled))
    if late:
        note = f"{late} of {len(compiled)} statements cannot be compiled ahead, but when they are called"
        work.state.notes.append(note)

    work.enter("outside")
    depot = depot_of(os.path.dirname(library))
    proof = verify.Proof(library, packages, work.environment, facts, work.place("proof"), flags, depot, work.log)
    with proof:
        precompile_outside(work, facts, library, flags, depot)
        work.enter("prove")
        proof.wait()
    keep_only_caches(depot)

    work.enter("publish")
    files = [library, *filter(os.path.exists, [heap_of(library)])]
    sizes = [os.path.getsize(path) for path in files]
    sha256 = file_sha256(*files)
    image = Image(
        id=sha256[:16],
        path=work.store.image_library(sha256[:16]),
        bytes=sum(sizes),
        sha256=sha256,
        built_at=round(time.time(), 3),
        code=tuple(replace(own[name], uuid=module_uuid(name)) for name in chosen.code),
        statements=len(statements) - len(unresolved),
        build_seconds=round(time.time() - began, 1),
        heap_bytes=sum(sizes[1:]),
        pyjl_autoimage=recorder,
        **situation.requirements(work.environment, packages, cpu_target=work.settings.cpu_target),
    )
    publish_image(work.store, os.path.dirname(library), image)
    try:
        recordings.note_image(work.store, work.environment.id, statements, refused, identity)
    except StoreError as error:  # the image is there: the next build tries a little more than it need
        work.say(str(error))
    limit = work.settings.max_gigabytes * 1e9 or float("inf")
    for image_id in clean.prune(work.store, keep=work.settings.keep_images, max_bytes=limit, spare=image.id):
        work.say(f"removed old image {image_id}")
    clean.prune_caches(work.store)
    return image


def _situation(work: Work, flags: Mapping[str, str], recorded: Profile) -> Situation:
    now = validity.situation_of(work.environment, work.store, flags)
    return replace(now, manifest=now.manifest.with_standard_libraries(recorded.packages, now.facts.stdlib))


def _recorded(work: Work, *, quick: bool) -> Profile:
    """The merged profile. Where no program was ever recorded, a bare start is: the import gets fast."""
    recorded = recordings.merge(work.store, work.environment.id)
    for path in recordings.aside(work.store, work.environment.id):
        work.note(f"{path} is a profile that could not be read: what it holds counts no more")
    if not recorded.programs and not work.tasks:
        work.note(NOTHING_FOR_LAYERS if quick else NOTHING_RECORDED)
    if recorded.runs or quick:
        return recorded
    train.bare_start(work)
    return recordings.merge(work.store, work.environment.id)


@contextmanager
def _project_lock(environment: Environment) -> Iterator[None]:
    """juliapkg deletes and rewrites its project's files under this lock; nobody else's projects have one."""
    from filelock import FileLock

    if not environment.managed or not os.access(environment.project, os.W_OK):
        yield
        return
    with FileLock(os.path.join(environment.project, "lock.pid")):
        yield


def _tell(work: Work, chosen: Recipe, statements: list[str]) -> None:
    names = ", ".join(sorted(package.name for package in chosen.packages))
    work.say(f"packages: {names} ({len(chosen.closure)} with what they depend on)")
    work.say(f"statements: {len(statements)}")
    for name, why in chosen.left_out.items():
        work.say(f"left out: {name}: {why}")
    work.state.left_out = dict(chosen.left_out)
