"""The Python program that this process runs, this package, and how the one starts another program of its own.

Start-up uses this module, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = [
    "PACKAGE",
    "__version__",
    "main_file",
    "program_name",
    "python_itself",
    "python_path",
    "script_directory",
    "spawn_detached",
]

PACKAGE: str = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The directory of this package."""

__version__ = "0.1.0"
"""Its version, in one place: pyproject.toml reads it from here."""


def program_name() -> str:
    """Names the program that this process runs: its script's path, ``-m module``, or empty (interactive, ``-c``)."""
    module = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None)
    if isinstance(module, str):  # python -m
        return f"-m {module.removesuffix('.__main__')}"
    path = main_file()
    return os.path.abspath(path) if path else ""


def main_file() -> str:
    """The script, as far as ``__main__`` tells: frameworks put other things there. Empty if there is none."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        return os.fsdecode(path) if path else ""
    except TypeError:
        return ""


def python_path() -> str:
    """PYTHONPATH for a Python process that shall import this very package, wherever this process found it."""
    ours = os.path.dirname(PACKAGE)
    others = os.environ.get("PYTHONPATH", "")
    if ours in others.split(os.pathsep) or "site-packages" in ours:
        return others
    return f"{ours}{os.pathsep}{others}" if others else ours


def python_itself() -> str | None:
    """The Python that runs this program, to run another one with; None where that is the program itself.

    Frozen programs, uWSGI, Blender: what they are called with means something else to them.
    """
    name = os.path.basename(sys.executable or "").lower()
    return sys.executable if name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False) else None


def spawn_detached(command: Sequence[str], environ: Mapping[str, str]) -> None:
    """Start a process that goes on without us, in a session of its own, and hears and says nothing.

    Raises:
        OSError: it cannot be started.
    """
    if sys.platform == "linux" and os.path.isdir("/proc/self/fd"):  # a tenth of what importing subprocess takes
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inherited()]
        actions += [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in (0, 1, 2)]
        os.posix_spawn(command[0], list(command), dict(environ), file_actions=actions, setsid=True)
        return
    import subprocess

    silent: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    if sys.platform == "win32":
        quiet = subprocess.DETACHED_PROCESS | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        subprocess.Popen(command, env=dict(environ), creationflags=quiet, **silent)
    else:
        subprocess.Popen(command, env=dict(environ), start_new_session=True, **silent)


def _inherited() -> list[int]:
    """The descriptors that a process started from here would inherit, such as a server's socket."""
    found = []
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        try:
            if descriptor > 2 and os.get_inheritable(descriptor):
                found.append(descriptor)
        except OSError:
            pass  # closed by now, as the one that listed them is
    return found


def script_directory() -> str:
    """The directory of the running script: `pyproject.toml` is searched from there.

    Without a script, and for our own commands, the current directory.
    """
    main = main_file()
    try:
        directory = os.path.dirname(os.path.abspath(main)) if main else ""
        ours = directory == PACKAGE or _COMMAND in os.path.basename(main)
        return os.getcwd() if not main or ours else directory
    except OSError:
        return os.path.abspath(os.sep)  # the current directory is gone


_COMMAND = "pyjl-autoimage"
"""What pip calls the script of our command line, with some ending on some systems."""
