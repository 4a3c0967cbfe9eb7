"""The cached answer to "how does this program start?", checked by a few hundred stat calls.

Asking juliapkg for executable and project, parsing manifests and comparing images takes a good part of a
second, and gives the same answer every time until something on disk changes. So the answer is kept
together with everything that it depends on: the *question* (options, paths, variables; it names the file)
and the *witnesses* (files with their modification times and sizes, also files that must not exist).

Any difference at all, and the slow way is gone again: modification times are a shortcut, never a verdict.

This is the hot path: no dataclasses, no hashlib, no pathlib, no platformdirs. Nothing here raises.
"""

from __future__ import annotations

import os
import sys
import time
import zlib

from .processes import program_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["Plan", "question", "recall", "remember", "witnesses_of_juliapkg"]

SCHEMA = 1

# A file changed within the clock's grain of the moment we looked may change again unseen. Two seconds is
# the coarsest grain of file systems in use (FAT).
_CLOCK_GRAIN_NS = 2_000_000_000


class Plan:
    """How to start: what juliacall is told, and where this process records."""

    __slots__ = (
        "bindir",
        "code",
        "enabled",
        "environment",
        "executable",
        "flags",
        "home",
        "image",
        "image_bytes",
        "image_path",
        "layer",
        "layer_path",
        "layer_use",
        "libjulia",
        "managed",
        "notes",
        "project",
        "record",
        "trusted",
    )

    def __init__(
        self,
        *,
        home: str,
        enabled: bool = True,
        environment: str | None = None,
        executable: str | None = None,
        project: str | None = None,
        libjulia: str | None = None,
        bindir: str | None = None,
        managed: bool = True,
        image: str | None = None,
        image_path: str | None = None,
        image_bytes: int = 0,
        trusted: bool = False,
        layer: str | None = None,
        layer_path: str | None = None,
        layer_use: str = "",
        code: Mapping[str, Any] | None = None,
        record: bool = False,
        flags: Mapping[str, str] | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        self.home = home
        self.enabled = enabled
        self.environment = environment
        self.executable = executable
        self.project = project
        self.libjulia = libjulia
        self.bindir = bindir
        self.managed = managed
        self.image = image
        self.image_path = image_path
        self.image_bytes = image_bytes
        self.trusted = trusted
        self.layer = layer
        self.layer_path = layer_path
        self.layer_use = layer_use
        self.code = dict(code or {})
        self.record = record
        self.flags = dict(flags or {})
        self.notes = list(notes)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def quick_home(keywords: Mapping[str, Any]) -> str:
    """The store's directory, as `Settings` gives it, without importing platformdirs where that is easy."""
    home = os.environ.get("PYJL_AUTOIMAGE_HOME") or keywords.get("home")
    if home:
        return os.path.abspath(os.path.expanduser(os.fspath(home)))
    if sys.platform == "linux":
        base = os.environ.get("XDG_CACHE_HOME", "")
        return os.path.join(base if base.strip() else os.path.expanduser("~/.cache"), "pyjl_autoimage")
    from .store import default_home

    return default_home()


_VARIABLES = (
    "PYTHON_JULIAPKG_",
    "PYTHON_JULIACALL_",
    "PYJL_AUTOIMAGE",
    "JULIA_DEPOT_PATH",
    "JULIA_LOAD_PATH",
    "JULIA_PROJECT",
    "JULIAUP_",
    "JULIA_NUM_THREADS",
    "CONDA_PREFIX",
    "HOME",
    "USERPROFILE",
)


def question(keywords: Mapping[str, Any]) -> str:
    """Everything but files that the answer depends on, as one text."""
    environ = os.environ
    lines = [f"{key}={environ[key]}" for key in environ if key.startswith(_VARIABLES)]
    xoptions = sys._xoptions
    lines += [f"-X{key}={xoptions[key]}" for key in xoptions if key.startswith(("juliapkg-", "juliacall-"))]
    lines += [f"{key}={keywords[key]!r}" for key in keywords]
    lines.sort()
    lines += (sys.executable, sys.prefix, sys.base_prefix, script_directory(), program_name(), sys.version)
    lines += (_on_path("julia"), _on_path("juliaup"))
    lines += [path or os.getcwd() for path in sys.path]
    for finder in sys.meta_path:  # setuptools' editable installs, which juliapkg searches as well
        module = getattr(finder, "__module__", "")
        if module.startswith("__editable___"):
            lines.append(f"{module}={getattr(sys.modules.get(module), 'MAPPING', None)!r}")
    return "\n".join(lines)


def script_directory() -> str:
    """The directory of the running script, or the current one: where `pyproject.toml` is searched from."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.dirname(os.path.abspath(main)) if main else os.getcwd()


def _on_path(program: str) -> str:
    if sys.platform == "win32":
        program += ".exe"
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = os.path.join(directory, program)
        if os.access(candidate, os.X_OK):
            return candidate
    return ""


def _file(home: str, asked: str) -> str:
    data = asked.encode("utf-8", "surrogatepass")
    # Only a name: the file holds the whole question, and it is compared.
    name = f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}{len(data):x}"
    return os.path.join(home, "v1", "launch", f"{name}.json")


def recall(home: str, asked: str) -> Plan | None:
    """The plan that was remembered for this question, if all its witnesses still say the same."""
    try:
        with open(_file(home, asked), "rb") as file:
            content = file.read()
        import json

        kept = json.loads(content)
        if kept["schema"] != SCHEMA or kept["question"] != asked or not _still_true(kept):
            return None
        return Plan(**kept["plan"])
    except Exception:
        return None


def _still_true(kept: Any) -> bool:
    stat, access = os.stat, os.access
    for path, mtime, size in kept["files"]:
        status = stat(path)
        if status.st_mtime_ns != mtime or status.st_size != size:
            return False
    for path in kept["absent"]:
        if access(path, 0):
            return False
    for path, mtime, names in kept["directories"]:
        if stat(path).st_mtime_ns != mtime and _subdirectories(path) != names:
            return False
    return True


def _subdirectories(path: str) -> list[str]:
    """Where a juliapkg.json could lie below a directory of sys.path."""
    try:
        with os.scandir(path) as entries:
            return sorted(e.name for e in entries if e.name not in _NO_PACKAGES and e.is_dir())
    except OSError:
        return []


_NO_PACKAGES = {"__pycache__", ".git", ".venv", "node_modules"}


def remember(
    plan: Plan,
    asked: str,
    *,
    files: Iterable[str],
    directories: Iterable[str] = (),
) -> bool:
    """Keep a plan. True if it was kept.

    Args:
        plan: the answer.
        asked: the question.
        files: paths that the answer depends on, whether they exist or not.
        directories: directories of sys.path, in which a ``juliapkg.json`` must not appear.
    """
    existing: list[list[Any]] = []
    absent: list[str] = []
    newest = 0
    for path in dict.fromkeys(files):
        try:
            status = os.stat(path)
        except OSError:
            absent.append(path)
        else:
            existing.append([path, status.st_mtime_ns, status.st_size])
            newest = max(newest, status.st_mtime_ns)
    listed: list[list[Any]] = []
    for path in dict.fromkeys(directories):
        try:
            mtime = os.stat(path).st_mtime_ns
        except OSError:
            absent.append(path)
            continue
        names = _subdirectories(path)
        # A directory that has just changed gets no trusted time: it is listed at every start until then.
        listed.append([path, mtime if mtime + _CLOCK_GRAIN_NS < time.time_ns() else -1, names])
        for name in ("", *names):
            candidate = os.path.join(path, name, "juliapkg.json")
            if os.path.isfile(candidate):
                status = os.stat(candidate)
                existing.append([candidate, status.st_mtime_ns, status.st_size])
            else:
                absent.append(candidate)
    if newest + _CLOCK_GRAIN_NS > time.time_ns():
        return False
    from .store import Store, write_json

    store = Store(plan.home)
    try:
        store.ensure(store.launches)
        write_json(
            _file(plan.home, asked),
            {
                "schema": SCHEMA,
                "question": asked,
                "plan": plan.to_json(),
                "files": existing,
                "absent": absent,
                "directories": listed,
            },
        )
    except Exception:
        return False  # a store that cannot be written costs time, nothing else
    return True


def witnesses_of_juliapkg(project: str) -> tuple[list[str], list[str]]:
    """What juliapkg's answer depends on: files, and directories searched for ``juliapkg.json``."""
    meta = os.path.join(project, "pyjuliapkg")
    files = [os.path.join(meta, "meta.json"), os.path.join(meta, "juliapkg.json")]
    home = os.path.expanduser("~")
    juliaup = os.environ.get("JULIAUP_DEPOT_PATH") or os.path.join(home, ".julia")
    files.append(os.path.join(juliaup, "juliaup", "juliaup.json"))
    directories = [path or os.getcwd() for path in sys.path]
    for finder in sys.meta_path:
        module = sys.modules.get(getattr(finder, "__module__", ""))
        mapping = getattr(module, "MAPPING", None)
        if module is not None and module.__name__.startswith("__editable___") and isinstance(mapping, dict):
            directories += mapping.values()
    return files, directories
