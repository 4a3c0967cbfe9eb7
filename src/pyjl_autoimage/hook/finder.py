"""``import juliacall``, wherever a program does it, starts on the image and records.

For programs that do not know of this package: `python -m pyjl_autoimage run` (see `pyjl_autoimage.hook.run`) and
`python -m pyjl_autoimage enable` (see `pyjl_autoimage.hook.enable`) put a finder in front of Python's own.

Looking juliacall up starts nothing; executing it does, under Python's own lock of that import. Errors of ours go to
a log, and juliacall then starts as it would have: the only errors that a program sees are juliacall's own.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["find_spec", "install", "installed", "uninstall"]

_searching: set[int] = set()
"""Threads that are asking the other finders just now."""


class _Loader:
    """juliacall's own loader; the module that it executes becomes a start of ours."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._inner.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            # From here on it is juliacall's own module, for whoever looks.
            module.__loader__ = module.__spec__.loader = self._inner
        executed = False
        theirs: BaseException | None = None

        def execute() -> None:
            nonlocal executed, theirs
            executed = True
            theirs = None
            try:
                self._inner.exec_module(module)
            except BaseException as error:
                theirs = error
                raise

        try:
            from ..startup import start

            start.start_while(execute, module)
        except Exception as error:
            if error is theirs:
                raise
            _log(error)
            if theirs is not None:
                raise theirs from None
        if not executed:
            execute()


def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
    """Find juliacall as the other finders do, and wrap its loader; None for every other module."""
    if name != "juliacall" or os.environ.get("PYJL_AUTOIMAGE") == "0":
        return None
    thread = get_ident()
    if thread in _searching:
        return None
    _searching.add(thread)
    try:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find is not None else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                return spec
        return None
    finally:
        _searching.discard(thread)


class _Finder:
    """`find_spec`, as ``sys.meta_path`` wants it."""

    pyjl_autoimage = True  # what a finder of ours is known by; that of a .pth file has it, too
    find_spec = staticmethod(find_spec)


def install() -> None:
    """From now on the first ``import juliacall`` of this process is a start of ours."""
    if not installed():
        sys.meta_path.insert(0, _Finder())


def uninstall() -> None:
    """Take back `install`. What `enable` did stays."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]


def installed() -> bool:
    """Whether a finder of ours is in place."""
    return any(getattr(finder, "pyjl_autoimage", False) for finder in sys.meta_path)


def _log(error: Exception) -> None:
    """Keep an error of ours where `status` finds it. A wrong setting is the user's to know at once."""
    try:
        from ..errors import SettingsError

        if isinstance(error, SettingsError):
            import warnings

            warnings.warn(f"plain start of Julia: {error}", RuntimeWarning, stacklevel=2)
    except Exception:
        pass  # warnings may have been made errors
    try:
        import time
        import traceback

        from ..startup.plan import quick_home
        from ..store.places import Store

        store = Store(quick_home({}))
        store.ensure(store.root)
        with open(store.hook_log, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sys.executable}\n")
            file.write("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    except Exception:
        pass  # a store that cannot be written
