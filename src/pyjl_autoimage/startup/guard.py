"""The mark that a start-up leaves while Julia loads an image; what a dead mark says condemns the image.

A damaged image kills the process before Python can say a word, so the next start must find out. But a process
may also die while Julia starts because somebody killed it, pressed Ctrl-C, or the machine lost power, and then
the image is good. The two are told apart by what is left behind:

- A *fatal signal* (SIGBUS, SIGSEGV, SIGILL, SIGABRT, SIGFPE), which only the process brings upon itself: the mark
  holds the words of `faulthandler`, which writes them from within the signal handler.
- An *exit* (Julia prints a line and calls ``exit(1)``): the C library removes the file ``MARK.alive`` at any exit,
  because we asked it to; nothing of Python runs then.
- A *kill* (SIGKILL, SIGTERM, the memory killer): the mark is empty and ``MARK.alive`` is there. No verdict.
- A *power loss*: the mark is from another boot. No verdict; it goes when it is a day old, since it may be of another
  host that shares the store, where that start is under way.
- A Python exception, Ctrl-C among them: the mark is removed on the way out.

Who is dead, its lock tells (`pyjl_autoimage.base.liveness`); the words are a verdict whoever wrote them, in whichever
container or host.

An image that another environment has built is condemned for the environment of the start alone: what killed it there
may be something of that environment's.

Where signals cannot be watched (Julia was told to handle them, or somebody else uses `faulthandler`) a crash looks
like a kill. There the image is condemned at the second such death in a row.

Start-up uses this module: it imports next to nothing.
"""

from __future__ import annotations

import os
import sys

from ..base.liveness import DAY, discard, hold, is_dead, is_of_this_boot, mark_name, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Guard", "verdicts"]

_FATAL = b"Fatal Python error"
_UNWATCHED = b"unwatched"
_SUSPICION = ".once"


class Guard:
    """Stands while Julia loads an image: a context manager. Without an image it does nothing.

    Args:
        directory: where the marks are.
        key: what is condemned if it kills the process (see `pyjl_autoimage.store.places.Store.condemn`).
        watch: whether fatal signals may be watched.
    """

    def __init__(self, directory: str, key: str | None, *, watch: bool = True) -> None:
        self._image = key
        self._suspicion = os.path.join(directory, f"{key}{_SUSPICION}")
        self._may_watch = watch
        self._mark = os.path.join(directory, f"{mark_name()}-{key}")
        self._descriptor = -1
        self._watches_signals = False

    def __enter__(self) -> Guard:
        if self._image is None:
            return self
        try:
            _touch(f"{self._mark}.alive")  # a mark without it says that Julia ended the process
            self._descriptor = hold(self._mark)
        except OSError:
            discard(f"{self._mark}.alive")
            return self  # a place that cannot be written: unguarded, as plain juliacall is
        _remove_at_c_exit(f"{self._mark}.alive")
        import faulthandler

        if self._may_watch and not faulthandler.is_enabled():  # else its words go elsewhere
            faulthandler.enable(self._descriptor, all_threads=False)
            self._watches_signals = True
        else:
            os.write(self._descriptor, _UNWATCHED)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._watches_signals:
            import faulthandler

            faulthandler.disable()
        if self._descriptor >= 0:
            remove(self._mark)
            discard(f"{self._mark}.alive")
            if not self._watches_signals and kind is None:
                discard(self._suspicion)


def _touch(path: str) -> None:
    for _ in range(2):
        try:
            return os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        except FileNotFoundError:
            from ..base.files import make_private

            make_private(os.path.dirname(path))


def _remove(mark: str) -> None:
    discard(mark)
    discard(f"{mark}.alive")


def _remove_at_c_exit(path: str) -> None:
    """Ask the C library to remove a file when the process exits, whoever calls ``exit``.

    The callback is `unlink` itself, and its argument is never freed: it may run when Python is gone.
    """
    if sys.platform == "win32":
        return  # unlink is not a function of one pointer there that another library could call
    import ctypes

    try:
        library = ctypes.pythonapi  # all that this process has loaded; by index nobody else gets the same functions
        copy = library["strdup"]
        copy.restype = ctypes.c_void_p
        copy.argtypes = [ctypes.c_char_p]
        register = library["__cxa_atexit"]
        register.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        register(ctypes.cast(library["unlink"], ctypes.c_void_p), copy(os.fsencode(path)), None)
    except (OSError, AttributeError):
        pass


def verdicts(directory: str) -> Iterator[tuple[str, str]]:
    """Judge the marks of dead processes, and remove them: (key, what happened) of each guilty image.

    A mark goes when whoever asks for the next one has taken notice of its verdict.
    """
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        mark = os.path.join(directory, name)
        if name.endswith((".alive", ".tmp", _SUSPICION)):
            continue
        words = _words(mark)
        if not is_dead(mark, 0.0 if words.startswith(_FATAL) else DAY):
            continue
        # Behind host and pid; the marks of old had it before the boot.
        key = "-".join([part for part in name.split("-")[3:] if len(part) == 16][:2])
        guilty = _judge(mark, words, os.path.join(directory, f"{key}{_SUSPICION}")) if key else None
        if guilty:
            yield key, guilty
        _remove(mark)


def _words(mark: str) -> bytes:
    try:
        with open(mark, "rb", buffering=0) as file:
            return file.read(200)
    except OSError:
        return b""


def _judge(mark: str, words: bytes, suspicion: str) -> str | None:
    if words.startswith(_FATAL):
        line = words.splitlines()[0].decode("ascii", "replace")
        return f"a process died while it loaded the image ({line.partition(': ')[2] or line})"
    if not is_of_this_boot(os.path.basename(mark)):
        return None
    # Whoever removes the two begins with the mark: one that is there without the other was left so.
    if sys.platform != "win32" and not os.path.exists(f"{mark}.alive") and os.path.exists(mark):
        return "Julia ended the process while it loaded the image"
    if words.startswith(_UNWATCHED):
        try:
            os.unlink(mark)  # of those who judge it at the same time one counts it
            os.close(os.open(suspicion, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            discard(suspicion)
            return "two processes in a row died while they loaded the image"
        except OSError:
            pass
    return None
