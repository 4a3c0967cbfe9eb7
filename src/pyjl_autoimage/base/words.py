"""Sizes, times, paths and errors in words."""

from __future__ import annotations

import os
import re
import time
from math import inf

__all__ = [
    "about_text",
    "ago_text",
    "bytes_text",
    "clock_text",
    "count_text",
    "error_line",
    "moment_text",
    "os_error_text",
    "path_text",
    "program_text",
    "seconds_text",
]


def bytes_text(number: float) -> str:
    """A size in words: ``312 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def moment_text(moment: float) -> str:
    """A moment, by the clock here: ``2026-11-27 09:05``; what no calendar has as seconds since the epoch."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
    except (ValueError, OverflowError, OSError):
        return f"{moment:.0f}"


def seconds_text(seconds: float) -> str:
    """A time in words: ``2 h 05 min``, ``4 min 05 s``, ``12 s``, ``0.31 s``, ``4.2 ms``."""
    if not abs(seconds) < inf:
        return "no time that is known"
    if 0 < seconds < 0.1:
        return f"{1000 * seconds:.1f} ms"
    if seconds >= 3600:
        return f"{int(seconds) // 3600} h {int(seconds) // 60 % 60:02d} min"
    if seconds >= 60:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2f} s"


def clock_text(seconds: float) -> str:
    """A time that is shown as it passes, in whole seconds: ``4 min 05 s``, ``3 s``."""
    return seconds_text(seconds) if seconds >= 60 else f"{seconds:.0f} s"


def about_text(seconds: float) -> str:
    """A time that is not known any better: ``about 4 min``, ``about 12 s``, ``about 0.3 s``."""
    if seconds >= 90:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds:.0f} s" if seconds >= 2 else f"about {seconds:.1f} s"


def ago_text(moment: float) -> str:
    """How long ago a moment was: ``3 minutes ago``."""
    seconds = max(0.0, time.time() - moment)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{count_text(int(seconds // size), unit)} ago"
    return "just now"


def count_text(number: int, noun: str) -> str:
    """A number of things: ``1 layer``, ``2 layers``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def error_line(error: str | None) -> str:
    """The one line of a build's error that says most."""
    lines = (error or "").strip().splitlines() or ["no reason was left"]
    return next((line for line in lines if line.startswith("ERROR")), lines[0])


def os_error_text(error: OSError) -> str:
    """What the system could not do, and with what: ``Permission denied: /a/path``."""
    places = [str(place) for place in (error.filename, error.filename2) if place is not None]
    return ": ".join(
        [error.strerror or str(error) or type(error).__name__, *([" -> ".join(places)] if places else [])]
    )


def path_text(text: str, home: str | None = None) -> str:
    """A path, or a text with paths, with the home directory shortened: ``~/.cache``.

    Args:
        text: the text.
        home: the home directory; the user's when None.
    """
    home = os.path.expanduser("~") if home is None else home
    for place in sorted({home, os.path.realpath(home)}, key=len, reverse=True) if home else ():
        if len(place) > 1:
            text = re.sub(rf"(?<![\w.-]){re.escape(place.rstrip(os.sep))}(?![\w.-])", "~", text)
    return text


def program_text(program: str) -> str:
    """The name of a recorded program, for people."""
    return path_text(program) if program else "interactive use"
