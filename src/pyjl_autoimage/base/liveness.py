"""Which process is which, also after its pid has been given to another one.

A process is named by host, pid and start time. Start-up uses this module, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys

__all__ = ["boot_id", "hostname", "is_alive", "name_of_this_process", "proc_stat"]


def hostname() -> str:
    """The name of this host, safe to use in a file name."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return "".join(c if c.isalnum() else "_" for c in name) or "localhost"


FOREIGN_SECONDS = 30 * 86400.0


def _age(path: str) -> float:
    import time

    try:
        return time.time() - os.stat(path).st_mtime
    except OSError:
        return 0.0


def proc_stat(pid: int) -> list[bytes]:
    """The fields of `/proc/PID/stat` behind the program's name, from the third on (proc(5)); [] where unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # The name is in parentheses, and may hold spaces and parentheses itself.
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def start_time(pid: int) -> str:
    """When a process started, in units of its system that never repeat for one pid; "0" if unknown.

    Where there is no `/proc`, a process is told apart by its pid alone.
    """
    fields = proc_stat(pid)
    return fields[19].decode() if len(fields) > 19 else "0"  # field 22: clock ticks since boot


_own_names: dict[int, str] = {}  # by pid: a forked child is another process


def name_of_this_process() -> str:
    """``host-pid-start``, unique among the living and the dead of this host's uptime."""
    pid = os.getpid()
    name = _own_names.get(pid)
    if name is None:
        name = _own_names[pid] = f"{hostname()}-{pid}-{start_time(pid)}"
    return name


def boot_id() -> str:
    """Names this boot of this host; empty where that is not known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            return file.read().decode("ascii").strip().replace("-", "")[:12]
    except OSError:
        return ""


def is_alive(name: str, mark: str | None = None) -> bool:
    """Whether the process called ``host-pid-start...`` may still run.

    Of a process on another host nobody can know here: it is taken for alive as long as its `mark` (a file that
    it wrote) is not older than thirty days.
    """
    host, pid_text, start = [*name.split("-"), "", ""][:3]
    if host != hostname():
        return mark is None or _age(mark) < FOREIGN_SECONDS
    if not pid_text.isdigit():
        return False
    pid = int(pid_text)
    if sys.platform == "win32":
        return _is_alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it exists and is somebody else's
    fields = proc_stat(pid)
    if fields[:1] in ([b"Z"], [b"X"]):
        return False  # dead, though nobody has taken notice of it yet
    now = fields[19].decode() if len(fields) > 19 else "0"
    return start == "0" or now == "0" or start == now


def _is_alive_on_windows(pid: int) -> bool:
    if sys.platform != "win32":  # for the type checker; os.kill(pid, 0) would end the process there
        raise AssertionError
    import ctypes

    query_limited_information = 0x1000
    handle = ctypes.windll.kernel32.OpenProcess(query_limited_information, False, pid)
    if not handle:
        return False
    still_active = 259
    code = ctypes.c_ulong()
    ctypes.windll.kernel32.GetExitCodeProcess(handle, ctypes.byref(code))
    ctypes.windll.kernel32.CloseHandle(handle)
    return code.value == still_active
