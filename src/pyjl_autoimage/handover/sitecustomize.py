"""The first thing in a Python that `pyjl_autoimage run` starts: installs the hook and leaves no trace of itself.

Python's `site` imports it because its directory is the first of PYTHONPATH (see `pyjl_autoimage.programs`). The
environment's own `sitecustomize`, if there is one, is imported in its place at the end, and so are its errors.
"""

import os
import sys


def _hand_over() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    first, _, rest = os.environ.get("PYTHONPATH", "").partition(os.pathsep)
    if first == here:
        if rest:
            os.environ["PYTHONPATH"] = rest
        else:
            del os.environ["PYTHONPATH"]
    sys.path[:] = [path for path in sys.path if path != here]
    sys.path_importer_cache.pop(here, None)
    del sys.modules["sitecustomize"]
    # The copy of the package that was asked to run the program, wherever it lies.
    sys.path.insert(0, os.path.dirname(os.path.dirname(here)))
    try:
        from pyjl_autoimage.hook import install

        install()
    except Exception:
        pass  # without the hook it is plain Python, and that is better than none
    finally:
        del sys.path[0]


_hand_over()

import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401
