"""``pyjl-autoimage doctor``: everything that images need, checked, each line with its remedy."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from ..base import settings
from ..base.program import __version__
from ..base.settings import Settings
from ..base.words import ago_text, bytes_text, count_text, error_line, os_error_text, seconds_text
from ..build import linking
from ..build.machine import GIGABYTES_FIRST_THREAD, available_gigabytes, check_compiler, find_libpython
from ..build.packagecompiler import own_builder_project, packagecompiler_problem, packagecompiler_version
from ..build.recipe import PYTHONCALL_UUID
from ..build.state import State
from ..errors import AutoimageError, JuliaNotFoundError
from ..explain.explain import bare_start
from ..explain.measurement import KINDS
from ..hook import enable
from ..julia import versions
from ..julia.environment import Environment, how_julia_was_found, how_project_was_found, locate
from ..julia.facts import JuliaFacts
from ..startup.options import code_flags, user_options
from ..store import validity
from ..store.built import Image
from ..store.places import Store
from ..store.publish import damage
from ..store.validity import Situation
from .status import stdout_to_stderr

__all__ = ["Check", "examine"]

BYTES_OF_A_BUILD = 2e9


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str
    remedy: str = ""
    """What to do about it, or (where it is ok) what is worth knowing; empty where nothing is wrong."""


def examine(*, start: bool = True) -> Iterator[Check]:
    """Check everything, a piece at a time; whole images are read for their checksums.

    An image whose content is not what was published is condemned.

    Args:
        start: start Julia once, too, and time it.

    Raises:
        SettingsError: a setting has an unknown name or a bad value.
    """
    settled = settings.settle()
    try:
        yield from _examine(settled, Store(settled.home), start=start)
    except OSError as error:
        yield Check("doctor", False, f"{os_error_text(error)}: what comes behind this was not checked")


def _examine(settled: Settings, store: Store, *, start: bool) -> Iterator[Check]:
    yield from _store(store)
    yield _python()
    yield from _versions()
    yield from _settings(settled)
    yield _cpu_targets(settled)
    yield from _memory()
    try:
        with stdout_to_stderr():
            environment = locate(user_options(), install=False, outdated=True)
        facts = validity.julia_facts(environment, store, fresh=True)
    except JuliaNotFoundError as error:
        yield Check("Julia", False, str(error), "`import juliacall` once, or set PYTHON_JULIAPKG_EXE")
        yield _linker(None)
        yield _hook(store)
        yield from _images(store, None)
        return
    found = f"{facts.version} ({facts.commit[:10]}) {environment.executable}, {how_julia_was_found(environment)}"
    yield Check("Julia", True, found, "; ".join(_about_julia(environment, facts)))
    yield _linker(facts)
    situation: Situation | None = None
    try:
        situation = validity.situation_of(environment, store, code_flags(user_options()))
    except (AutoimageError, ValueError) as error:
        yield Check("Julia project", False, str(error), "`import juliacall` sets the project up")
    else:
        packages = count_text(len(situation.manifest.packages), "package")
        how = how_project_was_found(environment)
        found = f"{environment.project} ({packages}), {how}"
        if environment.outdated:
            yield Check("Julia project", False, f"{found}; {environment.outdated}", "builds take it as it is")
        else:
            yield Check("Julia project", True, found)
        yield from _pythoncall(situation, facts)
    yield _builder_project(settled, store, facts)
    yield _recordings(environment, settled, store)
    yield _hook(store)
    yield from _last_build(environment, store)
    yield from _images(store, situation)
    yield from _layers(environment, store)
    if start:
        yield _start(environment)


# -- the machine, and where things are kept --------------------------------------------------------------


def _store(store: Store) -> Iterator[Check]:
    remedy = "set PYJL_AUTOIMAGE_HOME to a directory of your own"
    try:
        store.ensure(store.root)
    except AutoimageError as error:
        yield Check("store", False, str(error), remedy)
        return
    distrusted, writable = store.distrust(store.root), os.access(store.root, os.W_OK)
    if distrusted:
        yield Check("store", False, distrusted, f"chmod go-w, or {remedy}")
    elif not writable:
        yield Check("store", False, f"{store.home} is read-only: images are used, nothing is recorded", remedy)
    elif _forbids_code(store.root):
        yield Check("store", False, f"{store.home} is mounted noexec: no image can be loaded from there", remedy)
    else:
        yield Check("store", True, f"{store.home}, yours alone to write")
    free = shutil.disk_usage(store.root).free
    enough = free > BYTES_OF_A_BUILD
    yield Check("disk", enough, f"{bytes_text(free)} free", "" if enough else "a build needs 2 GB; try `clean`")


def _forbids_code(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_NOEXEC)
    except (AttributeError, OSError):
        return False


def _python() -> Check:
    implementation, free_threaded = platform.python_implementation(), "free-threading build" in sys.version
    build = f"{implementation} {platform.python_version()}{' free-threaded' if free_threaded else ''}"
    found = f"{sys.executable} ({build}, {platform.platform()})"
    against = versions.against_python(implementation, sys.version_info[:3], free_threaded=free_threaded)
    return Check("Python", not against, found, against or versions.about_python(free_threaded=free_threaded))


def _versions() -> Iterator[Check]:
    found = {"pyjl_autoimage": __version__}
    for name in ("juliacall", "juliapkg"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            yield Check(name, False, "not installed", f"pip install {name}")
    old = versions.against_juliacall(found["juliacall"]) if "juliacall" in found else ""
    if old:
        yield Check("juliacall", False, old, "pip install -U juliacall; until then, programs start as without us")
    yield Check("versions", True, ", ".join(f"{name} {number}" for name, number in found.items()))


def _settings(settled: Settings) -> Iterator[Check]:
    given = [f"{name}={getattr(settled, name)!r} ({where})" for name, where in settled.origins.items()]
    yield Check(
        "settings", settled.enabled, ", ".join(given) or "all as they are by default", _remedy_if_off(settled)
    )


def _remedy_if_off(settled: Settings) -> str:
    return "" if settled.enabled else "programs start as with plain juliacall: unset PYJL_AUTOIMAGE"


# Names of CPUs, and of families of them, as LLVM knows them. Not all, but no feature is among them.
_CPU_NAME = re.compile(
    r"native|sysimage|generic|x86[-_]64(-v\d)?|core2|core-\w+|penryn|nehalem|westmere"
    r"|\w+(bridge|well|lake|rapids|mont)(-\w+)?|(zn|bd|bt)ver\d|(cortex|neoverse|apple)-\w+|thunderx\w*|carmel|a64fx"
)


def _cpu_targets(settled: Settings) -> Check:
    """Semicolons separate targets, commas the features of one (`parse_cmdline` in Julia's ``src/processor.cpp``)."""
    of_caches = os.environ.get("JULIA_CPU_TARGET", "")
    given = {settled.origins.get("cpu_target", ""): settled.cpu_target, "JULIA_CPU_TARGET": of_caches}
    for where, targets in given.items():
        meant = re.sub(rf",\s*(?=({_CPU_NAME.pattern})\s*([,;]|$))", ";", targets)
        if meant != targets:
            found = f"{where}={targets}: what follows a comma is taken for a feature of the CPU before it"
            return Check("CPU targets", False, found, f"separate targets by semicolons: {meant}")
    caches = f"; precompile caches for {of_caches} (JULIA_CPU_TARGET)" if of_caches else ""
    return Check("CPU targets", True, f"images for {settled.cpu_target}{caches}")


def _linker(facts: JuliaFacts | None) -> Check:
    """What links images: Julia's own linker, or a C compiler. Which one, only Julia can say."""
    try:
        check_compiler(facts)
    except AutoimageError as error:
        return Check("linker", False, "none", str(error))
    own = None if os.environ.get("JULIA_CC") or facts is None else linking.lld(facts.bindir)
    command = os.environ.get("JULIA_CC") or own or linking.compiler()
    return Check("linker", True, _version_of(command) if command else "PackageCompiler's own")


def _memory() -> Iterator[Check]:
    memory = available_gigabytes()
    if memory is not None:
        needed = GIGABYTES_FIRST_THREAD
        remedy = f"a build may need {needed} GB: end other programs before" if memory < needed else ""
        yield Check("memory", True, f"{memory:.1f} GB available", remedy)


def _version_of(command: str) -> str:
    try:
        arguments = [*shlex.split(command), "--version"]
        said = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        return f"{command} ({said.stdout.splitlines()[0].strip()})"
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return command


# -- Julia's side ------------------------------------------------------------------------------------------


def _about_julia(environment: Environment, facts: JuliaFacts) -> Iterator[str]:
    about = versions.about_julia(facts.version)
    if about:
        yield about
    for lack in facts.lacks:
        yield f"it lacks {lack}"
    if environment.managed and facts.version.startswith("1.11."):
        import ssl

        # juliapkg takes Julia 1.12, which needs OpenSSL 3.5, only for a Python that has it (`openssl_compat` there).
        if ssl.OPENSSL_VERSION_INFO < (3, 5):
            yield f"for a Python with OpenSSL 3.5 (this has {ssl.OPENSSL_VERSION}) juliapkg would take a newer one"
    if environment.may_start_another(facts.bindir):
        yield (
            "it may start another Julia at any time, so every start asks which, as plain juliacall does; "
            f"PYTHON_JULIAPKG_EXE={environment.julia} names this one for good, and starts are faster"
        )


def _pythoncall(situation: Situation, facts: JuliaFacts) -> Iterator[Check]:
    package = situation.manifest.packages.get(PYTHONCALL_UUID)
    if package is None:
        yield Check("PythonCall", False, "not in the manifest", "`import juliacall` sets the project up")
        return
    found = f"PythonCall {package.version}, juliacall {situation.juliacall}"
    agree = package.version == situation.juliacall
    remedy = "" if agree else "the two must be of one version: `python -m juliapkg resolve`"
    yield Check("PythonCall", agree, found, remedy)
    library = find_libpython(package, facts.depots)
    if library == "":
        remedy = (
            "images are built without PythonCall; with a Python that has one (--enable-shared), starts are faster"
        )
        yield Check("libpython", False, "this Python has no shared library of itself", remedy)
    else:
        yield Check("libpython", True, library or "not looked for: PythonCall's own search was not found")


def _builder_project(settled: Settings, store: Store, facts: JuliaFacts) -> Check:
    what, given = "builder project", settled.builder_project
    project = given or own_builder_project(store, facts)
    if given is None and not os.path.exists(os.path.join(project, "ready")):
        return Check(what, True, "not there yet: the first build installs PackageCompiler into it, from the network")
    version = packagecompiler_version(project, facts.version)
    if version is None:
        return Check(what, False, f"{project} has no PackageCompiler", _remedy_of_builder(given, project))
    problem = packagecompiler_problem(project, facts.version)
    if problem and given:
        return Check(what, False, problem, f"`Pkg.update()` in {project}")
    remedy = f"{problem}: the next build sees to it" if problem else ""
    return Check(what, True, f"PackageCompiler {version} in {project}", remedy)


def _remedy_of_builder(given: str | None, project: str) -> str:
    if given:
        return "PYJL_AUTOIMAGE_BUILDER_PROJECT must name a Julia project that has PackageCompiler; or unset it"
    return f"remove {project}: the next build makes it anew"


# -- what has been recorded and built ------------------------------------------------------------------------


def _recordings(environment: Environment, settled: Settings, store: Store) -> Check:
    what, directory = "recordings", store.recordings(environment.id)
    if not settled.record:
        return Check(what, True, f"off ({settled.origins.get('record', 'by default')})")
    if os.path.isdir(directory) and not os.access(directory, os.W_OK | os.X_OK):
        return Check(what, False, f"{directory} cannot be written: nothing is recorded", "chmod u+rwx")
    waiting = len(os.listdir(directory)) // 2 if os.path.isdir(directory) else 0
    return Check(what, True, f"{count_text(waiting, 'recording')} not yet merged into the profile")


MOST_OF_AN_ERROR = 200


def _hook(store: Store) -> Check:
    path, error = enable.enabled(), enable.last_error(store)
    state = f"enabled by {path}" if path else "not enabled"
    if error:
        lines = error.splitlines()
        # A wrong setting has been put right, or there were no checks; what is not enabled troubles nobody any more.
        over = path is None or "SettingsError" in lines[-1]
        said = lines[-1] if len(lines[-1]) <= MOST_OF_AN_ERROR else f"{lines[-1][:MOST_OF_AN_ERROR]}..."
        remedy = f"the whole of it is in {store.hook_log}; `enable` (again) or removing the file ends this line"
        return Check("hook", over, f"{state}; it failed: {lines[0]}: {said}", remedy)
    return Check("hook", True, state)


def _last_build(environment: Environment, store: Store) -> Iterator[Check]:
    state = State.read(store, environment.id)
    if state is None:
        return
    when = ago_text(state.finished or state.started)
    if state.state == "failed":
        yield Check("last build", False, f"failed {when}: {error_line(state.error)}", "`log` shows all that it said")
    else:
        yield Check("last build", True, f"{state.state}, {when}")


def _images(store: Store, situation: Situation | None) -> Iterator[Check]:
    for image in store.all_images():
        what = f"image {image.id}"
        wrong = damage(store, image, thorough=True)
        condemned = store.condemned(image.id)
        if wrong:
            store.condemn(image.id, wrong[0])
            yield Check(what, False, wrong[0], "not used any more; `build` makes a new one")
            continue
        if condemned:
            yield Check(what, False, f"condemned: {condemned}", f"its content is intact: `restore {image.id}`")
            continue
        distrusted = store.distrust(*image.files)
        if distrusted:
            yield Check(what, False, f"not trusted: {distrusted}", "not used; make it yours alone to write")
            continue
        yield Check(what, True, f"{bytes_text(image.bytes)}, checksum matches{_fit(image, situation, store)}")


def _fit(image: Image, situation: Situation | None, store: Store) -> str:
    if situation is None:
        return ""
    reasons = validity.reasons_against(image, situation, store)
    return f"; not used: {reasons[0]}" if reasons else "; fits"


def _layers(environment: Environment, store: Store) -> Iterator[Check]:
    layers = [layer for layer in store.all_layers() if layer.environment == environment.id]
    distrusted = next(filter(None, (store.distrust(layer.path) for layer in layers)), None)
    if distrusted:
        yield Check("layers", False, f"not trusted: {distrusted}", "not used; make it yours alone to write")
    elif layers:
        yield Check("layers", True, f"{count_text(len(layers), 'layer')}, yours alone to write")


def _start(environment: Environment) -> Check:
    try:
        start = bare_start(environment)
    except AutoimageError as error:
        return Check("start", False, str(error), "`python -c 'import juliacall'` shows whether it is Julia or we")
    beside = ("python", "program", "running", "exit", "measuring")
    took = {kind: seconds for kind, seconds in start.by_kind().items() if kind not in beside}
    on = f"on image {start.image}" if start.image else "on Julia's own image"
    steps = "".join(f"\n{seconds_text(took[kind]):>9}  {KINDS[kind]}" for kind in took if took[kind] >= 0.0005)
    return Check("start", True, f"{seconds_text(sum(took.values()))} {on}{steps}")
