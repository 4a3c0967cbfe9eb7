"""What an image holds: native code by package, and the rest. Measured once, in a Julia that starts on it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..base.call import JULIA_SOURCES
from ..base.data import typed
from ..base.files import read_json, write_json
from ..errors import AutoimageError
from ..julia.environment import Environment
from ..julia.facts import JuliaFacts
from ..julia.items import report_at
from ..store.built import Image
from ..store.places import Store
from .work import executable_itself, julia_environment

__all__ = ["Contents", "Held", "contents"]

SCHEMA = 1
TIMEOUT = 300.0


@dataclass(frozen=True)
class Held:
    """The native code of one package's methods."""

    name: str
    uuid: str
    """Empty for Julia's own Base and Core."""
    methods: int
    """Compiled methods, each counted for every list of argument types."""
    bytes: int


@dataclass(frozen=True)
class Contents:
    """What an image's file consists of."""

    image: str
    bytes: int
    """Of the file."""
    held: tuple[Held, ...]
    """The largest first."""

    @property
    def data(self) -> int:
        """What is no code of a known method: modules, types, constants, Julia's intermediate code, tables."""
        return max(0, self.bytes - sum(held.bytes for held in self.held))


def contents(store: Store, image: Image, environment: Environment, facts: JuliaFacts) -> Contents:
    """What an image holds, from the store if it was measured before.

    Raises:
        AutoimageError: it could not be measured.
    """
    known = _from_json(read_json(store.contents(image.id)), image)
    if known is not None:
        return known
    with tempfile.TemporaryDirectory(prefix="pyjl-autoimage-contents-") as directory:
        report = os.path.join(directory, "report")
        command = [
            executable_itself(facts, environment),
            f"--sysimage={image.path}",
            f"--project={environment.project}",
            "--startup-file=no",
            *(f"--{name.replace('_', '-')}={value}" for name, value in image.flags.items()),
            os.path.join(JULIA_SOURCES, "contents.jl"),
            report,
        ]
        try:
            result = subprocess.run(
                command,
                env=julia_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=TIMEOUT,
                check=False,
            )
            items = report_at(report)
        except subprocess.TimeoutExpired:
            raise AutoimageError(f"image {image.id} could not be looked into: Julia hung") from None
        except OSError as error:
            raise AutoimageError(f"image {image.id} could not be looked into: {error}") from None
    if items is None:
        said = (result.stderr.strip().splitlines() or [f"Julia ended with status {result.returncode}"])[0]
        raise AutoimageError(f"image {image.id} could not be looked into: {said}")
    found = Contents(image.id, image.bytes, tuple(read(items)))
    try:
        path = store.contents(image.id)
        store.ensure(os.path.dirname(path))
        write_json(path, {"schema": SCHEMA, **asdict(found)})
    except (OSError, AutoimageError):
        pass  # measured again the next time
    return found


def read(items: Iterable[Sequence[str]]) -> list[Held]:
    """Read what ``julia/contents.jl`` reports, the largest first. Core is put down to Base: both are Julia's own."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for _, uuid, name, *numbers in items:
        key = ("Base", "") if not uuid and name == "Core" else (name, uuid)
        methods, size = found.get(key, (0, 0))
        found[key] = (methods + int(numbers[0]), size + int(numbers[1]))
    held = [Held(name, uuid, methods, size) for (name, uuid), (methods, size) in found.items()]
    return sorted(held, key=lambda one: -one.bytes)


def _from_json(value: Mapping[str, Any] | None, image: Image) -> Contents | None:
    if not value or value.get("schema") != SCHEMA or value.get("bytes") != image.bytes:
        return None
    try:
        return Contents(image.id, image.bytes, typed(tuple[Held, ...], value["held"]))
    except (KeyError, ValueError):
        return None
