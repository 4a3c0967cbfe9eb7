"""The Julia project that has PackageCompiler, and which one a Julia needs to build with."""

from __future__ import annotations

import os

from ..base.files import write_atomically
from ..base.locks import lock
from ..errors import BuildError
from ..julia.facts import JuliaFacts
from ..julia.manifest import ManifestError, load_manifest, manifest_file
from ..store.places import Store
from .julia import last_lines
from .work import Work, executable_itself, julia_environment, run

__all__ = [
    "builder_project",
    "least_packagecompiler",
    "own_builder_project",
    "packagecompiler_problem",
    "packagecompiler_version",
]

# The first that has `import_into_main`, which `julia/build_image.jl` passes.
OLDEST = "2.1.18"

# From which Julia on a newer one is needed, the newest Julia first. None because of 1.11 and 1.12: what
# PackageCompiler changed for those (2.1.23, 2.2.3) is for images from scratch, and ours are built on Julia's own.
_NEWER = (((1, 13), "2.4.5"),)  # older ones infer everything twice there, and lose inferred code


def least_packagecompiler(julia_version: str) -> str:
    """The oldest version of PackageCompiler that builds good images with this Julia."""
    return next((version for julia, version in _NEWER if _numbers(julia_version) >= julia), OLDEST)


def packagecompiler_version(project: str, julia_version: str | None = None) -> str | None:
    """The version in a project's manifest; None if that cannot be read, or has no PackageCompiler."""
    try:
        path = manifest_file(project, julia_version)
        found = load_manifest(path).by_name("PackageCompiler") if path else []
    except (ManifestError, OSError):
        return None
    return found[0].version if found else None


def packagecompiler_problem(project: str, julia_version: str) -> str | None:
    """Why images that are built with this project would not be as good as they can be; None if nothing says so.

    A project without PackageCompiler may find one elsewhere (Julia's load path), so that is no problem here.
    """
    version, least = packagecompiler_version(project, julia_version), least_packagecompiler(julia_version)
    if version is None or not too_old(version, least):
        return None
    return f"PackageCompiler {version} in {project} is too old for Julia {julia_version}: it needs {least} or later"


def too_old(version: str, least: str) -> bool:
    """Whether a version comes before another."""
    return _numbers(version) < _numbers(least)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split("+")[0].split(".") if part.isdigit())


# How long one first build waits for another to install PackageCompiler: seconds.
AS_LONG_AS_PKG = 7200.0

PACKAGECOMPILER_UUID = "9b87118b-4619-50d2-8e1e-99f35a4d4d9d"


def builder_project(work: Work, facts: JuliaFacts) -> str:
    """The Julia project that has PackageCompiler: a given one, or our own."""
    given = work.settings.builder_project
    if given is not None and not os.path.isdir(given):
        raise BuildError(f"PYJL_AUTOIMAGE_BUILDER_PROJECT: {given} is not a directory")
    project = given or _own_builder_project(work, facts)
    problem = packagecompiler_problem(project, facts.version)
    if problem and too_old(packagecompiler_version(project, facts.version) or "", OLDEST):
        raise BuildError(f"{problem}, and no image can be built with this one")
    if problem:
        work.note(f"{problem}; building takes longer, and the image holds less than it could")
    return project


def _own_builder_project(work: Work, facts: JuliaFacts) -> str:
    """The one of the store, set up by Pkg on first use, and again where its PackageCompiler has become too old.

    One that cannot be brought up to date (without network) stays as it is.
    """
    project = work.store.ensure(own_builder_project(work.store, facts))
    ready = os.path.join(project, "ready")
    least = least_packagecompiler(facts.version)
    wanted = "\n".join((least, *facts.depots))  # what it was set up for
    try:
        with lock(os.path.join(project, "lock"), AS_LONG_AS_PKG):  # another first build may be about it
            done = _content(ready)
            if done == wanted and not packagecompiler_problem(project, facts.version):
                return project
            work.detail("installing PackageCompiler")
            julia = executable_itself(facts, work.environment)  # a launcher might start another one from here
            command = [julia, f"--project={project}", "--startup-file=no", "-e"]
            status = run(work, [*command, _INSTALL, least, OLDEST], julia_environment())
            if status and done is None:
                raise BuildError(
                    f"PackageCompiler could not be installed (Julia ended with status {status}):\n"
                    f"{last_lines(work)}\nWithout network, name a Julia project that has it with "
                    "PYJL_AUTOIMAGE_BUILDER_PROJECT."
                )
            if not status:
                write_atomically(ready, wanted.encode())
    except TimeoutError:
        raise BuildError(f"another build is still about to install PackageCompiler into {project}") from None
    return project


# A registry that does not know the version that is wanted (a mirror that lags behind) may have one that will do.
_INSTALL = f"""
using Pkg
least(version) = Pkg.PackageSpec(; name = "PackageCompiler", uuid = "{PACKAGECOMPILER_UUID}", version = "$version-2")
try
    Pkg.add(least(ARGS[1]))
catch
    ARGS[1] == ARGS[2] && rethrow()
    Pkg.add(least(ARGS[2]))
end
using PackageCompiler
"""


def _content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def own_builder_project(store: Store, facts: JuliaFacts) -> str:
    """The Julia project of the store that has PackageCompiler, once its file ``ready`` is there."""
    return os.path.join(store.builder_project, facts.minor)
