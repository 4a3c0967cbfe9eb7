"""Workloads: what is run, in a fresh recorded process, so that the next image holds what it compiles.

`tasks` turns what somebody gave us (a function, a script, a module, Julia code) into plain data, in that
somebody's process. `run` starts a fresh process for one of them, within the build. `main` is what that
process does. Nothing of a workload is ever imported or called anywhere else.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile
from typing import IO, TYPE_CHECKING, Any, TypeVar, overload

from ..base.call import evaluate, julia_string
from ..errors import WorkloadError
from ..startup.recording import WORKLOAD_VARIABLE

if TYPE_CHECKING:
    from ast import Module

__all__ = ["Caller", "Outcome", "Task", "Workload", "main", "run", "tasks", "workload"]


# -- what people write -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workload:
    """Something to run, and statements to compile, for an image to hold.

    Where a library declares one, as an attribute of a module, paths are relative to that module's directory.
    """

    run: Callable[[], object] | str | os.PathLike[str] | None = None
    """A function without arguments, the path of a Python or Julia script, the name of a module, a function in
    a module (``package.module:function``), or Julia code."""
    arguments: Sequence[str] = ()
    """What follows the program's name in ``sys.argv`` (in Julia: ``ARGS``)."""
    statements: str | os.PathLike[str] | None = None
    """Path of a file of precompile statements, as Julia's ``--trace-compile`` writes them."""
    packages: Sequence[str] = ()
    """Names of the Julia packages that it needs. It is left out where the project lacks one of them."""


_Function = TypeVar("_Function", bound=Callable[..., object])


@overload
def workload(function: _Function, /) -> _Function: ...
@overload
def workload(*, packages: Sequence[str]) -> Callable[[_Function], _Function]: ...
def workload(function: Any = None, /, *, packages: Sequence[str] = ()) -> Any:
    """Mark a function of a program, or of a library, as one of its workloads.

    ``python -m pyjl_autoimage build --train PROGRAM`` runs the marked functions at the top level of PROGRAM,
    each in a fresh process, instead of the program itself. They are called without arguments.

    Args:
        function: the function; it is returned as it is.
        packages: names of the Julia packages that it needs; where the project lacks one, it is not run.
    """

    def mark(function: _Function) -> _Function:
        function.__pyjl_autoimage_packages__ = tuple(packages)  # type: ignore[attr-defined]
        return function

    return mark if function is None else mark(function)


# -- what is to be run, as plain data --------------------------------------------------------------------


def _with_tuples(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}


@dataclass(frozen=True)
class Task:
    """A workload as data that a fresh process can be given."""

    name: str
    """For people."""
    kind: str
    """``function``, ``script``, ``module``, ``julia script``, ``julia`` or ``statements``."""
    what: str
    """The pickled function in base64, a path, the module's name, or Julia code."""
    function: str = ""
    """The function of a script or module that is called; empty: the whole of it is run as ``__main__``."""
    arguments: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Task:
        """Read what ``asdict`` gave."""
        return cls(**_with_tuples(value))


@dataclass(frozen=True)
class Caller:
    """What a fresh process takes over from the one that asked for the build."""

    directory: str
    path: tuple[str, ...] | None = None
    """Its sys.path; None: what Python gives the process anyway."""
    options: tuple[str, ...] = ()
    """Its ``-X`` options for juliacall and juliapkg."""
    main_file: str | None = None
    main_module: str | None = None

    @classmethod
    def here(cls, *, with_path: bool) -> Caller:
        """This process as the caller."""
        wanted = ("juliacall-", "juliapkg-")
        options = [name if value is True else f"{name}={value}" for name, value in sys._xoptions.items()]
        main_of_caller = sys.modules.get("__main__")
        spec = getattr(main_of_caller, "__spec__", None)
        file = getattr(main_of_caller, "__file__", None)
        return cls(
            os.getcwd(),
            tuple(sys.path) if with_path else None,
            tuple(option for option in options if option.startswith(wanted)),
            os.path.abspath(file) if with_path and file else None,
            spec.name if with_path and spec else None,
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Caller:
        """Read what ``asdict`` gave."""
        return cls(**_with_tuples(value))


def tasks(given: object, arguments: Sequence[str] = ()) -> list[Task]:
    """Turn workloads into data.

    Args:
        given: a `Workload`, or anything that its field `run` takes, or several of them.
        arguments: what follows the program's name in ``sys.argv``.

    Raises:
        WorkloadError: there is no such script or module, or the function cannot be pickled.
    """
    if isinstance(given, Task):
        return [given]
    if isinstance(given, Workload):
        found = []
        if given.statements is not None:
            file = os.path.abspath(os.fspath(given.statements))
            found.append(Task(os.path.basename(file), "statements", file))
        if given.run is not None:
            found += tasks(given.run, given.arguments)
        return [replace(task, packages=(*task.packages, *given.packages)) for task in found]
    if callable(given):
        packages = getattr(given, "__pyjl_autoimage_packages__", ())
        return [Task(_name_of(given), "function", _pickled(given), "", tuple(arguments), packages)]
    if isinstance(given, (str, os.PathLike)):
        text = os.fspath(given)
        return [replace(task, arguments=tuple(arguments)) for task in _tasks_of_text(str(text))]
    if isinstance(given, Iterable):
        return [task for item in given for task in tasks(item, arguments)]
    raise WorkloadError(f"{given!r} is no workload: expected a function, a script, a module or Julia code")


REFERENCE = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*)(?::(?P<function>[^\W\d]\w*(?:\.[^\W\d]\w*)*))?")


def _tasks_of_text(text: str) -> list[Task]:
    if os.path.isfile(text):
        path = os.path.abspath(text)
        name = os.path.basename(path)
        if path.endswith(".jl"):
            return [Task(name, "julia script", path)]
        marked = _marked_functions(path)
        return [Task(f"{name}: {function}", "script", path, function) for function in marked] or [
            Task(name, "script", path)
        ]
    if re.fullmatch(r"\S+\.(py|jl)", text):
        raise WorkloadError(f"there is no file {text}")
    reference = REFERENCE.fullmatch(text)
    if reference is None:
        first = text.strip().partition("\n")[0]
        return [Task(first if len(first) < 50 else f"{first[:47]}...", "julia", text)]
    module, function = reference["module"], reference["function"]
    files = _module_files(module)
    if function is not None:
        if files is None and "." not in module:
            raise WorkloadError(f"there is no module {module}")
        lacking, file = function.partition(".")[0], (files or {}).get(module)
        if file is not None and f"{module}.{lacking}" not in (files or {}) and _plainly_lacks(file, lacking):
            raise WorkloadError(f"there is no function {lacking} in {module} ({file})")
        return [Task(text, "module", module, function)]
    if files is None:
        raise WorkloadError(f"there is no module {module}, nor a file of that name")
    marked_in = {name: _marked_functions(file) for name, file in files.items()}
    found = [Task(f"{name}: {f}", "module", name, f) for name, functions in marked_in.items() for f in functions]
    return found or [Task(module, "module", module)]


def _name_of(function: object) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).replace("<locals>.", "")


# -- which functions of a program are marked: found by reading, never by importing -----------------------


def _marked_functions(path: str) -> list[str]:
    """The functions at the top level of a Python file that are decorated with `workload`."""
    import ast

    tree = _parsed(path, b"pyjl_autoimage")
    if tree is None:
        return []  # running it will show
    body = tree.body
    decorators: set[str] = set()
    for node in body:
        if isinstance(node, ast.Import):
            names = [alias.asname or alias.name for alias in node.names if alias.name == "pyjl_autoimage"]
            decorators.update(f"{name}.workload" for name in names)
        elif isinstance(node, ast.ImportFrom) and node.module == "pyjl_autoimage":
            decorators.update(alias.asname or alias.name for alias in node.names if alias.name == "workload")
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef):
            plain = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
            if any(ast.unparse(decorator) in decorators for decorator in plain):
                found.append(node.name)
    return found


def _parsed(path: str, mentioning: bytes = b"") -> Module | None:
    """A Python file as Python parses it; None where that cannot be done, or it does not mention what is asked for."""
    import ast

    try:
        with open(path, "rb") as file:
            content = file.read()
        return ast.parse(content, path) if mentioning in content else None
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _plainly_lacks(path: str, name: str) -> bool:
    """Whether nothing in a Python file can have given a name to anything; False where that cannot be told."""
    import ast

    tree = _parsed(path)
    if tree is None:
        return False
    named: set[str | None] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            named |= {node.name.partition(".")[0], node.asname}
        named |= {getattr(node, part, None) for part in ("name", "id", "attr")}
        if isinstance(node, ast.Global):
            named |= set(node.names)
    # By these a name can come about without being written where it is bound.
    dynamic = {"*", "__getattr__", "__dict__", "modules", "globals", "locals", "vars", "setattr", "exec", "eval"}
    return name not in named and not named & dynamic


def _module_files(name: str) -> dict[str, str] | None:
    """The source files of a module, or of a package and all below it, by module name; None if there is none."""
    from importlib.machinery import PathFinder

    first, *rest = name.split(".")
    spec = PathFinder.find_spec(first, [os.getcwd(), *sys.path])
    for finder in sys.meta_path:  # editable installs have finders of their own
        spec = spec or finder.find_spec(first, None)
    if spec is None:
        return None
    file, places = spec.origin, list(spec.submodule_search_locations or ())
    for part in rest:  # by hand: to find a module in a package, Python would import the package
        bases = [os.path.join(place, part) for place in places]
        candidates = [base + end for base in bases for end in (f"{os.sep}__init__.py", ".py")]
        file = next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
        places = [base for base in bases if os.path.isdir(base)]
        if file is None and not places:
            return None
    files = {name: file} if file and file.endswith(".py") else {}
    for top in places:
        for root, directories, names in os.walk(top):
            directories[:] = sorted(directory for directory in directories if directory.isidentifier())
            package = ".".join([name, *os.path.relpath(root, top).split(os.sep)]).removesuffix("..")
            for stem in sorted(n.removesuffix(".py") for n in names if n.endswith(".py")):
                module = package if stem == "__init__" else f"{package}.{stem}"
                files.setdefault(module, os.path.join(root, f"{stem}.py"))
    return files


# -- carrying a function to another process --------------------------------------------------------------


def _pickled(function: object) -> str:
    import cloudpickle

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            # Julia would write its modules by way of its Serialization, and not load a package to read one.
            names = _julia_module_name(value)
            return super().reducer_override(value) if names is None else (_julia_module, names)

    buffer = io.BytesIO()
    try:
        Pickler(buffer).dump(function)
    except Exception as error:
        raise WorkloadError(f"{_name_of(function)} cannot be carried to a fresh process: {error}") from error
    return base64.b64encode(buffer.getvalue()).decode()


def _julia_module_name(value: object) -> tuple[str, ...] | None:
    juliacall = sys.modules.get("juliacall")
    kind = getattr(juliacall, "ModuleValue", None)
    if juliacall is None or kind is None or not isinstance(value, kind):
        return None
    return tuple(str(name) for name in juliacall.Base.fullname(value))


def _julia_module(*names: str) -> Any:
    """The Julia module of that full name, loaded if it is a package."""
    import juliacall

    if names[0] not in ("Main", "Base", "Core"):
        juliacall.Main.seval(f"import {names[0]}")
    return juliacall.Main.seval(".".join(names))


# -- within the build: a fresh process for a task --------------------------------------------------------


@dataclass
class Outcome:
    """What became of a task."""

    task: Task
    problem: str = ""
    """Why it did not end well, or was not run; empty if all is well."""
    seconds: float = 0.0
    statements: list[str] = field(default_factory=list)
    """Files of precompile statements that it named."""


def run(
    task: Task,
    *,
    caller: Caller,
    token: str,
    directory: str,
    environ: Mapping[str, str],
    packages: Iterable[str] | None,
    limit: float,
    log: IO[str],
) -> Outcome:
    """Run a task in a fresh process under recording, and wait for its end. Whatever it does, this returns.

    Args:
        task: the task.
        caller: what the process takes over.
        token: marks the recordings of the process, and of those that it starts.
        directory: where request and answer are put.
        environ: added to the environment.
        packages: names of the packages in the project; None: not known.
        limit: seconds until it is ended; 0: none.
        log: gets its output.
    """
    request, answer = (os.path.join(directory, f"{token}.{name}") for name in ("request", "answer"))
    asked = {
        "task": asdict(task),
        "caller": asdict(caller),
        "packages": None if packages is None else sorted(packages),
        "answer": answer,
    }
    with open(request, "w", encoding="utf-8") as file:
        json.dump(asked, file)
    options = [part for option in caller.options if option.partition("=")[0] not in _NOT_TAKEN_OVER
               for part in ("-X", option)]  # fmt: skip
    dropped = {f"PYTHON_{name.replace('-', '_').upper()}" for name in _NOT_TAKEN_OVER}
    environ = {**{k: v for k, v in os.environ.items() if k not in dropped}, **environ, WORKLOAD_VARIABLE: token}
    began = time.monotonic()
    before = os.fstat(log.fileno()).st_size
    process = subprocess.Popen(
        [sys.executable, *options, "-m", "pyjl_autoimage", "_workload", request],
        cwd=caller.directory,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    outcome = Outcome(task)
    try:
        status = process.wait(limit or None)
        said = _reason(str(log.name), before) if status > 0 else ""
        outcome.problem = f"{_ending(status)}: {said}" if said else _ending(status)
    except subprocess.TimeoutExpired:
        outcome.problem = f"it was ended after {limit:g} s (setting time_limit)"
    finally:
        _kill(process)
    outcome.seconds = time.monotonic() - began
    _read_answer(answer, outcome)
    return outcome


_NOT_TAKEN_OVER = frozenset({"juliacall-sysimage", "juliacall-trace-compile", "juliacall-init"})
"""Options of juliacall with which a process would not start on the newest image, or record nothing."""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, and what it has started."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass
    process.kill()
    process.wait()


def _ending(status: int) -> str:
    if status >= 0:
        return f"it ended with status {status}" if status else ""
    try:
        return f"it died of {signal.Signals(-status).name}"
    except ValueError:
        return f"it died of signal {-status}"


def _reason(path: str, start: int) -> str:
    """The last line that somebody who fails says of why, in what a file holds from there on."""
    try:
        with open(path, "rb") as file:
            file.seek(max(start, os.path.getsize(path) - MOST_OF_A_REASON))
            lines = file.read().decode("utf-8", "replace").rstrip().splitlines()
    except OSError:
        return ""
    traced = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    # What follows Python's traceback, and what Julia says before its own.
    after = lines[traced[-1] + 1 :] if traced else lines
    raised = next((line for line in after if traced and line and not line[0].isspace()), "")
    said = raised or next((line for line in reversed(list(takewhile(_no_stack, lines))) if line.strip()), "")
    said = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    return said if len(said) <= LONGEST_REASON else f"{said[: LONGEST_REASON - 3]}..."


MOST_OF_A_REASON = 100_000
LONGEST_REASON = 200


def _no_stack(line: str) -> bool:
    return line.strip() != "Stacktrace:"


def _read_answer(answer: str, outcome: Outcome) -> None:
    try:
        with open(answer, encoding="utf-8") as file:
            said = json.load(file)
        outcome.statements = [str(path) for path in said["statements"]]
        if said["missing"]:
            outcome.problem = f"not run: the project has no {', '.join(map(str, said['missing']))}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # it did not live to answer


# -- the fresh process -----------------------------------------------------------------------------------


class _Missing(Exception):
    """The project lacks packages that a workload needs."""


@dataclass
class _Process:
    """What the fresh process was asked, and what it will answer."""

    caller: Caller
    packages: frozenset[str] | None
    answer: str
    statements: list[str] = field(default_factory=list)

    def tell(self, missing: Sequence[str] = ()) -> None:
        """Write the answer, as far as it is known."""
        with open(self.answer, "w", encoding="utf-8") as file:
            json.dump({"statements": self.statements, "missing": list(missing)}, file)


def main(request: str) -> int:
    """What ``python -m pyjl_autoimage _workload REQUEST`` does; its exit status."""
    from .. import hook

    with open(request, encoding="utf-8") as file:
        asked = json.load(file)
    packages = None if asked["packages"] is None else frozenset(asked["packages"])
    process = _Process(Caller.from_json(asked["caller"]), packages, asked["answer"])
    if process.caller.path is not None:
        sys.path[:] = process.caller.path
    hook.install()
    try:
        status = _perform(Task.from_json(asked["task"]), process)
    except _Missing as error:
        process.tell(error.args)
        return 0
    except BaseException:
        process.tell()
        raise
    process.tell()
    return status


def _perform(task: Task, process: _Process) -> int:
    _require(task.packages, process)
    caller = process.caller
    if task.kind == "statements":
        process.statements.append(task.what)
    elif task.kind == "function":
        import pickle

        _become(caller.main_file, caller.main_module, task.arguments)
        pickle.loads(base64.b64decode(task.what))()
    elif task.kind == "julia":
        _become(caller.main_file, caller.main_module, task.arguments)
        _evaluate(f'Base.include_string(Main, {julia_string(task.what)}, "workload")', task.arguments)
    elif task.kind == "julia script":
        _become(task.what, None, task.arguments)
        _evaluate(f"Base.include(Main, {julia_string(task.what)})", task.arguments)
    elif task.function:
        return _perform_function(task, process)
    else:
        from ..hook.run import run

        process.tell()  # the program takes the place of this process
        return run([*(["-m"] if task.kind == "module" else []), task.what, *task.arguments])
    return 0


def _require(packages: Iterable[str], process: _Process) -> None:
    missing = [] if process.packages is None else [name for name in packages if name not in process.packages]
    if missing:
        raise _Missing(*missing)


def _become(file: str | None, module: str | None, arguments: Sequence[str]) -> None:
    """Be, for who looks at ``__main__`` and ``sys.argv``, the program that a workload belongs to.

    What is recorded is then known as that program's.
    """
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    program = ModuleType("__main__")
    if file is not None:
        program.__file__ = file
    if module is not None:
        program.__spec__ = ModuleSpec(module, None, origin=file)
    sys.modules["__main__"] = program
    sys.argv = [file or "", *arguments]


def _perform_function(task: Task, process: _Process) -> int:
    """Call a function of a script or module, or do what an attribute of a module declares."""
    import importlib

    if task.kind == "script":
        _become(task.what, None, task.arguments)
        module = _import_file(task.what)
    else:
        _become(None, task.what, task.arguments)
        module = importlib.import_module(task.what)
    value: Any = module
    for name in task.function.split("."):
        value = getattr(value, name)
    if not isinstance(value, Workload):
        _require(getattr(value, "__pyjl_autoimage_packages__", ()), process)
        value()
        return 0
    _require(value.packages, process)
    directory = os.path.dirname(os.path.abspath(module.__file__ or ""))
    if value.statements is not None:
        process.statements.append(os.path.join(directory, value.statements))
    if callable(value.run):
        value.run()
    elif value.run is not None:
        beside = os.path.join(directory, value.run)
        program = beside if os.path.isfile(beside) else value.run
        return max(_perform(each, process) for each in tasks(program, value.arguments))
    return 0


def _import_file(path: str) -> Any:
    """Import a script under its own name, as if its directory were on sys.path (it is, for a script)."""
    from importlib.util import module_from_spec, spec_from_file_location

    sys.path.insert(0, os.path.dirname(path))
    name = os.path.splitext(os.path.basename(path))[0]
    spec = spec_from_file_location(f"_{name}" if name in sys.modules else name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _evaluate(code: str, arguments: Sequence[str]) -> None:
    """Start Julia and evaluate code in it: by its C API, so that nothing of PythonCall is compiled for it."""
    from ..startup.door import start
    from ..startup.start import running

    start()
    copied = "".join(f"push!(ARGS, {julia_string(argument)});" for argument in arguments)
    shown = "Base.showerror(stderr, err, Base.catch_backtrace()); println(stderr)"
    code = f"try {copied} {code} catch err; {shown}; Base.rethrow() end"
    if evaluate(running(), code) is None:
        raise SystemExit(1)
