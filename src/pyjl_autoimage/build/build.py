"""The build, top to bottom: profile, snapshot, Julia, proof, publication.

Nothing is visible to a start-up before the last step, one rename.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from ..base.call import RECORDER
from ..base.files import file_sha256
from ..base.words import count_text
from ..errors import AutoimageError, BuildError
from ..julia.environment import Environment
from ..julia.facts import JuliaFacts
from ..julia.manifest import Manifest
from ..julia.versions import against_juliacall, usual_seconds
from ..profile import recordings
from ..profile.neighbours import known_elsewhere
from ..profile.profile import Profile
from ..startup.code import module_uuid, unchanged
from ..store import validity
from ..store.built import Image, OwnCode, heap_of, recorder_digest
from ..store.places import depot_of
from ..store.publish import publish_image
from ..store.validity import Situation
from . import clean, history, layering, recipe, train, verify
from .julia import CannotPrecompile, keep_only_caches, make_library, precompile_outside
from .machine import can_host_python, check_compiler, check_disk
from .made import changed_since, completed, read_made
from .packagecompiler import AS_LONG_AS_PKG, builder_project
from .recipe import Recipe
from .work import Work, answer, beside

__all__ = ["build"]


NO_LIBPYTHON = (
    "this Python has no shared libpython, so no Julia process could host it; the image is built without PythonCall"
)


NOTHING_RECORDED = (
    "nothing had been recorded: this image makes only `import juliacall` fast; "
    "run your program and build again, or build --train PROGRAM"
)


NOTHING_OWN = "no program has run here: the image holds what those of other environments did with the same packages"


NOTHING_FOR_LAYERS = "nothing has been recorded: run your program, or build --train PROGRAM"


@dataclass(frozen=True)
class Snapshot:
    """What a build goes by, looked at once. What changes meanwhile makes the build fail, not the image wrong."""

    began: float
    situation: Situation
    recorded: Profile
    recorder: str
    """Of its files (`recorder_digest`): the recorder goes into the image, too."""
    hosts_python: bool

    @property
    def facts(self) -> JuliaFacts:
        """Of the Julia that builds."""
        return self.situation.facts


def build(work: Work, *, quick: bool = False) -> Image | None:
    """Build and publish layers; then build, prove and publish one image, unless it is to be `quick`.

    Raises:
        AutoimageError: it could not be built.
        OSError: the store cannot be written.
    """
    work.enter("prepare")
    now = _look(work, quick=quick)

    def layers() -> dict[str, OwnCode]:
        return layering.build_layers(
            work, now.facts, now.situation, now.recorded, hosts_python=now.hosts_python, quick=quick
        )

    own: dict[str, OwnCode] = {}
    if quick or now.recorded.code:  # what could be precompiled of a program's own code goes into the image as well
        work.enter("layer")
        own = layers()
    if quick:
        return None
    with beside(work, None if now.recorded.code else layers):
        work.enter("builder")
        builder = builder_project(work, now.facts)
        chosen, identity, statements, library = _make(work, now, own, builder)
    image, refused = _prove(work, now, own, chosen, statements, library)
    work.enter("publish")
    work.state.publishing = image.id
    work.state.write(work.store, work.environment.id)
    publish_image(work.store, os.path.dirname(library), image)
    work.state.image = image.id
    _keep_house(work, image, statements, refused, identity)
    return image


def _look(work: Work, *, quick: bool) -> Snapshot:
    """Everything that the build goes by. What cannot be built is said before anything takes time."""
    began = time.time()
    facts = validity.julia_facts(work.environment, work.store, fresh=True, ask=partial(answer, work))
    work.state.expect(usual_seconds(facts.version))
    if work.environment.outdated:
        work.note(f"the Julia project is taken as it was set up last; {work.environment.outdated}")
    for lack in facts.lacks:
        work.note(f"this Julia lacks {lack}")
    if not quick:
        check_compiler(facts)
        check_disk(work.store, history.read(work.store, work.environment.id))
    recorded = _recorded(work, quick=quick)
    flags = recorded.flags if recorded.runs else work.flags
    with _project_lock(work.environment):
        found = validity.situation_of(work.environment, work.store, flags)
    old = against_juliacall(found.juliacall)
    if old:
        raise BuildError(old)
    if not recorded.programs and not work.tasks:
        recorded = _without_a_run(work, recorded, found.manifest, quick=quick)
    manifest = found.manifest.with_standard_libraries(recorded.packages, facts.stdlib)
    situation = replace(found, facts=facts, manifest=manifest)
    recipe.choose(situation, recorded, work.settings)
    hosts_python = can_host_python(manifest.packages[recipe.PYTHONCALL_UUID], facts.depots)
    return Snapshot(began, situation, recorded, recorder_digest(), hosts_python)


def _make(work: Work, now: Snapshot, own: Mapping[str, OwnCode], builder: str) -> tuple[Recipe, str, list[str], str]:
    """Have Julia make the image; a package that cannot be precompiled is left out, with all that depends on it.

    Returns:
        What is in it and what identifies that, the statements that it was given, and the path of the new library.
    """
    without = {} if now.hosts_python else {recipe.PYTHONCALL_UUID: NO_LIBPYTHON}
    fit = [name for name, code in own.items() if not code.apart]
    while True:
        chosen = recipe.choose(now.situation, now.recorded, work.settings, without=without, code=fit)
        recipe.write_project(work.place("project"), chosen, now.situation)
        identity = recipe.identity(chosen, now.facts, _own(chosen, own))
        statements = now.recorded.bakeable(identity)
        _tell(work, chosen, statements)
        try:
            library = make_library(work, now.facts, builder, chosen, statements, now.situation.flags)
            return chosen, identity, statements, library
        except CannotPrecompile as error:
            if error.uuid in now.situation.manifest.closure([recipe.PYTHONCALL_UUID]) or error.uuid in without:
                raise
            without[error.uuid] = "it cannot be precompiled; the log says why"
            work.enter("builder")


def _own(chosen: Recipe, own: Mapping[str, OwnCode]) -> list[OwnCode]:
    return [own[name] for name in chosen.code]


def _prove(
    work: Work, now: Snapshot, own: Mapping[str, OwnCode], chosen: Recipe, statements: list[str], library: str
) -> tuple[Image, set[str]]:
    """Compare what Julia made with the snapshot, and have a program start on it.

    Returns:
        The image, and the statements that Julia refused.

    Raises:
        BuildError: it is not what it should be.
    """
    as_stated, unresolved, inferred = recipe.held(work.place("report"), chosen, now.facts)
    made = read_made(work.place("made"))
    packages = completed(as_stated, made, now.situation.manifest, now.situation.preferences)
    refused = {statements[number - 1] for number in unresolved if number <= len(statements)}
    changed = recipe.changed_sources(chosen, now.situation, now.facts.depots)
    changed += [own[name].path for name in chosen.code if not unchanged(own[name].files)]
    changed += changed_since(made, packages, now.began)
    changed += [RECORDER] * (now.recorder != recorder_digest())
    if changed:
        raise BuildError(f"the sources of {', '.join(changed)} changed while the image was built; build again")
    compiled = [text for text in statements if not now.recorded.statements[text].inferred]
    # Of what was only inferred nobody would miss the code.
    late = len(refused.union(statements[number - 1] for number in inferred).intersection(compiled))
    if late:
        note = f"{late} of {len(compiled)} statements cannot be compiled ahead, but when they are called"
        work.state.notes.append(note)

    work.enter("outside")
    depot, flags = depot_of(os.path.dirname(library)), now.situation.flags
    place = work.place("proof")
    with verify.Proof(library, packages, work.environment, now.facts, place, flags, depot, work.log) as proof:
        precompile_outside(work, now.facts, library, flags, depot)
        work.enter("prove")
        proof.wait()
    keep_only_caches(depot)
    files = [library, *filter(os.path.exists, [heap_of(library)])]
    sizes = [os.path.getsize(path) for path in files]
    sha256 = file_sha256(*files)
    image = Image(
        id=sha256[:16],
        path=work.store.image_library(sha256[:16]),
        bytes=sum(sizes),
        sha256=sha256,
        built_at=round(time.time(), 3),
        code=tuple(replace(code, uuid=module_uuid(code.name)) for code in _own(chosen, own)),
        programs=tuple(sorted(now.recorded.programs)),
        statements=len(statements) - len(unresolved),
        build_seconds=round(time.time() - now.began, 1),
        heap_bytes=sum(sizes[1:]),
        pyjl_autoimage=now.recorder,
        **now.situation.requirements(work.environment, packages, cpu_target=work.settings.cpu_target),
    )
    return image, refused


def _keep_house(work: Work, image: Image, statements: list[str], refused: set[str], identity: str) -> None:
    """What may go wrong without harm: the image is there."""
    try:
        recordings.note_image(work.store, work.environment.id, statements, refused, identity)
        limit = work.settings.max_gigabytes * 1e9 or float("inf")
        for name in clean.prune(work.store, keep=work.settings.keep_images, max_bytes=limit, spare=image.id):
            work.say(f"removed old {name}")
        clean.prune_caches(work.store)
    except (AutoimageError, OSError) as error:
        work.note(f"tidying up: {error}")


def _recorded(work: Work, *, quick: bool) -> Profile:
    """The merged profile. Where nothing was ever recorded, a bare start is: the import gets fast."""
    recorded = recordings.merge(work.store, work.environment.id)
    for path in recordings.aside(work.store, work.environment.id):
        work.note(f"{path} is a profile that could not be read: what it holds counts no more")
    if recorded.runs or quick:
        return recorded
    train.bare_start(work)
    return recordings.merge(work.store, work.environment.id)


def _without_a_run(work: Work, recorded: Profile, manifest: Manifest, *, quick: bool) -> Profile:
    """With what programs of other environments did with the same packages, until one has run in this one."""
    names = {uuid: package.name for uuid, package in manifest.packages.items()}
    known = (
        Profile()
        if quick
        else known_elsewhere(work.store, work.environment.id, names, {*names.values(), *manifest.extensions})
    )
    if not known.statements:
        work.note(NOTHING_FOR_LAYERS if quick else NOTHING_RECORDED)
        return recorded
    work.note(f"{NOTHING_OWN} ({count_text(len(known.statements), 'statement')})")
    statements, packages = {**known.statements, **recorded.statements}, {**known.packages, **recorded.packages}
    return replace(recorded, statements=statements, packages=packages)


@contextmanager
def _project_lock(environment: Environment) -> Iterator[None]:
    """juliapkg deletes and rewrites its project's files under this lock; nobody else's projects have one."""
    from filelock import FileLock, Timeout

    if not environment.managed or not os.access(environment.project, os.W_OK):
        yield
        return
    try:
        with FileLock(os.path.join(environment.project, "lock.pid"), timeout=AS_LONG_AS_PKG):
            yield
    except Timeout:
        raise BuildError(f"juliapkg is still setting up {environment.project}") from None


def _tell(work: Work, chosen: Recipe, statements: list[str]) -> None:
    names = ", ".join(sorted(package.name for package in chosen.packages))
    work.say(f"packages: {names} ({len(chosen.closure)} with what they depend on)")
    work.say(f"statements: {len(statements)}")
    for name, why in chosen.left_out.items():
        work.say(f"left out: {name}: {why}")
    work.state.left_out = dict(chosen.left_out)
