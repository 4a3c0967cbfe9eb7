"""Workloads: what is run, in a fresh recorded process, so that the next image holds what it compiles.

`tasks` turns what somebody gave us (a function, a script, a module, Julia code) into plain data, in that
somebody's process. `pyjl_autoimage.build.perform` performs it; nothing of a workload is ever imported or called
anywhere else.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import isasyncgenfunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..errors import WorkloadError

if TYPE_CHECKING:
    from ast import Module

__all__ = ["GENERATOR", "Caller", "Task", "Workload", "tasks", "workload"]


# -- what people write -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workload:
    """Something to run, and statements to compile, for an image to hold.

    Where a library declares one, as an attribute of a module, paths are relative to that module's directory.
    """

    run: Callable[[], object] | str | os.PathLike[str] | None = None
    """A function without arguments (an async one is run by ``asyncio.run``), the path of a Python or Julia script,
    the name of a module, a function in a module (``package.module:function``), or Julia code."""
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
    each in a fresh process, instead of the program itself. They are called without arguments, and may be async.

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
        WorkloadError: there is no such script or module, or the function cannot be pickled, or is a generator.
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
        if isgeneratorfunction(given) or isasyncgenfunction(given):
            raise WorkloadError(f"{_name_of(given)} {GENERATOR}")
        packages = getattr(given, "__pyjl_autoimage_packages__", ())
        return [Task(_name_of(given), "function", _pickled(given), "", tuple(arguments), packages)]
    if isinstance(given, (str, os.PathLike)):
        text = os.fspath(given)
        return [replace(task, arguments=tuple(arguments)) for task in _tasks_of_text(str(text))]
    if isinstance(given, Iterable):
        return [task for item in given for task in tasks(item, arguments)]
    raise WorkloadError(f"{given!r} is no workload: expected a function, a script, a module or Julia code")


GENERATOR = "is a generator, which runs nothing when it is called: give a function that goes through it"

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
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
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
