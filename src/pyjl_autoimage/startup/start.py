"""Start-up, top to bottom: the plan, image and layer, recording, hand-over to juliacall.

A plan that was made before holds until something that it depends on changes (`pyjl_autoimage.startup.plan`); then it
is made anew (`pyjl_autoimage.startup.decide`).
"""

from __future__ import annotations

import os
import sys
import time

from ..base import call
from ..base.layout import Layout
from ..base.liveness import mark_name
from . import guard, recording
from .options import Options, encodes, user_option
from .plan import Plan, quick_home, recall
from .plan import question as ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    from ..store.places import Store

__all__ = ["running", "session", "start_up"]

SWEEPS = 64
"""One start in so many removes what nobody needs any more, for so many seconds at most:"""
SWEEP_SECONDS = 0.05


class Session:
    """What became of start-up in this process."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.recording: recording.Recording | None = None
        self.use: str | None = None
        """The mark that this process uses its image."""
        self.marks: Layout | None = None
        """Where the mark of the start goes: the store, or where that cannot be written, aside."""
        self.on_image = False
        self.handing_over = False
        self.tracing = False
        self.notes: list[str] = []
        self.began: float = 0.0
        self.code: list[tuple[str, str, dict[str, str], bool]] = []
        """Own code that comes compiled: module, uuid, its files as they were then, and whether it is in the layer."""
        self.modules: dict[str, tuple[dict[str, str], Any]] = {}
        """The modules that `include` and `define` gave out, with the files as they were then."""
        self.evaluator: Any = None
        """The Julia module that evaluates code (`julia/code.jl`), once it was needed."""


session: Session = Session()


def running() -> Any:
    """The module juliacall if its Julia is up, else None. Being in sys.modules is not enough."""
    juliacall = sys.modules.get("juliacall")
    config = getattr(juliacall, "CONFIG", {})
    # Inside Julia's own workers juliacall is imported with init=no, by a Julia that already runs.
    up = config.get("inited") or (config.get("init") is False and hasattr(juliacall, "Main"))
    return juliacall if up else None


def _report() -> None:
    """Say what was out of the ordinary, for who listens: the logger, and `status`."""
    if session.notes:
        import logging

        for note in session.notes:
            logging.getLogger("pyjl_autoimage").info(note)
    if "ipykernel" in sys.modules:
        from . import ending

        ending.in_notebook(session.plan, session.recording)


def start_up(execute: Callable[[], None], juliacall: ModuleType, settings: Mapping[str, Any] | None) -> None:
    """Start-up around an ``import juliacall`` (see `pyjl_autoimage.startup.door`).

    Only the first one is a start of ours; those in Julia's own workers are plain, and so is one that comes after a
    Julia that somebody else has started.

    Args:
        execute: lets juliacall be executed.
        juliacall: the module that it fills.
        settings: of who called `start`; None for anybody else's import.

    Raises:
        SettingsError: (with `settings`) one has an unknown name or a bad value.
        Exception: whatever juliacall raises.
    """
    if session.plan is not None:
        # A reload, or another attempt. Julia parses its options again, from where `getopt` stopped in the first
        # list (`src/jloptions.c` does not reset `optind`): a shorter list is a crash.
        with _options(session.plan):
            execute()
    elif running() is not None or user_option("init") == "no":
        execute()
    else:
        plan = _prepared(settings)
        try:
            _hand_over(plan, execute)
        except BaseException:
            _forget(juliacall)
            raise
        _settle(juliacall)


def _prepared(settings: Mapping[str, Any] | None) -> Plan:
    """The plan, with all that belongs to it; a plain one if anything of ours goes wrong."""
    try:
        return prepare(settings or {})
    except Exception as error:
        _forget(None)
        from ..errors import SettingsError, SetUpError

        if isinstance(error, SetUpError) or (settings is not None and isinstance(error, SettingsError)):
            raise
        _keep(error)
        session.plan = Plan(home="", enabled=False, notes=[f"plain start: {error}"])
        session.notes = session.plan.notes
        return session.plan


def _hand_over(plan: Plan, execute: Callable[[], None]) -> None:
    """Let juliacall start Julia with our options, on the image if there is one."""
    with _guarded(plan), _options(plan) as options:
        session.handing_over = True
        try:
            execute()
        except ValueError:
            # juliacall's own words for a path that does not exist; nothing has been started yet.
            if plan.image_path is None or os.path.exists(plan.image_path):
                raise
            options.drop("sysimage")
            _go_without_image(plan)
            execute()
        finally:
            session.handing_over = False


def _settle(juliacall: ModuleType) -> None:
    """What became of the start, as juliacall was really given it; then recording and layer."""
    try:
        plan = session.plan
        if plan is None or running() is not juliacall:
            return
        session.on_image = plan.image is not None and juliacall.CONFIG.get("opt_sysimage") == plan.image_path
        if plan.image is not None and not session.on_image:
            _go_without_image(plan)
        finish(juliacall)
        _report()
    except Exception as error:  # Julia runs: nothing that is ours may end the program now
        _keep(error)


def _keep(error: Exception) -> None:
    from .trouble import keep

    keep(error)


def _forget(juliacall: ModuleType | None) -> None:
    """A start that failed before Julia was loaded: the next ``import juliacall`` is another first one."""
    if getattr(juliacall, "CONFIG", {}).get("lib") is None:
        if session.recording is not None:
            session.recording.discard()
        session.plan = session.recording = None
        session.code, session.notes = [], []


def prepare(settings: Mapping[str, Any]) -> Plan:
    """Everything before juliacall is imported: the plan, and files to record into."""
    session.began = time.perf_counter()
    plan = plan_for(settings)
    session.plan = plan
    session.notes = plan.notes
    if plan.image is not None:
        _take_image(plan)
    if plan.layer is not None:
        _take_layer(plan)
    session.code = plan.code
    if plan.record and plan.environment is not None:
        directory = Layout(plan.home).recordings(plan.environment)
        image = plan.image or plan.theirs
        if encodes(directory):
            session.recording = recording.create(directory, image=image, layer=plan.layer, flags=plan.flags)
    if session.recording is not None or session.use is not None:
        _look_at_exit(settings)
    return plan


def _is_interactive() -> bool:
    return hasattr(sys, "ps1") or sys.flags.interactive != 0


def _look_at_exit(settings: Mapping[str, Any]) -> None:
    """What this run leaves, and whether a build would pay, is seen when Julia has ended: this runs after it."""
    import atexit

    process = os.getpid()

    def look() -> None:
        try:
            if os.getpid() == process:  # not a fork of it
                from . import ending

                if session.plan is not None and (session.plan.auto or _is_interactive()):
                    ending.at_exit(session.plan, session.recording, settings)
                ending.leave(session.use, session.recording, on_image=session.on_image)
        except Exception:
            pass  # whatever it is, not at the cost of a program's end

    atexit.register(look)


def _guarded(plan: Plan) -> guard.Guard:
    """What stands while Julia loads the image, if there is one."""
    # Where Julia handles signals, our watching them would be in the way.
    watch = user_option("handle_signals") in (None, "no")
    key = f"{plan.image}-{plan.environment}" if plan.image and plan.shared else plan.image
    return guard.Guard((session.marks or Layout(plan.home)).booting, key, watch=watch)


def _take_image(plan: Plan) -> None:
    """Mark the image as used and look at it once more: it may have been removed since it was chosen."""
    assert plan.image is not None
    store = Layout(plan.home)
    session.use = store.mark_use(plan.image)
    session.marks = store if session.use else _all_of(store).aside(make=True)
    aside = session.marks is not store
    if _judge(store) or (aside and _all_of(store).condemned(plan.image, plan.environment or "")):
        _go_without_image(plan)
        return
    problem = None if plan.trusted else store.distrust(*plan.image_files)
    if plan.image_path is not None and not encodes(plan.image_path):
        problem = "its path is no UTF-8, which juliacall needs"
    try:
        if any(os.stat(path).st_size != size for path, size in plan.image_files.items()):
            problem = "it has changed"
    except OSError:
        problem = "it is gone"
    if problem:
        session.notes.append(f"plain start: image {plan.image} cannot be used: {problem}")
        _go_without_image(plan)


def _go_without_image(plan: Plan) -> None:
    """Nor with a layer: it was precompiled for that image."""
    plan.image = plan.image_path = plan.layer = plan.layer_path = None
    plan.code = []


def _take_layer(plan: Plan) -> None:
    """Look at the layer once more: loading from it runs code."""

    assert plan.layer is not None and plan.layer_path is not None
    problem = Layout(plan.home).distrust(plan.layer_path)
    if problem:
        session.notes.append(f"layer {plan.layer} is not used: {problem}")
        plan.layer = plan.layer_path = None
        plan.code = [code for code in plan.code if not code[3]]


def _all_of(store: Layout) -> Store:
    from ..store.places import Store

    return Store(store.home)


def _judge(own: Layout) -> bool:
    """Condemn the images that earlier starts died of; whether there were any. Then this start is a plain one."""
    guilty = False
    places = [own] if session.marks in (own, None) else [own, session.marks]
    for key, why in (verdict for place in places for verdict in guard.verdicts(place.booting)):
        store, image_id = _all_of(own), key.partition("-")[0]
        if store.condemned(*key.split("-")):
            continue  # the mark is another user's, who has not seen it yet
        guilty = True
        store.condemn(key, why)
        import warnings

        message = (
            f"system image {image_id} is not used any more: {why}. This start is a plain one; "
            f"`python -m pyjl_autoimage restore {image_id}` takes the image back, `build` makes a new one."
        )
        session.notes.append(message)
        try:
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        except RuntimeWarning:
            pass  # warnings have been made errors
    return guilty


def finish(juliacall: ModuleType) -> None:
    """Everything after juliacall is up: noting the packages that this process loads, and the layer."""
    plan = session.plan
    if session.recording is not None:
        _record(juliacall, session.recording)
    elif plan is not None and plan.enabled and not session.on_image:  # an image has it for good
        call.compile_callers_once(juliacall)
    if plan is not None and plan.layer is not None and not call.use_layer(juliacall, plan.layer_use):
        session.notes.append(f"layer {plan.layer} is not used: Julia could not set it up")
        session.code = [code for code in session.code if not code[3]]
    if plan is not None and (session.recording or session.use) and int(mark_name()[-2:], 16) % SWEEPS == 0:
        _sweep(Layout(plan.home))


def _sweep(store: Layout) -> None:
    from ..store.sweep import sweep

    try:
        sweep(_all_of(store), SWEEP_SECONDS)
    except Exception:
        pass  # another start's turn


def _record(juliacall: ModuleType, own: recording.Recording) -> None:
    own.note(f"ready {time.perf_counter() - session.began:.4f}")
    session.tracing = juliacall.CONFIG.get("opt_trace_compile") == own.trace
    if session.tracing:
        recording.open_trace(juliacall, own)
    if not session.tracing or not recording.attach_packages(juliacall, own):
        session.notes.append("the packages that this process loads are not recorded")


def load_from_layer(name: str, uuid: str) -> bool:
    """Load a package of the layer from its cache; False if Julia finds that stale, or this thread must not."""
    juliacall = running()
    return juliacall is not None and call.may_load_caches(juliacall) and call.load_from_layer(juliacall, name, uuid)


def _options(plan: Plan) -> Options:
    return Options(plan, session.recording.trace if session.recording else None)


# -- which plan ----------------------------------------------------------------------------------------


def plan_for(settings: Mapping[str, Any]) -> Plan:
    """The remembered plan while it holds, else a new one."""
    question, plan = None, None
    why: list[str] = []
    try:
        question = ask(settings)
        plan = recall(Layout(quick_home(settings)), question, why)
    except Exception as error:  # the current directory is gone, sys.path holds strange things
        why.append(str(error))
    return plan if plan is not None else _decide(settings, question, *why)


def _decide(settings: Mapping[str, Any], question: str | None, why: str) -> Plan:
    """The slow way."""
    from .decide import decide

    return decide(settings, question, why)
