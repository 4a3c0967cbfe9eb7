"""The command line. It knows about people; nothing below it does.

Exit status: 0 done, 1 failed, 2 usage, 3 no usable Julia, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from .._version import __version__
from ..errors import AutoimageError, JuliaNotFoundError, SettingsError, WorkloadError

__all__ = ["main"]

FAILED, USAGE, NO_JULIA = 1, 2, 3
SECONDS_TO_BEGIN = 5.0
SECONDS_TO_CANCEL = 15.0
NAMED = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["_build"]:
        from ..build.build import main as build_process

        return build_process(sys.stdin.read())
    if arguments[:1] == ["_automatic"]:
        from ..build.automatic import main as automatic_process

        return automatic_process(arguments[1])
    if arguments[:1] == ["_workload"]:
        from ..profile.workloads import main as workload_process

        return workload_process(arguments[1])
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


def _complain(error: Exception, status: int, options: argparse.Namespace) -> int:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    build.set_defaults(command=_build)

    status = commands.add_parser("status", help="is this environment fast, and why or why not")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(command=_status)

    log = commands.add_parser("log", help="what the current or last build of this environment said")
    log.add_argument(
        "--follow", action="store_true", help="go on until the build has ended; exit status 1 if it failed"
    )
    log.set_defaults(command=_log)

    # Parsed by hand, so that every argument behind the program is the program's. Here for --help.
    run = commands.add_parser(
        "run",
        help="run a program as Python does, but on the image and recorded: run [-m MODULE | -c CODE | SCRIPT] ...",
    )
    run.set_defaults(command=lambda _: USAGE)

    enable = commands.add_parser("enable", help="let every program of this virtual environment start on the image")
    enable.add_argument("--user", action="store_true", help="your programs outside virtual environments instead")
    enable.add_argument("--force", action="store_true", help="do it even if this Python is the system's")
    enable.set_defaults(command=_enable)

    disable = commands.add_parser("disable", help="take back what enable did")
    disable.add_argument("--user", action="store_true", help="take back what enable --user did")
    disable.set_defaults(command=_disable)

    clean = commands.add_parser("clean", help="remove images that are not used, and show what that frees")
    clean.add_argument("--all", action="store_true", help="remove valid images and recordings, too")
    clean.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    clean.add_argument("--json", action="store_true", help="print one JSON object")
    clean.set_defaults(command=_clean)

    profile = commands.add_parser("profile", help="carry what was recorded to another machine")
    verbs = profile.add_subparsers(required=True, metavar="VERB")
    export = verbs.add_parser("export", help="write this environment's profile to a file")
    export.add_argument("file", help="- for the standard output")
    export.set_defaults(command=_export)
    read = verbs.add_parser(
        "import", help="add a profile, or what julia --trace-compile wrote, to this environment's"
    )
    read.add_argument("file", help="- for the standard input")
    read.set_defaults(command=_import)

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
    explain.set_defaults(command=_explain)

    report = commands.add_parser(
        "report", help="one HTML page: a start's timeline, the profile, the image, the builds"
    )
    report.add_argument("file", nargs="?", default="pyjl-autoimage.html", metavar="FILE", help="default: %(default)s")
    report.add_argument(
        "--no-measure", dest="measure", action="store_false", help="show the start that was measured last"
    )
    report.set_defaults(command=_report)

    doctor = commands.add_parser("doctor", help="check everything that images need, their checksums included")
    doctor.add_argument(
        "--report", metavar="FILE", help="write it to a file, without secrets (.json: as JSON; -: print)"
    )
    doctor.add_argument("--no-start", action="store_true", help="do not start Julia and time it")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(command=_doctor)

    restore = commands.add_parser("restore", help="take back an image that was condemned because a start died of it")
    restore.add_argument("id", help="the image's id, as status shows it")
    restore.set_defaults(command=_restore)

    demo = commands.add_parser("demo", help="see it work: a real program on plain juliacall and on an image")
    demo.add_argument("--keep", action="store_true", help="keep the demo's image and Julia project")
    demo.add_argument("--json", action="store_true", help="print one JSON object")
    demo.set_defaults(command=_demo)
    return parser


def _console(stderr: bool = False) -> Any:
    from .terminal import console

    return console(stderr=stderr)


def _build(options: argparse.Namespace) -> int:
    from ..build.build import begin_here
    from ..profile.workloads import Caller, tasks
    from ..store.places import Store
    from .status import stdout_to_stderr
    from .watching import watcher

    names = ("include", "exclude", "all_direct", "dev_packages", "cpu_target", "time_limit", "libraries")
    keywords = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    console = _console(stderr=options.json)
    programs = options.train or []
    if options.of_program and len(programs) != 1:
        raise SettingsError("arguments behind -- are those of one program: --train PROGRAM")
    to_run = tasks(programs, options.of_program)
    with stdout_to_stderr(), _named_as_options(keywords):
        handle = begin_here(keywords, to_run, Caller.here(with_path=False), quick=options.quick)
    if options.no_wait:
        _wait_until_it_begins(handle)
        if options.json:
            print(json.dumps({"state": "running", "log": handle.log}))
        else:
            console.print(
                f"building in the background; `pyjl-autoimage status` shows how it stands. Log: {handle.log}"
            )
        return 0
    if handle.joined:
        console.print(_about_the_other(handle.state().quick, options.quick, keywords))
    own = {task.name for task in to_run}
    told: list[dict[str, Any]] = []

    def and_tell_failures(watch: Any) -> Any:
        def tell(progress: Any) -> None:
            watch(progress)
            failed = [ran for ran in handle.state().workloads if ran["problem"] and ran["name"] in own]
            for ran in failed[len(told) :]:
                told.append(ran)
                _tell_of_workload(ran, console)

        return tell if own else watch

    try:
        with watcher(console, handle.log) as watch:
            image_id = handle.wait(watch=and_tell_failures(watch))
    except KeyboardInterrupt:
        return _cancel(handle, console)
    state = handle.state()
    # An image is built of what they recorded nevertheless, but what was asked for was more.
    untrained = bool(own) and all(ran["problem"] for ran in state.workloads if ran["name"] in own)
    status = FAILED if untrained else 0
    image = next((image for image in Store(_home(keywords)).all_images() if image.id == image_id), None)
    if options.json:
        facts: dict[str, Any] = {"state": "done", "image": state.image, "layers": state.layers, "log": handle.log}
        facts["seconds"] = state.seconds
        size = {"bytes": image.bytes, "path": image.path} if image else {}
        said = {"left_out": state.left_out, "workloads": state.workloads, "notes": state.notes}
        print(json.dumps({**facts, **size, **said}))
        return status
    _tell_what_was_built(state, image, console, told)
    if untrained:
        console.print("[red]Every program to train on failed[/], see above: what they recorded until then is used.")
    return status


@contextmanager
def _named_as_options(keywords: dict[str, Any]) -> Iterator[None]:
    """Let a wrong value be told by the name of the option that it was given to."""
    try:
        yield
    except SettingsError as error:
        name = str(error).partition("=")[0]
        if name not in keywords:
            raise
        raise SettingsError(f"{_option(name)} {str(error).removeprefix(f'{name}=')}") from None


def _option(name: str) -> str:
    return "--no-libraries" if name == "libraries" else f"--{name.replace('_', '-')}"


def _about_the_other(is_quick: bool, quick: bool, keywords: dict[str, Any]) -> str:
    """That another build runs, and what was asked of this one in vain."""
    vain = [*(["--quick"] if quick and not is_quick else []), *map(_option, keywords)]
    if not vain:
        return "a build of this environment runs already; watching it"
    do = "does" if len(vain) == 1 else "do"
    kind = "quick" if is_quick else "full"
    return f"a {kind} build runs already; watching that one, {', '.join(vain)} {do} not apply"


def _tell_what_was_built(state: Any, image: Any, console: Any, told: Sequence[dict[str, Any]]) -> None:
    from rich.markup import escape

    from ..base.words import bytes_text, count_text, seconds_text

    took = seconds_text(state.finished - state.started)
    if image is not None:
        packages, statements = count_text(len(image.packages), "package"), count_text(image.statements, "statement")
        held = f"{packages}, {statements}, {bytes_text(image.bytes)}"
        console.print(f"[bold green]Built[/] image [bold]{image.id}[/] in {took}: {held}.")
        console.print("The next Python process starts on it.")
    elif state.layers:
        built = f"{len(state.layers)} layers" if len(state.layers) > 1 else "a layer"
        starts = _programs_of(state.layers)
        console.print(f"[bold green]Built[/] {built} in {took}. {escape(starts)} from now on.")
    else:
        console.print("Nothing new was recorded: no layer is missing.")
    for ran in state.workloads:
        if ran not in told:
            _tell_of_workload(ran, console)
    _print_left_out(console, state.left_out)
    complaints = {f"workload {ran['name']}: {ran['problem']}" for ran in state.workloads}
    for note in state.notes:
        if note not in complaints:
            console.print(f"[dim]note:[/] {escape(note)}")


def _programs_of(layers: Sequence[str]) -> str:
    """Which programs start with these layers, as half a sentence."""
    from ..base.words import program_text
    from ..store.places import Store

    programs = {layer.program for layer in Store(_home({})).all_layers() if layer.id in layers}
    names = sorted(os.path.basename(program_text(program)) for program in programs)
    if not names:
        return "The programs that they are for start with them"
    shown = names if len(names) <= NAMED else [*names[: NAMED - 1], f"{len(names) - NAMED + 1} others"]
    if len(shown) == 1:
        return f"{'Interactive use' if shown == ['interactive use'] else shown[0]} starts with it"
    return f"{', '.join(shown[:-1])} and {shown[-1]} start with them"


def _tell_of_workload(ran: dict[str, Any], console: Any) -> None:
    from rich.markup import escape

    from ..base.words import count_text, seconds_text

    problem = ran["problem"]
    statements = f"{count_text(ran['statements'], 'statement')}, {ran['new']} of them new"
    did = "[dim]ran[/]"
    if problem:
        did = "[yellow]left out[/]" if problem.startswith("not run: ") else "[red]failed[/]"
        problem = f"{problem.removeprefix('not run: ')}; "
    console.print(f"{did} {escape(ran['name'])}: {escape(problem)}{statements}, {seconds_text(ran['seconds'])}")


def _wait_until_it_begins(handle: Any) -> None:
    """So that `status` and `log` know of it at once. One that waits for another to end is not waited for."""
    import time

    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while handle.state().state == "starting" and time.monotonic() < deadline:
        time.sleep(0.05)


def _cancel(handle: Any, console: Any) -> int:
    """End a build, and say how that went when it has ended."""
    import time

    console.print("cancelling the build ...")
    handle.cancel()
    deadline = time.monotonic() + SECONDS_TO_CANCEL
    while not handle.done and time.monotonic() < deadline:
        time.sleep(0.1)
    if handle.done:
        console.print("cancelled: the image in use stays, and nothing half done is left")
    else:
        console.print(f"the build has not ended yet; `pyjl-autoimage status` shows when it has. Log: {handle.log}")
    return 130


def _print_left_out(console: Any, left_out: dict[str, str]) -> None:
    from rich.markup import escape

    for name, why in left_out.items():
        console.print(f"[yellow]left out[/] {escape(name)}: {escape(why)}")
    if any("tracks it by path" in why for why in left_out.values()):
        console.print("[dim]PYJL_AUTOIMAGE_DEV_PACKAGES=bake bakes packages that are tracked by path.[/]")


def _home(keywords: dict[str, Any]) -> str | None:
    from ..base.settings import settle

    return settle(keywords).home


def _status(options: argparse.Namespace) -> int:
    from .status import status
    from .terminal import show_status

    data = status()
    if options.json:
        print(json.dumps(data, indent=2))
    else:
        show_status(data, _console())
    return 0


def _log(options: argparse.Namespace) -> int:
    from ..build.handle import log_pieces
    from ..build.state import State

    environment, store = _environment_and_store()
    for piece in log_pieces(store, environment, follow=options.follow):
        sys.stdout.write(piece)
        sys.stdout.flush()
    state = State.read(store, environment)
    return FAILED if state is not None and state.state in ("failed", "cancelled") else 0


def _enable(options: argparse.Namespace) -> int:
    from ..base.words import path_text
    from ..hook.enable import enable
    from ..store.places import Store

    path = enable(Store(_home({})), user=options.user, force=options.force)
    print(f"Every `import juliacall` of this Python now starts on the image and records:\n{path_text(path)}")
    print("PYJL_AUTOIMAGE=0 turns it off for a process,\n`python -m pyjl_autoimage disable` for all.")
    return 0


def _disable(options: argparse.Namespace) -> int:
    from ..hook.enable import disable

    path = disable(user=options.user)
    print(f"Removed {path}" if path else "It was not enabled; nothing to do.")
    return 0


def _clean(options: argparse.Namespace) -> int:
    from ..base.words import bytes_text
    from ..build.clean import clean

    removed, kept = clean(everything=options.all, dry_run=options.dry_run)
    if options.json:
        print(json.dumps({"removed": removed, "kept": kept, "bytes": sum(r["bytes"] for r in removed)}))
        return 0
    console = _console()
    verb = "would remove" if options.dry_run else "removed"
    for item in removed:
        console.print(f"{verb} {item['name']} ({bytes_text(item['bytes'])}): {item['reason']}")
    for item in kept:
        console.print(f"[dim]kept {item['name']}: {item['reason']}[/]")
    console.print(
        f"[bold]{bytes_text(sum(r['bytes'] for r in removed))}[/] {'to free' if options.dry_run else 'freed'}"
    )
    return 0


def _environment_and_store() -> tuple[str, Any]:
    from ..julia.environment import locate
    from ..startup.options import user_options
    from ..store.places import Store
    from .status import stdout_to_stderr

    store = Store(_home({}))
    with stdout_to_stderr():
        return locate(user_options(), install=False, outdated=True).id, store


def _export(options: argparse.Namespace) -> int:
    from ..base.files import write_atomically
    from ..base.words import count_text
    from ..profile import exchange, profile

    environment, store = _environment_and_store()
    recorded = profile.peek(store, environment)
    content = exchange.text(recorded)
    if options.file == "-":
        sys.stdout.write(content)
        return 0
    try:
        write_atomically(options.file, content.encode())
    except OSError as error:
        raise AutoimageError(f"{options.file} cannot be written: {error.strerror or error}") from None
    count, programs = len(recorded.statements), count_text(len(recorded.programs), "program")
    are = "is" if count == 1 else "are"
    print(f"{count_text(count, 'statement')} of {programs} {are} in {options.file}")
    return 0


def _import(options: argparse.Namespace) -> int:
    from ..base.words import count_text
    from ..profile import exchange, profile

    try:
        if options.file == "-":
            content = sys.stdin.read()
        else:
            with open(options.file, encoding="utf-8", errors="replace") as file:
                content = file.read(exchange.LARGEST + 1)
    except OSError as error:
        raise AutoimageError(f"{options.file} cannot be read: {error.strerror or error}") from None
    given = exchange.read(content, options.file)
    environment, store = _environment_and_store()
    before = len(profile.merge(store, environment).statements)
    after = len(profile.add(store, environment, given).statements)
    print(f"{count_text(len(given.statements), 'statement')} in {options.file}, {after - before} of them new")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from .doctor import examine
    from .terminal import show_check

    checks = []
    console = _console(stderr=options.json or options.report == "-")
    for check in examine(start=not options.no_start):
        checks.append(check)
        if not options.json:
            show_check(check, console)
    bad = sum(not check.ok for check in checks)
    if options.json:
        print(json.dumps({"checks": [asdict(check) for check in checks]}))
    else:
        console.print(
            f"\n{bad} of {len(checks)} checks {'is' if bad == 1 else 'are'} bad."
            if bad
            else f"\nAll {len(checks)} checks are fine."
        )
    if options.report:
        _write_report(options.report, checks)
        if options.report != "-":
            console.print(f"The report, without secrets, is in {options.report}; read it before you send it.")
    return FAILED if bad else 0


def _write_report(path: str, checks: list[Any]) -> None:
    from ..base.files import write_atomically
    from . import issue

    found = issue.gather(checks)
    content = f"{json.dumps(found, indent=2)}\n" if path.endswith(".json") else issue.text(found)
    if path == "-":
        sys.stdout.write(content)
        return
    try:
        write_atomically(path, content.encode("utf-8", "backslashreplace"), mode=0o600)
    except OSError as error:
        raise AutoimageError(f"{path} cannot be written: {error.strerror or error}") from None


def _restore(options: argparse.Namespace) -> int:
    from ..errors import StoreError
    from ..store.places import Store

    store = Store(_home({}))
    image = next((image for image in store.all_images() if image.id == options.id), None)
    if image is None:
        raise StoreError(f"there is no image {options.id} in {store.home}")
    damage = store.damage(image, thorough=True)
    if damage:
        raise StoreError(f"image {options.id} stays condemned: {damage[0]}")
    print(f"image {options.id} is restored" if store.restore(options.id) else f"image {options.id} was not condemned")
    return 0


def _explain(options: argparse.Namespace) -> int:
    from ..explain import timeline
    from ..explain.explain import explain
    from .explanation import advice, show
    from .status import stdout_to_stderr

    console, progress = _console(), _console(stderr=True)
    ways = ["plain"] if options.plain_only else ["image"] if options.image_only else ["plain", "image"]
    with stdout_to_stderr(), progress.status("looking at the project") as doing:
        found = explain(options.of_program, ways, doing.update)
    if options.svg:
        _write(options.svg, timeline.draw(found))
    status = FAILED if any(timeline.status for timeline in found.timelines) else 0
    if options.json:
        print(json.dumps({**found.to_json(), "notes": advice(found)}))
        return status
    show(found, console)
    if options.svg:
        console.print(f"The timeline is in {options.svg}", markup=False)
    return status


def _report(options: argparse.Namespace) -> int:
    from .page import page
    from .status import stdout_to_stderr

    progress = _console(stderr=True)
    with stdout_to_stderr(), progress.status("looking at the project") as status:
        content = page(measure=options.measure, tell=status.update)
    _write(options.file, content)
    print(f"The report is in {options.file}")
    return 0


def _write(path: str, text: str) -> None:
    from ..base.files import write_atomically

    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise AutoimageError(f"{path} cannot be written: {error.strerror or error}") from None


def _demo(options: argparse.Namespace) -> int:
    from .demo import demo

    return demo(_console(stderr=options.json), keep=options.keep, as_json=options.json)
