"""Which Julia, and which Julia project, this Python program embeds.

The one place that knows juliapkg. `locate` gives the same answer as juliacall would find by itself;
`probe` asks that Julia what an image depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base.program import __version__
from ..errors import JuliaNotFoundError, SetUpError
from .manifest import manifest_file, project_file

__all__ = [
    "Environment",
    "how_julia_was_found",
    "how_project_was_found",
    "juliaup_configuration",
    "locate",
]


@dataclass(frozen=True)
class Environment:
    """One Julia executable with one project."""

    executable: str
    project: str
    libjulia: str | None = None
    bindir: str | None = None
    managed: bool = True
    """Whether juliapkg manages the project (False: the user named executable and project to juliacall)."""
    outdated: str = field(default="", compare=False)
    """Why juliapkg, seen from here, would set the project up again at the next start; empty where it would not."""

    @property
    def id(self) -> str:
        """16 hexadecimal digits that name the environment in the store."""
        return hashlib.sha256(f"{self.executable}\0{self.project}".encode()).hexdigest()[:16]

    @property
    def julia(self) -> str:
        """The Julia itself, where juliapkg knows its directory; else the executable, which may be a launcher."""
        name = "julia.exe" if sys.platform == "win32" else "julia"
        itself = os.path.join(self.bindir or "", name)
        return itself if self.bindir and os.path.isfile(itself) else self.executable

    @property
    def variables(self) -> dict[str, str]:
        """What a start of ours is told, so that juliapkg leaves the project as the user's programs have it."""
        named = {"EXE": self.executable, "PROJECT": self.project, "LIB": self.libjulia, "BINDIR": self.bindir}
        return {f"PYTHON_JULIACALL_{name}": value for name, value in named.items() if value and self.outdated}

    def is_launcher(self, bindir: str | None = None) -> bool:
        """Whether the executable is another program than the Julia that it starts.

        juliaup's is one, and so are a site's wrapper, snap's, and the script of PyPI's ``julialang``.

        Args:
            bindir: where that Julia is, if juliapkg did not say so (False where nobody knows).
        """
        bindir = self.bindir or bindir
        if not bindir:
            return False
        return _real(os.path.dirname(os.path.realpath(self.executable))) != _real(bindir)

    def is_script(self) -> bool:
        """Whether the executable is a script, as asdf's and mise's are: which Julia it starts stands elsewhere."""
        try:
            with open(self.executable, "rb") as file:
                return file.read(2) == b"#!"
        except OSError:
            return False

    def may_start_another(self, bindir: str | None = None) -> bool:
        """Whether the executable may start another Julia next time, without a change that we could see.

        juliaup's launcher does so in a directory that has an override. Other launchers go by what they alone know.

        Args:
            bindir: as in `is_launcher`.
        """
        if not self.is_launcher(bindir):
            return False
        configuration = juliaup_configuration()
        own = os.path.join(_real(os.path.dirname(configuration)), "")
        if not os.path.join(_real(self.bindir or bindir or ""), "").startswith(own):
            return True
        try:
            with open(configuration, "rb") as file:
                return bool(json.load(file).get("Overrides"))
        except (OSError, ValueError, AttributeError):
            return True  # not sure


def _real(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))


def what_julia_goes_by(environment: Environment) -> list[str]:
    """All but files that this environment's Julia answers by when it is asked what it is."""
    names = ("JULIA_DEPOT_PATH", "JULIA_LOAD_PATH")
    paths = [os.environ.get(name, "") for name in names]
    told = [f"{name}={os.environ.get(name, '')}" for name in ("HOME", "USERPROFILE", "JULIA_PROJECT", "JULIA_BINDIR")]
    told += [f"{name} is empty" for name in names if os.environ.get(name) == ""]  # not what it is where it is not set
    told += sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("JULIAUP_"))
    entries = [entry for path in paths for entry in path.split(os.pathsep) if entry and not os.path.isabs(entry)]
    if any(entry[0] != "@" or entry == "@." for entry in entries):
        told.append(os.getcwd())
    return [
        __version__,
        os.path.realpath(environment.julia),
        environment.libjulia or "",
        environment.bindir or "",
        *paths,
        *told,
    ]


def juliaup_configuration() -> str:
    """The file in which juliaup keeps which Julia its launcher starts, whether there is one or not."""
    depot = os.environ.get("JULIAUP_DEPOT_PATH") or os.path.join(os.path.expanduser("~"), ".julia")
    return os.path.join(depot, "juliaup", "juliaup.json")


def locate(options: Mapping[str, str] | None = None, *, install: bool = True, outdated: bool = False) -> Environment:
    """Find executable and project exactly as juliacall does.

    Args:
        options: what the user gave juliacall: any of ``exe``, ``project``, ``lib``, ``home``, ``check_bounds``.
        install: let juliapkg install and resolve what is missing, as juliacall would. False asks only
            for what is there already.
        outdated: take a project that was set up before as it is, also where juliapkg, seen from here, would set it up
            again: it goes by the files that it sees, and removes what only a program elsewhere asks for. With
            `install`, only a project that never was is set up.

    Raises:
        JuliaNotFoundError: there is none, or what is there may not be set up.
        SetUpError: (with `install`) juliapkg failed, as it would for juliacall.
    """
    options = options or {}
    exe, project = options.get("exe"), options.get("project")
    if not exe and options.get("home"):  # as juliacall does it (`init` in its ``__init__.py``)
        exe = os.path.join(options["home"], "julia.exe" if sys.platform == "win32" else "julia")
    if exe and project:
        found = shutil.which(exe)
        if found is None:
            raise JuliaNotFoundError(f"the Julia executable {exe!r}, given to juliacall, does not exist")
        return Environment(
            os.path.abspath(found),
            os.path.abspath(project),
            options.get("lib"),
            options.get("home"),
            managed=False,
        )
    if exe or project:
        raise JuliaNotFoundError(
            "PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT must be set together, not only one of them"
        )
    return _ask_juliapkg(options, install, outdated)


def _ask_juliapkg(options: Mapping[str, str], install: bool, outdated: bool) -> Environment:
    import juliapkg

    try:
        if outdated or not install:
            as_it_is = _as_it_is(options, install, outdated)
            if as_it_is is not None:
                return as_it_is
        if install:
            # The same call as juliacall's own, so that what gets precompiled fits what is started.
            check_bounds = options.get("check_bounds")
            arguments = [f"--check-bounds={check_bounds}"] if check_bounds else []
            _resolve(arguments)
        executable = juliapkg.executable()
        return Environment(
            os.path.abspath(shutil.which(executable) or executable),  # PYTHON_JULIAPKG_EXE may be a name on PATH
            os.path.abspath(juliapkg.project()),
            options.get("lib") or juliapkg.libjulia(),
            options.get("home") or juliapkg.bindir(),
        )
    except JuliaNotFoundError:
        raise
    except Exception as error:
        raise JuliaNotFoundError(f"{error}. {_HOW_TO_HAVE_JULIA}") from error


_HOW_TO_HAVE_JULIA = (
    "Install Julia (juliaup or julialang.org), so that `julia` is on PATH, or name one with PYTHON_JULIAPKG_EXE"
)


def _resolve(arguments: list[str]) -> None:
    import juliapkg

    try:
        juliapkg.resolve(julia_args=arguments)
    except subprocess.CalledProcessError as error:
        said = f"Julia ended with status {error.returncode}; its messages are above"
        raise SetUpError(f"juliapkg could not set up the Julia project: {said}", error) from error
    except Exception as error:
        raise SetUpError(f"{error}. {_HOW_TO_HAVE_JULIA}", error) from error


def _as_it_is(options: Mapping[str, str], install: bool, outdated: bool) -> Environment | None:
    """What juliapkg set up before, though it would do that again; None where it would not, or where `install` may.

    Raises:
        JuliaNotFoundError: nothing was set up, or not for the Julia that there is now.
    """
    import juliapkg
    from juliapkg.deps import julia_version, load_meta
    from juliapkg.state import STATE

    if juliapkg.resolve(dry_run=True):
        return None
    before, project = load_meta(), STATE["project"]
    if before is None and install and not project_file(project) and not manifest_file(project):
        return None
    executable = shutil.which(before["executable"]) if before and outdated else None
    if not before or not executable:
        raise JuliaNotFoundError(_why_not_set_up(before))
    named = STATE["override_executable"]
    if install and (named != before["override_executable"] or str(julia_version(executable)) != before["version"]):
        raise JuliaNotFoundError(
            f"the Julia project was set up with Julia {before['version']} ({before['executable']}), and that is not "
            "the one that there is now: run your program once (its `import juliacall` sets the project up again)"
        )
    return Environment(
        os.path.abspath(executable),
        os.path.abspath(project),
        options.get("lib") or before.get("libjulia"),
        options.get("home") or before.get("bindir"),
        outdated=_why_not_set_up(before),
    )


def _why_not_set_up(before: Mapping[str, Any] | None) -> str:
    """Why juliapkg would set the project up now: it never did, or what it goes by is not what it was.

    It goes by the ``juliapkg.json`` files that it sees from ``sys.path`` (`deps_files` in its ``deps.py``): beside a
    script, but for ``python -m`` in the current directory, and in whatever this virtual environment holds.

    Args:
        before: what it kept of the last time.
    """
    from juliapkg.deps import deps_files

    if before is None:
        return "the Julia project has not been set up yet: run your program once (`import juliacall` sets it up)"
    known, seen = set(before["deps_files"]), set(deps_files())
    lines = [f"  only now:  {path}" for path in sorted(seen - known)]
    lines += [f"  only then: {path}" for path in sorted(known - seen)]
    if not lines:
        return "Julia or a juliapkg.json has changed; the next `import juliacall` sets the Julia project up again"
    return "\n".join(
        (
            "from here, juliapkg sees other juliapkg.json files than those that it set the Julia project up with:",
            *lines,
            # An `import juliacall` here would remove what only those files ask for.
            "go to the directory of your program"
            + ("" if known - seen else ", or `import juliacall` here: that sets the project up again"),
        )
    )


def how_julia_was_found(environment: Environment) -> str:
    """What led to the executable, in words."""
    how = _how_executable_was_found(environment)
    return f"{how}; a launcher, which starts {environment.julia}" if environment.is_launcher() else how


def _how_executable_was_found(environment: Environment) -> str:
    if not environment.managed:
        return "named to juliacall (PYTHON_JULIACALL_EXE, or -X juliacall-exe)"
    from juliapkg.state import STATE, get_config

    if STATE["override_executable"]:
        return f"named by {get_config('exe')[1].removeprefix('-X ')}"
    executable = os.path.realpath(environment.executable)
    if executable.startswith(os.path.join(os.path.realpath(STATE["install"]), "")):
        return "installed by juliapkg"
    if executable.startswith(os.path.join(os.path.realpath(os.path.dirname(juliaup_configuration())), "")):
        return "installed by juliaup"
    on_path = shutil.which("julia")
    if on_path and os.path.realpath(on_path) == executable:
        return "found on PATH by juliapkg"
    return "remembered by juliapkg; it is not on PATH now"


def how_project_was_found(environment: Environment) -> str:
    """What led to the project, in words."""
    if not environment.managed:
        return "named to juliacall (PYTHON_JULIACALL_PROJECT, or -X juliacall-project)"
    from juliapkg.state import STATE, get_config

    if STATE["project_is_shared"]:
        return f"named by {get_config('project')[1].removeprefix('-X ')}"
    if sys.prefix != sys.base_prefix:
        return "of this virtual environment"
    return "of this conda environment" if os.environ.get("CONDA_PREFIX") else "juliapkg's usual one"
