"""Start-up, top to bottom: settings, environment, image, hand-over to juliacall, recording.

This is the one place that knows juliacall's option names. They are set in ``sys._xoptions``, which no child
process inherits, and taken back as soon as juliacall has read them.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import RLock

from . import guard, launch, recording
from .launch import Plan
from .processes import program_name, script_directory
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType
    from typing import Any

    from .environment import Environment
    from .image import BakedPackage, Image, Situation
    from .launch import Witnesses
    from .layer import Layer
    from .settings import Settings

__all__ = ["attach", "detach", "session", "start"]

lock: RLock = RLock()


class Session:
    """What became of start-up in this process."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.recording: recording.Recording | None = None
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


def start(**settings: Any) -> Any:
    """Start Julia on the newest valid image, or as plain ``import juliacall`` would, and return its Main.

    A second call returns the running Julia.

    Args:
        settings: any field of `pyjl_autoimage.settings.Settings`; the environment wins over them.

    Returns:
        ``juliacall.Main``, the very same object.

    Raises:
        SettingsError: a setting has an unknown name or a bad value.
        Exception: whatever ``import juliacall`` raises where Julia cannot start.
    """
    with lock:
        juliacall = running()
        if juliacall is None:
            juliacall = _start(settings)
        elif session.plan is None:
            _already_running(settings)
        return juliacall.Main


def running() -> Any:
    """The module juliacall if its Julia is up, else None. Being in sys.modules is not enough."""
    juliacall = sys.modules.get("juliacall")
    config = getattr(juliacall, "CONFIG", {})
    # Inside Julia's own workers juliacall is imported with init=no, by a Julia that already runs.
    up = config.get("inited") or (config.get("init") is False and hasattr(juliacall, "Main"))
    return juliacall if up else None


def _start(settings: Mapping[str, Any]) -> ModuleType:
    plan = prepare(settings)

    def import_juliacall() -> None:
        import juliacall  # noqa: F401

    _hand_over(plan, import_juliacall)
    juliacall = sys.modules["juliacall"]
    finish(juliacall)
    _report()
    return juliacall


def _report() -> None:
    """Say what was out of the ordinary, for who listens: the logger, and `status`."""
    if session.notes:
        import logging

        for note in session.notes:
            logging.getLogger("pyjl_autoimage").info(note)
    if "ipykernel" in sys.modules:
        from . import automatic

        automatic.in_notebook(session)


def start_while(execute: Callable[[], None], juliacall: ModuleType) -> None:
    """Start-up around somebody else's ``import juliacall`` (see `pyjl_autoimage.hook`).

    Only the first one is a start of ours; those in Julia's own workers are plain, and so is one that comes after a
    Julia that somebody else has started.
    """
    while not lock.acquire(timeout=0.01):
        # We hold Python's lock of this import, and a thread in `start` may be waiting for it with ours held.
        if session.handing_over:
            execute()  # for that thread, with everything as it has set it up
            return
    try:
        theirs = session.plan is None and running() is not None
        if session.handing_over or theirs or user_options().get("init") == "no":
            execute()
            return
        if session.plan is not None:
            # A reload, or another attempt. Julia parses its options again, from where `getopt` stopped in the first
            # list (`src/jloptions.c` does not reset `optind`): a shorter list is a crash.
            with _Options(session.plan):
                execute()
            return
        plan = prepare({})
        try:
            _hand_over(plan, execute)
        except BaseException:
            _forget(juliacall)
            raise
        if running() is juliacall:
            finish(juliacall)
        _report()
    finally:
        lock.release()


def _forget(juliacall: ModuleType) -> None:
    """A start that failed before Julia was loaded: the next ``import juliacall`` is another first one."""
    if getattr(juliacall, "CONFIG", {}).get("lib") is None:
        if session.recording is not None:
            session.recording.discard()
        session.plan = session.recording = None
        session.code = []


def prepare(settings: Mapping[str, Any]) -> Plan:
    """Everything before juliacall is imported: the plan, and files to record into."""
    session.began = time.perf_counter()
    plan = _plan(settings)
    session.plan = plan
    session.notes = plan.notes
    if plan.image is not None:
        _take_image(plan)
    if plan.layer is not None:
        _take_layer(plan)
    session.code = plan.code
    if plan.record and plan.environment is not None:
        directory = Store(plan.home).recordings(plan.environment)
        session.recording = recording.create(directory, image=plan.image, layer=plan.layer, flags=plan.flags)
        if plan.auto or _is_interactive():
            _look_at_exit(settings)
    return plan


def _is_interactive() -> bool:
    return hasattr(sys, "ps1") or sys.flags.interactive != 0


def _look_at_exit(settings: Mapping[str, Any]) -> None:
    """Whether a build would pay is seen when Julia has ended: what is registered before it runs after it."""
    import atexit

    process = os.getpid()

    def look() -> None:
        try:
            if os.getpid() == process:  # not a fork of it
                from . import automatic

                automatic.at_exit(session, settings)
        except Exception:
            pass  # whatever it is, not at the cost of a program's end

    atexit.register(look)


def _guarded(plan: Plan) -> guard.Guard:
    """What stands while Julia loads the image, if there is one."""
    # Where Julia handles signals, our watching them would be in the way.
    watch = user_options().get("handle_signals", "no") == "no"
    return guard.Guard(Store(plan.home).booting, plan.image, watch=watch)


def _take_image(plan: Plan) -> None:
    """Mark the image as used and look at it once more: it may have been removed since it was chosen."""
    assert plan.image is not None and plan.image_path is not None
    store = Store(plan.home)
    if _judge(store):
        _go_without_image(plan)
        return
    store.mark_use(plan.image)
    problem = None if plan.trusted else store.distrust(plan.image_path)
    try:
        if os.stat(plan.image_path).st_size != plan.image_bytes:
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
    problem = Store(plan.home).distrust(plan.layer_path)
    if problem:
        session.notes.append(f"layer {plan.layer} is not used: {problem}")
        plan.layer = plan.layer_path = None
        plan.code = [code for code in plan.code if not code[3]]


def _judge(store: Store) -> bool:
    """Condemn the images that earlier starts died of; whether there were any. Then this start is a plain one."""
    guilty = list(guard.verdicts(store.booting))
    for image_id, why in guilty:
        store.condemn(image_id, why)
        import warnings

        message = (
            f"system image {image_id} is not used any more: {why}. This start is a plain one; "
            f"`python -m pyjl_autoimage restore {image_id}` takes the image back, `build` makes a new one."
        )
        session.notes.append(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return bool(guilty)


def finish(juliacall: ModuleType) -> None:
    """Everything after juliacall is up: noting the packages that this process loads, and the layer."""
    _record(juliacall)
    plan = session.plan
    if plan is not None and plan.layer is not None and not recording.use_layer(juliacall, plan.layer_use):
        session.notes.append(f"layer {plan.layer} is not used: Julia could not set it up")
        session.code = [code for code in session.code if not code[3]]


def _record(juliacall: ModuleType) -> None:
    if session.recording is None:
        return
    session.recording.note(f"ready {time.perf_counter() - session.began:.4f}")
    session.tracing = juliacall.CONFIG.get("opt_trace_compile") == session.recording.trace
    if session.tracing:
        recording.open_trace(juliacall, session.recording)
    if not session.tracing or not recording.attach_packages(juliacall, session.recording):
        session.notes.append("the packages that this process loads are not recorded")


def load_from_layer(name: str, uuid: str) -> bool:
    """Load a package of the layer from its cache; False if Julia finds that stale."""
    juliacall = running()
    return juliacall is not None and recording.load_from_layer(juliacall, name, uuid)


def _hand_over(plan: Plan, execute: Callable[[], None]) -> None:
    """Let juliacall start Julia with our options, on the image if there is one."""
    with _guarded(plan), _Options(plan) as options:
        session.handing_over = True
        try:
            execute()
        except ValueError:
            # juliacall's own words for a path that does not exist; nothing has been started yet.
            if plan.image_path is None or os.path.exists(plan.image_path):
                raise
            options.drop("sysimage")
            _go_without_image(plan)
            session.code = plan.code
            execute()
        finally:
            session.handing_over = False
    session.on_image = plan.image is not None


class _Options:
    """juliacall's options for this process alone: set on entry, taken back on exit.

    So is JULIA_DEPOT_PATH, which Julia reads as it starts: our depots go behind the user's own.
    """

    def __init__(self, plan: Plan) -> None:
        self.values: dict[str, str] = {}
        self._depots = os.environ.get("JULIA_DEPOT_PATH")
        above = [os.path.dirname(plan.image_path)] if plan.image_path else []
        above += [plan.layer_path] if plan.layer_path else []
        self._ours = [os.path.join(directory, "depot") for directory in above]
        if not plan.enabled or plan.executable is None or plan.project is None:
            return
        given = user_options()
        wanted: dict[str, str | None] = {
            "exe": plan.executable,
            "project": plan.project,
            "lib": plan.libjulia,
            "home": plan.bindir,
            "sysimage": plan.image_path,
            "trace-compile": session.recording.trace if session.recording else None,
        }
        if given.get("threads", os.environ.get("JULIA_NUM_THREADS", "1")) == "1":
            # What juliacall does anyway when nothing is set. Left unset, it asks Julia for the number of
            # threads, in order to warn when there are several; compiling that question takes a moment.
            wanted["handle-signals"] = "no"
        for name, value in wanted.items():
            if value is not None and name.replace("-", "_") not in given:
                self.values[f"juliacall-{name}"] = value

    def drop(self, name: str) -> None:
        """Take one option back early."""
        if self.values.pop(f"juliacall-{name}", None) is not None:
            sys._xoptions.pop(f"juliacall-{name}", None)

    def __enter__(self) -> _Options:
        sys._xoptions.update(self.values)
        ours = [depot for depot in self._ours if os.path.isdir(depot)]
        if ours:
            # An empty entry stands for Julia's default depots (`base/initdefs.jl`, `init_depot_path`); an empty
            # variable means no depot at all.
            before = [] if self._depots == "" else [self._depots or ""]
            os.environ["JULIA_DEPOT_PATH"] = os.pathsep.join([*before, *ours])
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.values:
            sys._xoptions.pop(name, None)
        if self._depots is not None:
            os.environ["JULIA_DEPOT_PATH"] = self._depots
        elif self._ours:
            os.environ.pop("JULIA_DEPOT_PATH", None)


_ENVIRONMENT_NAMES = {"home": "PYTHON_JULIACALL_BINDIR"}
_OPTION_NAMES = (
    "exe",
    "project",
    "lib",
    "home",
    "init",
    "sysimage",
    "trace_compile",
    "handle_signals",
    "threads",
)
_FLAG_DEFAULTS = {
    "check_bounds": "auto",
    "compile": "yes",
    "inline": "yes",
    "min_optlevel": "0",
    "optimize": "2",
}
"""juliacall's options that change which code Julia generates, with Julia's defaults."""


def user_options() -> dict[str, str]:
    """What the user told juliacall, by -X or environment: options by juliacall's names."""
    found: dict[str, str] = {}
    for name in (*_OPTION_NAMES, *_FLAG_DEFAULTS):
        value: object = sys._xoptions.get(f"juliacall-{name.replace('_', '-')}")
        if value is None:
            value = os.environ.get(_ENVIRONMENT_NAMES.get(name, f"PYTHON_JULIACALL_{name.upper()}"))
        if value is not None:
            found[name] = value if isinstance(value, str) else ""  # -X without an argument: juliacall complains
    return found


def code_flags(options: Mapping[str, str]) -> dict[str, str]:
    """The code generation flags among juliacall's options that differ from Julia's defaults."""
    return {name: options[name] for name, default in _FLAG_DEFAULTS.items() if options.get(name, default) != default}


# -- which plan ----------------------------------------------------------------------------------------


def _plan(settings: Mapping[str, Any]) -> Plan:
    """The remembered plan while it holds, else a new one."""
    try:
        question = launch.question(settings)
        plan = launch.recall(Store(launch.quick_home(settings)), question)
    except Exception:  # the current directory is gone, sys.path holds strange things
        question, plan = None, None
    return plan if plan is not None else _decide(settings, question)


def _decide(settings: Mapping[str, Any], question: str | None) -> Plan:
    """The slow way: ask juliapkg, read the manifest, compare images; then remember the answer."""
    from .settings import settle

    settled = settle(settings)
    try:
        return _decide_with(settled, question)
    except Exception as error:
        # Whatever is wrong, the program starts as it would have without us; juliacall says what it has to.
        return Plan(home=settled.home or launch.quick_home({}), notes=[f"plain start: {error}"])


def _decide_with(settings: Settings, question: str | None) -> Plan:
    from .environment import juliaup_configuration, locate

    witnesses = launch.Witnesses()
    store = Store(settings.home)
    options = user_options()
    if not settings.enabled or options.get("init") == "no":
        return Plan(home=store.home, enabled=False, notes=["standing aside: plain juliacall"])
    environment = locate(options, check_bounds=options.get("check_bounds"))
    plan = Plan(
        home=store.home,
        environment=environment.id,
        executable=environment.executable,
        project=environment.project,
        libjulia=environment.libjulia,
        bindir=environment.bindir,
        flags=code_flags(options),
        record=settings.record,
        auto=settings.auto_rebuild,
    )
    if "trace_compile" in options:
        plan.record = False
        plan.notes.append("juliacall was told to trace elsewhere: this process records nothing")
    witnesses.files += (*_pyproject_candidates(), environment.executable, juliaup_configuration())
    witnesses.links.append(environment.executable)
    if environment.libjulia:
        witnesses.files.append(environment.libjulia)
    if environment.managed:
        witnesses.of_juliapkg(environment.project)
    if "sysimage" in options:
        plan.notes.append(f"the system image was chosen by the user: {options['sysimage']}")
    else:
        _choose(plan, environment, store, settings, witnesses)
    if question is not None and not environment.changes_with_directory():
        launch.remember(plan, question, witnesses)
    return plan


def _pyproject_candidates() -> Iterator[str]:
    """The file that settings came from, and every place nearer to the script where one could appear."""
    directory = script_directory()
    while True:
        candidate = os.path.join(directory, "pyproject.toml")
        yield candidate
        parent = os.path.dirname(directory)
        if os.path.isfile(candidate) or parent == directory:
            return
        directory = parent


def _choose(plan: Plan, environment: Environment, store: Store, settings: Settings, witnesses: Witnesses) -> None:
    """Put the newest valid image, and the newest layer for it, into the plan; note what this depends on."""
    trusted = settings.trusted_stores
    witnesses.files += (store.images, store.layers, store.condemnations, *(Store(home).images for home in trusted))
    images = images_of(environment, store, trusted)
    layers = layers_of(environment, store, program_name())
    if not images and not layers:
        return
    situation = situation_of(environment, store, plan.flags)
    _witness_situation(situation, witnesses)
    image = _newest_valid(images, store, situation, trusted, witnesses)
    if image is not None:
        plan.image, plan.image_path, plan.image_bytes = image.id, image.path, image.bytes
        plan.trusted = _is_below(image.path, trusted)
        plan.code = [(code.name, code.uuid, dict(code.files), False) for code in image.code]
    for layer in layers:
        witnesses.files.append(os.path.join(layer.path, "layer.json"))
        _witness_packages(layer.packages, witnesses)
        if not reasons_against_layer(layer, plan.image, situation, store):
            plan.layer, plan.layer_path = layer.id, layer.path
            plan.layer_use = layer.description("start" if settings.preload else "use")
            plan.code += [(code.name, code.uuid, dict(code.files), True) for code in layer.code]
            return


def valid_image(
    environment: Environment, store: Store, situation: Situation, trusted: Sequence[str] = ()
) -> Image | None:
    """The newest image that is valid now; None if there is none."""
    return _newest_valid(images_of(environment, store, trusted), store, situation, trusted)


def _newest_valid(
    images: Sequence[Image],
    store: Store,
    situation: Situation,
    trusted: Sequence[str],
    witnesses: Witnesses | None = None,
) -> Image | None:
    """The first valid image. Whatever becomes of those behind it is nothing to witness."""
    suspicious = any(store.condemned(image.id) for image in images)
    for image in images:
        if witnesses is not None:
            witnesses.files.append(image.path)
            _witness_packages(image.packages, witnesses)
        if not reasons_against(image, situation, store, trusted=trusted, thorough=suspicious):
            return image
    return None


def layers_of(environment: Environment, store: Store, program: str) -> list[Layer]:
    """The layers of a program, newest first."""
    return [i for i in store.all_layers() if i.environment == environment.id and i.program == program]


def reasons_against_layer(layer: Layer, image: str | None, situation: Situation, store: Store) -> list[str]:
    """Why a layer must not be used by a start on this image (None: on Julia's own); empty when it may."""
    from .image import mismatches

    distrusted = store.distrust(layer.path)
    reasons = [f"not trusted: {distrusted}"] if distrusted else []
    if layer.image != image:
        reasons.append(f"precompiled for {f'image {layer.image}' if layer.image else 'Julia without an image'}")
    return [*reasons, *mismatches(layer, situation)]


def images_of(environment: Environment, store: Store, trusted: Sequence[str] = ()) -> list[Image]:
    """The images of an environment, the user's own and those of trusted stores, newest first."""
    stores = [store, *(type(store)(home) for home in trusted)]
    images = [i for place in stores for i in place.all_images() if i.environment == environment.id]
    return sorted(images, key=lambda image: image.built_at, reverse=True)


def _is_below(path: str, directories: Sequence[str]) -> bool:
    return any(path.startswith(os.path.join(directory, "")) for directory in directories)


def reasons_against(
    image: Image, situation: Situation, store: Store, *, trusted: Sequence[str] = (), thorough: bool = False
) -> list[str]:
    """Why an image of this environment is not valid now; empty when it is.

    Args:
        image: the image.
        situation: what it is compared with.
        store: the user's store (verdicts on images are kept there).
        trusted: stores whose images are not asked who could have written them.
        thorough: compare its checksum, too (a second for a few hundred megabytes).
    """
    from .image import mismatches

    condemned = store.condemned(image.id)
    distrusted = None if _is_below(image.path, trusted) else store.distrust(image.path)
    reasons = [f"condemned: {condemned}"] if condemned else []
    reasons += [f"not trusted: {distrusted}"] if distrusted else []
    return [*reasons, *store.damage(image, thorough=thorough), *mismatches(image, situation)]


def situation_of(environment: Environment, store: Store, flags: Mapping[str, str]) -> Situation:
    """What images are compared with.

    Raises:
        JuliaNotFoundError: the executable is no usable Julia.
        ManifestError: the project has no manifest, or a broken one.
    """
    from importlib.metadata import version

    from .environment import cpu_identity
    from .image import Situation

    return Situation.of(
        julia_facts(environment, store),
        environment.project,
        juliacall=version("juliacall"),
        flags=flags,
        cpu=cpu_identity(),
    )


def julia_facts(environment: Environment, store: Store, *, fresh: bool = False) -> Any:
    """What this environment's Julia says of itself: remembered until its files change, else asked again."""
    from .environment import JuliaFacts, juliaup_configuration, probe
    from .store import read_json, stat_notes, write_json

    path = store.facts(environment.id)
    variables = ("JULIA_DEPOT_PATH", "JULIA_LOAD_PATH", "HOME", "JULIAUP_CHANNEL")
    asked = [*(os.environ.get(name, "") for name in variables), os.path.realpath(environment.executable)]
    kept = None if fresh or environment.changes_with_directory() else read_json(path)
    if kept and kept.get("schema") == 1 and kept.get("asked") == asked:
        try:
            notes = kept["witnesses"]
            if stat_notes(note[0] for note in notes) == notes:
                return JuliaFacts.from_json(kept["facts"])
        except (KeyError, TypeError, ValueError, IndexError):
            pass
    facts = probe(environment)
    witnesses = stat_notes([environment.executable, juliaup_configuration(), facts.libjulia, facts.base_sysimage])
    try:
        store.ensure(store.environment(environment.id))
        write_json(path, {"schema": 1, "asked": asked, "witnesses": witnesses, "facts": facts.to_json()})
    except Exception:
        pass  # asked again next time
    return facts


def _witness_situation(situation: Situation, witnesses: Witnesses) -> None:
    """The files that the validity of any image or layer depends on."""
    from importlib.util import find_spec

    from .image import preference_projects
    from .manifest import manifest_names, preference_files

    facts = situation.facts
    files = witnesses.files
    files += [facts.libjulia, facts.base_sysimage, situation.manifest.path]
    directory = os.path.dirname(situation.manifest.path)
    files += [os.path.join(directory, name) for name in manifest_names(facts.version)]
    for project in preference_projects(situation.project, facts):
        files += preference_files(project)
    spec = find_spec("juliacall")
    if spec and spec.origin:
        files.append(spec.origin)


def _witness_packages(packages: Sequence[BakedPackage], witnesses: Witnesses) -> None:
    """The places and files that the packages of an image or a layer depend on."""
    from .manifest import source_files

    for package in packages:
        if package.source:
            # What is in it the manifest says. Where it is gone, it may be back.
            (witnesses.places if os.path.exists(package.source) else witnesses.files).append(package.source)
        if package.digest and package.path:
            sources = [os.path.join(package.path, relative) for relative, _ in source_files(package.path)]
            witnesses.files += [*sources, *{os.path.dirname(path) for path in sources}]


# -- a Julia that already runs -------------------------------------------------------------------------


def _already_running(settings: Mapping[str, Any]) -> None:
    import warnings

    session.plan = Plan(home=launch.quick_home(settings))
    message = (
        "juliacall was running before pyjl_autoimage started, so this process uses no image of ours. "
        "Import jl from pyjl_autoimage before anything imports juliacall, or run the program with "
        "`python -m pyjl_autoimage run`. pyjl_autoimage.attach() records what it compiles from now on."
    )
    session.notes.append("juliacall was already running")
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def attach(**settings: Any) -> bool:
    """Record what a Julia that is already up compiles from now on, and the packages it has loaded.

    Returns:
        True when this process is being recorded (also when it already was). False, with a warning that
        says why, when it cannot be.

    Raises:
        SettingsError: a setting has an unknown name or a bad value.
        RuntimeError: Julia is not running in this process yet.
    """
    import warnings

    with lock:
        juliacall = running()
        if juliacall is None:
            raise RuntimeError("Julia is not running yet; pyjl_autoimage.start() starts it and records")
        if session.tracing:
            return True
        problem = _attach(juliacall, settings)
        if problem:
            warnings.warn(f"this process is not recorded: {problem}", RuntimeWarning, stacklevel=2)
        return not problem


def _attach(juliacall: Any, settings: Mapping[str, Any]) -> str | None:
    from .environment import Environment
    from .settings import settle

    if juliacall.CONFIG.get("lib") is None:
        return "this Python was started by Julia"
    settled = settle(settings)
    if session.recording is None:
        config = juliacall.CONFIG
        environment = Environment(os.path.abspath(config["exepath"]), os.path.abspath(config["project"]))
        flags = {name: config.get(f"opt_{name}") for name in _FLAG_DEFAULTS}
        session.recording = recording.create(
            Store(settled.home).recordings(environment.id),
            image=config.get("opt_sysimage"),
            flags=code_flags({name: str(value) for name, value in flags.items() if value is not None}),
        )
        if session.recording is None:
            return f"{Store(settled.home).recordings(environment.id)} cannot be written"
    if not recording.attach_trace(juliacall, session.recording):
        session.recording.discard()
        session.recording = None
        return "this Julia already traces its compilations elsewhere (it opens its trace file once)"
    session.tracing = True
    if not recording.attach_packages(juliacall, session.recording):
        session.notes.append("the packages that this process loads are not recorded")
    return None


def detach() -> None:
    """Stop recording this process. What was recorded stays; `attach` goes on."""
    with lock:
        juliacall = running()
        if juliacall is not None and session.tracing and juliacall.CONFIG.get("lib") is not None:
            recording.detach_trace(juliacall)
            session.tracing = False
