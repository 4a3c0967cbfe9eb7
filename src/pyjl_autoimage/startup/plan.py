"""The cached answer to "how does this program start?", checked by some hundred system calls and no import.

Asking juliapkg for executable and project, parsing manifests and comparing images takes a good part of a
second, and gives the same answer every time until something on disk changes. So the answer is kept
together with everything that it depends on: the *question* (options, paths, variables, this machine's CPU, this
package's version; it names the file) and what was read for it (`pyjl_autoimage.base.reads`).

Any difference at all, and the slow way is gone again: times are a shortcut, never a verdict.

This is the hot path: no dataclasses, no hashlib, no json, no pathlib, no platformdirs. Nothing here raises.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib

from ..base.layout import Layout, belongs_to_us, others_can_write
from ..base.program import __version__, program_name, script_directory
from ..base.unchanged import difference, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from ..base.reads import Reads

__all__ = ["Plan", "editable_installs", "question", "quick_home", "recall", "remember"]

# What a kept answer begins with; another one for another form of what follows.
MAGIC = b"pyjl_autoimage plan 6\0"


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
        "shared",
        "theirs",
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
        shared: bool = False,
        theirs: str | None = None,
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
        self.shared: bool = shared
        """Whether another environment built the image."""
        self.theirs: str | None = theirs
        """Path of a system image of the user's own choice."""
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
    "JULIA_BINDIR",
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
    lines += (sys.version, __version__, _cpu())
    lines += map(os.path.abspath, sys.path)
    lines += [f"{name}={mapping!r}" for name, mapping in editable_installs()]
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


def editable_installs() -> list[tuple[str, Any]]:
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
            return f"{zlib.crc32(whole(path)):08x}"
        except OSError:
            pass
    machine = " ".join(os.uname()[1::3]) if hasattr(os, "uname") else ""
    return f"{machine} {os.environ.get('PROCESSOR_IDENTIFIER', '')}"


# -- the answer ----------------------------------------------------------------------------------------


def _file(store: Layout, asked: bytes) -> str:
    # Only a name: the file holds the whole question, and it is compared.
    return store.launch(f"{zlib.crc32(asked):08x}{zlib.adler32(asked):08x}{len(asked):x}")


def recall(store: Layout, question: str, why: list[str] | None = None) -> Plan | None:
    """The plan that was remembered for this question, if all that it depends on is as it was.

    Args:
        store: the user's store.
        question: what was asked.
        why: gets the reason where there is none.
    """
    found = _recall(store, question)
    if isinstance(found, Plan):
        return found
    if why is not None:
        why.append(found)
    return None


def _recall(store: Layout, question: str) -> Plan | str:
    try:
        asked = question.encode("utf-8", "surrogatepass")
        name = _file(store, asked)
        with open(name, "rb", buffering=0) as file:
            # A plan names code to load, and its form is one that only its writer should be trusted with.
            status = os.fstat(file.fileno())
            if not belongs_to_us(status) or others_can_write(status):
                return "a plan that others can write"
            content: bytes = file.read()
        head = MAGIC + asked + b"\0"
        if not content.startswith(head):
            return "the first start of this kind"
        body = memoryview(content)[len(head) + _CHECKED :]
        if zlib.crc32(body) != int.from_bytes(content[len(head) : len(head) + _CHECKED], "big"):
            return "a damaged plan"
        # The question holds this Python's version, so what it wrote it can read.
        plan, noted = marshal.loads(body)
        searched: dict[str, tuple[int, ...]] = {}
        changed = difference(noted, searched)
        if changed:
            return f"{changed} has changed"
        if searched:
            _note_again(name, asked, plan, noted, searched)
        return Plan(**plan)
    except FileNotFoundError:
        return "the first start of this kind"
    except Exception as error:
        return str(error)


_CHECKED = 4  # bytes of a checksum


def _whole(asked: bytes, plan: Any, noted: Any) -> bytes:
    body = marshal.dumps((plan, noted))
    return MAGIC + asked + b"\0" + zlib.crc32(body).to_bytes(_CHECKED, "big") + body


def _note_again(
    name: str, asked: bytes, plan: Mapping[str, Any], noted: dict[str, Any], searched: Mapping[str, tuple[int, ...]]
) -> None:
    """Something was installed, or unpacked anew, that changes nothing: the next start need not search again."""
    from ..base.files import write_atomically
    from ..base.reads import may_be_trusted

    lasting = {path: now for path, now in searched.items() if may_be_trusted(now)}
    if lasting:
        noted["directories"] = [(path, lasting.get(path, then), *rest) for path, then, *rest in noted["directories"]]
        try:
            write_atomically(name, _whole(asked, plan, noted), mode=0o600)
        except OSError:
            pass  # every start searches


def remember(plan: Plan, question: str, reads: Reads) -> bool:
    """Keep a plan, as far as that is possible and safe. True if it was kept."""
    try:
        if not reads.settled:
            return False
        asked = question.encode("utf-8", "surrogatepass")
        from ..base.files import write_atomically
        from ..store.places import Store
        from ..store.sweep import prune_plans

        store = Store(plan.home)
        store.ensure(store.launches)
        write_atomically(_file(store, asked), _whole(asked, plan.to_data(), reads.to_data()), mode=0o600)
        prune_plans(store)
    except Exception:
        return False  # a store that cannot be written costs time, nothing else
    return True
