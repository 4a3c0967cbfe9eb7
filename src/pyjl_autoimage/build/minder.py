"""Runs one command, and ends it with all that it started when whoever started this is gone. POSIX alone.

A builder that is killed alone (by the out-of-memory killer, say) cannot end the Julia that it runs, nor the child of
that one, which has the gigabytes. So this stands between: it leads their process group, and its standard input is a
pipe whose other end only the builder holds. It is a script, not a module: it is run by a bare Python in a few
milliseconds.
"""

import os
import resource
import signal
import sys
from _thread import start_new_thread


def mind(pipe: int) -> None:
    """End the whole group when the pipe ends."""
    while os.read(pipe, 1):
        pass
    os.killpg(0, signal.SIGKILL)  # this process, too


def run(command: list[str]) -> int:
    """Run a command to its end; its status, negative: the signal that it died of."""
    pipe = os.dup(0)  # which the command does not inherit
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the command decides whether it ends
    theirs = [getattr(signal, name) for name in ("SIGTERM", "SIGPIPE", "SIGXFSZ") if hasattr(signal, name)]
    child = os.posix_spawnp(command[0], command, os.environ, setsigdef=theirs)
    start_new_thread(mind, (pipe,))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    status: int = run(sys.argv[1:])
    if status < 0:  # it ends as the command did, without a core of its own
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)
