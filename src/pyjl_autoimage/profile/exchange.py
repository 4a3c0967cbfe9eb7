"""A profile as a file, for another machine: a teammate's, or the one that builds a container.

What goes along is what the other machine can use: statements, packages, and which programs need them. Files
of the other machine's own (its programs' Julia code, its runs) stay where they are. A file comes from anybody:
what is read is data, and checked.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from ..errors import StoreError
from .profile import LoadedPackage, Profile, Program, Statement
from .recordings import parse_statement

__all__ = ["read", "text"]

FORMAT = "pyjl_autoimage profile"
VERSION = 1
LARGEST = 200_000_000
"""Bytes of a file that is read; a profile of twenty thousand statements has some ten million."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def text(profile: Profile) -> str:
    """A profile as the content of a file, with a statement a line."""
    numbers = {name: number for number, name in enumerate(profile.programs)}
    about = {
        "format": FORMAT,
        "version": VERSION,
        "packages": {uuid: [package.name, package.runs] for uuid, package in profile.packages.items()},
        "programs": [[name, sorted(program.packages)] for name, program in profile.programs.items()],
    }
    statements = ",\n".join(
        json.dumps(
            [line, s.runs, s.milliseconds, sorted(numbers[p] for p in s.programs if p in numbers), int(s.inferred)]
        )
        for line, s in profile.statements.items()
    )
    return f'{json.dumps(about)[:-1]}, "statements": [\n{statements}\n]}}\n'


def read(content: str, name: str) -> Profile:
    """The profile in a file that `text` made, or in a list of statements that ``julia --trace-compile`` wrote.

    A program counts where it exists here, too; the statements of the others count for the environment as a whole.

    Args:
        content: the file's.
        name: what to call it in errors.

    Raises:
        StoreError: it is neither.
    """
    if len(content) > LARGEST:
        raise StoreError(f"{name} is too large to be a profile")
    if not content.lstrip().startswith("{"):
        parsed = filter(None, map(parse_statement, content.splitlines()))
        found = Profile({line: Statement(milliseconds=milliseconds) for line, milliseconds in parsed})
        if not found.statements:
            raise StoreError(f"{name} is no profile, and holds no precompile statements")
        return found
    try:
        value = json.loads(content, parse_int=_number)
        if value["format"] != FORMAT or value["version"] != VERSION:
            raise StoreError(f"{name} is no profile that this version can read")
        return _checked(value)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise StoreError(f"{name} is no profile: {type(error).__name__}: {error}") from None


def _checked(value: dict[str, Any]) -> Profile:
    packages = {
        uuid: LoadedPackage(name, int(runs))
        for uuid, (name, runs) in value["packages"].items()
        if _UUID.fullmatch(uuid) and name.isidentifier() and _is_number(runs)
    }
    names = [name if _is_here(name) else None for name, _ in value["programs"]]
    programs = {
        name: Program(packages=dict.fromkeys((uuid for uuid in uuids if uuid in packages), 0.0))
        for name, (_, uuids) in zip(names, value["programs"], strict=True)
        if name is not None
    }
    statements = {}
    for line, runs, milliseconds, numbers, *inferred in value["statements"]:
        parsed = parse_statement(line)
        if parsed is None or not (_is_number(runs) and _is_number(milliseconds)):
            continue  # one bad line is no reason to go without the others
        users = {names[number] for number in numbers} - {None}
        inferred_only = any(inferred)
        statements[parsed[0]] = Statement(int(runs), 0.0, float(milliseconds), users, inferred=inferred_only)
    return Profile(statements, packages, programs)


def _is_here(program: str) -> bool:
    """Whether a program of another machine's is one of this one's, too (see `processes.program_name`)."""
    return program == "" or (program.isprintable() and program.startswith("-m ")) or os.path.isfile(program)


def _number(text: str) -> float:
    return int(text) if len(text) < 20 else float("inf")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9
