"""The smaller commands: each a function of its options that returns its exit status."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from ..errors import AutoimageError

__all__ = ["FAILED", "home", "terminal"]


FAILED = 1


def terminal(stderr: bool = False) -> Any:
    """Where people read, as rich's Console. (Importing rich costs more than many a command.)"""
    from .terminal import console

    return console(stderr=stderr)


def home(keywords: dict[str, Any]) -> str | None:
    """Where the settings say that the store is."""
    from ..base.settings import settle

    return settle(keywords).home


def status_command(options: argparse.Namespace) -> int:
    from .status import status
    from .terminal import show_status

    data = status()
    if options.json:
        print(json.dumps(data, indent=2))
    else:
        show_status(data, terminal())
    return 0


def log_command(options: argparse.Namespace) -> int:
    from ..build.handle import log_pieces
    from ..build.state import State

    environment, store = _environment_and_store()
    for piece in log_pieces(store, environment, follow=options.follow):
        sys.stdout.write(piece)
        sys.stdout.flush()
    state = State.read(store, environment)
    return FAILED if state is not None and state.state in ("failed", "cancelled") else 0


def enable_command(options: argparse.Namespace) -> int:
    from ..base.words import path_text
    from ..hook.enable import enable
    from ..store.places import Store

    path = enable(Store(home({})), user=options.user, force=options.force)
    print(f"Every `import juliacall` of this Python now starts on the image and records:\n{path_text(path)}")
    print("PYJL_AUTOIMAGE=0 turns it off for a process,\n`python -m pyjl_autoimage disable` for all.")
    return 0


def disable_command(options: argparse.Namespace) -> int:
    from ..hook.enable import disable

    path = disable(user=options.user)
    print(f"Removed {path}" if path else "It was not enabled; nothing to do.")
    return 0


def clean_command(options: argparse.Namespace) -> int:
    from ..base.words import bytes_text
    from ..build.clean import clean
    from .terminal import say

    removed, kept = clean(everything=options.all, dry_run=options.dry_run)
    if options.json:
        print(json.dumps({"removed": removed, "kept": kept, "bytes": sum(r["bytes"] for r in removed)}))
        return 0
    console = terminal()
    verb = "would remove" if options.dry_run else "removed"
    for item in removed:
        console.print(f"{verb} {item['name']} ({bytes_text(item['bytes'])}): {item['reason']}")
    for item in kept:
        console.print(f"kept {item['name']}: {item['reason']}", style="dim")
    say(console, (bytes_text(sum(r["bytes"] for r in removed)), "bold"), " to free" if options.dry_run else " freed")
    return 0


def _environment_and_store() -> tuple[str, Any]:
    from ..julia.environment import locate
    from ..startup.options import user_options
    from ..store.places import Store
    from .status import stdout_to_stderr

    store = Store(home({}))
    with stdout_to_stderr():
        return locate(user_options(), install=False, outdated=True).id, store


def export_command(options: argparse.Namespace) -> int:
    from ..base.words import count_text
    from ..profile import exchange, recordings

    environment, store = _environment_and_store()
    recorded = recordings.peek(store, environment)
    content = exchange.text(recorded)
    if options.file == "-":
        sys.stdout.write(content)
        return 0
    _write(options.file, content)
    count, programs = len(recorded.statements), count_text(len(recorded.programs), "program")
    are = "is" if count == 1 else "are"
    print(f"{count_text(count, 'statement')} of {programs} {are} in {options.file}")
    return 0


def import_command(options: argparse.Namespace) -> int:
    from ..base.words import count_text
    from ..profile import exchange, recordings

    try:
        if options.file == "-":
            content = sys.stdin.buffer.read(exchange.LARGEST + 1).decode("utf-8", "replace")
        else:
            with open(options.file, encoding="utf-8", errors="replace") as file:
                content = file.read(exchange.LARGEST + 1)
    except OSError as error:
        raise AutoimageError(f"{options.file} cannot be read: {error.strerror or error}") from None
    given = exchange.read(content, options.file)
    environment, store = _environment_and_store()
    before = len(recordings.merge(store, environment).statements)
    after = len(recordings.add(store, environment, given).statements)
    print(f"{count_text(len(given.statements), 'statement')} in {options.file}, {after - before} of them new")
    return 0


def doctor_command(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from .doctor import examine
    from .terminal import show_check

    checks = []
    console = terminal(stderr=options.json or options.report == "-")
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
    from . import privacy

    found = privacy.gather(checks)
    content = f"{json.dumps(found, indent=2)}\n" if path.endswith(".json") else privacy.text(found)
    if path == "-":
        sys.stdout.write(content)
    else:
        _write(path, content, mode=0o600)


def restore_command(options: argparse.Namespace) -> int:
    from ..errors import StoreError
    from ..store.places import Store

    store = Store(home({}))
    image = next((image for image in store.all_images() if image.id == options.id), None)
    if image is None:
        raise StoreError(f"there is no image {options.id} in {store.home}")
    from ..store.publish import damage

    wrong = damage(store, image, thorough=True)
    if wrong:
        raise StoreError(f"image {options.id} stays condemned: {wrong[0]}")
    print(f"image {options.id} is restored" if store.restore(options.id) else f"image {options.id} was not condemned")
    return 0


def explain_command(options: argparse.Namespace) -> int:
    from ..explain import timeline
    from ..explain.explain import explain
    from .explanation import advice, show
    from .status import stdout_to_stderr
    from .terminal import working

    console = terminal()
    ways = ["plain"] if options.plain_only else ["image"] if options.image_only else ["plain", "image"]
    with stdout_to_stderr(), working(terminal(stderr=True), "looking at the project") as tell:
        found = explain(options.of_program, ways, tell)
    if options.svg:
        _write(options.svg, timeline.draw(found))
    status = FAILED if any(timeline.status for timeline in found.timelines) else 0
    if options.json:
        print(json.dumps({**found.to_json(), "notes": advice(found)}))
        return status
    show(found, console)
    if options.svg:
        console.print(f"The timeline is in {options.svg}")
    return status


def report_command(options: argparse.Namespace) -> int:
    from .page import page
    from .status import stdout_to_stderr
    from .terminal import working

    with stdout_to_stderr(), working(terminal(stderr=True), "looking at the project") as tell:
        content = page(measure=options.measure, tell=tell)
    _write(options.file, content)
    print(f"The report is in {options.file}")
    return 0


def _write(path: str, text: str, mode: int = 0o666) -> None:
    from ..base.files import write_atomically

    try:
        write_atomically(path, text.encode("utf-8", "backslashreplace"), mode=mode)
    except OSError as error:
        raise AutoimageError(f"{path} cannot be written: {error.strerror or error}") from None


def demo_command(options: argparse.Namespace) -> int:
    from .demo import demo

    return demo(terminal(stderr=options.json), keep=options.keep, as_json=options.json)
