"""`python -m pyjl_autoimage run`: any program, exactly as plain Python runs it, but with the hook in place.

Python itself runs the program: this process becomes ``python OPTIONS PROGRAM``, with the options that were given to
this one. So there is nothing to imitate: argv, ``__main__``, ``sys.path``, tracebacks, signals and exit status are
Python's own. A `sitecustomize` of ours (in ``handover/``) installs the hook before the program begins, and takes
itself out of PYTHONPATH and everything else that the program, or a child of it, could see.
"""

from __future__ import annotations

import os
import sys

from ..startup.door import installed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run"]

USAGE = 2
_HELP = """usage: python [OPTIONS OF PYTHON] -m pyjl_autoimage run PROGRAM ARGUMENTS...

PROGRAM is what Python takes: a script, a directory or zip file with a
__main__.py, -m MODULE, -c CODE, or - for standard input. It runs as Python runs
it, but its Julia starts on the image and is recorded."""


def run(arguments: Sequence[str]) -> int:
    """Run a program in the place of this process.

    Args:
        arguments: the program as Python takes it, and the program's own arguments.

    Returns:
        An exit status if there is no program to run, and on Windows, which cannot replace a process, the program's.
        Elsewhere it does not return.
    """
    if arguments[:1] and arguments[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    if not arguments or (arguments[0].startswith("-") and arguments[0] != "-" and arguments[0][1] not in "cm"):
        print(_HELP, file=sys.stderr)
        return USAGE
    if (sys.flags.ignore_environment or sys.flags.no_site) and not installed():
        print(
            "pyjl-autoimage: with -E, -I and -S Python leaves out what run needs (PYTHONPATH, site). "
            "`python -m pyjl_autoimage enable` puts the hook into programs that are started with -E and -I, too.",
            file=sys.stderr,
        )
        return USAGE
    handover = os.path.join(os.path.dirname(os.path.abspath(__file__)), "handover")
    search = os.environ.get("PYTHONPATH")
    environ = {**os.environ, "PYTHONPATH": f"{handover}{os.pathsep}{search}" if search else handover}
    command = [_name_of_python(), *python_options(sys.orig_argv[1:]), *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform != "win32":
        os.execve(sys.executable, command, environ)
    return _run_as_a_child(command, environ)


def _name_of_python() -> str:
    """What this Python was called, which it repeats in its messages; its path if it was not called itself."""
    name = sys.orig_argv[0] if sys.orig_argv else ""
    same = os.path.abspath(name) if os.path.dirname(name) else os.path.join(os.path.dirname(sys.executable), name)
    return name if os.path.normpath(sys.executable) == same else sys.executable


def python_options(given: Sequence[str]) -> list[str]:
    """The options of Python itself at the beginning of a command line, up to its program."""
    options: list[str] = []
    rest = iter(given)
    for argument in rest:
        if argument.startswith("--"):
            options.append(argument)
            if argument == "--check-hash-based-pycs":
                options.append(next(rest, ""))
            continue
        if not argument.startswith("-") or argument == "-":
            break
        for position, letter in enumerate(argument[1:], start=1):
            if letter in "cm":
                if position > 1:
                    options.append(argument[:position])
                return options
            if letter in "WX":
                options.append(argument)
                if position == len(argument) - 1:
                    options.append(next(rest, ""))
                break
        else:
            options.append(argument)
    return options


def _run_as_a_child(command: Sequence[str], environ: dict[str, str]) -> int:
    import signal
    import subprocess

    # Ctrl-C reaches every process of the console; what it means is the program's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return subprocess.run([sys.executable, *command[1:]], env=environ, check=False).returncode
