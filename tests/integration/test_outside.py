"""What builds ask of Pkg, with a real Julia: nothing of a network.

Where no depot has a registry, Pkg would ask for one before anything else, in offline mode, too, and fail.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from conftest import Place
from pyjl_autoimage.base.call import JULIA_SOURCES
from pyjl_autoimage.build import julia


class Alone:
    """A project without packages, and a depot without registries, on a machine without network."""

    def __init__(self, place: Place, root: Path) -> None:
        self.place, self.project, self.depot = place, root / "project", root / "depot"
        self.project.mkdir()
        (self.project / "Project.toml").write_text("[deps]\n")
        (self.project / "Manifest.toml").write_text(
            f'julia_version = "{place.facts.version}"\nmanifest_format = "2.0"\n\n[deps]\n'
        )

    def julia(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        depots = os.pathsep.join((str(self.depot), *self.place.facts.depots[1:]))
        server = {"JULIA_PKG_SERVER": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
        return subprocess.run(
            [self.place.environment.executable, f"--project={self.project}", "--startup-file=no", *arguments],
            env={**self.place.environ, "JULIA_DEPOT_PATH": depots, "JULIA_PKG_OFFLINE": "true", **server},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def alone(place: Place, tmp_path: Path) -> Alone:
    return Alone(place, tmp_path)


def test_what_is_outside_is_precompiled(alone: Alone) -> None:
    result = alone.julia(os.path.join(JULIA_SOURCES, "outside.jl"))
    assert result.returncode == 0, result.stderr[-3000:]
    assert not (alone.depot / "registries").exists(), result.stderr


def test_a_project_is_instantiated(alone: Alone) -> None:
    """As PackageCompiler lets Pkg do it with the one that an image is built from."""
    julia.have_a_registry(str(alone.depot))
    result = alone.julia("-e", "using Pkg; Pkg.instantiate(; verbose = true); Pkg.precompile()")
    assert result.returncode == 0, result.stderr[-3000:]
    assert os.listdir(alone.depot / "registries") == ["Empty"], result.stderr
