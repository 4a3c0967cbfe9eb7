"""``import juliacall``, wherever a program does it, starts on the image and records.

For programs that do not know of this package: `python -m pyjl_autoimage run` installs the hook, then runs
the program as Python would have.
"""

from __future__ import annotations

import importlib.machinery
import sys

from . import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["install"]


class _Loader:
    """juliacall's own loader, with our options in place while the module runs."""

    def __init__(self, inner: importlib.machinery.SourceFileLoader) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        runtime.start_while(lambda: self._inner.exec_module(module), module)


class _Finder:
    """Finds juliacall as Python would, and wraps its loader."""

    _searching = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder.find_spec`."""
        if name != "juliacall" or self._searching or runtime.session.plan is not None:
            return None
        self._searching = True
        try:
            for finder in sys.meta_path:
                if finder is not self and hasattr(finder, "find_spec"):
                    spec = finder.find_spec(name, path, target)
                    if spec is not None:
                        if spec.loader is not None:
                            spec.loader = _Loader(spec.loader)  # type: ignore[arg-type, assignment]
                        return spec
            return None
        finally:
            self._searching = False


def install() -> None:
    """From now on the first ``import juliacall`` of this process is a start of ours."""
    if "juliacall" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
