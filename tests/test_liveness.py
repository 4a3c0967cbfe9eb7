"""Marks: what a lock says of a process that lives, has died, was forked, or is somewhere else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from pyjl_autoimage.base import liveness
from pyjl_autoimage.base.liveness import DAY, MONTH, hold, is_dead, mark_name, release, remove
from pyjl_autoimage.base.program import spawn_detached

from standin import unshare, wait_for

HOLD = """
import os, sys, time
from pyjl_autoimage.base.liveness import hold, mark_name
path = os.path.join(sys.argv[1], mark_name())
hold(path)
{then}
print(path, flush=True)
sys.stdin.read()
"""
FORK = "if not os.fork():\n    os.close(0); os.close(1); os.close(2); time.sleep(600)"

posix = pytest.mark.skipif(sys.platform == "win32", reason="forks, signals")


def holder(directory, *before: str, then: str = "") -> tuple[subprocess.Popen[str], str]:
    """A process that holds a mark, and the mark."""
    process = subprocess.Popen(
        [*before, sys.executable, "-c", HOLD.format(then=then), str(directory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()  # not for the end of its output, which a child of it may hold
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def test_a_mark_is_alive_until_its_process_is_killed(tmp_path):
    process, mark = holder(tmp_path)
    assert not is_dead(mark)
    kill(process)
    assert is_dead(mark)


def test_a_mark_is_alive_for_the_process_that_holds_it(tmp_path):
    path = str(tmp_path / "below" / mark_name())
    hold(path)
    assert hold(path) == hold(path) and not is_dead(path)
    assert os.listdir(tmp_path / "below") == [mark_name()]
    assert release(path) and os.path.exists(path)
    hold(path)
    remove(path)
    assert is_dead(path) and os.listdir(tmp_path / "below") == []


def test_nobody_who_looks_keeps_others_from_seeing_the_same(tmp_path):
    path = tmp_path / mark_name()
    path.touch()
    with open(path, "rb") as file:
        assert liveness._is_free(file.fileno())
        assert is_dead(str(path))


@posix
def test_a_program_that_was_started_keeps_no_mark_and_a_fork_does(tmp_path):
    process, mark = holder(
        tmp_path,
        then="import subprocess; c = subprocess.Popen(['sleep', '600'], close_fds=False)\nprint(c.pid, file=open(sys.argv[1] + '/pid', 'w'))",
    )
    kill(process)
    assert is_dead(mark)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    process, mark = holder(
        tmp_path, "setsid", then=f"{FORK}\nprint(os.getpgid(0), file=open(sys.argv[1] + '/group', 'w'))"
    )
    kill(process)
    assert not is_dead(mark), "it goes on with what its parent used"
    os.killpg(int((tmp_path / "group").read_text()), signal.SIGKILL)
    assert wait_for(lambda: is_dead(mark))


@posix
def test_a_descriptor_that_the_program_has_taken_over_is_not_closed(tmp_path):
    path = str(tmp_path / mark_name())
    descriptor = hold(path)
    with open(tmp_path / "log", "w") as log:
        os.dup2(log.fileno(), descriptor)  # as daemons do who close all descriptors, and then open a log
        assert release(path)
        os.write(descriptor, b"theirs")
        os.close(descriptor)
    assert (tmp_path / "log").read_text() == "theirs"


def test_the_living_of_another_pid_namespace_and_host_name_are_alive(tmp_path):
    prefix = unshare("-p", "-f", "--mount-proc", "--kill-child", "-u")
    process, mark = holder(tmp_path, *prefix, "sh", "-c", 'hostname elsewhere; exec "$0" "$@"')
    assert os.path.basename(mark).startswith("elsewhere-1-")
    assert not is_dead(mark, 0.0)
    kill(process)
    assert wait_for(lambda: is_dead(mark))


@pytest.mark.parametrize("seconds", [DAY, MONTH])
def test_the_mark_of_another_boot_goes_when_it_is_free_and_old(tmp_path, monkeypatch, seconds):
    process, mark = holder(tmp_path)
    monkeypatch.setattr(liveness, "_boot", "another")
    old = time.time() - seconds - 60
    os.utime(mark, (old, old))
    assert not is_dead(mark, seconds), "old, and locked"
    kill(process)
    assert is_dead(mark, seconds)
    os.utime(mark)
    assert not is_dead(mark, seconds), "free, and young: its file system may grant every lock"


@pytest.mark.parametrize("number", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
@posix
def test_without_locks_the_age_decides(tmp_path, monkeypatch, number):
    import errno
    import fcntl

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(getattr(errno, number), "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    path = str(tmp_path / mark_name())
    hold(path)
    assert not is_dead(path)
    os.utime(path, (1, 1))
    assert is_dead(path)


@pytest.mark.parametrize("name", ["host-1-123456", "host-1-123456-cafe0123", "", "-----", "x"])
def test_a_mark_of_a_former_version_goes_when_it_is_old(tmp_path, name):
    path = str(tmp_path / f"{name}.log")
    open(path, "w").close()
    assert not is_dead(path)
    os.utime(path, (1, 1))
    assert is_dead(path)


def test_what_is_no_mark_is_dead(tmp_path):
    assert is_dead(str(tmp_path / "none")) and is_dead(f"{tmp_path}/\0")


# -- detached processes ------------------------------------------------------------------------------------


@posix
def test_a_detached_process_keeps_no_socket_of_the_one_that_started_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.set_inheritable(True)  # as those that hand theirs to their workers do
        address = server.getsockname()
        code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
        spawn_detached([sys.executable, "-c", code, str(tmp_path / "pid")], dict(os.environ))
        pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    try:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        os.kill(pid, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
