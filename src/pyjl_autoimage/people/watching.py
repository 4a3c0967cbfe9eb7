"""A build as one watches it: a bar with its times in a terminal, a line for each phase in a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..base.words import about_text, bytes_text, clock_text, path_text, seconds_text
from ..build import handle
from ..build.state import State

__all__ = ["watcher"]

LINES_OF_LOG = 10
MEMORY_EVERY = 1.0
"""Seconds between looks at the memory of all processes."""


@contextlib.contextmanager
def watcher(console: Any, log: str = "") -> Iterator[Callable[[State], None]]:
    """Something to give to `Build.wait`: a bar in a terminal, a line per phase in a pipe.

    Args:
        console: of rich.
        log: path of the build's log, to be named, and shown at the press of a key.
    """
    if not console.is_terminal:
        yield _Lines(console, log)
        return
    from rich.live import Live

    with _keys() as pressed, Live(console=console, transient=True, auto_refresh=False) as live:
        bar = _Bar(log, pressed)

        def watch(progress: State) -> None:
            live.update(bar(progress, console.width), refresh=True)

        yield watch


class _Lines:
    """A line for each phase, when it is over."""

    def __init__(self, console: Any, log: str) -> None:
        self.console = console
        self.printed = 0
        self.log = log

    def __call__(self, progress: State) -> None:
        if self.log and progress.state == "running" and progress.phase != "prepare":  # which asks Julia what it is
            self.console.print(f"a build takes {about_text(progress.expected)}; log: {self.log}")
            self.log = ""
        for phase in progress.ended[self.printed :]:
            self.console.print(f"{phase.name:<12} {seconds_text(phase.seconds):>10}")
        self.printed = len(progress.ended)


class _Bar:
    """What is shown of a build in a terminal. It never goes back, and is never full before the end."""

    def __init__(self, log: str, pressed: Callable[[], str] | None) -> None:
        self.log = log
        self.pressed = pressed
        self.shows_log = False
        self.fraction = 0.0
        self.memory: int | None = None
        self.looked = 0.0

    def __call__(self, progress: State, width: int) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self.pressed is not None and "l" in self.pressed():
            self.shows_log = not self.shows_log
        self.fraction = max(self.fraction, progress.fraction)
        now = time.monotonic()
        if now - self.looked >= MEMORY_EVERY:
            self.looked, self.memory = now, handle.memory_of(progress.pid)
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(no_wrap=True, min_width=12, style="bold")
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True, justify="right", min_width=4)
        percent = f"{int(100 * self.fraction)} %"
        bar.add_row(progress.phase, ProgressBar(total=1.0, completed=self.fraction), percent)
        lines: list[Any] = [bar, Text(self._times(progress), style="dim", no_wrap=True, overflow="ellipsis")]
        if self.log:
            lines.append(Text(self._about_log(width), style="dim", no_wrap=True, overflow="ellipsis"))
        if self.shows_log:
            lines += [Text(line, no_wrap=True, overflow="ellipsis") for line in last_lines(self.log)]
        return Group(*lines)

    def _times(self, progress: State) -> str:
        parts = [f"{clock_text(progress.elapsed)} of about {clock_text(progress.expected)}"]
        if self.memory:
            parts.append(f"{bytes_text(self.memory)} of memory")
        if progress.generation > 1:
            parts.append(f"image {progress.generation}")
        return ", ".join([*parts, progress.detail] if progress.detail else parts)

    def _about_log(self, width: int) -> str:
        path, key = path_text(self.log), ""
        if self.pressed is not None:
            verb = "hide" if self.shows_log else "see"
            longer = f"  (press l to {verb} it, Ctrl-C to cancel)"
            key = longer if len("log: ") + len(path) + len(longer) <= width else f"  (press l to {verb} it)"
        room = width - len("log: ") - len(key)
        return f"log: {path if len(path) <= room else f'...{path[3 - room :]}'}{key}"


def last_lines(path: str, count: int = LINES_OF_LOG) -> list[str]:
    """The last lines of a text file; none where it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 200 * count))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return ["".join(c if c.isprintable() else " " for c in line) for line in lines[-count:]]


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[], str] | None]:
    """What gives the keys pressed since it was asked last; None where no keys can be read.

    The terminal gives keys at once meanwhile, and shows none of them; whatever ends this, it is set back.
    """
    try:
        import select
        import termios
        import tty

        descriptor = sys.stdin.fileno()
        if os.tcgetpgrp(descriptor) != os.getpgrp():
            raise OSError("in the background a process must not touch its terminal")
        before = termios.tcgetattr(descriptor)
    except (ImportError, OSError, ValueError, AttributeError):  # no such terminal, or not ours
        yield None
        return

    def pressed() -> str:
        if select.select([descriptor], [], [], 0)[0]:
            return os.read(descriptor, 100).decode("utf-8", "replace")
        return ""

    with _ending_orderly():
        try:
            tty.setcbreak(descriptor, termios.TCSANOW)
            yield pressed
        finally:
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


@contextlib.contextmanager
def _ending_orderly() -> Iterator[None]:
    """Let signals that end a process at once end it by an exception, so that what is to be set back is."""
    import signal

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before: dict[signal.Signals, Any] = {}
    try:
        for ending in (signal.SIGTERM, signal.SIGHUP):
            before[ending] = signal.signal(ending, end)
    except ValueError:  # not in the main thread
        pass
    try:
        yield
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)
