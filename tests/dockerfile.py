"""What tests need to know of a Dockerfile: its stages, and what its instructions say."""

from __future__ import annotations

import shlex
import string
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """One `FROM` and what follows it."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, word: str) -> list[str]:
        """What follows this word, each time."""
        return [rest for given, rest in self.instructions if given == word]


def stages(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, each with the instructions of those that it is made from in front."""
    found: dict[str, Stage] = {}
    lines = (line for line in path.read_text().replace("\\\n", " ").splitlines() if line and not line.startswith("#"))
    for line in lines:
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = Stage(base, name, list(found[base].instructions) if base in found else [])
            found[name] = stage
        else:
            stage.instructions.append((word, rest))
    return list(found.values())


def variables(rest: str, environ: dict[str, str]) -> dict[str, str]:
    """What an `ENV` sets."""
    pairs = (item.partition("=") for item in shlex.split(rest))
    return {name: string.Template(value).safe_substitute(environ) for name, _, value in pairs}


def commands(rest: str) -> list[list[str]]:
    """The commands of a `RUN`."""
    return [shlex.split(command.partition("<")[0]) for command in rest.split("&&")]
