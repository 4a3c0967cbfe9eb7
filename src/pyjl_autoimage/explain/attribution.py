"""Whose is a precompile statement: the package that a compilation is to be put down to."""

from __future__ import annotations

import re

__all__ = ["JULIA", "OURS", "PROGRAM", "owner"]

JULIA = "Julia"
"""Statements that are about nothing but Julia's own Base and Core."""
PROGRAM = "the program"
"""Those about what the program itself defined: in Main, or in a file of its own."""
OURS = "pyjl_autoimage"

# Names that Julia or we made up, and strings: what is in them is no module.
_QUOTED = re.compile(r'(?:var)?"(?:[^"\\]|\\.)*"')
_CHARACTER = re.compile(r"'(?:[^'\\]|\\.[^']*)'")
_ROOT = re.compile(r"(?<![\w.!@:])([^\W\d]\w*)(?=\.[^\W\d]|\._)")
# What makes Julia open its trace file (`pyjl_autoimage.startup.recording.open_trace`), in a module without a name.
_OUR_PROBE = re.compile(r'precompile\(Tuple\{anonymous\.var"#\d+#\d+", (?:Any|Int64)\}\)')
# What `include` and `define` call a program's own code (see `pyjl_autoimage.startup.code`).
_OWN_CODE = re.compile(r"[A-Za-z]\w*_[0-9a-f]{8}")
_OUR_MODULES = re.compile(r"Autoimage(?:Recorder|Observer|Statements_\w+)")


def owner(statement: str) -> str:
    """The package of a statement: its function's, or where that is Julia's own the first that its types name.

    Args:
        statement: ``precompile(Tuple{...})`` as Julia writes it, with every name in full.

    Returns:
        The name of a package, or `JULIA`, `PROGRAM` or `OURS`.
    """
    if _OUR_PROBE.fullmatch(statement):
        return OURS
    text = _CHARACTER.sub("", _QUOTED.sub("_", statement))
    for name in _ROOT.findall(text):
        if name in ("Base", "Core"):
            continue
        if name == "Main" or _OWN_CODE.fullmatch(name):
            return PROGRAM
        return OURS if _OUR_MODULES.fullmatch(name) else str(name)
    return JULIA
