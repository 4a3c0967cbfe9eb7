"""The last step of a build, linking, with the linker that Julia ships: no C compiler is needed.

PackageCompiler links with gcc, or with the command that JULIA_CC names. Julia links its own package images with lld
(its `base/linking.jl`), which takes other arguments than a compiler. So this module is a program: a compiler for
JULIA_CC that understands what PackageCompiler says, and lets lld do it. Where lld fails, gcc or clang gets its turn.

What gcc adds when it links a shared library is not needed in an image, as in Julia's package images: its start-up
files are for C and C++, and what an image calls of the C library and of libgcc is found in libjulia's dependencies.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

__all__ = ["as_compiler", "compiler", "lld"]


def lld(bindir: str) -> str | None:
    """Julia's linker, where `base/linking.jl` looks for it; None if there is none, and on other systems than Linux.

    Args:
        bindir: the directory of Julia's executable (``Sys.BINDIR``).
    """
    if sys.platform != "linux":
        return None
    beside = (("..", "libexec", "julia"), ("..", "tools"), ())
    places = (os.path.normpath(os.path.join(bindir, *place, "lld")) for place in beside)
    return next((place for place in places if os.access(place, os.X_OK)), shutil.which("lld"))


def compiler() -> str | None:
    """The C compiler that PackageCompiler would find; None if there is none."""
    return next(filter(None, map(shutil.which, ("gcc", "clang"))), None)


def as_compiler(linker: str) -> str:
    """The value of JULIA_CC with which PackageCompiler links with this lld, through this module."""
    return shlex.join([sys.executable, "-m", __name__, linker])


def main(arguments: Sequence[str]) -> int:
    """Link as a compiler would.

    Args:
        arguments: the path of lld, and what a compiler would be told.

    Returns:
        The exit status.
    """
    linker, *told = arguments
    status = _run([linker, "-flavor", "gnu", "--eh-frame-hdr", *_of_linker(told)], _with_libraries(told))
    other = compiler() if status else None
    return _run([other, *told], None) if other else status


def _of_linker(told: Sequence[str]) -> list[str]:
    """What a compiler would tell its linker."""
    arguments: list[str] = []
    for argument in told:
        if argument.startswith("-Wl,"):
            arguments += argument[4:].split(",")
        elif not argument.startswith(("-m", "-f")):  # -m64, -march=..., -fPIC: the compiler's own
            arguments.append(argument)
    return arguments


def _with_libraries(told: Sequence[str]) -> dict[str, str]:
    """The environment of lld, whose own libraries are among Julia's."""
    directories = [argument[2:] for argument in told if argument.startswith("-L")]
    directories += filter(None, [os.environ.get("LD_LIBRARY_PATH")])
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(directories)}


def _run(command: list[str], environ: dict[str, str] | None) -> int:
    print(f"[autoimage] linking with {command[0]}", flush=True)
    try:
        status = subprocess.run(command, env=environ, check=False).returncode
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)
        return 127
    if status:
        print(f"[autoimage] {command[0]} ended with status {status}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
