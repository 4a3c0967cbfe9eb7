"""The first thing in a Python that `explain` starts: notes when each step of a start-up begins and ends.

It wraps what juliacall calls (the library, its start, what it evaluates) and Python's calls into Julia, and leaves
no other trace; see `explain/explain.py`, which starts it and reads what it notes. Python's `site` imports it
because its directory is the first of PYTHONPATH. It imports nothing that Python has not imported at its start.
"""

import marshal
import os
import sys
import time
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))

CALLS_WATCHED = 10_000
"""Calls into Julia that are looked at. A loop of millions shall not take twice its time for being watched."""
SHORT_NS = 500_000
"""A call that took less, and compiled nothing, is not noted."""


class _Observer:
    """What is noted, and the library that tells how much was compiled."""

    def __init__(self, directory: str) -> None:
        with open(os.path.join(directory, "request"), "rb") as file:
            self.asked: dict[str, Any] = marshal.loads(file.read())
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
        self.notes = os.open(os.path.join(directory, "notes"), flags, 0o600)
        self.process, self.thread = os.getpid(), get_ident()
        self.compiled: Callable[[], int] = lambda: 0
        self.asked_for_juliacall = 0
        self.asked_anew = False
        self.in_julia = False
        self.calls = 0

    def note(self, what: str, began: int, compiled: int = 0, label: str = "") -> None:
        """A line about what ended just now: when it began and ended, what was compiled before and by then (ns)."""
        if os.getpid() != self.process:  # a fork of it
            return
        label = " ".join(label.split())[:200]
        line = f"{what}\t{began}\t{time.perf_counter_ns()}\t{compiled}\t{self.compiled()}\t{label}\n"
        os.write(self.notes, line.encode("utf-8", "replace"))

    def timed(self, function: "Any", what: str) -> "_Timed":
        """The function, and each of its calls noted."""
        return _Timed(self, function, what)

    # -- Python ----------------------------------------------------------------------------------------

    def first(self, name: str, path: object = None, target: object = None) -> None:
        """Somebody looks for juliacall: with the hook in place, our work begins here."""
        if name == "juliacall" and not self.asked_for_juliacall:
            self.asked_for_juliacall = time.perf_counter_ns()

    def last(self, name: str, path: object = None, target: object = None) -> "Any":
        """Find juliacall and our own modules as the other finders do, and wrap their loaders."""
        if name not in ("juliacall", "pyjl_autoimage", "pyjl_autoimage.startup.start"):
            return None
        for finder in sys.meta_path:
            if getattr(finder, "pyjl_autoimage", None) or isinstance(finder, _Finder):
                continue
            find: Any = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(self, spec.loader, name)
                return spec
        return None

    def execute_juliacall(self, execute: "Callable[[], None]", module: "Any") -> None:
        """``import juliacall``, step by step."""
        runtime = sys.modules.get("pyjl_autoimage.startup.start")
        session = getattr(runtime, "session", None)
        recorded = None
        if session is not None and session.handing_over:
            asked = [int(session.began * 1e9), self.asked_for_juliacall]
            how = "which Julia, which image" + (": asked anew" if self.asked_anew else "")
            self.note("ours", min(moment for moment in asked if moment), 0, how)
            recorded = session.recording
            plan = session.plan
            self.note("plan", time.perf_counter_ns(), 0, f"{plan.image or '-'} {plan.layer or '-'}")
        began = time.perf_counter_ns()
        options = {"juliacall-trace-compile-timing": True} if self.asked["timed"] else {}
        if recorded is None:
            options["juliacall-trace-compile"] = self.asked["trace"]
        before = {name: sys._xoptions.get(name) for name in options}
        sys._xoptions.update(options)
        import ctypes

        opens = ctypes.PyDLL

        def open_library(name: "Any", *arguments: "Any", **keywords: "Any") -> "Any":
            if "libjulia" not in os.path.basename(str(name)):
                return opens(name, *arguments, **keywords)
            ctypes.PyDLL = opens  # type: ignore[misc]
            moment = time.perf_counter_ns()
            library = opens(name, *arguments, **keywords)
            self.note("libjulia", moment)
            # Its functions for its own use are in a library that it has loaded: everything is asked.
            self.watch(library, opens("libjulia-internal" if sys.platform == "win32" else None))
            return library

        ctypes.PyDLL = open_library  # type: ignore[misc, assignment]
        try:
            execute()
        finally:
            ctypes.PyDLL = opens  # type: ignore[misc]
            for name, value in before.items():
                if value is None:
                    sys._xoptions.pop(name, None)
                else:
                    sys._xoptions[name] = value
            self.note("juliacall", began)
        self.watch_calls(module)

    def watch_ourselves(self, runtime: "Any") -> None:
        """This run is no run of the program: it is not recorded as one, and no build comes of it."""
        create, finish, decide = runtime.recording.create, runtime.finish, runtime._decide

        def create_elsewhere(directory: str, **facts: "Any") -> "Any":
            return create(self.asked["recordings"], **facts)

        def timed_finish(juliacall: "Any") -> None:
            began, compiled = time.perf_counter_ns(), self.compiled()
            try:
                finish(juliacall)
            finally:
                self.note("ours", began, compiled, "recording and layer")

        def noted_decide(*arguments: "Any") -> "Any":
            self.asked_anew = True
            return decide(*arguments)

        def look_at_exit(settings: object) -> None:
            pass

        runtime.recording.create = create_elsewhere
        runtime.finish, runtime._decide = timed_finish, noted_decide
        runtime._look_at_exit = look_at_exit

    # -- Julia -----------------------------------------------------------------------------------------

    def watch(self, library: "Any", internal: "Any") -> None:
        """Switch on Julia's clock of compilation, and wrap what juliacall calls."""
        import ctypes

        try:
            internal["jl_cumulative_compile_timing_enable"]()
            clock = internal["jl_cumulative_compile_time_ns"]
            clock.restype = ctypes.c_uint64
            clock()
            self.compiled = clock
        except AttributeError:
            pass  # a Julia that has no such clock
        for name in ("jl_init_with_image__threading", "jl_init_with_image"):
            function = getattr(library, name, None)
            if function is not None:
                setattr(library, name, self.timed(function, "image"))
        library.jl_eval_string = self.timed(library.jl_eval_string, "evaluate")
        library.jl_atexit_hook = self.timed(library.jl_atexit_hook, "exit")
        self.libjulia = library

    def watch_packages(self) -> None:
        """Julia is up: let it note the packages that it loads from now on."""
        import ctypes

        evaluate = self.libjulia["jl_eval_string"]  # not the one that is wrapped
        evaluate.argtypes, evaluate.restype = [ctypes.c_char_p], ctypes.c_void_p
        began, compiled = time.perf_counter_ns(), self.compiled()
        evaluate(b"nothing")  # who evaluates first waits for Julia's parser: that would be juliacall
        self.note("evaluate", began, compiled, "juliacall")
        began, compiled = time.perf_counter_ns(), self.compiled()
        evaluate(self.asked["julia"].replace("PYTHON_CLOCK", str(time.perf_counter_ns())).encode())
        self.note("measuring", began, compiled)

    def watch_calls(self, juliacall: "Any") -> None:
        """Note Python's calls into Julia that last, or compile something."""
        kind = getattr(juliacall, "AnyValue", None)
        inner = getattr(kind, "_jl_callmethod", None)
        if kind is None or inner is None:
            return

        def call(value: "Any", *arguments: "Any") -> "Any":
            if self.in_julia or get_ident() != self.thread:
                return inner(value, *arguments)
            self.in_julia = True
            compiled, began = self.compiled(), time.perf_counter_ns()
            try:
                return inner(value, *arguments)
            finally:
                self.in_julia = False
                if self.compiled() != compiled or time.perf_counter_ns() - began > SHORT_NS:
                    caller = sys._getframe(1).f_code.co_name
                    code = arguments[-1] if isinstance(arguments[-1], str) else ""
                    self.note("call", began, compiled, code if caller == "seval" else f"{caller.strip('_')} {code}")
                self.calls += 1
                if self.calls == CALLS_WATCHED:
                    del kind._jl_callmethod

        kind._jl_callmethod = call


class _Timed:
    """A function of a C library, each of its calls noted. Its types are set as on the function itself."""

    if TYPE_CHECKING:
        _observer: _Observer
        _function: Any
        _what: str

    def __init__(self, observer: _Observer, function: "Any", what: str) -> None:
        self.__dict__.update(_observer=observer, _function=function, _what=what)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._function, name, value)

    def __call__(self, *arguments: "Any") -> "Any":
        observer, what = self._observer, self._what
        compiled, began = observer.compiled(), time.perf_counter_ns()
        if what == "exit":
            observer.note("exit", began, compiled)  # what comes behind it is not noted
        try:
            return self._function(*arguments)
        finally:
            if what == "image":
                observer.note(what, began, compiled)
                observer.watch_packages()
            elif what == "evaluate":
                observer.note(what, began, compiled, str(sys._getframe(1).f_globals.get("__name__")))


class _Loader:
    """A module's own loader; executing the module is noted."""

    def __init__(self, observer: _Observer, inner: "Any", name: str) -> None:
        self._observer = observer
        self._inner = inner
        self._name = name

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def create_module(self, spec: "Any") -> "Any":
        return self._inner.create_module(spec)

    def exec_module(self, module: "Any") -> None:
        module.__loader__ = module.__spec__.loader = self._inner
        if self._name == "juliacall":
            self._observer.execute_juliacall(lambda: self._inner.exec_module(module), module)
            return
        began = time.perf_counter_ns()
        self._inner.exec_module(module)
        if self._name == "pyjl_autoimage.startup.start":
            self._observer.watch_ourselves(module)
        self._observer.note("ours", began, 0, "import")


class _Finder:
    """A function of an observer, as ``sys.meta_path`` wants it."""

    def __init__(self, find: "Callable[..., Any]") -> None:
        self.find_spec = find


def _install() -> None:
    began = time.perf_counter_ns()
    observer = _Observer(os.environ.pop("_PYJL_AUTOIMAGE_OBSERVE"))
    # In front of juliacall's own finder, but behind ours, if there is one: that wraps what it finds here.
    hooks = sum(bool(getattr(finder, "pyjl_autoimage", None)) for finder in sys.meta_path)
    sys.meta_path.insert(hooks, _Finder(observer.last))
    sys.meta_path.insert(0, _Finder(observer.first))
    observer.note("observer", began)


def _leave_no_trace() -> None:
    first, _, rest = os.environ.get("PYTHONPATH", "").partition(os.pathsep)
    if first == _HERE:
        if rest:
            os.environ["PYTHONPATH"] = rest
        else:
            del os.environ["PYTHONPATH"]
    sys.path[:] = [path for path in sys.path if path != _HERE]
    sys.path_importer_cache.pop(_HERE, None)
    del sys.modules["sitecustomize"]


_leave_no_trace()
try:
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
finally:
    _install()
