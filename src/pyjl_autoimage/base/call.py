"""How a running Julia is spoken to: through its C interface, in code that is one look-up and one call.

Every start comes here: it imports next to nothing.
"""

from __future__ import annotations

import os

from .program import PACKAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


__all__ = [
    "JULIA_SOURCES",
    "RECORDER",
    "RECORDER_UUID",
    "call_latest",
    "compile_callers_once",
    "evaluate",
    "julia_string",
    "load_from_layer",
    "may_load_caches",
    "use_layer",
]

JULIA_SOURCES: str = os.path.join(PACKAGE, "julia")
"""The directory of the files that Julia reads."""

RECORDER_UUID = "b0f3d9c4-7a52-4f0e-9d0b-5c1c1a2e6f37"


RECORDER = "AutoimageRecorder"


def julia_string(text: str) -> str:
    """A Julia string literal of any text. Nothing in it can end the literal or interpolate."""
    return (
        '"' + "".join(c if (c.isascii() and c.isalnum()) or c in "/._- " else f"\\U{ord(c):08x}" for c in text) + '"'
    )


def call_latest(module: str, function: str, *arguments: str) -> str:
    """Julia code that calls a function which the same line defines: a line sees only what was there when it began."""
    return f"Base.invokelatest({', '.join((f'Base.invokelatest(getfield, {module}, :{function})', *arguments))})"


def _is_julias_first(library: Any) -> bool:
    """Whether this thread is the one that Julia was started on, as Julia says: no other may call its C API just so.

    On one that Julia does not know, that reads a null pointer; and one that it came to know by a call of PythonCall's
    counts as idle in between, so Julia may collect what it is using. Python's name of a thread tells nothing: another
    one gets it as soon as this one has ended.
    """
    import ctypes

    known, number = getattr(library, "jl_get_pgcstack", None), getattr(library, "jl_threadid", None)
    if known is None or number is None:
        return False
    known.restype, number.restype = ctypes.c_void_p, ctypes.c_int16
    return bool(known()) and number() == 0


def may_load_caches(juliacall: Any) -> bool:
    """Whether this thread may have Julia load a precompile cache.

    From Julia 1.12 on that waits until all other threads have stopped (`jl_safepoint_suspend_all_threads`, called in
    src/staticdata.c), and so for ever for the one that started Julia while that waits in Python.
    """
    library = juliacall.CONFIG["lib"]
    return not hasattr(library, "jl_safepoint_suspend_thread") or _is_julias_first(library)


def _through_pythoncall(juliacall: Any, code: str) -> int | None:
    """As `evaluate`, by PythonCall's own entry, through which any thread may go."""
    try:
        juliacall.Main.seval(f"{code}\nnothing")
    except Exception:
        return None
    return 1


def evaluate(juliacall: Any, code: str) -> int | None:
    """Evaluate Julia code through the C API; the address of its value, None if it threw.

    Not through PythonCall, where that can be helped: it would compile, and record, methods that no program needs.
    """
    import ctypes

    if not _is_julias_first(juliacall.CONFIG["lib"]):
        return _through_pythoncall(juliacall, code)
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
    own = [os.path.join(RECORDER, "src", name) for name in ("recorder.jl", "layer.jl")]
    sources = [os.path.join(JULIA_SOURCES, name) for name in ("callers.jl", *own)]
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
    """Stack a layer on the project (see `pyjl_autoimage.build.layer.Layer.description`). False if that failed."""
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
