"""`enable`: the hook in every Python of an environment, by one line of a ``.pth`` file; `disable` takes it away.

Python executes the line at each start, so it does next to nothing: it defines a finder that knows one name. Nothing
of this package is imported, or can break, before a program says ``import juliacall``. Whatever goes wrong then (the
package has been removed, is unreadable, or another version) goes to a log, and juliacall is imported as without us.
"""

from __future__ import annotations

import os
import subprocess
import sys

from ..base.files import write_atomically
from ..errors import AutoimageError
from ..store.places import Store

__all__ = ["disable", "enable", "enabled", "last_error"]

NAME = "pyjl_autoimage_hook.pth"

# What every program pays for: no imports but of what Python has anyway at its start.
_FINDER = """
import sys

class PyjlAutoimage:
    pyjl_autoimage = LOG

    def find_spec(self, name, path=None, target=None):
        if name != "juliacall":
            return None
        try:
            from pyjl_autoimage.hook import find_spec
            return find_spec(name, path, target)
        except Exception:
            try:
                import time, traceback
                with open(self.pyjl_autoimage, "w", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(time.strftime("%Y-%m-%d %H:%M:%S ") + sys.executable + "\\n" + traceback.format_exc())
            except Exception:
                pass

sys.meta_path.insert(0, PyjlAutoimage())
"""
# In a virtual environment `site` reads .pth files twice.
_LINE = (
    "import sys; any(hasattr(f, 'pyjl_autoimage') for f in sys.meta_path) "
    "or exec({source!a}, {{'__name__': 'pyjl_autoimage_hook'}})"
)
_COMMENT = "# Made by `python -m pyjl_autoimage enable`; `disable` removes it. Without the package it does nothing.\n"

_PROOF = (
    "import sys; found = [f for f in sys.meta_path if getattr(f, 'pyjl_autoimage', None)]\n"
    "from pyjl_autoimage.hook import find_spec; sys.exit(not found)"
)


def _file(user: bool) -> str:
    if user:
        import site

        return os.path.join(site.getusersitepackages(), NAME)
    import sysconfig

    return os.path.join(sysconfig.get_path("purelib"), NAME)


def _is_an_environment() -> bool:
    """Whether this Python is one environment's own, not the system's or the user's for everything."""
    return sys.prefix != sys.base_prefix or os.path.isdir(os.path.join(sys.prefix, "conda-meta"))


def enable(store: Store, *, user: bool = False, force: bool = False) -> str:
    """Put the hook into every start of this environment's Python.

    Args:
        store: where its errors are kept.
        user: for every Python of this version that this user starts outside virtual environments.
        force: for this Python, though it is no environment's own.

    Returns:
        The path of the ``.pth`` file.

    Raises:
        AutoimageError: this is no virtual environment, the file cannot be written, or Python does not see it.
    """
    if not (user or force or _is_an_environment()):
        raise AutoimageError(
            f"{sys.prefix} is not a virtual environment, and the hook would be in every program that this Python "
            "runs. Make an environment (python3 -m venv), or say --user (your programs) or --force (everybody's)."
        )
    path = _file(user)
    log = store.hook_log
    source = _FINDER.strip().replace("LOG", ascii(log))
    line = _LINE.format(source=source)
    store.ensure(store.root)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_atomically(path, f"{_COMMENT}{line}\n".encode("ascii"))
    except OSError as error:
        raise AutoimageError(f"{path} cannot be written: {error.strerror}") from None
    problem = _prove(user)
    if problem:
        os.unlink(path)
        raise AutoimageError(f"the hook does not work from {path}, so it was removed again: {problem}")
    try:
        os.unlink(log)  # of an earlier time
    except OSError:
        pass
    return path


def _prove(user: bool) -> str | None:
    """Start a Python elsewhere: it must have the hook, and find the package. What is wrong if not."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, *([] if user else ["-I"]), "-c", _PROOF],
        env=environ,
        cwd=os.path.abspath(os.sep),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == 0:
        return None
    return (result.stderr.strip().splitlines() or ["Python does not read .pth files there"])[-1]


def disable(*, user: bool = False) -> str | None:
    """Remove the hook. The path of the removed file, or None if there was none.

    Raises:
        AutoimageError: it cannot be removed.
    """
    path = _file(user)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AutoimageError(f"{path} cannot be removed: {error.strerror}") from None
    return path


def enabled() -> str | None:
    """The path of the file that puts the hook into this environment's Python; None where there is none."""
    return next((path for path in (_file(False), _file(True)) if os.path.isfile(path)), None)


def last_error(store: Store) -> str | None:
    """What the hook kept from a program the last time, if ever: when and where, then a traceback."""
    try:
        with open(store.hook_log, encoding="utf-8", errors="replace") as file:
            return file.read(10_000) or None
    except OSError:
        return None
