"""The build, top to bottom: profile, snapshot, Julia, proof, publication.

`rebuild` starts it as a process of its own and returns a handle; `build` is what that process does.
Nothing is visible to a start-up before the last step, one rename.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from ..base import settings
from ..base.call import JULIA_SOURCES, RECORDER, call_latest, julia_string
from ..base.files import create_text, file_sha256, write_atomically
from ..base.liveness import mark_name
from ..base.locks import lock
from ..base.program import python_itself, python_path
from ..base.settings import Settings
from ..errors import AutoimageError, BuildError, StoreError
from ..julia.environment import Environment, locate
from ..julia.facts import JuliaFacts
from ..julia.manifest import Package, source_directory
from ..julia.versions import usual_seconds
from ..profile import profile, workloads
from ..profile.profile import Profile
from ..profile.workloads import Caller, Task
from ..startup.code import module_uuid, unchanged
from ..startup.options import code_flags, user_options
from ..store import validity
from ..store.built import Image, OwnCode, heap_of
from ..store.places import Store, depot_of, library_name
from ..store.validity import Situation
from . import clean, handle, history, layering, linking, recipe, train, verify
from .handle import Build
from .made import changed_since, completed, read_made
from .packagecompiler import OLDEST, least_packagecompiler, packagecompiler_problem, packagecompiler_version, too_old
from .recipe import Recipe
from .state import State
from .work import Work, beside, executable_itself, julia_environment, run

__all__ = ["Build", "build", "rebuild"]

PACKAGECOMPILER_UUID = "9b87118b-4619-50d2-8e1e-99f35a4d4d9d"

# Measured with a 300 MB image: 5.5 GB with one compiling thread, 7.7 GB with two.
GIGABYTES_FIRST_THREAD = 5.5
GIGABYTES_PER_THREAD = 2.2

NO_LIBPYTHON = (
    "this Python has no shared libpython, so no Julia process could host it; the image is built without PythonCall"
)

NOTHING_RECORDED = (
    "nothing had been recorded: this image makes only `import juliacall` fast; "
    "run your program and build again, or build --train PROGRAM"
)
NOTHING_FOR_LAYERS = "nothing has been recorded: run your program, or build --train PROGRAM"

# A build that has something to run does not join the one that runs, but waits for its end: seconds.
PATIENCE = 7200.0

# How long to wait for the lock before looking whose build holds it: seconds.
MOMENT = 0.2

# Images have some 200 MB at least. Less than this, and not even the log of a build has room.
LEAST_FREE_BYTES = 50_000_000

# The targets of Julia's own binaries (julialang.org/downloads; base/Makefile of its build farm).
PORTABLE_TARGETS = {
    "x86_64": "generic;sandybridge,-xsaveopt,clone_all;haswell,-rdrnd,base(1);x86-64-v4,-rdrnd,base(1)",
    "amd64": "generic;sandybridge,-xsaveopt,clone_all;haswell,-rdrnd,base(1);x86-64-v4,-rdrnd,base(1)",
    "aarch64": "generic;cortex-a57;thunderx2t99;carmel,clone_all;apple-m1,base(3);neoverse-512tvb,base(3)",
    "arm64": "generic;apple-m1,clone_all",
}


def rebuild(wait: bool = True, quick: bool = False, *, workload: object = None, **keywords: Any) -> Build:
    """Build an image of what this environment's processes have recorded, for the next Python process.

    Layers come first: after seconds, programs that were recorded start on those, until the image is there.

    The build is a process of its own and goes on if this one ends. If a build of this environment runs
    already, that one is joined; with a workload, the build begins when that one has ended.

    Args:
        wait: return when the build has ended; False returns at once.
        quick: build layers only.
        workload: what to run, in a fresh process, and record before the image is built: a function (without
            arguments), the path of a Python or Julia script, a module, Julia code, a `Workload`, or a list of
            these. It is run again on the new image, and the image built again, until a run compiles nothing
            more that an image can hold. One that fails is a note in the build's state.
        keywords: any field of `pyjl_autoimage.base.settings.Settings`; the environment wins over them.

    Returns:
        The handle of the build.

    Raises:
        BuildError: (with `wait`) it failed; the message holds its last lines and the log's place.
        JuliaNotFoundError: there is no usable Julia, or its project cannot be set up.
        SettingsError: a setting has an unknown name or a bad value.
        StoreError: the store cannot be written.
        WorkloadError: there is no such script or module, or the function cannot be carried to a fresh process.
    """
    to_run = [] if workload is None else workloads.tasks(workload)
    handle = begin_here(keywords, to_run, Caller.here(with_path=True), quick=quick)
    if wait:
        handle.wait()
    return handle


def begin_here(keywords: Mapping[str, Any], to_run: Sequence[Task], caller: Caller, *, quick: bool = False) -> Build:
    """Start, or join, a build of this process's own environment.

    Raises:
        JuliaNotFoundError: there is no usable Julia, or its project cannot be set up.
        SettingsError: a setting has an unknown name or a bad value.
        StoreError: the store cannot be written.
    """
    settled = settings.settle(keywords)
    options = user_options()
    environment = locate(options)
    return begin(environment, settled, code_flags(options), to_run, caller, quick=quick)


def begin(
    environment: Environment,
    settled: Settings,
    flags: Mapping[str, str],
    to_run: Sequence[Task] = (),
    caller: Caller | None = None,
    *,
    quick: bool = False,
) -> Build:
    """Start the build process of an environment, or join the one that runs.

    Args:
        environment: what the image is for.
        settled: settings of the build.
        flags: code generation flags, where nothing has been recorded that says others.
        to_run: workloads. With any, no build is joined: this one begins when the other has ended.
        caller: what their processes take over.
        quick: build layers only.

    Raises:
        BuildError: this program is not run by a Python that could run another one (it is frozen).
        StoreError: the store cannot be written.
    """
    interpreter = python_itself()
    if interpreter is None:
        raise BuildError(
            f"{sys.executable} is a program of its own, and no Python that could build for it; build with the Python "
            "that it was made with: `python -m pyjl_autoimage build`"
        )
    store = Store(settled.home)
    last = State.read(store, environment.id)
    if last is not None and last.state == "running" and not to_run:
        return Build(store, environment.id, last.token, None)
    store.ensure(store.environment(environment.id))
    free = shutil.disk_usage(store.home).free
    if free < LEAST_FREE_BYTES:
        raise StoreError(
            f"No space left for an image: {free / 1e6:.0f} MB are free where the store {store.home} is. "
            "Free some, or put the store elsewhere with PYJL_AUTOIMAGE_HOME"
        )
    token = os.urandom(8).hex()
    request = {
        "token": token,
        "after": last.token if last is not None else None,
        "home": store.home,
        "environment": asdict(environment),
        "settings": {k: v for k, v in asdict(settled).items() if k != "origins"},
        "flags": dict(flags),
        "quick": quick,
        "tasks": [asdict(task) for task in to_run],
        "caller": asdict(caller or Caller.here(with_path=False)),
    }
    log = store.build_log(environment.id)
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags_of_process = subprocess.DETACHED_PROCESS | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        detached = {"creationflags": flags_of_process | subprocess.CREATE_NEW_PROCESS_GROUP}
    with create_text(f"{log}.err") as errors:
        process = subprocess.Popen(
            [interpreter, "-m", "pyjl_autoimage", "_build"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=store.environment(environment.id),
            env={**os.environ, "PYTHONPATH": python_path()},
            **detached,
        )
    assert process.stdin is not None
    try:
        with process.stdin as pipe:  # an argument could not be as long as a function can be
            pipe.write(json.dumps(request).encode())
    except OSError:
        pass  # it has ended already; the handle tells why
    return Build(store, environment.id, token, process)


# -- in the build process ------------------------------------------------------------------------------


def main(request: str) -> int:
    """What ``python -m pyjl_autoimage _build`` does with a request: hold the lock, build, write how it ended."""
    asked = json.loads(request)
    store = Store(asked["home"])
    environment = Environment(**asked["environment"])
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in asked["settings"].items()}
    settled = Settings(**values)
    if hasattr(os, "nice"):
        os.nice(10)
    signal.signal(signal.SIGTERM, _cancelled)
    try:
        return _build_or_join(store, environment, settled, asked)
    except _Cancelled:
        return 1
    except AutoimageError as error:
        print(error, file=sys.stderr)
        return 1


def _build_or_join(store: Store, environment: Environment, settled: Settings, asked: Mapping[str, Any]) -> int:
    """Build, unless a build has begun since this one was asked for: that one is joined, even if it has ended.

    A build that has workloads to run waits for the end of the other instead.

    Raises:
        BuildError: something else holds the lock of this environment's builds.
    """

    def another() -> bool:
        last = State.read(store, environment.id)
        return not asked["tasks"] and last is not None and last.token != asked["after"]

    path = store.build_lock(environment.id)
    give_up = time.monotonic() + (PATIENCE if asked["tasks"] else 50 * MOMENT)
    while time.monotonic() < give_up:
        try:
            with lock(path, MOMENT):
                return handle.JOINED if another() else _locked_build(store, environment, settled, asked)
        except TimeoutError:
            if another():  # otherwise the one that holds the lock has yet to write its state
                return handle.JOINED
    raise BuildError(f"another process holds {path}, and does not build")


class _Cancelled(BaseException):
    """Somebody asked the build to stop."""


def _cancelled(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Cancelled


def _locked_build(store: Store, environment: Environment, settled: Settings, asked: Mapping[str, Any]) -> int:
    last = State.read(store, environment.id)
    state = State(asked["token"], mark_name(), started=time.time(), phase_started=time.time())
    state.learn(last)
    state.quick = bool(asked["quick"])
    if last is not None and last.state != "running":
        history.note(store, environment.id, last)  # one that was killed could not do it itself
    shutil.rmtree(store.build_directory(environment.id), ignore_errors=True)  # what a killed build left
    directory = os.path.join(store.build_directory(environment.id), state.token)
    with create_text(store.build_log(environment.id)) as log:
        state.write(store, environment.id)
        to_run, caller = [Task.from_json(task) for task in asked["tasks"]], Caller.from_json(asked["caller"])
        work = Work(store, environment, settled, dict(asked["flags"]), to_run, caller, directory, state, log)
        image: Image | None = None
        try:
            quick = state.quick
            image = train.train(work, lambda: build(work, quick=quick), once=quick)
            state.state, state.image = "done", image.id if image else None
        except _Cancelled:
            state.state, state.error = "cancelled", "the build was cancelled"
        except AutoimageError as error:
            state.state, state.error = "failed", str(error)
        except OSError as error:
            state.state, state.error = (
                "failed",
                f"{error.strerror or error}: {error.filename or ''}".rstrip(": "),
            )
        except Exception as error:
            import traceback

            traceback.print_exc(file=log)
            state.state, state.error = "failed", f"{type(error).__name__}: {error}"
        work.say(f"{state.state}: {state.image or state.error or 'layers only'}")
        state.leave()
        state.finished = time.time()
        shutil.rmtree(store.build_directory(environment.id), ignore_errors=True)
        history.note(store, environment.id, state, image)
        state.write(store, environment.id)
    return 0 if state.state == "done" else 1


def build(work: Work, *, quick: bool = False) -> Image | None:
    """Build and publish layers; then build, prove and publish one image, unless it is to be `quick`.

    Raises:
        AutoimageError: it could not be built; nothing was published.
        OSError: the store cannot be written; nothing was published.
    """
    began = time.time()
    work.enter("prepare")
    facts = validity.julia_facts(work.environment, work.store, fresh=True)
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
        builder = _builder_project(work, facts)
        library = _run_julia(work, facts, builder, chosen, statements, flags, threads)
    as_stated, unresolved = recipe.held(work.place("report"), chosen)
    made = read_made(work.place("made"))
    packages = completed(as_stated, made, situation.manifest, situation.preferences)
    refused = {statements[number - 1] for number in unresolved if number <= len(statements)}
    changed = recipe.changed_sources(chosen, situation, facts.depots)
    changed += [own[name].path for name in chosen.code if not unchanged(own[name].files)]
    changed += changed_since(made, packages, began)
    if changed:
        raise BuildError(f"the sources of {', '.join(changed)} changed while the image was built; build again")
    compiled = [text for text in statements if not recorded.statements[text].inferred]
    late = len(refused.intersection(compiled))  # of what was only inferred nobody would miss one
    if late:
        note = f"{late} of {len(compiled)} statements cannot be compiled ahead, but when they are called"
        work.state.notes.append(note)

    work.enter("outside")
    depot = depot_of(os.path.dirname(library))
    proof = verify.Proof(library, packages, work.environment, facts, work.place("proof"), flags, depot, work.log)
    with proof:
        _precompile_outside(work, facts, library, flags, depot)
        work.enter("prove")
        proof.wait()
    _keep_only_caches(depot)

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
        **situation.requirements(work.environment, packages, cpu_target=work.settings.cpu_target),
    )
    work.store.publish(os.path.dirname(library), image)
    try:
        profile.note_image(work.store, work.environment.id, statements, refused, identity)
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


def check_compiler(facts: JuliaFacts | None = None) -> None:
    """Know before anything takes time whether an image can be linked.

    Args:
        facts: of the Julia that builds; None if there is none.

    Raises:
        BuildError: there is neither a linker in Julia nor a C compiler.
    """
    if os.environ.get("JULIA_CC") or sys.platform == "win32":
        return
    if not (facts and linking.lld(facts.bindir)) and not linking.compiler():
        raise BuildError(
            "no C compiler: an image is linked with the lld that comes with Julia (on Linux), or with gcc or clang, "
            "and none is there. Install gcc or clang (Debian: gcc, macOS: xcode-select --install), or name a C "
            "compiler with JULIA_CC"
        )


def can_host_python(pythoncall: Package, depots: Sequence[str]) -> bool:
    """Whether a Julia process can host this Python, known before minutes pass.

    With PythonCall in an image every Julia that starts on it hosts a Python, the one that builds it included.
    A Python without a shared library of itself cannot be hosted.
    """
    return find_libpython(pythoncall, depots) != ""


def find_libpython(pythoncall: Package, depots: Sequence[str]) -> str | None:
    """This Python's shared library, by PythonCall's own search for it; empty if there is none.

    None if that search is not where it should be (another version of PythonCall): the build will show.
    """
    search = os.path.join(source_directory(pythoncall, depots) or "", "src", "C", "find_libpython.py")
    if not os.path.isfile(search):
        return None
    command = [sys.executable, search, "--list-all"]
    found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return next((line.strip() for line in found.stdout.splitlines() if line.strip()), "")


def _recorded(work: Work, *, quick: bool) -> Profile:
    """The merged profile. Where no program was ever recorded, a bare start is: the import gets fast."""
    recorded = profile.merge(work.store, work.environment.id)
    if not recorded.programs and not work.tasks:
        work.note(NOTHING_FOR_LAYERS if quick else NOTHING_RECORDED)
    if recorded.runs or quick:
        return recorded
    train.bare_start(work)
    return profile.merge(work.store, work.environment.id)


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


def _builder_project(work: Work, facts: JuliaFacts) -> str:
    """The Julia project that has PackageCompiler: a given one, or our own."""
    given = work.settings.builder_project
    if given is not None and not os.path.isdir(given):
        raise BuildError(f"PYJL_AUTOIMAGE_BUILDER_PROJECT: {given} is not a directory")
    project = given or _own_builder_project(work, facts)
    problem = packagecompiler_problem(project, facts.version)
    if problem and too_old(packagecompiler_version(project, facts.version) or "", OLDEST):
        raise BuildError(f"{problem}, and no image can be built with this one")
    if problem:
        work.note(f"{problem}; building takes longer, and the image holds less than it could")
    return project


def _own_builder_project(work: Work, facts: JuliaFacts) -> str:
    """The one of the store, set up by Pkg on first use, and again where its PackageCompiler has become too old.

    One that cannot be brought up to date (without network) stays as it is.
    """
    project = work.store.ensure(own_builder_project(work.store, facts))
    ready = os.path.join(project, "ready")
    least = least_packagecompiler(facts.version)
    wanted = "\n".join((least, *facts.depots))  # what it was set up for
    try:
        with lock(os.path.join(project, "lock"), PATIENCE):  # another first build may be about it
            done = _content(ready)
            if done == wanted and not packagecompiler_problem(project, facts.version):
                return project
            work.detail("installing PackageCompiler")
            julia = executable_itself(facts, work.environment)  # a launcher might start another one from here
            command = [julia, f"--project={project}", "--startup-file=no", "-e"]
            status = run(work, [*command, _INSTALL, least, OLDEST], julia_environment(), lambda line: None)
            if status and done is None:
                raise BuildError(
                    f"PackageCompiler could not be installed (Julia ended with status {status}):\n"
                    f"{_last_lines(work)}\nWithout network, name a Julia project that has it with "
                    "PYJL_AUTOIMAGE_BUILDER_PROJECT."
                )
            if not status:
                write_atomically(ready, wanted.encode())
    except TimeoutError:
        raise BuildError(f"another build is still about to install PackageCompiler into {project}") from None
    return project


# A registry that does not know the version that is wanted (a mirror that lags behind) may have one that will do.
_INSTALL = f"""
using Pkg
least(version) = Pkg.PackageSpec(; name = "PackageCompiler", uuid = "{PACKAGECOMPILER_UUID}", version = "$version-2")
try
    Pkg.add(least(ARGS[1]))
catch
    ARGS[1] == ARGS[2] && rethrow()
    Pkg.add(least(ARGS[2]))
end
using PackageCompiler
"""


def _content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def own_builder_project(store: Store, facts: JuliaFacts) -> str:
    """The Julia project of the store that has PackageCompiler, once its file ``ready`` is there."""
    return os.path.join(store.builder_project, _minor(facts))


def _minor(facts: JuliaFacts) -> str:
    return f"v{'.'.join(facts.version.split('.')[:2])}"


def _run_julia(
    work: Work,
    facts: JuliaFacts,
    builder: str,
    chosen: Recipe,
    statements: list[str],
    flags: Mapping[str, str],
    threads: int,
) -> str:
    """Run PackageCompiler; the path of the new library."""
    with open(work.place("statements.jl"), "w", encoding="utf-8") as file:
        file.writelines(f"{statement}\n" for statement in statements)
    with open(work.place("bake.jl"), "w", encoding="utf-8") as file:
        file.write(_call_of("made.jl", "report", work.place("made")))
        if work.settings.slim:  # before the statements: they bring back what they need
            file.write(_call_of("slim.jl", "forget"))
        file.write(_call_of("bake.jl", "bake", work.place("statements.jl"), work.place("report")))
    library = work.place("image", library_name())
    os.makedirs(os.path.dirname(library))
    command = [
        executable_itself(facts, work.environment),
        f"--project={builder}",
        "--startup-file=no",
        os.path.join(JULIA_SOURCES, "build_image.jl"),
        work.place("project"),
        library,
        work.place("bake.jl"),
        cpu_targets(work.settings.cpu_target),
        *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items()),
        "--",
        *(package.name for package in chosen.packages),
        *chosen.code,
        RECORDER,
    ]
    environ = julia_environment()
    # A depot of our own in front: the caches that PackageCompiler makes (without native code) are of no use to
    # anybody else, and Julia, which keeps ten of a package, would drop the user's for them. The next build,
    # whatever its environment, finds them again.
    own = work.store.ensure(work.store.builder_depot)
    have_a_registry(own)
    environ["JULIA_DEPOT_PATH"] = os.pathsep.join((own, *facts.depots))
    # Julia 1.14 caches the objects that LLVM makes (its `src/objcache.h`), in the first depot; but the process that
    # writes an image begins without depots. So far known from its source alone.
    environ.setdefault("JULIA_OBJCACHE_PATH", os.path.join(own, "cache", _minor(facts), "objcache"))
    environ["TMPDIR"] = environ["TMP"] = environ["TEMP"] = work.place("tmp")
    environ["JULIA_DEBUG"] = "PackageCompiler"
    environ["JULIA_IMAGE_THREADS"] = str(threads)
    if not environ.get("JULIA_CC"):
        environ.pop("JULIA_CC", None)  # an empty one would be run
        linker = linking.lld(facts.bindir)
        if linker:
            environ["JULIA_CC"] = linking.as_compiler(linker)
    status = run(work, command, environ, lambda line: _follow(work, line))
    if status or not os.path.isfile(library):
        raise BuildError(f"{_ending(status)}:\n{_last_lines(work)}{_remedy(work)}")
    return library


def have_a_registry(depot: str) -> None:
    """Put a registry without packages into a depot.

    PackageCompiler lets Pkg look whether all is installed, as it is; and Pkg, even in offline mode, first installs a
    registry where no depot has any. Without network that fails.

    Raises:
        OSError: it cannot be written.
    """
    directory = os.path.join(depot, "registries", "Empty")
    os.makedirs(directory, exist_ok=True)
    text = 'name = "Empty"\nuuid = "2f0c3c5e-6d4b-4f0e-9a57-3d8c1e6f7b21"\n\n[packages]\n'
    write_atomically(os.path.join(directory, "Registry.toml"), text.encode())


def _call_of(source: str, function: str, *arguments: str) -> str:
    """A line of Julia that calls a function of one of our modules; nothing of it gets a name in Main."""
    file = julia_string(os.path.join(JULIA_SOURCES, source))
    return call_latest(f"Base.include(Module(:Autoimage), {file})", function, *map(julia_string, arguments)) + "\n"


def _precompile_outside(work: Work, facts: JuliaFacts, library: str, flags: Mapping[str, str], depot: str) -> None:
    """Precompile for the new image what is outside it, in a depot that is published with it.

    Julia would do so in the user's foreground: a cache holds for one image. It keeps ten caches of a package
    and drops the oldest, so these must not go where the user's own are. A package that cannot be precompiled
    is no reason to throw the image away.
    """
    command = [
        executable_itself(facts, work.environment),
        f"--sysimage={library}",
        f"--project={work.environment.project}",
        "--startup-file=no",
        *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items()),
        os.path.join(JULIA_SOURCES, "outside.jl"),
    ]
    environ = julia_environment()
    environ["JULIA_DEPOT_PATH"] = os.pathsep.join((depot, *facts.depots))
    environ["JULIA_PKG_OFFLINE"] = "true"
    if run(work, command, environ, lambda line: None):
        work.state.notes.append("some packages outside the image could not be precompiled for it; see the log")


def _keep_only_caches(depot: str) -> None:
    """What an image's depot is published with: no logs of usage."""
    for name in os.listdir(depot) if os.path.isdir(depot) else []:
        if name != "compiled":
            shutil.rmtree(os.path.join(depot, name), ignore_errors=True)


def _ending(status: int) -> str:
    if sys.platform != "win32" and status == -signal.SIGKILL:
        return "Julia was killed while it built the image, as Linux does when memory runs out"
    return f"PackageCompiler failed ({'signal ' + str(-status) if status < 0 else 'status ' + str(status)})"


def _remedy(work: Work) -> str:
    """What to do about a failure whose words do not say it."""
    try:
        with open(work.store.build_log(work.environment.id), encoding="utf-8", errors="replace") as file:
            known = any("Unable to find compatible target in cached code image" in line for line in file)
    except OSError:
        known = False
    if not known or work.settings.cpu_target == "native":
        return ""
    return (
        "\nThis Julia was compiled for one CPU alone, "
        f"and nothing for {work.settings.cpu_target!r} can be built on it. "
        "The official builds of Julia (julialang.org, juliaup, juliapkg) hold code for every CPU."
    )


def cpu_targets(setting: str) -> str:
    """The value of Julia's ``--cpu-target`` for our setting of that name."""
    if setting != "portable":
        return setting
    import platform

    return PORTABLE_TARGETS.get(platform.machine().lower(), "generic")


def affordable_threads() -> int:
    """How many threads may compile the image: as many as there are cores, and memory for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    available = available_gigabytes()
    if available is None:
        return min(cores, 2)
    return max(1, min(cores, 1 + int((available - GIGABYTES_FIRST_THREAD) / GIGABYTES_PER_THREAD)))


def available_gigabytes() -> float | None:
    """Memory that can be had without swapping, within this control group's limit; None if unknown."""
    limits: list[float] = []
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            limits += [int(line.split()[1]) / 2**20 for line in file if line.startswith("MemAvailable:")]
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = file.read().strip()
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
            used = int(file.read())
        if limit != "max":
            limits.append((int(limit) - used) / 2**30)
    except (OSError, ValueError, IndexError):
        pass
    return min(limits) if limits else None


# -- Julia's output ------------------------------------------------------------------------------------


_MARKS = (
    (re.compile(r"ensurecompiled: running"), "precompile"),
    (re.compile(r"writing precompile staging code|running precompilation execution script"), "load"),
    (re.compile(r"\[autoimage\] statements (\d+/\d+)"), "statements"),
    (re.compile(r"\[autoimage\] native code"), "native code"),
    (re.compile(r"\[autoimage\] linking|Debug: running .* -shared "), "link"),
)


def _follow(work: Work, line: str) -> None:
    """Know the phase by what PackageCompiler (with its debug output on) and our own script print."""
    for mark, phase in _MARKS:
        match = mark.search(line)
        if match:
            if work.state.phase != phase:
                work.enter(phase)
            if match.groups():
                work.detail(match.group(1))
            return


_NOISE = re.compile(
    r"^(\[autoimage\]|\$ |[┌│└]\s*(Debug|@)|│\s+JULIA_|\s*@ |Stacktrace:|\s*\[\d+\]|- PackageCompiler|\s*$)"
)


def _last_lines(work: Work, count: int = 12) -> str:
    """The last lines of the log that say something: no stack frames, no debug output."""
    try:
        with open(work.store.build_log(work.environment.id), encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip() for line in file if not _NOISE.match(line)]
    except OSError:
        return ""
    errors = [number for number, line in enumerate(lines) if re.search(r"\bERROR\b|\berror:|Error:", line)]
    # What a process says of another that failed is less than what that one said before.
    telling = [number for number in errors if "failed process: " not in lines[number]]
    start = (telling or errors or [max(0, len(lines) - count)])[-1]
    end = next((number for number in errors if number > start), len(lines))
    return "\n".join(lines[start : min(end, start + count)])
