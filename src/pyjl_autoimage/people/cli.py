"""The command line. It knows about people; nothing below it does.

Exit status: 0 done, 1 failed, 2 usage, 3 no usable Julia, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from ..base.program import __version__
from ..base.words import os_error_text
from ..errors import AutoimageError, JuliaNotFoundError, SettingsError, WorkloadError
from . import commands as do
from .building import build_command
from .commands import FAILED

__all__ = ["main"]

USAGE, NO_JULIA = 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["_build"]:
        from ..build.begin import main as build_process

        return build_process(sys.stdin.read())
    if arguments[:1] == ["_automatic"]:
        from ..build.automatic import main as automatic_process

        return automatic_process(arguments[1])
    if arguments[:1] == ["run"]:
        from ..hook.run import run

        return run(arguments[1:])
    of_program: list[str] = []
    if arguments[:1] == ["build"] and "--" in arguments:
        split = arguments.index("--")
        arguments, of_program = arguments[:split], arguments[split + 1 :]
    if arguments[:1] == ["explain"]:
        split = _where_program_begins(arguments)
        arguments, of_program = arguments[:split], arguments[split:]
    options = _parsed(arguments)
    options.of_program = of_program
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold what no encoding has
    try:
        return int(options.command(options))
    except JuliaNotFoundError as error:
        return _complain(error, NO_JULIA, options)
    except (SettingsError, WorkloadError) as error:
        return _complain(error, USAGE, options)
    except AutoimageError as error:
        return _complain(error, FAILED, options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except OSError as error:
        return _complain(os_error_text(error), FAILED, options)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    """The options; what is wrong with them is said with the usage of the command that they are of."""
    parser = _parser()
    commands = next(a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    given = next((argument for argument in arguments if not argument.startswith("-")), None)
    if given is not None and given not in commands:
        near = get_close_matches(given, commands, 1)
        parser.error(f"there is no command {given}" + (f": did you mean {near[0]}?" if near else ""))
    options, rest = parser.parse_known_args(arguments)
    if rest and given is not None:
        program = next((argument for argument in rest if argument.endswith((".py", ".jl"))), None)
        hint = f" (to run it first: build --train {program})" if given == "build" and program else ""
        commands[given].error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _where_program_begins(arguments: Sequence[str]) -> int:
    """The index of the first argument of `explain` that is not its own: a script, ``-m`` or ``-c``."""
    index = 1
    while index < len(arguments):
        argument = arguments[index]
        if argument == "--":
            return index + 1
        if argument in ("-m", "-c", "-") or not argument.startswith("-"):
            break
        index += 2 if argument == "--svg" else 1
    return min(index, len(arguments))


def _complain(error: Exception | str, status: int, options: argparse.Namespace) -> int:
    if getattr(options, "json", False):
        print(json.dumps({"error": str(error), "status": status}))
    print(_fitted(f"pyjl-autoimage: {error}"), file=sys.stderr)
    return status


def _fitted(text: str) -> str:
    """A text in lines that a terminal need not break; as it is where there is no terminal."""
    if not sys.stderr.isatty():
        return text
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    fit = [textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) for line in text.splitlines()]
    return "\n".join(line for lines in fit for line in lines or [""])


class _Parser(argparse.ArgumentParser):
    """Takes no abbreviations: where the program begins that `explain` runs is read off the options' names."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(allow_abbrev=False, **keywords)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pyjl-autoimage",
        description="Fast starts for Python programs that embed Julia.",
        epilog="Exit status: 0 done, 1 failed, 2 usage, 3 no usable Julia, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"pyjl-autoimage {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="build an image of what this environment's programs have recorded")
    build.add_argument("--include", action="append", metavar="PACKAGE", help="bake this Julia package, too")
    build.add_argument("--exclude", action="append", metavar="PACKAGE", help="leave this Julia package out")
    build.add_argument("--all-direct", action="store_true", default=None, help="bake all direct dependencies")
    build.add_argument("--dev-packages", choices=("skip", "bake"), help="packages that are tracked by path")
    build.add_argument("--cpu-target", help="native, portable, or a list as Julia's --cpu-target takes it")
    build.add_argument("--quick", action="store_true", help="layers only: something faster after seconds")
    build.add_argument(
        "--train",
        action="append",
        metavar="PROGRAM",
        help="run this script, module, marked functions of it, or Julia code; build; and do so again while a run "
        "on the new image compiles more. Arguments of the program follow behind --",
    )
    build.add_argument("--time-limit", metavar="SECONDS", help="end a program that runs for longer (600; 0: never)")
    build.add_argument(
        "--no-libraries",
        dest="libraries",
        action="store_false",
        default=None,
        help="do not run what installed Python packages bring along",
    )
    build.add_argument("--no-wait", action="store_true", help="start the build and return")
    build.add_argument("--json", action="store_true", help="print one JSON object")
    build.set_defaults(command=build_command)

    status = commands.add_parser("status", help="is this environment fast, and why or why not")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(command=do.status_command)

    log = commands.add_parser("log", help="what the current or last build of this environment said")
    log.add_argument(
        "--follow", action="store_true", help="go on until the build has ended; exit status 1 if it failed"
    )
    log.set_defaults(command=do.log_command)

    # Parsed by hand, so that every argument behind the program is the program's. Here for --help.
    run = commands.add_parser(
        "run",
        help="run a program as Python does, but on the image and recorded: run [-m MODULE | -c CODE | SCRIPT] ...",
    )
    run.set_defaults(command=lambda _: USAGE)

    enable = commands.add_parser("enable", help="let every program of this virtual environment start on the image")
    enable.add_argument("--user", action="store_true", help="your programs outside virtual environments instead")
    enable.add_argument("--force", action="store_true", help="do it even if this Python is the system's")
    enable.set_defaults(command=do.enable_command)

    disable = commands.add_parser("disable", help="take back what enable did")
    disable.add_argument("--user", action="store_true", help="take back what enable --user did")
    disable.set_defaults(command=do.disable_command)

    clean = commands.add_parser("clean", help="remove images that are not used, and show what that frees")
    clean.add_argument("--all", action="store_true", help="remove valid images and recordings, too")
    clean.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    clean.add_argument("--json", action="store_true", help="print one JSON object")
    clean.set_defaults(command=do.clean_command)

    profile = commands.add_parser("profile", help="carry what was recorded to another machine")
    verbs = profile.add_subparsers(required=True, metavar="VERB")
    export = verbs.add_parser("export", help="write this environment's profile to a file")
    export.add_argument("file", help="- for the standard output")
    export.set_defaults(command=do.export_command)
    read = verbs.add_parser(
        "import", help="add a profile, or what julia --trace-compile wrote, to this environment's"
    )
    read.add_argument("file", help="- for the standard input")
    read.set_defaults(command=do.import_command)

    explain = commands.add_parser(
        "explain",
        usage="%(prog)s [--plain-only | --image-only] [--svg FILE]\n"
        f"{' ' * len('usage: pyjl-autoimage explain ')}[--json] [-m MODULE | -c CODE | SCRIPT] ...",
        help="what a start spends its time on, plain and on the image: explain [-m MODULE | -c CODE | SCRIPT] ...",
        description="Run a program to its end, once plain and once as it starts with this package, and show what the "
        "time was spent on. Without a program: import juliacall, and load what the last recorded program loads.",
    )
    only = explain.add_mutually_exclusive_group()
    only.add_argument("--plain-only", action="store_true", help="only on plain juliacall")
    only.add_argument("--image-only", action="store_true", help="only as the program starts with this package")
    explain.add_argument("--svg", metavar="FILE", help="draw the timeline into this file")
    explain.add_argument("--json", action="store_true", help="print one JSON object")
    explain.set_defaults(command=do.explain_command)

    report = commands.add_parser(
        "report", help="one HTML page: a start's timeline, the profile, the image, the builds"
    )
    report.add_argument("file", nargs="?", default="pyjl-autoimage.html", metavar="FILE", help="default: %(default)s")
    report.add_argument(
        "--no-measure", dest="measure", action="store_false", help="show the start that was measured last"
    )
    report.set_defaults(command=do.report_command)

    doctor = commands.add_parser("doctor", help="check everything that images need, their checksums included")
    doctor.add_argument(
        "--report", metavar="FILE", help="write it to a file, without secrets (.json: as JSON; -: print)"
    )
    doctor.add_argument("--no-start", action="store_true", help="do not start Julia and time it")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(command=do.doctor_command)

    restore = commands.add_parser("restore", help="take back an image that was condemned because a start died of it")
    restore.add_argument("id", help="the image's id, as status shows it")
    restore.set_defaults(command=do.restore_command)

    demo = commands.add_parser("demo", help="see it work: a real program on plain juliacall and on an image")
    demo.add_argument("--keep", action="store_true", help="keep the demo's image and Julia project")
    demo.add_argument("--json", action="store_true", help="print one JSON object")
    demo.set_defaults(command=do.demo_command)
    return parser
