"""juliacall's options: what the user gave, and what a start of ours adds.

This is the one place that knows their names. Ours are set in ``sys._xoptions``, which no child process inherits, and
taken back as soon as juliacall has read them.
"""

from __future__ import annotations

import os
import sys

from ..base.layout import depot_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .plan import Plan

__all__ = ["FLAG_DEFAULTS", "Options", "code_flags", "encodes", "user_option", "user_options"]

_ENVIRONMENT_NAMES = {"home": "PYTHON_JULIACALL_BINDIR"}
_OPTION_NAMES = (
    "exe",
    "project",
    "lib",
    "home",
    "init",
    "sysimage",
    "trace_compile",
    "handle_signals",
    "threads",
)
FLAG_DEFAULTS = {
    "check_bounds": "auto",
    "inline": "yes",
    "min_optlevel": "0",
    "optimize": "2",
}
"""juliacall's options that change which code Julia generates, with Julia's defaults. Not `compile`, which says when:
an image that were made with "all" would hold every method that there is, with "min" none."""


def user_options() -> dict[str, str]:
    """What the user told juliacall, by -X or environment: options by juliacall's names."""
    given = ((name, user_option(name)) for name in (*_OPTION_NAMES, *FLAG_DEFAULTS))
    return {name: value for name, value in given if value is not None}


def user_option(name: str) -> str | None:
    """One of them; None where it was not given."""
    value: object = sys._xoptions.get(f"juliacall-{name.replace('_', '-')}")
    if value is None:
        return os.environ.get(_ENVIRONMENT_NAMES.get(name, f"PYTHON_JULIACALL_{name.upper()}"))
    return value if isinstance(value, str) else ""  # -X without an argument: juliacall complains


def code_flags(options: Mapping[str, str]) -> dict[str, str]:
    """The code generation flags among juliacall's options that differ from Julia's defaults."""
    return {name: options[name] for name, default in FLAG_DEFAULTS.items() if options.get(name, default) != default}


def encodes(value: str) -> bool:
    """Whether juliacall can hand a value to Julia: it encodes all of them as UTF-8 (`args_from_config`)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _depots_before(given: str | None) -> list[str]:
    """What has to stand in JULIA_DEPOT_PATH before depots of ours, so that Julia has all that it would have without.

    An empty variable means no depot at all. One that is not set, or of empty entries alone, stands for the user's
    depot and Julia's own ones; beside other entries an empty one stands for both on Julia 1.10, for Julia's own on
    1.11, and for both at the beginning alone since (`init_depot_path` in Julia's ``base/initdefs.jl``).
    """
    if given == "":
        return []
    if given is None or not given.strip(os.pathsep):
        return [os.path.join(os.path.expanduser("~"), ".julia"), ""]
    return [given]


class Options:
    """juliacall's options for this process alone: set on entry, taken back on exit.

    So is JULIA_DEPOT_PATH, which Julia reads as it starts: our depots go behind the user's own.

    Args:
        plan: how to start.
        trace: the file that Julia shall record into.
    """

    def __init__(self, plan: Plan, trace: str | None) -> None:
        self.values: dict[str, str] = {}
        self._depots = os.environ.get("JULIA_DEPOT_PATH")
        above = [os.path.dirname(plan.image_path)] if plan.image_path else []
        above += [plan.layer_path] if plan.layer_path else []
        self._ours = list(map(depot_of, above))
        if not plan.enabled or plan.executable is None or plan.project is None:
            return
        given = user_options()
        wanted: dict[str, str | None] = {
            "exe": plan.executable,
            "project": plan.project,
            "lib": plan.libjulia,
            "home": plan.bindir,
            "sysimage": plan.image_path,
            "trace-compile": trace,
        }
        if given.get("threads", os.environ.get("JULIA_NUM_THREADS", "1")) == "1":
            # What juliacall does anyway when nothing is set. Left unset, it asks Julia for the number of
            # threads, in order to warn when there are several; compiling that question takes a moment.
            wanted["handle-signals"] = "no"
        for name, value in wanted.items():
            if value is not None and name.replace("-", "_") not in given and encodes(value):
                self.values[f"juliacall-{name}"] = value

    def drop(self, name: str) -> None:
        """Take one option back early."""
        if self.values.pop(f"juliacall-{name}", None) is not None:
            sys._xoptions.pop(f"juliacall-{name}", None)

    def __enter__(self) -> Options:
        sys._xoptions.update(self.values)
        ours = [depot for depot in self._ours if os.path.isdir(depot)]
        if ours:
            os.environ["JULIA_DEPOT_PATH"] = os.pathsep.join([*_depots_before(self._depots), *ours])
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.values:
            sys._xoptions.pop(name, None)
        if self._depots is not None:
            os.environ["JULIA_DEPOT_PATH"] = self._depots
        elif self._ours:
            os.environ.pop("JULIA_DEPOT_PATH", None)
