"""Packages of an image do as they are loaded what they do in plain Julia, when they do it there, and not before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Place

from acting import PACKAGES, PROGRAMS, START, write


@pytest.fixture(scope="module")
def other(built_by_path: Place) -> Path:
    """A project that has other versions of some of the packages."""
    root = built_by_path.root / "other"
    shade, layered = PACKAGES["Shade"], PACKAGES["Layered"]
    write(root / "Shade" / "Project.toml", f'name = "Shade"\nuuid = "{shade.uuid}"\nversion = "0.2.0"\n')
    write(root / "Shade" / "src" / "Shade.jl", 'module Shade\nwhich() = "two"\nend\n')
    write(root / "Project.toml", f'[deps]\nShade = "{shade.uuid}"\nLayered = "{layered.uuid}"\n')
    write(
        root / "Manifest.toml",
        'manifest_format = "2.0"\n\n'
        f'[[deps.Shade]]\npath = "Shade"\nuuid = "{shade.uuid}"\nversion = "0.2.0"\n\n'
        f'[[deps.Layered]]\npath = "{built_by_path.root / "dev" / "Layered"}"\nuuid = "{layered.uuid}"\n'
        'version = "0.1.0"\ndeps = ["Shade"]\n',
    )
    return root


def run(place: Place, code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    result = place.run([sys.executable, "-c", START + code], check=False, **environ)
    return subprocess.CompletedProcess([], result.returncode, result.stdout, quiet(result.stderr))


def quiet(text: str) -> str:
    """Without what only says that something was precompiled."""
    told = ("recompil", "successfully precompiled", "✓")
    return "\n".join(line for line in text.splitlines() if not any(words in line for words in told))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_on_the_image_does_what_it_does_on_plain_juliacall(
    built_by_path: Place, other: Path, name: str
) -> None:
    code = PROGRAMS[name]
    plain = run(built_by_path, code, OTHER=str(other), PYJL_AUTOIMAGE="0")
    said = f"{code}\nimport pyjl_autoimage\nassert pyjl_autoimage.started().image, pyjl_autoimage.started()"
    ours = run(built_by_path, said if plain.returncode == 0 else code, OTHER=str(other))
    assert (ours.stdout, ours.stderr, ours.returncode) == (plain.stdout, plain.stderr, plain.returncode)
