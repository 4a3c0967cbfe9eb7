"""A workload is performed: in a fresh process that a build starts, recorded as any program is.

`run` is the build's side of it, `main` is what the process does.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from types import AsyncGeneratorType, GeneratorType
from typing import IO, Any

from ..base.call import evaluate, julia_string
from ..profile.workloads import GENERATOR, Caller, Task, Workload, tasks
from ..startup.recording import WORKLOAD_VARIABLE
from .runner import Running, TooLong, ending, within

__all__ = ["Outcome", "main", "run"]


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
    command = [sys.executable, *options, "-c", _CHILD, request]
    outcome = Outcome(task)
    with Running(command, environ=environ, log=log, directory=caller.directory) as process:
        try:
            status = process.wait(over=within(limit, f"it was ended after {limit:g} s (setting time_limit)"))
            said = _reason(str(log.name), before) if status > 0 else ""
            outcome.problem = f"{ending(status)}: {said}" if said else ending(status)
        except TooLong as error:
            outcome.problem = str(error)
    outcome.seconds = time.monotonic() - began
    _read_answer(answer, outcome)
    return outcome


# By -m, modules in the caller's directory would be imported in place of Python's own; by -c, it is the empty entry.
_CHILD = (
    "import sys; sys.path[:1] = filter(None, sys.path[:1]); "
    "from pyjl_autoimage.build.perform import main; sys.exit(main(sys.argv[1]))"
)

_NOT_TAKEN_OVER = frozenset({"juliacall-sysimage", "juliacall-trace-compile", "juliacall-init"})
"""Options of juliacall with which a process would not start on the newest image, or record nothing."""


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
    """What the fresh process does; its exit status."""
    from .. import hook

    with open(request, encoding="utf-8") as file:
        asked = json.load(file)
    packages = None if asked["packages"] is None else frozenset(asked["packages"])
    process = _Process(Caller.from_json(asked["caller"]), packages, asked["answer"])
    hook.install()
    if process.caller.path is not None:
        sys.path[:] = process.caller.path
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
        _call(pickle.loads(base64.b64decode(task.what)), task.name)
    elif task.kind == "julia":
        sys.path.append(os.getcwd())  # where juliapkg.json may be
        _become(caller.main_file, caller.main_module, task.arguments)
        _evaluate(f'Base.include_string(Main, {julia_string(task.what)}, "workload")', task.arguments)
    elif task.kind == "julia script":
        sys.path.append(os.getcwd())
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


def _call(function: Callable[[], object], name: str) -> None:
    """Call a function; where there is something to await, that is done, too."""
    result = function()
    if isinstance(result, (GeneratorType, AsyncGeneratorType)):
        raise SystemExit(f"{name} {GENERATOR}")
    if isinstance(result, Awaitable):
        import asyncio

        async def finish() -> None:
            await result

        asyncio.run(finish())


def _perform_function(task: Task, process: _Process) -> int:
    """Call a function of a script or module, or do what an attribute of a module declares."""
    import importlib
    from importlib.machinery import PathFinder

    if task.kind == "script":
        _become(task.what, None, task.arguments)
        module = _import_file(task.what)
    else:
        _become(None, task.what, task.arguments)
        here = PathFinder.find_spec(task.what.partition(".")[0], [os.getcwd()])
        sys.path.insert(0 if here and here.origin else len(sys.path), os.getcwd())  # as -m does for its own
        module = importlib.import_module(task.what)
    value: Any = module
    for name in task.function.split("."):
        value = getattr(value, name)
    if not isinstance(value, Workload):
        _require(getattr(value, "__pyjl_autoimage_packages__", ()), process)
        _call(value, task.function)
        return 0
    _require(value.packages, process)
    directory = os.path.dirname(os.path.abspath(module.__file__ or ""))
    if value.statements is not None:
        process.statements.append(os.path.join(directory, value.statements))
    if callable(value.run):
        _call(value.run, task.function)
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
