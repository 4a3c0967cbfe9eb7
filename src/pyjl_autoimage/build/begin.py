"""How a build begins and ends: asked for, in a process of its own, alone in its environment, its end written down.

`rebuild` starts that process and returns a handle; `main` is what it does, and `pyjl_autoimage.build.build` is what
it is for.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from _thread import interrupt_main
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..base import settings
from ..base.files import create_text
from ..base.liveness import discard, mark_name
from ..base.locks import lock
from ..base.program import python_itself, python_path
from ..base.settings import Settings
from ..errors import AutoimageError, BuildError
from ..julia.environment import Environment, locate
from ..profile import workloads
from ..profile.workloads import Caller, Task
from ..startup.options import code_flags, user_options
from ..store.places import Store
from ..store.publish import remove_debris
from . import handle, history, train
from .build import build
from .handle import Build
from .machine import check_disk
from .runner import end_with_this_process
from .state import State
from .work import Work

__all__ = ["Build", "begin", "begin_here", "main", "rebuild"]


# A build that has something to run does not join the one that runs, but waits for its end: seconds.
PATIENCE = 7200.0


# How long to wait for the lock before looking whose build holds it: seconds.
MOMENT = 0.2


def rebuild(wait: bool = True, quick: bool = False, *, workload: object = None, **keywords: Any) -> Build:
    """Build an image of what this environment's processes have recorded, for the next Python process.

    Layers come first: after seconds, programs that were recorded start on those, until the image is there.

    The build is a process of its own and goes on if this one ends. If a build of this environment runs
    already, that one is joined; with a workload, the build begins when that one has ended.

    Args:
        wait: return when the build has ended; False returns at once.
        quick: build layers only.
        workload: what to run, in a fresh process, and record before the image is built: a function (without
            arguments), the path of a Python or Julia script, a module, Julia code, a `Workload`, or a list of
            these. It is run again on the new image, and the image built again, until a run compiles nothing
            more that an image can hold. One that fails is a note in the build's state.
        keywords: any field of `pyjl_autoimage.base.settings.Settings`; the environment wins over them.

    Returns:
        The handle of the build.

    Raises:
        BuildError: (with `wait`) it failed; the message holds its last lines and the log's place.
        JuliaNotFoundError: there is no usable Julia, or its project cannot be set up.
        SettingsError: a setting has an unknown name or a bad value.
        StoreError: the store cannot be written.
        WorkloadError: there is no such script or module, or the function cannot be carried to a fresh process.
    """
    to_run = [] if workload is None else workloads.tasks(workload)
    handle = begin_here(keywords, to_run, Caller.here(with_path=True), quick=quick)
    if wait:
        handle.wait()
    return handle


def begin_here(keywords: Mapping[str, Any], to_run: Sequence[Task], caller: Caller, *, quick: bool = False) -> Build:
    """Start, or join, a build of this process's own environment.

    Raises:
        JuliaNotFoundError: there is no usable Julia, or its project cannot be set up.
        SettingsError: a setting has an unknown name or a bad value.
        StoreError: the store cannot be written.
    """
    settled = settings.settle(keywords)
    options = user_options()
    environment = locate(options, outdated=True)
    return begin(environment, settled, code_flags(options), to_run, caller, quick=quick)


class _Detached(subprocess.Popen[bytes]):
    """A process that goes on when nobody holds its handle any more: nothing to be warned of."""

    def __del__(self) -> None:
        super().__del__(_warn=lambda *_, **__: None)  # type: ignore[call-arg]


def begin(
    environment: Environment,
    settled: Settings,
    flags: Mapping[str, str],
    to_run: Sequence[Task] = (),
    caller: Caller | None = None,
    *,
    quick: bool = False,
) -> Build:
    """Start the build process of an environment, or join the one that runs.

    Args:
        environment: what the image is for.
        settled: settings of the build.
        flags: code generation flags, where nothing has been recorded that says others.
        to_run: workloads. With any, no build is joined: this one begins when the other has ended.
        caller: what their processes take over.
        quick: build layers only.

    Raises:
        BuildError: this program is not run by a Python that could run another one (it is frozen).
        StoreError: the store cannot be written, or has no room for what a build makes.
    """
    interpreter = python_itself()
    if interpreter is None:
        raise BuildError(
            f"{sys.executable} is a program of its own, and no Python that could build for it; build with the Python "
            "that it was made with: `python -m pyjl_autoimage build`"
        )
    store = Store(settled.home)
    last = State.read(store, environment.id)
    if last is not None and last.state == "running" and not to_run:
        return Build(store, environment.id, last.token, None)
    store.ensure(store.environment(environment.id))
    check_disk(store, history.read(store, environment.id), quick=quick)
    token = os.urandom(8).hex()
    request = {
        "token": token,
        "after": last.token if last is not None else None,
        "home": store.home,
        "environment": asdict(environment),
        "settings": {k: v for k, v in asdict(settled).items() if k != "origins"},
        "flags": dict(flags),
        "quick": quick,
        "tasks": [asdict(task) for task in to_run],
        "caller": asdict(caller or Caller.here(with_path=False)),
    }
    log = store.build_log(environment.id)
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags_of_process = subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        detached = {"creationflags": flags_of_process | subprocess.CREATE_NEW_PROCESS_GROUP}
    with create_text(f"{log}.err") as errors:
        process = _Detached(
            [interpreter, "-m", "pyjl_autoimage", "_build"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=store.environment(environment.id),
            env={**os.environ, "PYTHONPATH": python_path()},
            **detached,
        )
    assert process.stdin is not None
    try:
        with process.stdin as pipe:  # an argument could not be as long as a function can be
            pipe.write(json.dumps(request).encode())
    except OSError:
        pass  # it has ended already; the handle tells why
    return Build(store, environment.id, token, process)


def main(request: str) -> int:
    """What ``python -m pyjl_autoimage _build`` does with a request: hold the lock, build, write how it ended."""
    asked = json.loads(request)
    store = Store(asked["home"])
    environment = Environment(**asked["environment"])
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in asked["settings"].items()}
    settled = Settings(**values)
    if hasattr(os, "nice"):
        os.nice(10)
    stopped = threading.Event()

    def cancelled(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stopped.set()  # what is raised may be lost: in a finalizer, say
        raise _Cancelled

    cancellation = store.cancellation(environment.id, asked["token"])
    try:
        signal.signal(signal.SIGTERM, cancelled)
        if sys.platform == "win32":
            end_with_this_process()
        threading.Thread(target=_obey, args=(cancellation,), daemon=True).start()
        return _build_or_join(store, environment, settled, asked, stopped)
    except _Cancelled:
        return handle.CANCELLED_BEFORE
    except (AutoimageError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _build_or_join(
    store: Store, environment: Environment, settled: Settings, asked: Mapping[str, Any], stopped: threading.Event
) -> int:
    """Build, unless a build has begun since this one was asked for: that one is joined, even if it has ended.

    A build that has workloads to run waits for the end of the other instead.

    Raises:
        BuildError: something else holds the lock of this environment's builds.
    """

    def another() -> bool:
        last = State.read(store, environment.id)
        return not asked["tasks"] and last is not None and last.token != asked["after"]

    path = store.build_lock(environment.id)
    give_up = time.monotonic() + (PATIENCE if asked["tasks"] else 50 * MOMENT)
    while time.monotonic() < give_up:
        if stopped.is_set():
            raise _Cancelled
        store.ensure(os.path.dirname(path))  # `clean --all` may just have removed it
        try:
            with lock(path, MOMENT):
                if not os.path.exists(path):
                    continue  # it was removed while this process opened it: nobody sees that lock
                return handle.JOINED if another() else _locked_build(store, environment, settled, asked, stopped)
        except TimeoutError:
            if another():  # otherwise the one that holds the lock has yet to write its state
                return handle.JOINED
    raise BuildError(f"another process holds {path}, and does not build")


def _obey(cancellation: str) -> None:
    """Stop when somebody asks for it: by a file, since a pid may be anybody's, on this host and on others."""
    while not os.path.exists(cancellation):
        time.sleep(0.2)
    discard(cancellation)
    interrupt_main(signal.SIGTERM)


class _Cancelled(BaseException):
    """Somebody asked the build to stop."""


def _locked_build(
    store: Store, environment: Environment, settled: Settings, asked: Mapping[str, Any], stopped: threading.Event
) -> int:
    last = State.read(store, environment.id, alone=True)
    state = State(asked["token"], mark_name(), started=time.time(), phase_started=time.time())
    state.learn(last)
    state.quick = bool(asked["quick"])
    if last is not None:
        history.note(store, environment.id, last)  # one that was killed could not do it itself
    directory = os.path.join(store.build_directory(environment.id), state.token)
    with create_text(store.build_log(environment.id)) as log:
        to_run, caller = [Task.from_json(task) for task in asked["tasks"]], Caller.from_json(asked["caller"])
        work = Work(store, environment, settled, dict(asked["flags"]), to_run, caller, directory, state, log)
        work.stopped = stopped
        outcome, error = _outcome(work)
        if stopped.is_set() and outcome == "failed":  # it was told to stop, or what it ran was ended
            outcome, error = "cancelled", "the build was cancelled"
        state.conclude(store, outcome, error)
        for image in store.all_images():
            if image.id == state.image:
                state.bytes, state.packages, state.statements = image.bytes, len(image.packages), image.statements
        work.say(f"{state.state}: {state.image or state.error or 'layers only'}")
        state.leave()
        state.finished = time.time()
        shutil.rmtree(store.build_directory(environment.id), ignore_errors=True)
        history.note(store, environment.id, state)
        state.write(store, environment.id)
    return 0 if state.state == "done" else 1


def _outcome(work: Work) -> tuple[str, str]:
    """Build; what came of it, and the error. From then on nobody can cancel it any more: it says how it has ended."""
    try:
        try:
            # Before all that takes time: whoever asks for a build must see that one runs.
            work.state.write(work.store, work.environment.id)
            # What killed builds left: in this environment, and layers.
            remove_debris(work.store)
            shutil.rmtree(work.store.build_directory(work.environment.id), ignore_errors=True)
            quick = work.state.quick
            train.train(work, lambda: build(work, quick=quick), once=quick)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except (_Cancelled, AutoimageError) as failure:
        return "failed", str(failure)
    except OSError as failure:
        return "failed", f"{failure.strerror or failure}: {failure.filename or ''}".rstrip(": ")
    except Exception as failure:
        import traceback

        traceback.print_exc(file=work.log)
        return "failed", f"{type(failure).__name__}: {failure}"
    return "done", ""
