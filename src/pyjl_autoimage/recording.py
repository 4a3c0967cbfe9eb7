"""What this process compiles, written down by Julia itself, a line at a time, from the very start.

A recording is two append-only files in the environment's ``recordings/``: ``NAME.jl``, the precompile
statements that Julia's own ``trace_compile`` writes, and ``NAME.log``, a line of facts about the process
and then lines of what it did: packages that it loads, how long its start took, how long it compiled. NAME
holds host, pid and start time of the process. Nothing depends on a clean exit.
"""

from __future__ import annotations

import os
import sys
import time

from .base.liveness import name_of_this_process
from .base.program import program_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Recording", "attach_packages", "attach_trace", "create", "detach_trace"]

RECORDER_UUID = "b0f3d9c4-7a52-4f0e-9d0b-5c1c1a2e6f37"
RECORDER = "AutoimageRecorder"

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
    base = os.path.join(directory, f"{name_of_this_process()}-{os.urandom(4).hex()}")
    recording = Recording(f"{base}.jl", f"{base}.log")
    line = _header(image, layer, flags).encode()
    for _ in range(2):
        try:
            log = os.open(recording.log, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                written = os.write(log, line)
            finally:
                os.close(log)
            os.close(os.open(recording.trace, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileNotFoundError:
            try:
                os.makedirs(directory, mode=0o700, exist_ok=True)
            except OSError:
                return None
            continue
        except OSError:
            break
        if written == len(line):
            return recording
        break
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


def julia_string(text: str) -> str:
    """A Julia string literal of any text. Nothing in it can end the literal or interpolate."""
    return (
        '"' + "".join(c if (c.isascii() and c.isalnum()) or c in "/._- " else f"\\U{ord(c):08x}" for c in text) + '"'
    )


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def unescaped(text: str) -> str:
    """What Julia's ``escape_string`` was given: backslashes, tabs and newlines; nothing else is told apart."""
    head, *rest = text.split("\\\\")
    if rest:
        return "\\".join(map(unescaped, (head, *rest)))
    head, *rest = text.split("\\")
    return head + "".join(_ESCAPES.get(part[:1], part[:1]) + part[1:] for part in rest)


def call_latest(module: str, function: str, *arguments: str) -> str:
    """Julia code that calls a function which the same line defines: a line sees only what was there when it began."""
    return f"Base.invokelatest({', '.join((f'Base.invokelatest(getfield, {module}, :{function})', *arguments))})"


def evaluate(juliacall: Any, code: str) -> int | None:
    """Evaluate Julia code through the C API; the address of its value, None if it threw.

    Not through PythonCall: that would compile, and record, methods that no program of the user's needs.
    """
    import ctypes

    jl_eval_string = juliacall.CONFIG["lib"].jl_eval_string
    jl_eval_string.argtypes = [ctypes.c_char_p]
    jl_eval_string.restype = ctypes.c_void_p
    address: int | None = jl_eval_string(code.encode())
    return address


# What `Base.Experimental.@compiler_options compile=min optimize=0 infer=no` gives in a module. Expanding the macro
# would cost a fifth of all that our recorder costs a start without an image.
INTERPRETED = (
    "Core.eval({}, Expr(:block, Expr(:meta, :compile, 3), Expr(:meta, :optlevel, 0), "  # 3 is min
    "Expr(:meta, :infer, 0), nothing))"
)


def _call_recorder(juliacall: Any, function: str, argument: str = "") -> int | None:
    """Call a function of the recorder: the one in the image, or the one that was evaluated, or a new one."""
    identity = f'Base.PkgId(Base.UUID("{RECORDER_UUID}"), "{RECORDER}")'
    if juliacall.CONFIG.get("opt_sysimage"):
        # Nothing but a look-up and a call: on an image, parsing and compiling more would be all that we cost.
        # (Indexing `Base.loaded_modules` here would compile that method, 6 ms; Julia has this one compiled.)
        address = evaluate(juliacall, f"Base.root_module({identity}).{function}({argument})")
        if address is not None:
            return address
    here = os.path.dirname(os.path.abspath(__file__))
    own = [os.path.join(RECORDER, "src", name) for name in ("recorder.jl", "layer.jl")]
    sources = [os.path.join(here, "julia", name) for name in ("callers.jl", *own)]
    include = "\n".join(f"Base.include(recorder, {julia_string(source)})" for source in sources)
    return evaluate(
        juliacall,
        f"""
        let recorder = get(Base.loaded_modules, {identity}, nothing)
            for callback in Base.package_callbacks
                if nameof(parentmodule(callback)) === :{RECORDER}
                    recorder = parentmodule(callback)
                end
            end
            if recorder === nothing
                recorder = Module(:{RECORDER})
                {INTERPRETED.format("recorder")}
                {include}
            end
            {call_latest("recorder", function, *filter(None, (argument,)))}
        end
        """,
    )


def use_layer(juliacall: Any, description: str) -> bool:
    """Stack a layer on the project (see `pyjl_autoimage.layer.Layer.description`). False if that failed."""
    return _call_recorder(juliacall, "use_layer", julia_string(description)) is not None


def load_from_layer(juliacall: Any, name: str, uuid: str) -> bool:
    """Load a package of the layer from its precompile cache. False if that is not fresh."""
    return _call_recorder(juliacall, "load_cached", f"{julia_string(name)}, {julia_string(uuid)}") is not None


# Compiles one method, in a module whose methods are interpreted: Julia notes those as well
# (`jl_compile_method_internal`), and LLVM, which may have nothing else to do, need not even wake up.
_COMPILED_FOR_TRACE = f"""
let interpreted = Module()
    {INTERPRETED.format("interpreted")}
    Base.invokelatest(Core.eval(interpreted, :(x -> x)), 1)
end
"""


def compile_callers_once(juliacall: Any) -> None:
    """What `attach_packages` does beside recording: see ``julia/callers.jl``."""
    _call_recorder(juliacall, "unspecialize_callers")


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
