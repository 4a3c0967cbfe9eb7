"""The one door: ``import juliacall``, by whomever, is a start of ours, under Python's own lock of that import.

`start` puts a finder in front of Python's own for its import alone; the hook (`pyjl_autoimage.hook`) keeps one there.
Looking juliacall up starts nothing; executing it does. Whatever goes wrong with us, juliacall starts as it would
have: the only errors that a program sees are juliacall's own, and SettingsError where it called `start` itself.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["find_spec", "install", "installed", "start", "uninstall"]

_searching: set[int] = set()
"""Threads that are asking the other finders just now."""

_asked: dict[int, Mapping[str, Any]] = {}
"""thread -> the settings of its `start`, until juliacall is executed."""


def start(**settings: Any) -> Any:
    """Start Julia on the newest valid image, or as plain ``import juliacall`` would, and return its Main.

    A second call returns the running Julia.

    Args:
        settings: any field of `pyjl_autoimage.base.settings.Settings`; the environment wins over them.

    Returns:
        ``juliacall.Main``, the very same object.

    Raises:
        SettingsError: a setting has an unknown name or a bad value.
        Exception: whatever ``import juliacall`` raises where Julia cannot start.
    """
    from .start import running, session

    juliacall = running()
    if juliacall is None:
        juliacall = _import(settings)
        if session.plan is not None and session.plan.enabled:
            sys.meta_path.insert(0, _Late())
    if session.plan is None and running() is not None:
        from .attach import already_running

        already_running(settings)
    return juliacall.Main


def _import(settings: Mapping[str, Any]) -> Any:
    finder, thread = _Finder(_find), get_ident()
    _asked[thread] = settings
    sys.meta_path.insert(0, finder)
    try:
        import juliacall
    finally:
        sys.meta_path[:] = [other for other in sys.meta_path if other is not finder]
        _asked.pop(thread, None)
    return juliacall


class _Loader:
    """juliacall's own loader; the module that it executes becomes a start of ours."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        if name == "_inner":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._inner.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            # From here on it is juliacall's own module, for whoever looks.
            module.__loader__ = module.__spec__.loader = self._inner
        settings = _asked.pop(get_ident(), None)
        executed = False

        def execute() -> None:
            nonlocal executed
            executed = True
            self._inner.exec_module(module)

        try:
            from .start import start_up

            start_up(execute, module, settings)
        except Exception as error:
            if executed:
                raise
            theirs = _of_the_program(error, settings)
            if theirs is not None:
                raise theirs from None
            execute()


def _of_the_program(error: Exception, settings: Mapping[str, Any] | None) -> BaseException | None:
    """The error that a program is to see; None for one that is ours, and kept."""
    try:
        from ..errors import SettingsError, SetUpError
        from .trouble import keep

        if isinstance(error, SetUpError):
            return error.original  # what juliacall would say itself, after as many minutes
        if isinstance(error, SettingsError) and settings is not None:
            return error
        keep(error)
    except Exception:
        pass  # this package is broken
    return None


def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
    """Find juliacall as the other finders do, and wrap its loader; None for every other module."""
    return None if os.environ.get("PYJL_AUTOIMAGE") == "0" else _find(name, path, target)


def _find(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
    thread = get_ident()
    if name != "juliacall" or thread in _searching:
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
    """A function that finds, as ``sys.meta_path`` wants it."""

    pyjl_autoimage = True  # what a finder of ours is known by; that of a .pth file has it, too

    def __init__(self, find: Any) -> None:
        self.find_spec = find


class _Late:
    """Finds nothing, but notices options for juliacall that come when Julia runs: who sets them imports more."""

    def __init__(self) -> None:
        self._known = set(os.environ)

    def find_spec(self, *_: object) -> None:
        if len(os.environ) != len(self._known):
            new, self._known = set(os.environ) - self._known, set(os.environ)
            from .late import tell

            tell(new)


def install() -> None:
    """From now on the first ``import juliacall`` of this process is a start of ours."""
    if not installed():
        sys.meta_path.insert(0, _Finder(find_spec))


def uninstall() -> None:
    """Take back `install`. What `enable` did stays."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]


def installed() -> bool:
    """Whether a finder of ours is in place."""
    return any(getattr(finder, "pyjl_autoimage", False) for finder in sys.meta_path)
