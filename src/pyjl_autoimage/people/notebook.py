"""`%load_ext pyjl_autoimage`: Julia in a notebook starts on the image and is recorded; ``%autoimage`` is its magic.

Reached through `pyjl_autoimage.load_ipython_extension`.
"""

from __future__ import annotations

import shlex
from typing import Any

from .. import hook
from ..errors import AutoimageError
from ..startup.attach import attach, detach
from ..startup.start import running, session

__all__ = ["autoimage", "load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: Any) -> None:
    """Install the hook, or record a Julia that is up already; register ``%autoimage``."""
    hook.install()
    if running() is not None and session.plan is None:
        attach()
    shell.register_magic_function(autoimage, "line", "autoimage")


def unload_ipython_extension(shell: Any) -> None:
    """Take back what loading did. A Julia that runs goes on, and is recorded no more."""
    hook.uninstall()
    detach()
    shell.magics_manager.magics["line"].pop("autoimage", None)


def autoimage(line: str) -> None:
    """Is Julia fast here, and if not, why? And make it so.

    %autoimage                  how things stand: image, recording, the last build
    %autoimage rebuild          build an image of what was recorded, in a process of its own; go on working
    %autoimage rebuild --wait   the same, and watch it

    The next kernel starts on the new image.
    """
    from IPython.core.error import UsageError

    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%autoimage: {error} in {line!r}") from None
    try:
        if words in ([], ["status"]):
            _status()
        elif words in (["rebuild"], ["rebuild", "--wait"]):
            _rebuild(wait="--wait" in words)
        else:
            raise UsageError(f"%autoimage [status | rebuild [--wait]], not {line!r}")
    except (AutoimageError, OSError) as error:
        raise UsageError(f"pyjl_autoimage: {error}") from None


def _status() -> None:
    from .status import status
    from .terminal import console as console_of
    from .terminal import show_status

    console = console_of()
    show_status(status(), console)
    if running() is not None:
        what = "on the image" if session.on_image else "without an image"
        console.print(f"Julia runs in this kernel {what}, {'recorded' if session.tracing else 'not recorded'}.")


def _rebuild(*, wait: bool) -> None:
    from ..build.begin import rebuild
    from .terminal import console as console_of
    from .watching import watcher

    console = console_of()
    build = rebuild(wait=False)
    if not wait:
        console.print(f"Building in the background; %autoimage shows how it stands. Log: {build.log}")
        return
    with watcher(console) as watch:
        image = build.wait(watch=watch)
    console.print(f"Built image {image}. The next kernel starts on it.")
