"""The child process that proves a new image before anything can select it.

It starts juliacall on the image, as a program would, and looks: does every package in it load, with the
version that the manifest says; does PythonCall work both ways; can a package outside the image still be
precompiled on it (Julia starts a worker on the image for that, which must be able to host a Python).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from ..base.call import RECORDER, RECORDER_UUID, call_latest, julia_string
from ..errors import BuildError
from ..julia.environment import Environment
from ..julia.facts import JuliaFacts
from ..store.built import BakedPackage
from .runner import Running, ending, within

__all__ = ["Proof", "main"]

TIMEOUT = 600.0
"""Seconds. Precompiling a trivial package takes a few; a Julia that hangs must not hang the build."""


class Proof:
    """A Python process that starts on an image and looks, while whoever asked for it does something else.

    Use it as a context: a process that still runs at its end is killed.

    Args:
        library: the image.
        packages: what it must hold.
        environment: where it will be used.
        facts: of the environment's Julia.
        directory: an empty directory for the proof's own files.
        flags: code generation flags that it was built for.
        depot: the image's own depot, in which packages outside it are precompiled.
        log: an open file for what the child prints.
    """

    def __init__(
        self,
        library: str,
        packages: Sequence[BakedPackage],
        environment: Environment,
        facts: JuliaFacts,
        directory: str,
        flags: Mapping[str, str],
        depot: str,
        log: IO[str],
    ) -> None:
        os.makedirs(directory, exist_ok=True)
        request = os.path.join(directory, "request.json")
        self._answer = os.path.join(directory, "answer.json")
        with open(request, "w", encoding="utf-8") as file:
            json.dump(
                {
                    "packages": [[p.uuid, p.name, p.version if not p.in_julia else None] for p in packages],
                    "directory": directory,
                    "answer": self._answer,
                },
                file,
            )
        options = {
            "exe": environment.executable,
            "project": environment.project,
            "lib": facts.libjulia,
            "home": facts.bindir,
            "sysimage": library,
            "handle-signals": "no",
            **{name.replace("_", "-"): value for name, value in flags.items()},
        }
        arguments = [item for name, value in options.items() for item in ("-X", f"juliacall-{name}={value}")]
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON_JULIACALL_", "PYJL_AUTOIMAGE"))}
        environ["PYJL_AUTOIMAGE"] = "0"
        # In front here: whatever is precompiled for the proof must not go where the user's caches are.
        environ["JULIA_DEPOT_PATH"] = os.pathsep.join((depot, *facts.depots))
        command = [sys.executable, *arguments, "-m", "pyjl_autoimage.build.verify", request]
        self._process = Running(command, environ=environ, log=log, directory=directory)

    def __enter__(self) -> Proof:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.end()

    def wait(self, timeout: float = TIMEOUT) -> None:
        """Wait for the verdict, `timeout` seconds at most.

        Raises:
            BuildError: the image is not fit for use; the message says why.
        """
        words = f"the new image was not proved: its process hung for {timeout:.0f} s"
        status = self._process.wait(over=within(timeout, words))
        try:
            with open(self._answer, encoding="utf-8") as file:
                problems = json.load(file)["problems"]
        except (OSError, ValueError, KeyError):
            how = ending(status).removeprefix("it ") or "said nothing"
            raise BuildError(f"a Python process that started on the new image {how}") from None
        if problems:
            raise BuildError("the new image is not fit for use: " + "; ".join(problems))


def main(request_file: str) -> int:
    """Look at the image that this process started on; the answer goes to a file."""
    with open(request_file, encoding="utf-8") as file:
        request = json.load(file)
    import juliacall

    problems = [*_packages(juliacall, request["packages"]), *_pythoncall(juliacall)]
    problems += _precompilation(juliacall, request["directory"])
    with open(request["answer"], "w", encoding="utf-8") as file:
        json.dump({"problems": problems}, file)
    return 0


def _packages(juliacall: Any, packages: list[list[str]]) -> list[str]:
    problems = []
    recorder = f'Base.root_module(Base.PkgId(Base.UUID("{RECORDER_UUID}"), "{RECORDER}"))'
    for uuid, name, version in packages:
        found = juliacall.Main.seval(
            f"""
            let id = Base.PkgId(Base.UUID({julia_string(uuid)}), {julia_string(name)})
                baked = {recorder}.BAKED
                try
                    Base.require(id)
                catch # what it does as it is loaded fails here: as it does without an image
                end
                root = haskey(baked, id) ? baked[id].root : get(Base.loaded_modules, id, nothing)
                root === nothing ? "missing" : string(something(pkgversion(root), ""))
            end
            """
        )
        if found == "missing":
            problems.append(f"{name} is not in it")
        elif version is not None and found != version:
            problems.append(f"it holds {name} {found}, not {version}")
    return problems


def _pythoncall(juliacall: Any) -> list[str]:
    jl = juliacall.Main
    try:
        if jl.seval("1 + 1") != 2:
            return ["1 + 1 is not 2 in it"]
        if jl.seval("f -> PythonCall.pyconvert(Int, f(20))")(lambda x: x + 1) != 21:
            return ["PythonCall cannot call Python in it"]
        if list(jl.seval("collect(1:3)")) != [1, 2, 3]:
            return ["PythonCall cannot give arrays to Python in it"]
    except Exception as error:
        return [f"PythonCall does not work in it: {error}"]
    return []


def _precompilation(juliacall: Any, directory: str) -> list[str]:
    """Precompile a package from outside the image, in a depot of our own: no cache of the user's moves."""
    source = os.path.join(directory, "environment", "AutoimageProof")
    os.makedirs(os.path.join(source, "src"), exist_ok=True)
    uuid = "5b5d9e0b-0cde-4a5e-8d0a-0f8b0f6a9f11"
    files = {
        "Project.toml": f'name = "AutoimageProof"\nuuid = "{uuid}"\nversion = "0.1.0"\n',
        "src/AutoimageProof.jl": "module AutoimageProof\nanswer() = 42\nend\n",
    }
    for name, text in files.items():
        with open(os.path.join(source, name), "w", encoding="utf-8") as file:
            file.write(text)
    depot = julia_string(os.path.join(directory, "depot"))
    try:
        answer = juliacall.Main.seval(
            f"""
            let
                pushfirst!(DEPOT_PATH, {depot})
                pushfirst!(LOAD_PATH, {julia_string(os.path.dirname(source))})
                try
                    id = Base.identify_package("AutoimageProof")
                    Base.compilecache(id)
                    {call_latest("Base.require(id)", "answer")}
                finally
                    popfirst!(DEPOT_PATH)
                    popfirst!(LOAD_PATH)
                end
            end
            """
        )
    except Exception as error:
        return [f"no package can be precompiled on it: {error}"]
    return [] if answer == 42 else ["a package precompiled on it gives wrong answers"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
