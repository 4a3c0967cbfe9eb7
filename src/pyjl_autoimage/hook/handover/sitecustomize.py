"""The first thing in a Python that `pyjl_autoimage run` starts: installs the hook and leaves no other trace.

Python's `site` imports it because its directory is the first of PYTHONPATH (see `pyjl_autoimage.hook.run`). The
environment's own `sitecustomize`, if there is one, is imported in its place at the end, and so are its errors.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


class _Finder:
    """Imports this package when juliacall is looked for, and no sooner: until then this is plain Python."""

    pyjl_autoimage = True

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """See `pyjl_autoimage.hook.finder.find_spec`."""
        if name != "juliacall":
            return None
        try:
            _import_package()
            from pyjl_autoimage.hook import find_spec
        except Exception:
            return None  # without the hook it is plain Python, and that is better than none
        return find_spec(name, path, target)  # type: ignore[arg-type]


def _import_package() -> None:
    """The copy of the package that was asked to run the program, wherever it lies."""
    if "pyjl_autoimage" not in sys.modules:
        from importlib.util import module_from_spec, spec_from_file_location

        package = os.path.dirname(os.path.dirname(_HERE))
        spec = spec_from_file_location("pyjl_autoimage", os.path.join(package, "__init__.py"))
        assert spec is not None and spec.loader is not None
        module = sys.modules["pyjl_autoimage"] = module_from_spec(spec)
        spec.loader.exec_module(module)


def _leave_no_trace() -> None:
    first, _, rest = os.environ.get("PYTHONPATH", "").partition(os.pathsep)
    if first == _HERE:
        if rest:
            os.environ["PYTHONPATH"] = rest
        else:
            del os.environ["PYTHONPATH"]
    sys.path[:] = [path for path in sys.path if path != _HERE]
    sys.path_importer_cache.pop(_HERE, None)
    del sys.modules["sitecustomize"]


sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]
_leave_no_trace()

import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401
