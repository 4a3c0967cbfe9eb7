"""The cached answer to "how does this program start?", checked by a few hundred system calls and no import.

Asking juliapkg for executable and project, parsing manifests and comparing images takes a good part of a
second, and gives the same answer every time until something on disk changes. So the answer is kept
together with everything that it depends on: the *question* (options, paths, variables, this machine's CPU;
it names the file) and the *witnesses* (files with their modification times and sizes, places that must
exist, places where nothing may appear).

Any difference at all, and the slow way is gone again: modification times are a shortcut, never a verdict.

This is the hot path: no dataclasses, no hashlib, no json, no pathlib, no platformdirs. Nothing here raises.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
import zlib

from ..base.files import belongs_to_us, in_whole_seconds, others_can_write, write_atomically
from ..base.program import program_name, script_directory
from ..store.places import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["Plan", "Witnesses", "question", "quick_home", "recall", "remember"]

# What a kept answer begins with; another one for another form of what follows.
MAGIC = b"pyjl_autoimage launch 3\0"

# A file changed within the clock's grain of the moment we looked may change again unseen. Two seconds is
# the coarsest grain of file systems in use (FAT).
_CLOCK_GRAIN_NS = 2_000_000_000


class Plan:
    """How to start: what juliacall is told, and where this process records."""

    __slots__ = (
        "auto",
        "bindir",
        "code",
        "enabled",
        "environment",
        "executable",
        "flags",
        "home",
        "image",
        "image_files",
        "image_path",
        "layer",
        "layer_path",
        "layer_use",
        "libjulia",
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
        image: str | None = None,
        image_path: str | None = None,
        image_files: Mapping[str, int] | None = None,
        trusted: bool = False,
        layer: str | None = None,
        layer_path: str | None = None,
        layer_use: str = "",
        code: Iterable[tuple[str, str, dict[str, str], bool]] = (),
        record: bool = False,
        auto: bool = False,
        flags: Mapping[str, str] | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        self.home: str = home
        self.enabled: bool = enabled
        self.environment: str | None = environment
        self.executable: str | None = executable
        self.project: str | None = project
        self.libjulia: str | None = libjulia
        self.bindir: str | None = bindir
        self.image: str | None = image
        self.image_path: str | None = image_path
        self.image_files: dict[str, int] = dict(image_files or {})
        self.trusted: bool = trusted
        self.layer: str | None = layer
        self.layer_path: str | None = layer_path
        self.layer_use: str = layer_use
        self.code: list[tuple[str, str, dict[str, str], bool]] = list(code)
        self.record: bool = record
        self.auto: bool = auto
        self.flags: dict[str, str] = dict(flags or {})
        self.notes: list[str] = list(notes)

    def to_data(self) -> dict[str, Any]:
        """As plain data, the arguments of another like it."""
        return {name: getattr(self, name) for name in self.__slots__}


def quick_home(keywords: Mapping[str, Any]) -> str:
    """The store's directory, as `Settings` gives it, without importing platformdirs where that is easy."""
    home = os.environ.get("PYJL_AUTOIMAGE_HOME") or keywords.get("home")
    if home:
        return os.path.abspath(os.path.expanduser(os.fspath(home)))
    if sys.platform == "linux":
        base = os.environ.get("XDG_CACHE_HOME", "")
        return os.path.join(base if base.strip() else os.path.expanduser("~/.cache"), "pyjl_autoimage")
    from ..store.places import default_home

    return default_home()


# -- the question --------------------------------------------------------------------------------------

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

_NAMES_OF_PATHS = ("EXE", "PROJECT", "LIB", "BINDIR", "SYSIMAGE", "PATH", "HOME", "STORES")
"""How the names of options end whose values are paths (or lists of them)."""


def question(keywords: Mapping[str, Any]) -> str:
    """Everything but files that the answer depends on, as one text."""
    environ = os.environ
    told = [(key, environ[key]) for key in environ if key.startswith(_VARIABLES)]
    xoptions = sys._xoptions
    told += [(f"-X{key}", xoptions[key]) for key in xoptions if key.startswith(("juliapkg-", "juliacall-"))]
    told += [(key, keywords[key]) for key in keywords]
    told.sort(key=str)
    lines = [f"{key}={value!r}" for key, value in told]
    if any(_is_relative(key, value) for key, value in told):
        lines += (os.getcwd(), environ.get("PATH", ""))
    lines += (sys.executable, sys.prefix, sys.base_prefix, script_directory(), program_name())
    lines += (sys.version, _cpu())
    lines += (_on_path("julia"), _on_path("juliaup"))
    lines += map(os.path.abspath, sys.path)
    lines += [f"{name}={mapping!r}" for name, mapping in _editable_installs()]
    juliapkg = sys.modules.get("juliapkg.state")
    if juliapkg is not None:  # the program may have told it more than variables do
        state = juliapkg.STATE
        lines += [f"{name}={state.get(name)!r}" for name in ("project", "override_executable", "offline")]
    return "\n".join(lines)


def _is_relative(key: str, value: object) -> bool:
    """Whether an option's meaning depends on the current directory, or on PATH."""
    if not key.upper().endswith(_NAMES_OF_PATHS):
        return False
    paths = value if isinstance(value, (list, tuple)) else str(value).split(os.pathsep)
    # Julia's own "@", "@v1.10" and "@stdlib" stand for places that do not depend on it; "@." does.
    return any(path and not os.path.isabs(path) and (path[0] != "@" or path == "@.") for path in map(str, paths))


def _editable_installs() -> list[tuple[str, Any]]:
    """Module name and mapping of setuptools' editable installs, which juliapkg searches as well."""
    found = []
    for finder in sys.meta_path:
        name = getattr(finder, "__module__", None)
        if isinstance(name, str) and name.startswith("__editable___"):
            found.append((name, getattr(sys.modules.get(name), "MAPPING", None)))
    return found


def _cpu() -> str:
    """Tells this machine's CPU from that of another one that shares the store.

    The kernel's alias holds model and features, and reading it asks no core for its frequency, as reading
    `/proc/cpuinfo` does. Where there is none, an answer holds until the next boot.
    """
    for path in ("/sys/devices/system/cpu/modalias", "/proc/sys/kernel/random/boot_id"):
        try:
            with open(path, "rb", buffering=0) as file:
                return f"{zlib.crc32(file.read()):08x}"
        except OSError:
            pass
    machine = " ".join(os.uname()[1::3]) if hasattr(os, "uname") else ""
    return f"{machine} {os.environ.get('PROCESSOR_IDENTIFIER', '')}"


def _on_path(program: str) -> str:
    if sys.platform == "win32":
        program += ".exe"
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = os.path.join(directory, program)
        if os.access(candidate, os.X_OK):
            return candidate
    return ""


# -- the witnesses -------------------------------------------------------------------------------------


class Witnesses:
    """What an answer depends on. Gathered while it is being made, noted down when it is remembered."""

    def __init__(self) -> None:
        self.since: int = time.time_ns()
        self.files: list[str] = []
        """Paths whose file must not change; where there is none, none may appear."""
        self.places: list[str] = []
        """Paths that must go on to exist."""
        self.links: list[str] = []
        """Files that must not become others by a symbolic link that leads elsewhere, either. Times and sizes
        do not tell: some systems set the times of all installed files to one value."""
        self.directories: list[str] = []
        """Directories of sys.path: where juliapkg looks for ``juliapkg.json``, and one level below."""

    def exists_or_not(self, path: str) -> None:
        """Add a path that must go on to exist; where it does not, it must not appear."""
        (self.places if os.path.exists(path) else self.files).append(path)

    def of_juliapkg(self, project: str) -> None:
        """Add what juliapkg's answer depends on (`can_skip_resolve` and `deps_files` in its ``deps.py``)."""
        state = os.path.join(project, "pyjuliapkg")
        self.files += (os.path.join(state, "meta.json"), os.path.join(state, "juliapkg.json"))
        # Another process may be at making these anew: juliapkg waits for its end.
        self.files += (os.path.join(project, "Project.toml"), os.path.join(project, "Manifest.toml"))
        juliapkg = getattr(sys.modules.get("juliapkg"), "__file__", None)
        if juliapkg:  # it looks whether it runs from its own repository
            package = os.path.dirname(os.path.abspath(juliapkg))
            self.files.append(os.path.join(os.path.dirname(os.path.dirname(package)), "pyproject.toml"))
        self.directories += map(os.path.abspath, sys.path)
        for _, mapping in _editable_installs():
            if isinstance(mapping, dict):
                self.directories += mapping.values()

    def noted(self) -> dict[str, Any] | None:
        """How all of it is now; None when some changed so lately that it may change again unseen."""
        newest = self.since - _CLOCK_GRAIN_NS
        files: list[tuple[str, int, int]] = []
        absent: list[str] = []

        def note(path: str) -> bool:
            try:
                status = os.stat(path)
            except OSError:
                absent.append(path)
                return True
            files.append((path, status.st_mtime_ns, status.st_size))
            return status.st_mtime_ns < newest

        settled = all(note(path) for path in dict.fromkeys(self.files))
        directories: list[tuple[str, int, list[str]]] = []
        for path in dict.fromkeys(self.directories):
            try:
                mtime = os.stat(path).st_mtime_ns
            except OSError:
                absent.append(path)
                continue
            names = subdirectories(path)
            # A directory that has just changed gets no trusted time: it is listed at every start until then.
            directories.append((path, mtime if mtime < newest else -1, names))
            settled &= all(note(os.path.join(path, name, "juliapkg.json")) for name in ("", *names))
        if not settled:
            return None
        return {
            "files": files,
            "absent": absent,
            "places": list(dict.fromkeys(self.places)),
            "links": [(path, os.path.realpath(path)) for path in dict.fromkeys(self.links)],
            "directories": directories,
        }


def _still_true(noted: Mapping[str, Any]) -> bool:
    stat, access = os.stat, os.access
    for path, mtime, size in noted["files"]:
        status = stat(path)
        now = status.st_mtime_ns
        if (now != mtime and not in_whole_seconds(now, mtime)) or status.st_size != size:
            return False
    absent, places = noted["absent"], noted["places"]
    # The loop is C's, and so is the second argument: F_OK, which is 0, for each.
    if any(map(access, absent, bytes(len(absent)))) or not all(map(access, places, bytes(len(places)))):
        return False
    for path, target in noted["links"]:
        if os.path.realpath(path) != target:
            return False
    for path, mtime, names in noted["directories"]:
        if stat(path).st_mtime_ns != mtime and subdirectories(path) != names:
            return False
    return True


def subdirectories(path: str) -> list[str]:
    """Where a juliapkg.json could lie below a directory of sys.path."""
    try:
        with os.scandir(path) as entries:
            # Python makes __pycache__ by itself, in any of them. A link that leads nowhere may do so later.
            return sorted(e.name for e in entries if e.name != "__pycache__" and (e.is_dir() or e.is_symlink()))
    except OSError:
        return []


# -- the answer ----------------------------------------------------------------------------------------


def _file(store: Store, asked: bytes) -> str:
    # Only a name: the file holds the whole question, and it is compared.
    return store.launch(f"{zlib.crc32(asked):08x}{zlib.adler32(asked):08x}{len(asked):x}")


def recall(store: Store, question: str) -> Plan | None:
    """The plan that was remembered for this question, if all its witnesses still say the same."""
    try:
        asked = question.encode("utf-8", "surrogatepass")
        with open(_file(store, asked), "rb", buffering=0) as file:
            # A plan names code to load, and its form is one that only its writer should be trusted with.
            status = os.fstat(file.fileno())
            if not belongs_to_us(status) or others_can_write(status):
                return None
            content: bytes = file.read()
        head = MAGIC + asked + b"\0"
        if not content.startswith(head):
            return None
        body = memoryview(content)[len(head) + 4 :]
        if zlib.crc32(body) != int.from_bytes(content[len(head) : len(head) + 4], "big"):
            return None
        # The question holds this Python's version, so what it wrote it can read.
        plan, witnesses = marshal.loads(body)
        return Plan(**plan) if _still_true(witnesses) else None
    except Exception:
        return None


def remember(plan: Plan, question: str, witnesses: Witnesses) -> bool:
    """Keep a plan, as far as that is possible and safe. True if it was kept."""
    try:
        noted = witnesses.noted()
        if noted is None:
            return False
        asked = question.encode("utf-8", "surrogatepass")
        body = marshal.dumps((plan.to_data(), noted))
        content = MAGIC + asked + b"\0" + zlib.crc32(body).to_bytes(4, "big") + body
        store = Store(plan.home)
        store.ensure(store.launches)
        write_atomically(_file(store, asked), content, mode=0o600)
        from ..store.sweep import prune_plans

        prune_plans(store)
    except Exception:
        return False  # a store that cannot be written costs time, nothing else
    return True
