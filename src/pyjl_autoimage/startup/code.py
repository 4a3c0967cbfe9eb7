"""Julia code of the program's own: a file or a text, as a module that is ready to call.

The first time it is evaluated, and noted in the recording. From the next build on it comes precompiled, from
the image or from the layer, while every file that it consists of still has the same content. Otherwise it is
evaluated afresh: it is never stale.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock

from ..base import call
from ..errors import CodeError
from .door import start as begin
from .start import load_from_layer, session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import FrameType
    from typing import Any

__all__ = ["define", "fingerprint", "fingerprints", "include", "module_uuid", "unchanged"]

_lock: RLock = RLock()
"""Of the modules that were given out. Not of the start: `jl` is there while Julia evaluates for another thread."""


def include(path: str | os.PathLike[str]) -> Any:
    """A Julia file, with all that it includes, as a Julia module.

    The file is a module of its own, so it names the packages that it uses and sees nothing of ``Main``. What
    is at its top level runs once, as in a Julia package; what must run in every process belongs in a function
    ``__init__``. Starts Julia if it is not running.

    Args:
        path: the file; a relative path counts from the directory of the calling file, as Julia's ``include``.

    Returns:
        The Julia module, as juliacall wraps it: ``model = include("model.jl"); model.fit(data)``.

    Raises:
        CodeError: there is no such file, or it uses a package that the project does not have.
        juliacall.JuliaError: Julia could not evaluate it; the message has the file and the line.
    """
    found = _find(os.fspath(path), sys._getframe(1))
    return _module(_name_of_file(found), found, None, ())


def define(source: str, using: Iterable[str] = ()) -> Any:
    """A text of Julia code as a Julia module. Like `include`, without a file.

    Args:
        source: the code.
        using: names of the packages that it uses.

    Returns:
        The Julia module, as juliacall wraps it.

    Raises:
        CodeError: it uses a package that the project does not have.
        juliacall.JuliaError: Julia could not evaluate it.
    """
    packages = tuple(using)
    for package in packages:
        if not package.isidentifier():
            raise CodeError(f"{package!r} is not the name of a Julia package")
    digest = _digest("\0".join((source, *packages)).encode())
    path, line = _whereabouts(source, sys._getframe(1))
    # Lines count from where the text begins in the Python file, so that errors point there.
    return _module(f"code_{digest[:12]}", path, "\n" * line + source, packages)


def _find(path: str, caller: FrameType) -> str:
    path = os.path.expanduser(path)
    file = caller.f_globals.get("__file__")
    places = [os.path.dirname(os.path.abspath(file))] if file else []
    if not os.path.isabs(
        path
    ):  # where there is no current directory any more, an absolute path still means something
        places.append(os.getcwd())
    candidates = [os.path.join(place, path) for place in places] or [path]
    for candidate in candidates:
        if os.path.isfile(candidate):
            return os.path.realpath(candidate)
    raise CodeError(f"there is no Julia file {' or '.join(dict.fromkeys(candidates))}")


def _name_of_file(path: str) -> str:
    """The module's name: what the file is called, and where it lies, so that namesakes do not meet."""
    stem = os.path.splitext(os.path.basename(path))[0]
    letters = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in stem)
    return f"{letters if letters[:1].isalpha() else 'code_' + letters}_{_digest(os.fsencode(path))[:8]}"


def _whereabouts(source: str, caller: FrameType) -> tuple[str, int]:
    """The Python file that holds a text, and the lines before it; 0 where that cannot be told."""
    path = caller.f_code.co_filename
    try:
        with open(path, encoding="utf-8") as file:
            before, found, _ = file.read().partition(source)
    except (OSError, ValueError):
        return path, 0
    return path, before.count("\n") if found and source.strip() else 0


def module_uuid(name: str) -> str:
    """The uuid of a generated package: the same wherever its name is."""
    digits = _digest(f"pyjl_autoimage {name}".encode())
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"


def _digest(data: bytes) -> str:
    try:
        from _blake2 import blake2b  # hashlib brings OpenSSL along, which takes longer than all else here
    except ImportError:
        from hashlib import blake2b
    return str(blake2b(data, digest_size=20).hexdigest())


def fingerprint(path: str) -> str:
    """Identifies the content of a file, or which Julia files a directory holds; empty if it cannot be read."""
    try:
        if path.endswith(os.sep):
            return _digest("\0".join(sorted(name for name in os.listdir(path) if name.endswith(".jl"))).encode())
        with open(path, "rb") as file:
            return _digest(file.read())
    except OSError:
        return ""


def fingerprints(files: Iterable[str]) -> dict[str, str]:
    """path -> fingerprint of each file that some code consists of.

    Where a file includes what is not named by a literal, its directory counts as well: a new file may be meant.
    """
    found = {}
    for path in files:
        found[path] = fingerprint(path)
        if path.endswith(".jl") and _includes_more_than_literals(path):
            directory = os.path.join(os.path.dirname(path), "")
            found[directory] = fingerprint(directory)
    return found


def _includes_more_than_literals(path: str) -> bool:
    import re

    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return re.search(r'\binclude\(\s*(?!")|readdir|walkdir', file.read()) is not None
    except OSError:
        return False


def _module(name: str, path: str, text: str | None, using: Sequence[str]) -> Any:
    main = begin()
    with _lock:
        known = session.modules.get(name)
        if known is not None and unchanged(known[0]):
            return known[1]
        found = None if known is not None else _compiled(main, name)
        if found is None:
            found = _evaluate(main, name, path, text, using)
        else:
            _note({"name": name, "path": path})
        session.modules[name] = found
        return found[1]


def unchanged(files: Mapping[str, str]) -> bool:
    """Whether every file of some code still has the content that it had."""
    return all(fingerprint(path) == known for path, known in files.items())


def _compiled(main: Any, name: str) -> tuple[dict[str, str], Any] | None:
    """Files and module as the image or the layer has them; None if neither does, or something has changed."""
    for module, uuid, files, in_layer in session.code:
        if module != name or not unchanged(files):
            continue
        if not in_layer or load_from_layer(name, uuid):
            try:
                return files, main.seval(f'Base.require(Base.PkgId(Base.UUID("{uuid}"), "{name}"))')
            except Exception:
                return None  # this Julia has not loaded it, whatever was planned
    return None


def _evaluate(main: Any, name: str, path: str, text: str | None, using: Sequence[str]) -> tuple[dict[str, str], Any]:
    source = call.julia_string(os.path.join(call.JULIA_SOURCES, "code.jl"))
    evaluator = session.evaluator or main.seval(f"Base.include(Module(), {source})")
    session.evaluator = evaluator
    # Read before they are evaluated: a file that changes meanwhile is then seen to have changed.
    before = fingerprints([path] if text is None else [])
    try:
        module = evaluator.evaluate(name, path, text, " ".join(using))
    except Exception as error:
        missing = _missing_package(str(error))
        if missing:
            raise CodeError(
                f"{path} uses the Julia package {missing}, which is not in the project "
                f"{session.plan.project if session.plan else ''}. "
                f"A juliapkg.json, or juliapkg.add({missing!r}, uuid=...), adds it"
            ) from None
        raise
    facts = [fact.partition("=")[::2] for fact in str(evaluator.facts()).split("\0") if fact]
    files = {**fingerprints(value for kind, value in facts if kind == "file"), **before}
    deps = dict(value.rpartition("=")[::2] for kind, value in facts if kind == "package")
    syntax = next((value for kind, value in facts if kind == "syntax"), "")
    if ("unknown", "") not in map(tuple, facts):  # otherwise nobody could tell later whether it has changed
        noted = {"name": name, "path": path, "text": text, "using": list(using), "files": [*files], "deps": deps}
        _note({**noted, "syntax": syntax})
    return files, module


def _missing_package(message: str) -> str | None:
    """The package in Julia's words for one that no project has (`base/loading.jl`, `require`)."""
    import re

    found = re.search(r"ArgumentError: Package (\S+) not found in current path", message)
    return found.group(1) if found else None


def _note(facts: Mapping[str, Any]) -> None:
    import json

    if session.recording is not None:
        session.recording.note(f"code {json.dumps(facts)}")
