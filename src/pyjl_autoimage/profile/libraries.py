"""What installed Python packages bring along for the images of their users: entry points, read and not loaded.

A package names its workloads in its metadata (group ``pyjl_autoimage.profile.workloads``). Nothing of it is imported
here: only the fresh process of a workload does that, so a package that is broken costs a warning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import distributions

from .workloads import REFERENCE, Task

__all__ = ["GROUP", "gather"]

GROUP = "pyjl_autoimage.workloads"


def gather(path: Sequence[str] | None) -> tuple[list[Task], list[str]]:
    """The workloads of installed packages.

    Args:
        path: the sys.path to search; None: this process's own.

    Returns:
        The workloads, and what is wrong with those that cannot be run.
    """
    found: list[Task] = []
    problems: list[str] = []
    seen: set[str] = set()
    for distribution in distributions() if path is None else distributions(path=list(path)):
        library = "a package"
        try:
            library = str(distribution.metadata["Name"])
            entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
        except FileNotFoundError:  # from Python 3.15 on, where an uninstallation has left a directory behind
            continue
        except Exception as error:  # metadata is written by anybody
            problems.append(f"{library}'s metadata cannot be read: {error}")
            continue
        key = re.sub(r"[-_.]+", "-", library).lower()
        if key in seen:
            continue  # an older one, hidden by what comes before it on the path
        seen.add(key)
        for entry in entries:
            named = REFERENCE.fullmatch(re.sub(r"\s*:\s*", ":", entry.value.strip()))
            if named is None:
                problems.append(f"workload {library}: {entry.name}: {entry.value!r} names no module")
            else:
                label = f"{library}: {entry.name}"
                found.append(Task(label, "module", named["module"], named["function"] or ""))
    return found, problems
