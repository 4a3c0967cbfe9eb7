"""Which PackageCompiler a Julia needs to build with, and which one a Julia project has."""

from __future__ import annotations

from ..julia.manifest import ManifestError, load_manifest, manifest_file

__all__ = ["OLDEST", "least_packagecompiler", "packagecompiler_problem", "packagecompiler_version", "too_old"]

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
