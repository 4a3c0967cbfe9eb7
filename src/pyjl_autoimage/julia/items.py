"""What our Julia processes report (``items.jl``): items ``key=value`` that NUL ends, so nothing is escaped."""

from __future__ import annotations

__all__ = ["items_of", "report_at"]


def items_of(report: bytes) -> list[list[str]]:
    """Each item with a key, and behind it the values of those without that follow. A last one without end is none."""
    found: list[list[str]] = []
    for item in report.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        key, _, value = item.partition("=")
        if key:
            found.append([key, value])
        elif found:
            found[-1].append(value)
    return found


def report_at(path: str) -> list[list[str]] | None:
    """What a process reported in a file; None if it did not come to its end."""
    try:
        with open(path, "rb") as file:
            found = items_of(file.read())
    except OSError:
        return None
    return found[:-1] if found[-1:] == [["end", ""]] else None
