"""A profile: the union of an environment's recordings. What every build starts from.

One file, replaced whole, says for each statement in how many runs it was compiled and when last, and for
each recording how many of its bytes have been counted. A recording is deleted only when its process is
dead and a profile on disk has counted it to its last newline, so every complete line counts exactly once,
whatever is killed when.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .errors import StoreError
from .locks import lock
from .processes import is_alive
from .recording import RECORDER
from .store import Store, read_json, write_json

__all__ = ["LoadedPackage", "Profile", "Statement", "load", "merge", "parse_statement", "peek"]

SCHEMA = 1


@dataclass
class Statement:
    """What is known of one precompile statement."""

    runs: int = 0
    """In how many recorded processes it was compiled."""
    last: float = 0.0
    """When it was last recorded, in seconds since the epoch."""
    milliseconds: float = 0.0
    """The longest that its compilation took, where Julia timed it (1.12 and later); else 0."""


@dataclass
class LoadedPackage:
    """A package that recorded processes loaded from outside their image."""

    name: str
    runs: int = 0
    last: float = 0.0


@dataclass
class Profile:
    """Statements by their text, packages by their uuid."""

    statements: dict[str, Statement] = field(default_factory=dict)
    packages: dict[str, LoadedPackage] = field(default_factory=dict)
    consumed: dict[str, list[int]] = field(default_factory=dict)
    """recording -> bytes counted of its statements, bytes counted of its log."""
    flags: dict[str, str] = field(default_factory=dict)
    """The code generation flags of the latest recording."""
    flags_from: float = 0.0
    runs: int = 0
    """How many recordings have gone into it."""

    def bakeable(self) -> list[str]:
        """The statements that an image can hold: those that name nothing of a program's own Main."""
        return [text for text in self.statements if not _OF_MAIN.search(text)]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "schema": SCHEMA,
            "statements": {text: [s.runs, round(s.last), s.milliseconds] for text, s in self.statements.items()},
            "packages": {uuid: [p.name, p.runs, round(p.last)] for uuid, p in self.packages.items()},
            "consumed": self.consumed,
            "flags": self.flags,
            "flags_from": self.flags_from,
            "runs": self.runs,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Profile:
        """Read what `to_json` gave; anything else is an empty profile."""
        if not value or value.get("schema") != SCHEMA:
            return cls()
        try:
            return cls(
                {
                    str(text): Statement(int(runs), float(last), float(ms))
                    for text, (runs, last, ms) in value["statements"].items()
                },
                {
                    str(uuid): LoadedPackage(str(name), int(runs), float(last))
                    for uuid, (name, runs, last) in value["packages"].items()
                },
                {str(name): [int(a), int(b)] for name, (a, b) in value["consumed"].items()},
                {str(name): str(flag) for name, flag in value["flags"].items()},
                float(value["flags_from"]),
                int(value["runs"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls()


_OF_MAIN = re.compile(r"(?<![\w.])Main\b")
_TIMING = re.compile(r"^#=\s*([0-9.]+)\s*ms\s*=#\s*")


def parse_statement(line: str) -> tuple[str, float] | None:
    """The statement in a line of Julia's trace and its milliseconds (0 if not timed); None for anything else.

    Julia 1.12 puts the time before the statement and ``# recompile`` behind it.
    """
    milliseconds = 0.0
    timing = _TIMING.match(line)
    if timing:
        try:
            milliseconds = float(timing.group(1))
        except ValueError:
            return None
        line = line[timing.end() :]
    line = line.strip().removesuffix("# recompile").rstrip()
    if not (line.startswith("precompile(Tuple{") and line.endswith("})")) or "\0" in line:
        return None
    if RECORDER in line:  # our own doing
        return None
    return line, milliseconds


def load(store: Store, environment_id: str) -> Profile:
    """The profile as it was last written; empty if there is none."""
    return Profile.from_json(read_json(store.profile(environment_id)))


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
        profile = load(store, environment_id)
        directory = store.recordings(environment_id)
        names = _recordings(directory)
        # Who is dead now writes nothing any more; who dies while we read may have written since.
        dead = [name for name in names if not is_alive(name, os.path.join(directory, f"{name}.log"))]
        for name in names:
            _consume(profile, directory, name)
        for name in set(profile.consumed).difference(names):
            del profile.consumed[name]  # removed by an earlier merge that got no further
        try:
            write_json(store.profile(environment_id), profile.to_json(), durable=True)
        except OSError as error:
            raise StoreError(f"the profile cannot be written: {error.strerror or error}") from error
        for name in dead:
            _remove(directory, name)
        return profile


def peek(store: Store, environment_id: str) -> Profile:
    """The profile as a merge would make it now, without writing anything."""
    profile = load(store, environment_id)
    directory = store.recordings(environment_id)
    for name in _recordings(directory):
        _consume(profile, directory, name)
    return profile


def _recordings(directory: str) -> list[str]:
    try:
        return sorted({os.path.splitext(name)[0] for name in os.listdir(directory) if name.endswith((".jl", ".log"))})
    except OSError:
        return []


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
    is_new = name not in profile.consumed
    path = os.path.join(directory, name)
    log, log_end = _new_lines(f"{path}.log", log_end)
    lines, statements_end = _new_lines(f"{path}.jl", statements_end)
    now = float(round(time.time()))
    started = now
    for line in log:
        if line.startswith("{"):
            header = _header(line)
            started = _number(header.get("started"), now)
            flags = header.get("flags")
            if isinstance(flags, dict) and started >= profile.flags_from:
                profile.flags = {str(key): str(value) for key, value in flags.items()}
                profile.flags_from = started
        else:
            _count_package(profile, line, now)
    found = 0
    for line in lines:
        parsed = parse_statement(line)
        if parsed is not None:
            text, milliseconds = parsed
            statement = profile.statements.setdefault(text, Statement())
            statement.runs += 1
            statement.last = now
            statement.milliseconds = max(statement.milliseconds, milliseconds)
            found += 1
    if is_new and (found or log):
        profile.runs += 1
    profile.consumed[name] = [statements_end, log_end]


def _header(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


_PACKAGE_LINE = re.compile(r"package ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) (\S+)")


def _count_package(profile: Profile, line: str, now: float) -> None:
    match = _PACKAGE_LINE.fullmatch(line)
    if match and match.group(2) != RECORDER:
        uuid, name = match.groups()
        package = profile.packages.setdefault(uuid, LoadedPackage(name))
        package.runs += 1
        package.last = now
