"""What this process compiles, written down by Julia itself, a line at a time, from the very start.

A recording is two append-only files in the environment's ``recordings/``: ``NAME.jl``, the precompile
statements that Julia's own ``trace_compile`` writes, and ``NAME.log``, a line of facts about the process
and then lines of what it did: packages that it loads, how long its start took, how long it compiled. NAME
is that of the process's marks: it holds the log locked while it lives. Nothing depends on a clean exit, after which a
run that learned nothing on an image leaves nothing.
"""

from __future__ import annotations

import os
import sys
import time

from ..base.call import _COMPILED_FOR_TRACE, _call_recorder, evaluate, julia_string
from ..base.liveness import hold, mark_name, release
from ..base.program import program_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Recording", "attach_packages", "attach_trace", "create", "detach_trace"]


# What a build runs as a workload, and all that it starts, is told apart by this. No setting of the user's.
WORKLOAD_VARIABLE = "_PYJL_AUTOIMAGE_WORKLOAD"


class Recording:
    """The two files of one process."""

    __slots__ = ("log", "trace")

    def __init__(self, trace: str, log: str) -> None:
        self.trace: str = trace
        self.log: str = log

    def __repr__(self) -> str:
        return f"Recording({self.trace!r})"

    def note(self, line: str) -> None:
        """Add a line to the log, in one write; a log that cannot be written any more goes without it."""
        try:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, f"{line}\n".encode())
            finally:
                os.close(descriptor)
        except OSError:
            pass

    def discard(self) -> None:
        """Remove both files: nothing will be written to them."""
        release(self.log)
        for path in (self.trace, self.log):
            try:
                os.unlink(path)
            except OSError:
                pass


def create(
    directory: str, *, image: str | None, flags: Mapping[str, str], layer: str | None = None
) -> Recording | None:
    """Create and check the files of a recording, before Julia hears of them.

    Julia opens its trace file at the first compilation and *throws into the user's call* if it cannot
    (`src/gf.c`, `record_precompile_statement`). So a recording that cannot be written is None, and the
    start goes on without one.

    Args:
        directory: the environment's recordings.
        image: id of the image that the process starts on.
        layer: id of the layer that it uses.
        flags: code generation flags that Julia was given.
    """
    base = os.path.join(directory, mark_name())
    recording = Recording(f"{base}.jl", f"{base}.log")
    line = _header(image, layer, flags).encode()
    try:
        written = os.write(hold(recording.log), line)
        os.close(os.open(recording.trace, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if written == len(line):
            return recording
    except OSError:
        pass
    recording.discard()
    return None


def _header(image: str | None, layer: str | None, flags: Mapping[str, str]) -> str:
    """The first line of a log: a JSON object. (Importing json costs more than all else that is done here.)"""
    told = ", ".join(f"{_json(name)}: {_json(value)}" for name, value in flags.items())
    return (
        f'{{"schema": 1, "started": {time.time():.3f}, "image": {_json(image)}, "layer": {_json(layer)}, '
        f'"flags": {{{told}}}, "program": {_json(program_name())}, '
        f'"workload": {_json(os.environ.get(WORKLOAD_VARIABLE))}, '
        f'"python": "{".".join(map(str, sys.version_info[:3]))}"}}\n'
    )


def _json(text: str | None) -> str:
    """Any text as JSON."""
    if text is None:
        return "null"
    if text.isascii() and text.isprintable():
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    import json

    return json.dumps(text)


# -- in the running Julia ------------------------------------------------------------------------------


def open_trace(juliacall: Any, recording: Recording) -> None:
    """Let Julia open its trace file now, if it has not yet.

    It does so at its first compilation, and throws into whatever that is for if the file is gone by then. On
    a good image that may be long after the start.
    """
    try:
        if os.stat(recording.trace).st_size == 0:
            evaluate(juliacall, _COMPILED_FOR_TRACE)
    except OSError:
        pass


def attach_packages(juliacall: Any, recording: Recording) -> bool:
    """Note the packages that the running Julia has loaded and will load. False if that failed."""
    return _call_recorder(juliacall, "start", julia_string(recording.log)) is not None


def attach_trace(juliacall: Any, recording: Recording) -> bool:
    """Let the running Julia record what it compiles. False if it does not (it traces elsewhere)."""
    _call_recorder(juliacall, "trace", julia_string(recording.trace))
    try:
        return os.stat(recording.trace).st_size > 0
    except OSError:
        return False


def detach_trace(juliacall: Any) -> None:
    """Stop recording what the running Julia compiles."""
    _call_recorder(juliacall, "untrace")
