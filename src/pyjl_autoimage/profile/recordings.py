"""Recordings become a profile: each complete line counts exactly once, whatever is killed when."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from ..base.call import JULIA_SOURCES
from ..base.files import names_in, parsed_json, write_json
from ..base.layout import belongs_to_us
from ..base.liveness import discard, is_dead
from ..base.locks import lock
from ..errors import StoreError
from ..store.places import Store
from .ageing import compact
from .profile import (
    _LINE,
    _OF_OURS,
    _TIMING,
    BARE_START,
    COSTS_KEPT,
    FILES_KEPT,
    INFERRED,
    LONGEST_STATEMENT,
    OURS,
    RUNS_KEPT,
    Code,
    LoadedPackage,
    Origin,
    Profile,
    Program,
    Run,
    Statement,
    _float,
    _is_deep,
    _number,
    _text,
    is_of_main,
)

__all__ = [
    "add",
    "aside",
    "load",
    "locked",
    "merge",
    "note_image",
    "of_workload",
    "parse_statement",
    "peek",
    "split_timing",
]


ASIDE_KEPT = 5
"""Profiles that could not be read, of this environment."""


def split_timing(line: str) -> tuple[str, float]:
    """A line of Julia's trace without what 1.12 adds, the time before it and ``# recompile`` behind; milliseconds."""
    timing = _TIMING.match(line)
    statement = line[timing.end() if timing else 0 :].strip().removesuffix("# recompile").rstrip()
    return statement, _float(timing[1]) if timing else 0.0


def parse_statement(line: str) -> tuple[str, float] | None:
    """The statement in a line of Julia's trace and its milliseconds (0 if not timed); None for anything else."""
    line, milliseconds = split_timing(line)
    if not (line.startswith("precompile(Tuple{") and line.endswith("})")) or not line.isprintable():
        return None
    if len(line) > LONGEST_STATEMENT or _is_deep(line) or _OF_OURS.search(line):
        return None
    return line, milliseconds


def load(store: Store, environment_id: str) -> Profile:
    """The profile as it was last written; empty if there is none that can be read."""
    try:
        return _read(store, environment_id)
    except (OSError, ValueError):
        return Profile()


def _read(store: Store, environment_id: str) -> Profile:
    with open(store.profile(environment_id), "rb") as file:
        return Profile.from_json(parsed_json(file.read()))


def _to_change(store: Store, environment_id: str) -> Profile:
    """The profile, for who holds the lock and will write it. What cannot be read is put aside: who knows it may."""
    try:
        return _read(store, environment_id)
    except FileNotFoundError:
        return Profile()
    except OSError as error:
        raise StoreError(f"the profile cannot be read: {error.strerror or error}") from error
    except ValueError:
        _put_aside(store, environment_id)
        return Profile()


def aside(store: Store, environment_id: str) -> list[str]:
    """Files that were the profile, and could not be read, the oldest first."""
    directory = store.environment(environment_id)
    return [os.path.join(directory, n) for n in sorted(names_in(directory)) if re.fullmatch(r"profile-\d+\.json", n)]


def _put_aside(store: Store, environment_id: str) -> None:
    path = store.profile(environment_id)
    try:
        os.rename(path, f"{path.removesuffix('.json')}-{time.time_ns()}.json")
    except OSError as error:
        raise StoreError(f"{path} cannot be read, nor put aside: {error.strerror or error}") from error
    for old in aside(store, environment_id)[:-ASIDE_KEPT]:
        discard(old)


@contextmanager
def locked(store: Store, environment_id: str, timeout: float = 60.0) -> Iterator[None]:
    """Hold the lock that merging, importing and compacting share.

    Raises:
        StoreError: the store cannot be written, or somebody holds the lock for longer than `timeout` seconds.
    """
    directory = store.ensure(store.environment(environment_id))
    try:
        with lock(os.path.join(directory, "profile.lock"), timeout):
            yield
    except TimeoutError:
        raise StoreError(f"another process has been merging recordings in {directory} for {timeout:.0f} s") from None


def merge(store: Store, environment_id: str) -> Profile:
    """Count what is new in the recordings, write the profile, remove the recordings that are used up.

    Raises:
        StoreError: the store cannot be written; then nothing was removed.
    """
    with locked(store, environment_id):
        profile = _to_change(store, environment_id)
        directory = store.recordings(environment_id)
        names = _recordings(directory)
        # Who is dead now writes nothing any more; who dies while we read may have written since.
        dead = [name for name in names if is_dead(os.path.join(directory, f"{name}.log"))]
        for name in names:
            _consume(profile, directory, name)
        for name in set(profile.consumed).difference(names):
            del profile.consumed[name]  # removed by an earlier merge that got no further
        ended = sorted((run.started, name) for name, run in profile.recent.items() if name not in profile.consumed)
        for _, name in ended[:-RUNS_KEPT]:
            del profile.recent[name]
        compact(profile, time.time())
        _write(store, environment_id, profile)
        for name in dead:
            _remove(directory, name)
        return profile


def add(store: Store, environment_id: str, other: Profile, origin: Origin = Origin.IMPORTED) -> Profile:
    """Add the statements, packages and programs of a profile that was made elsewhere.

    Adding the same one twice is adding it once.

    Returns:
        The whole profile.

    Raises:
        StoreError: the store cannot be written.
    """
    now = float(round(time.time()))
    with locked(store, environment_id):
        profile = _to_change(store, environment_id)
        for text, statement in other.statements.items():
            kept = profile.statements.setdefault(text, Statement(inferred=statement.inferred, origin=origin))
            kept.inferred = kept.inferred and statement.inferred
            kept.origin = min(kept.origin, origin)
            kept.runs = max(kept.runs, statement.runs)
            kept.last = now
            kept.milliseconds = max(kept.milliseconds, statement.milliseconds)
            kept.programs |= statement.programs
        for uuid, package in other.packages.items():
            of_uuid = profile.packages.setdefault(uuid, LoadedPackage(package.name))
            of_uuid.runs, of_uuid.last = max(of_uuid.runs, package.runs), now
        for name, program in other.programs.items():
            of_name = profile.programs.setdefault(name, Program())
            of_name.last = now
            of_name.packages.update((uuid, now) for uuid in program.packages)
        _write(store, environment_id, profile)
        return profile


def note_image(
    store: Store, environment_id: str, given: Iterable[str], refused: Iterable[str], packages: str
) -> None:
    """Note what an image was built of, and forget what could not be resolved and no run needs any more.

    Args:
        store: where.
        environment_id: whose profile.
        given: the statements that the build was given. Whoever still compiles one is not helped by another image.
        refused: those that did not resolve. They are left out of images until the packages change.
        packages: identifies what the image consists of.

    Raises:
        StoreError: the store cannot be written.
    """
    with locked(store, environment_id):
        profile = _to_change(store, environment_id)
        for text in given:
            if text in profile.statements:
                profile.statements[text].given = True
        if packages != profile.refused_by:
            profile.refused.clear()
        profile.refused.update(refused)
        profile.refused_by = packages
        compact(profile, time.time())
        _write(store, environment_id, profile)


def _write(store: Store, environment_id: str, profile: Profile) -> None:
    try:
        write_json(store.profile(environment_id), profile.to_json(), durable=True)
    except OSError as error:
        raise StoreError(f"the profile cannot be written: {error.strerror or error}") from error


def peek(store: Store, environment_id: str) -> Profile:
    """The profile as a merge would make it now, without writing anything."""
    profile = load(store, environment_id)
    directory = store.recordings(environment_id)
    for name in _recordings(directory):
        _consume(profile, directory, name)
    return profile


def of_workload(store: Store, environment_id: str, token: str) -> Profile:
    """What the processes of one workload have recorded so far, as a profile of its own. Writes nothing."""
    own = Profile()
    directory = store.recordings(environment_id)
    for name in _recordings(directory):
        try:
            with open(os.path.join(directory, f"{name}.log"), encoding="utf-8", errors="replace") as file:
                header = _object(file.readline())
        except OSError:
            continue
        if header.get("workload") == token:
            _consume(own, directory, name)
    return own


def _recordings(directory: str) -> list[str]:
    """Names of recordings. Not of those that somebody else has put there: builds run what they say."""
    try:
        with os.scandir(directory) as entries:
            ours = [e for e in entries if e.name.endswith((".jl", ".log"))]
            theirs = {os.path.splitext(e.name)[0] for e in ours if not belongs_to_us(e.stat(follow_symlinks=False))}
    except OSError:
        return []
    return sorted({os.path.splitext(e.name)[0] for e in ours} - theirs)


def _remove(directory: str, name: str) -> None:
    for suffix in (".jl", ".log"):
        try:
            os.unlink(os.path.join(directory, name + suffix))
        except OSError:
            pass


def _new_lines(path: str, offset: int) -> tuple[list[str], int]:
    """The complete lines after `offset`, and the offset behind them. A torn last line waits for its rest."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read()
    except OSError:
        return [], offset
    end = content.rfind(b"\n") + 1
    return content[:end].decode("utf-8", "replace").splitlines(), offset + end


def _consume(profile: Profile, directory: str, name: str) -> None:
    statements_end, log_end = profile.consumed.get(name, [0, 0])
    unseen = not (statements_end or log_end)  # it may have been there, and empty
    path = os.path.join(directory, name)
    log, log_end = _new_lines(f"{path}.log", log_end)
    lines, statements_end = _new_lines(f"{path}.jl", statements_end)
    now = float(round(time.time()))
    if log and log[0].startswith("{") and name not in profile.recent:
        profile.recent[name] = _begin(profile, log.pop(0), now)
    run = profile.recent.get(name) or Run("", now)
    for line in log:
        _note(profile, run, line, now)
    found = 0
    for line in lines:
        inferred = line.startswith(INFERRED)
        parsed = parse_statement(line.removeprefix(INFERRED))
        if parsed is None or (inferred and is_of_main(parsed[0])):
            continue
        text, milliseconds = parsed
        statement = profile.statements.setdefault(text, Statement(inferred=inferred))
        statement.inferred = statement.inferred and inferred
        statement.origin = Origin.RECORDED
        statement.runs += 1
        statement.last = now
        statement.milliseconds = max(statement.milliseconds, milliseconds)
        if run.program in profile.programs:
            statement.programs.add(run.program)
        found += not inferred
    run.statements += found
    if unseen and (statements_end or log_end):
        profile.runs += 1
    profile.consumed[name] = [statements_end, log_end]


def _begin(profile: Profile, line: str, now: float) -> Run:
    """Read the first line of a recording: which program, started when and on what."""
    header = _object(line)
    started = min(_number(header.get("started"), now), now)
    flags = header.get("flags")
    if isinstance(flags, dict) and started >= profile.flags_from:
        profile.flags = {str(key): str(value) for key, value in flags.items()}
        profile.flags_from = started
    run = Run(str(header.get("program", "")), started, _text(header.get("image")), _text(header.get("layer")))
    run.workload = bool(header.get("workload"))
    if header.get("workload") == BARE_START:
        run.program = OURS
        return run
    program = profile.programs.setdefault(run.program, Program())
    program.runs += 1
    program.included = []
    program.last = max(program.last, started)
    if run.image is None and run.layer is None:
        program.plain = max(program.plain, started)
    return run


def _note(profile: Profile, run: Run, line: str, now: float) -> None:
    """Read a further line of a recording's log."""
    match = _LINE.fullmatch(line)
    if match is None:
        return
    if match["uuid"] and not _OF_OURS.match(match["name"]):
        package = profile.packages.setdefault(match["uuid"], LoadedPackage(match["name"]))
        package.runs += 1
        package.last = now
        if run.program in profile.programs:
            profile.programs[run.program].packages[match["uuid"]] = now
    elif match["ready"]:
        run.ready = _float(match["ready"])
    elif match["compiled"]:
        run.compiled, run.ended = _float(match["compiled"]), True
        _reckon(profile, run)
    elif match["included"]:
        _note_included(profile, run, match["included"])
    elif match["code"]:
        _note_code(profile, run, _object(match["code"]), now)


def _note_included(profile: Profile, run: Run, path: str) -> None:
    program = profile.programs.get(run.program)
    if program is None or path.startswith(JULIA_SOURCES) or path in program.included:
        return
    if len(program.included) < FILES_KEPT:
        program.included.append(path)


def _reckon(profile: Profile, run: Run) -> None:
    """Count what a run that ends has cost, or saved. What it says last is read once, so it counts once."""
    program = profile.programs.get(run.program)
    if program is None or not run.ready:
        return
    cost = run.ready + run.compiled
    if run.image is None and run.layer is None:
        program.costs = [*program.costs, round(cost, 3)][-COSTS_KEPT:]
    elif program.costs and run.program and not run.workload:  # two interactive sessions are no two runs of a program
        profile.saved += median(program.costs) - cost
        profile.saved_runs += 1


def _note_code(profile: Profile, run: Run, facts: dict[str, Any], now: float) -> None:
    name, path, text = facts.get("name"), facts.get("path"), _text(facts.get("text"))
    files, deps = facts.get("files"), facts.get("deps")
    if not (isinstance(name, str) and name.isidentifier() and isinstance(path, str)):
        return
    if isinstance(files, list) and isinstance(deps, dict):  # it was evaluated, not loaded
        files, deps = [str(file) for file in files], {str(key): str(uuid) for key, uuid in deps.items()}
        using = facts.get("using")
        using = [str(package) for package in using] if isinstance(using, list) else []
        profile.code[name] = Code(path, text, using, files, deps, syntax=_text(facts.get("syntax")) or "")
    if name in profile.code:
        profile.code[name].last = now
        program = profile.programs.get(run.program)
        if program is not None and name not in program.code:
            program.code.append(name)


def _object(line: str) -> dict[str, Any]:
    try:
        value = parsed_json(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
