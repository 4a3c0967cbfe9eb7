"""Julia builds: what the processes of a build are told, and what their output says of how far they are."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping

from ..base.call import JULIA_SOURCES, RECORDER, call_latest, julia_string
from ..base.files import write_atomically
from ..errors import BuildError
from ..julia.facts import JuliaFacts
from ..store.places import library_name
from . import linking
from .machine import affordable_threads
from .recipe import Recipe
from .runner import TooLong
from .work import Work, executable_itself, julia_environment, run

__all__ = ["CannotPrecompile", "cpu_targets", "keep_only_caches", "last_lines", "make_library", "precompile_outside"]


# The targets of Julia's own binaries (julialang.org/downloads; base/Makefile of its build farm).
PORTABLE_TARGETS = {
    "x86_64": "generic;sandybridge,-xsaveopt,clone_all;haswell,-rdrnd,base(1);x86-64-v4,-rdrnd,base(1)",
    "amd64": "generic;sandybridge,-xsaveopt,clone_all;haswell,-rdrnd,base(1);x86-64-v4,-rdrnd,base(1)",
    "aarch64": "generic;cortex-a57;thunderx2t99;carmel,clone_all;apple-m1,base(3);neoverse-512tvb,base(3)",
    "arm64": "generic;apple-m1,clone_all",
}


class CannotPrecompile(BuildError):
    """A package of the image could not be precompiled."""

    def __init__(self, uuid: str, name: str, said: str) -> None:
        super().__init__(f"{name} cannot be precompiled:\n{said}")
        self.uuid = uuid


# Whichever failed first comes first: what depends on it fails after it (`compilecache` in Julia's base/loading.jl).
_FAILED = re.compile(r"Failed to precompile (?P<name>\S+) \[(?P<uuid>[0-9a-f-]{36})\]")
# One that says `__precompile__(false)`, or overwrites a method, Pkg passes over; the image's Julia fails to load it.
_FAILED_AT = re.compile(r"^in expression starting at (?P<file>.+):\d+$", re.MULTILINE)


def make_library(
    work: Work,
    facts: JuliaFacts,
    builder: str,
    chosen: Recipe,
    statements: list[str],
    flags: Mapping[str, str],
) -> str:
    """Run PackageCompiler; the path of the new library.

    Raises:
        BuildError: there is none.
    """
    threads = work.settings.image_threads or affordable_threads()
    with open(work.place("bake.jl"), "w", encoding="utf-8") as file:
        file.write(_call_of("made.jl", "report", work.place("made")))
        if work.settings.slim:  # before the statements: they bring back what they need
            file.write(_call_of("slim.jl", "forget"))
        file.write(_call_of("bake.jl", "bake", work.place("statements.jl"), work.place("report")))
    library = work.place("image", library_name())
    os.makedirs(os.path.dirname(library), exist_ok=True)
    before = log_size(work)
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
    environ.setdefault("JULIA_OBJCACHE_PATH", os.path.join(own, "cache", facts.minor, "objcache"))
    environ["TMPDIR"] = environ["TMP"] = environ["TEMP"] = work.place("tmp")
    environ["JULIA_DEBUG"] = "PackageCompiler"
    environ["JULIA_IMAGE_THREADS"] = str(threads)
    if not environ.get("JULIA_CC"):
        environ.pop("JULIA_CC", None)  # an empty one would be run
        linker = linking.lld(facts.bindir)
        if linker:
            environ["JULIA_CC"] = linking.as_compiler(linker)
    left_out: list[int] = []
    while True:
        with open(work.place("statements.jl"), "w", encoding="utf-8") as file:
            file.writelines("\n" if n in left_out else f"{text}\n" for n, text in enumerate(statements))
        try:
            status = run(work, command, environ, lambda line: _follow(work, line))
            break
        except TooLong as error:
            at = _statement_at(work, statements)
            if left_out or work.state.phase != "statements" or at is None:
                raise
            work.note(f"{error}; once more, without {statements[at]}")
            left_out.append(at)
            work.enter("load")
    if status or not os.path.isfile(library):
        failed = _failed_of(log_from(work, before), chosen)
        if failed is not None:
            raise CannotPrecompile(*failed, last_lines(work))
        raise BuildError(f"{_ending(status)}:\n{last_lines(work)}{_remedy(work)}")
    return library


def _failed_of(log: str, chosen: Recipe) -> tuple[str, str] | None:
    """Uuid and name of the package that the building Julia could not precompile, or not load."""
    for failed in _FAILED.finditer(log):
        if failed["uuid"] in chosen.closure:
            return failed["uuid"], failed["name"]
    for at in _FAILED_AT.finditer(log):
        for uuid, package in chosen.expected.items():
            if package.source and at["file"].startswith(os.path.join(package.source, "")):
                return uuid, package.name
    return None


def _statement_at(work: Work, statements: list[str]) -> int | None:
    """The index of the statement that the building Julia was at."""
    try:
        with open(work.place("report.at"), encoding="ascii") as file:
            index = int(file.read()) - 1
    except (OSError, ValueError):
        return None
    return index if 0 <= index < len(statements) else None


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


def precompile_outside(work: Work, facts: JuliaFacts, library: str, flags: Mapping[str, str], depot: str) -> None:
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
    try:
        status = run(work, command, environ)
    except TooLong as error:
        work.note(f"{error}: some packages outside the image may not be precompiled for it")
    else:
        if status:
            work.state.notes.append("some packages outside the image could not be precompiled for it; see the log")


def keep_only_caches(depot: str) -> None:
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


def log_size(work: Work) -> int:
    """Bytes of the build's log so far."""
    work.log.flush()
    return os.path.getsize(work.log.name)


def log_from(work: Work, start: int) -> str:
    """What the build's log got since then."""
    with open(work.log.name, "rb") as file:
        file.seek(start)
        return file.read().decode("utf-8", "replace")


def last_lines(work: Work, count: int = 12) -> str:
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
