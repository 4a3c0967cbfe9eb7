"""What a start does, measured: a program is run to its end, plain and on the image, and each step timed.

The measuring children are started with a ``sitecustomize`` of ours (`observe/`), which notes the steps, and Julia
writes what it compiles into a file that is read as it grows. They run what the program would run: the same question
is asked at their start, so the same image is chosen. What they compile goes into a directory that is thrown away.

`read` makes a `Timeline` of the notes; it needs no Julia, and neither does what shows it (`timeline`, `page`).
"""

from __future__ import annotations

import glob
import marshal
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ..base import settings
from ..base.call import INTERPRETED, JULIA_SOURCES, julia_string
from ..base.files import read_json, write_json
from ..base.program import PACKAGE
from ..base.reads import load_toml
from ..build.layer import statements_of
from ..build.runner import ending
from ..errors import AutoimageError, WorkloadError
from ..hook import run
from ..julia.environment import Environment, locate
from ..julia.manifest import Package, load_manifest, manifest_file, project_file
from ..profile import recordings
from ..profile.profile import Profile
from ..startup.options import user_options
from ..store import validity
from ..store.places import Store
from .measurement import Explanation, Timeline
from .reading import PAUSE, _beyond, _closure, read

__all__ = ["bare_start", "explain", "last"]

AGAIN = 20.0
"""Seconds of a run up to which one that is untypical is repeated."""
_LONGEST_START = 600.0
"""Seconds after which a bare start is given up."""


def last(store: Store, environment_id: str) -> Explanation | None:
    """What was measured the last time; None if nothing was."""
    return Explanation.from_json(read_json(store.explanation(environment_id)))


def explain(
    program: Sequence[str] = (),
    ways: Sequence[str] = ("plain", "image"),
    tell: Callable[[str], object] = lambda text: None,
) -> Explanation:
    """Run a program once each way, and say what its time was spent on.

    A short one whose start was the first since something changed is run once more: that is the usual start.

    Args:
        program: as Python takes it: a script, ``-m module`` or ``-c code``, and its arguments. Empty: a bare
            ``import juliacall``, and the packages that the program which ran last has loaded.
        ways: ``plain`` and ``image``.
        tell: called with a line about what is being done.

    Raises:
        AutoimageError: the program cannot be run, or Python was started so that it cannot be watched.
        JuliaNotFoundError: there is no usable Julia, or its project cannot be set up.
        SettingsError: a setting has an unknown name or a bad value.
        WorkloadError: there is no such script.
    """
    if program and program[0] not in ("-m", "-c", "-") and not os.path.exists(program[0]):
        raise WorkloadError(f"there is no file {program[0]}")
    _check_watched()
    store = Store(settings.settle().home)
    options = user_options()
    with _where_it_looks(program):
        environment = locate(options, outdated=True)
    facts = validity.julia_facts(environment, store)
    packages = _packages(environment.project, facts.version)
    named: Mapping[str, str] = {}
    if program:
        name = " ".join(os.path.basename(part) if number == 0 else part for number, part in enumerate(program))
    else:
        roots = _roots(recordings.peek(store, environment.id), packages)
        program = ["-c", _bare_start(roots, packages, environment.project)]
        named = environment.variables
        name = ", ".join(["import juliacall", *(f"using {packages[uuid].name}" for uuid in roots)])
    timed = tuple(map(int, facts.version.split(".")[:2])) >= (1, 12)
    timelines = []
    for way in ways:
        tell(f"running it {'on plain juliacall' if way == 'plain' else 'as it starts with pyjl_autoimage'}")
        timeline = _measure_usual(way, program, timed, packages, named, tell)
        used = next((one for one in store.all_layers() if one.id == timeline.layer), None)
        beyond = _beyond(timeline, statements_of(used)) if used else 0
        timelines.append(replace(timeline, beyond_layer=beyond))
    found = Explanation(name[:200], facts.version, round(time.time(), 3), tuple(timelines))
    try:
        store.ensure(store.environment(environment.id))
        write_json(store.explanation(environment.id), found.to_json())
    except (OSError, AutoimageError):
        pass  # `report` measures again
    return found


def bare_start(environment: Environment) -> Timeline:
    """Measure ``import juliacall`` as it is here. Nothing is kept of it, and no layer of a program's takes part.

    Raises:
        AutoimageError: Julia did not start, or cannot be watched; the message holds the last that was said.
    """
    _check_watched()
    timeline = _measure_usual(
        "image", ["-c", "import juliacall"], False, {}, environment.variables, limit=_LONGEST_START
    )
    if timeline.status:
        said = next((line.strip() for line in reversed(timeline.output.splitlines()) if line.strip()), "")
        raise AutoimageError(f"{ending(timeline.status)}{f': {said}' if said else ''}")
    return timeline


def _check_watched() -> None:
    if sys.flags.ignore_environment or sys.flags.no_site:
        raise AutoimageError("with -E, -I and -S Python leaves out what watching a program needs (PYTHONPATH, site)")


@contextmanager
def _where_it_looks(program: Sequence[str]) -> Iterator[None]:
    """juliapkg looks for what a project needs where Python looks for modules: first where the program is, not we."""
    before = list(sys.path)
    script = program[:1] and program[0] not in ("-m", "-c", "-")
    if not getattr(sys.flags, "safe_path", False):
        sys.path[:1] = [os.path.dirname(os.path.abspath(program[0])) if script else os.getcwd()]
    try:
        yield
    finally:
        sys.path[:] = before


# -- what to run ---------------------------------------------------------------------------------------


def _packages(project: str, julia_version: str) -> Mapping[str, Package]:
    path = manifest_file(project, julia_version)
    try:
        return load_manifest(path).packages if path else {}
    except (OSError, ValueError):
        return {}


def _roots(recorded: Profile, packages: Mapping[str, Package]) -> list[str]:
    """The uuids of what the program that ran last has loaded, but for what comes with something else it loaded."""
    ran = max(recorded.programs.values(), key=lambda program: program.last, default=None)
    loaded = {uuid for uuid in ran.packages if uuid in packages} if ran else set()
    needed = {uuid for package in loaded for uuid in _closure(package, packages) if uuid != package}
    roots = [
        uuid for uuid in loaded - needed if packages[uuid].name not in ("PythonCall", "CompilerSupportLibraries_jll")
    ]
    return sorted(roots, key=lambda uuid: packages[uuid].name)


def _bare_start(roots: Iterable[str], packages: Mapping[str, Package], project: str) -> str:
    lines = ["import juliacall"]
    try:
        direct = load_toml(project_file(project) or "").get("deps", {})
    except (OSError, ValueError):
        direct = {}
    for uuid in roots:
        name = packages[uuid].name
        identity = f"Base.PkgId(Base.UUID({julia_string(uuid)}), {julia_string(name)})"
        code = f"using {name}" if name in direct else f"Base.require({identity})"
        lines.append(f"juliacall.Main.seval({code!r})")
    return "\n".join(lines)


# -- running it ----------------------------------------------------------------------------------------


def _measure_usual(
    way: str,
    program: Sequence[str],
    timed: bool,
    packages: Mapping[str, Package],
    named: Mapping[str, str],
    tell: Callable[[str], object] = lambda text: None,
    limit: float = math.inf,
) -> Timeline:
    """Measure a start; a short one that was the first since something changed is no usual one, and repeated."""
    timeline = _measure(way, program, timed, packages, named, limit)
    if timeline.asked_anew and timeline.total < AGAIN:
        tell("running it once more, now that it is remembered what to start on")
        timeline = _measure(way, program, timed, packages, named, limit)
    return timeline


def _measure(
    way: str,
    program: Sequence[str],
    timed: bool,
    packages: Mapping[str, Package],
    named: Mapping[str, str],
    limit: float,
) -> Timeline:
    with tempfile.TemporaryDirectory(prefix="pyjl-autoimage-explain-") as directory:
        recordings = os.path.join(directory, "recordings")
        os.mkdir(recordings)
        trace = os.path.join(recordings, "plain.jl")
        request = {"timed": timed, "trace": trace, "recordings": recordings, "julia": _julia_code(directory)}
        with open(os.path.join(directory, "request"), "wb") as file:
            file.write(marshal.dumps(request))
        places = [os.path.join(PACKAGE, "explain", "observe")]
        places += [] if way == "plain" else [os.path.join(PACKAGE, "hook", "handover")]
        search = os.environ.get("PYTHONPATH")
        environ = {
            **os.environ,
            **named,
            "PYTHONPATH": os.pathsep.join([*places, *([search] if search else [])]),
            "_PYJL_AUTOIMAGE_OBSERVE": directory,
        }
        if way == "plain":
            environ["PYJL_AUTOIMAGE"] = "0"
            open(trace, "w").close()
        command = [sys.executable, *run.python_options(sys.orig_argv[1:]), *program]
        output = os.path.join(directory, "output")
        with open(output, "wb") as file:
            began = time.perf_counter_ns()
            process = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
            try:
                lines = _follow(process, recordings, limit)
            except BaseException:
                process.kill()
                process.wait()
                raise
        notes = {"began": began, "ended": time.perf_counter_ns(), "status": process.returncode}
        said = _text(output)[-2000:] if process.returncode else ""
        steps, loaded = (_text(os.path.join(directory, name)).splitlines() for name in ("notes", "packages"))
        if not steps:
            raise AutoimageError(f"the program could not be watched: Python ended before it began\n{said}".rstrip())
        return read(way, notes, steps, loaded, lines, packages, timed=timed, output=said)


def _julia_code(directory: str) -> str:
    """What Julia evaluates as soon as it is up. PYTHON_CLOCK is replaced by that clock's nanoseconds."""
    with open(os.path.join(JULIA_SOURCES, "observe.jl"), encoding="utf-8") as file:
        source = file.read()
    log = julia_string(os.path.join(directory, "packages"))
    # The text itself, and no `include`: that would have to be compiled.
    return f"""
    let observer = Module(:AutoimageObserver)
        {INTERPRETED.format("observer")}
        Core.eval(observer, Expr(:toplevel, quote
            const LOG = {log}
            {source}
        end))
    end
    """


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _follow(process: subprocess.Popen[bytes], directory: str, limit: float) -> list[tuple[int, str]]:
    """Read what Julia says it compiles, as it does, until the process ends: each line with its nanoseconds."""
    latest = time.monotonic() + limit
    found: list[tuple[int, str]] = []
    file = None
    rest = b""
    try:
        while True:
            ended = process.poll() is not None
            if file is None:
                names = glob.glob(os.path.join(directory, "*.jl"))
                file = open(names[0], "rb") if names else None  # noqa: SIM115
            content = rest + (file.read() if file is not None else b"")
            now = time.perf_counter_ns()
            *lines, rest = content.split(b"\n")
            found += [(now, line.decode("utf-8", "replace")) for line in lines]
            if ended:
                return found
            if time.monotonic() > latest:
                raise AutoimageError(f"the process had not ended after {limit:.0f} s")
            time.sleep(PAUSE)
    finally:
        if file is not None:
            file.close()
