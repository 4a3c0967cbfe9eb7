"""Every setting, where it may be set, and which place wins.

The environment wins over keyword arguments, keyword arguments over ``[tool.pyjl-autoimage]`` in the
``pyproject.toml`` of the running script's project. That file may not choose where code is loaded from
(the store, the builder's project): it arrives with every cloned repository.

Start-up does not come here while its cached answer holds (see `pyjl_autoimage.startup.plan`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from ..errors import SettingsError
from .program import script_directory
from .reads import is_file, load_toml

__all__ = ["ENV_PREFIX", "Settings", "find_pyproject", "from_everywhere", "settle"]

ENV_PREFIX = "PYJL_AUTOIMAGE"
TABLE = "pyjl-autoimage"

_TRUE = {"1", "yes", "true", "on"}
_FALSE = {"0", "no", "false", "off"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How images are chosen, recorded and built. Immutable.

    The environment variable of a setting is ``PYJL_AUTOIMAGE_`` and its name in capitals, but for
    `enabled` (``PYJL_AUTOIMAGE``), `home` and `auto_rebuild` (``PYJL_AUTOIMAGE_AUTO``). A list is
    separated by commas there, one of paths as PATH is.
    """

    enabled: bool = True
    """False: stand aside entirely; the program runs on plain juliacall."""

    home: str | None = None
    """The directory of the store; None means the user's cache directory (platformdirs)."""

    builder_project: str | None = None
    """A ready Julia project that has PackageCompiler, for machines without network."""

    record: bool = True
    """Record what this process compiles."""

    preload: bool = False
    """Load a layer, and the packages that this program's recorded runs loaded, at start-up; else what they
    compiled comes when the program has loaded them itself."""

    dev_packages: Literal["skip", "bake"] = "skip"
    """What to do with packages that the manifest tracks by path: leave them and everything that depends
    on them out of the image, or bake them."""

    include: tuple[str, ...] = ()
    """Names of packages to bake even when no recorded run loaded them."""

    exclude: tuple[str, ...] = ()
    """Names of packages never to bake (nor what depends on them)."""

    all_direct: bool = False
    """Bake every direct dependency of the project."""

    libraries: bool = True
    """Run, in a build, the workloads that installed Python packages bring along."""

    time_limit: int = 600
    """Seconds that each workload may run in a build before it is ended; 0 means no limit."""

    phase_limit: int | None = None
    """Seconds that each phase of a build may take before it is ended; 0 means no limit. When None, ten times its
    longest on this machine, and never less than an hour."""

    auto_rebuild: bool = False
    """Rebuild by itself when it pays."""

    cpu_target: str = "native"
    """``native``, ``portable``, or a list of targets as Julia's own ``--cpu-target`` takes it."""

    image_threads: int = 0
    """Threads that compile the image; 0 means as many as cores and memory allow."""

    slim: bool = False
    """Leave out of an image the compiled code of Julia's prompt and package manager (Pkg, REPL, LibGit2 and what
    they stand on) that no recorded statement needs. It still works, compiled when it is first called."""

    keep_images: int = 3
    """How many images of one environment are kept; the newest valid one and those in use always are."""

    max_gigabytes: int = 10
    """Size that all images may have together before old ones are removed; 0 means no limit."""

    trusted_stores: tuple[str, ...] = ()
    """Further stores whose images may be used, though other users can write them. They are only read."""

    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where each setting that is not at its default was set."""

    def with_values(self, **values: Any) -> Settings:
        """A copy with other values (checked like any other)."""
        return replace(self, **{name: _checked(name, value, f"{name}=") for name, value in values.items()})


_ENV_NAMES = {"enabled": ENV_PREFIX, "auto_rebuild": f"{ENV_PREFIX}_AUTO"}
_NOT_IN_PYPROJECT = frozenset({"enabled", "home", "builder_project", "trusted_stores"})


def env_name(setting: str) -> str:
    """The environment variable of a setting."""
    return _ENV_NAMES.get(setting, f"{ENV_PREFIX}_{setting.upper()}")


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("expected 1 or 0 (yes, no, true, false, on, off)")


def _path(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError("expected a path")
    return os.path.abspath(os.path.expanduser(os.fspath(value)))


def _names(value: Any) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)) or not all(isinstance(i, str) for i in items):
        raise ValueError("expected a list of Julia package names")
    names = tuple(dict.fromkeys(item.strip() for item in items if item.strip()))
    for name in names:
        if not name.isidentifier():
            raise ValueError(f"{name!r} is not the name of a Julia package")
    return names


def _paths(value: Any) -> tuple[str, ...]:
    items = value.split(os.pathsep) if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise ValueError("expected a list of paths")
    return tuple(path for path in (_path(item) for item in items) if path is not None)


def _choice(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"expected {' or '.join(repr(choice) for choice in choices)}")
        return str(value)

    return check


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("expected a whole number")
    try:
        number = int(value)
    except ValueError:
        raise ValueError("expected a whole number") from None
    if number < 0:
        raise ValueError("expected a whole number that is not negative")
    return number


def _cpu_target(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("expected 'native', 'portable' or a list of CPU targets as Julia takes it")
    return value.strip()


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "enabled": _bool,
    "home": _path,
    "builder_project": _path,
    "record": _bool,
    "preload": _bool,
    "dev_packages": _choice("skip", "bake"),
    "include": _names,
    "exclude": _names,
    "all_direct": _bool,
    "libraries": _bool,
    "time_limit": _count,
    "phase_limit": _count,
    "auto_rebuild": _bool,
    "cpu_target": _cpu_target,
    "image_threads": _count,
    "slim": _bool,
    "keep_images": _count,
    "max_gigabytes": _count,
    "trusted_stores": _paths,
}
assert set(_CHECKS) == {f.name for f in fields(Settings)} - {"origins"}


def _checked(name: str, value: Any, where: str) -> Any:
    check = _CHECKS.get(name)
    if check is None:
        raise SettingsError(f"{where.rstrip(' =')} is not a setting{_meant(name, {key: key for key in _CHECKS})}")
    try:
        return check(value)
    except ValueError as error:
        raise SettingsError(f"{where}{value!r}: {error}") from None


def _meant(given: str, known: Mapping[str, str]) -> str:
    """What somebody may have meant who wrote a name that there is not: the nearest, else all that there are.

    Args:
        given: the name.
        known: names to compare with, and how each is shown.
    """
    from difflib import get_close_matches

    near = get_close_matches(given, known, 1)
    return f"; did you mean {known[near[0]]}?" if near else f"; the settings are {', '.join(known.values())}"


def find_pyproject(start: str) -> str | None:
    """The nearest ``pyproject.toml`` in `start` or a directory above it."""
    directory = os.path.abspath(start)
    while True:
        candidate = os.path.join(directory, "pyproject.toml")
        if is_file(candidate):
            return candidate
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def settle(keywords: Mapping[str, Any] | None = None) -> Settings:
    """Every setting of the program that runs: its environment, `keywords`, its project's ``pyproject.toml``.

    Raises:
        SettingsError: an unknown name or a bad value, naming where it was set.
    """
    return from_everywhere(keywords, pyproject=find_pyproject(script_directory()))


def from_everywhere(
    keywords: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    pyproject: str | None = None,
) -> Settings:
    """Settle every setting.

    Args:
        keywords: settings given in code; an unknown name is an error.
        environ: the environment (``os.environ`` when None).
        pyproject: path of the ``pyproject.toml`` to read, or None for none.

    Raises:
        SettingsError: an unknown name or a bad value, naming where it was set.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, value in _read_table(pyproject).items():
        where = f"{pyproject}: [tool.{TABLE}] {name}"
        key = name.replace("-", "_")
        if key in _NOT_IN_PYPROJECT:
            raise SettingsError(
                f"{where} cannot be set there (a repository must not choose what code is loaded); set {env_name(key)}"
            )
        if key not in _CHECKS:
            shown = {known: known.replace("_", "-") for known in _CHECKS if known not in _NOT_IN_PYPROJECT}
            raise SettingsError(f"{where} is not a setting{_meant(key, shown)}")
        values[key] = _checked(key, value, f"{where} = ")
        origins[key] = str(pyproject)
    for name, value in (keywords or {}).items():
        values[name] = _checked(name, value, f"{name}=")
        origins[name] = "keyword argument"
    by_env_name = {env_name(name): name for name in _CHECKS}
    for variable, text in (os.environ if environ is None else environ).items():
        if variable != ENV_PREFIX and not variable.startswith(f"{ENV_PREFIX}_"):
            continue
        name = by_env_name.get(variable, "")
        if not name:
            start = len(ENV_PREFIX) + 1
            ours = {known[start:]: known for known in sorted(by_env_name) if known != ENV_PREFIX}
            raise SettingsError(
                f"the environment variable {variable} is not a setting{_meant(variable[start:], ours)}"
            )
        if text == "":  # an empty variable is an unset one, as everywhere in Julia and Python
            continue
        values[name] = _checked(name, text, f"{variable}=")
        origins[name] = variable
    return Settings(**values, origins=origins)


def _read_table(pyproject: str | None) -> Mapping[str, Any]:
    if pyproject is None:
        return {}
    try:
        table = load_toml(pyproject).get("tool", {}).get(TABLE, {})
    except (OSError, ValueError, AttributeError):
        return {}  # somebody else's broken file: not ours to complain about
    if not isinstance(table, dict):
        raise SettingsError(f"{pyproject}: tool.{TABLE} must be a table")
    return table
