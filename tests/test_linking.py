"""Linking with Julia's own linker in the place of a C compiler, with stand-ins for both."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pyjl_autoimage.build import linking, machine
from pyjl_autoimage.errors import BuildError

from standin import World, buildable_world, cli, environ_of, julia_that_builds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PackageCompiler's own way is kept")

# What PackageCompiler 2.1 to 2.4 says, word for word but for the paths (`create_sysimg_from_object_file`).
TOLD = [
    "-m64", "-march=x86-64", "-shared", "-L/opt/julia 1/lib", "-L/opt/julia 1/lib/julia", "-o", "sys.so",
    "-Wl,--whole-archive", "jl_1-o.a", "-Wl,--no-whole-archive", "-Wl,-rpath-link,/opt/julia 1/lib", "-ljulia",
    "-ljulia-internal", "-fPIC", "-Wl,-soname,sys.so", "-Wl,-rpath,$ORIGIN:$ORIGIN/julia",
]  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> World:
    return buildable_world(tmp_path)


def program(path: Path, does: str) -> str:
    """A stand-in that notes what it is told, one argument a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nfor a; do echo "$a" >> "{path}.told"; done\n{does}\n')
    path.chmod(0o755)
    return str(path)


def told(path: Path) -> list[str]:
    return Path(f"{path}.told").read_text().splitlines()


def link(tmp_path: Path, lld: str, *, compiler: str | None = None) -> subprocess.CompletedProcess[str]:
    """Link as PackageCompiler would, with nothing but this compiler on PATH."""
    (tmp_path / "path").mkdir()
    if compiler is not None:
        program(tmp_path / "path" / "gcc", compiler)
    command = [*shlex.split(linking.as_compiler(lld)), *TOLD]
    environ = {**os.environ, "PATH": str(tmp_path / "path"), "LD_LIBRARY_PATH": "/users"}
    return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_what_a_compiler_is_told_as_the_linker_takes_it(tmp_path):
    lld = tmp_path / "a julia" / "lld"
    program(lld, f'echo "$LD_LIBRARY_PATH" > "{tmp_path}/libraries"')
    result = link(tmp_path, str(lld), compiler="exit 1")
    assert result.returncode == 0, result.stdout
    assert told(lld) == [
        "-flavor", "gnu", "--eh-frame-hdr", "-shared", "-L/opt/julia 1/lib", "-L/opt/julia 1/lib/julia", "-o", "sys.so",
        "--whole-archive", "jl_1-o.a", "--no-whole-archive", "-rpath-link", "/opt/julia 1/lib", "-ljulia",
        "-ljulia-internal", "-soname", "sys.so", "-rpath", "$ORIGIN:$ORIGIN/julia",
    ]  # fmt: skip
    assert (tmp_path / "libraries").read_text() == "/opt/julia 1/lib:/opt/julia 1/lib/julia:/users\n"
    assert result.stdout == f"[autoimage] linking with {lld}\n"


def test_where_lld_fails_a_compiler_links(tmp_path):
    lld = program(tmp_path / "lld", "echo 'ld.lld: error: it cannot' >&2; exit 3")
    result = link(tmp_path, lld, compiler="echo linked")
    assert result.returncode == 0 and "ld.lld: error: it cannot" in result.stderr
    assert told(tmp_path / "path" / "gcc") == TOLD
    gcc = tmp_path / "path" / "gcc"
    assert result.stdout.splitlines() == [
        f"[autoimage] linking with {lld}",
        f"[autoimage] {lld} ended with status 3",
        f"[autoimage] linking with {gcc}",
        "linked",
    ]


@pytest.mark.parametrize("compiler", [None, "exit 5"])
def test_where_nothing_links_linking_fails(tmp_path, compiler):
    result = link(tmp_path, program(tmp_path / "lld", "exit 3"), compiler=compiler)
    assert result.returncode == (3 if compiler is None else 5)


def test_an_lld_that_cannot_be_run_is_one_that_failed(tmp_path):
    (tmp_path / "lld").write_text("\0not a program")
    (tmp_path / "lld").chmod(0o755)
    result = link(tmp_path, str(tmp_path / "lld"), compiler="echo linked")
    assert result.returncode == 0 and "linked" in result.stdout.splitlines()


def test_lld_is_looked_for_where_julia_looks_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    bindir = tmp_path / "julia" / "bin"
    bindir.mkdir(parents=True)
    assert linking.lld(str(bindir)) is None
    places = [tmp_path / "path", bindir, tmp_path / "julia" / "tools", tmp_path / "julia" / "libexec" / "julia"]
    for place in places:  # each goes before those that were there
        lld = program(place / "lld", "")
        assert linking.lld(str(bindir)) == lld


# -- in a build ------------------------------------------------------------------------------------------


def heard(world: World, **environ: str | None) -> str | None:
    """JULIA_CC as the Julia hears it that builds; None if it does not."""
    julia_that_builds(world, meanwhile=f'echo "${{JULIA_CC-unset}}" > "{world.root}/cc"')
    given = {name: value for name, value in {**environ_of(world), **environ}.items() if value is not None}
    result = cli(given, "build", cwd=world.root)
    assert result.returncode == 0, result.stderr
    said = (world.root / "cc").read_text().strip()
    return None if said == "unset" else said


def julias_lld(world: World) -> str:
    return program(world.root / "julia" / "libexec" / "julia" / "lld", "")


@pytest.mark.parametrize("empty", [None, ""])
def test_a_build_links_with_the_lld_of_its_julia(world, empty):
    assert heard(world, JULIA_CC=empty) is None, "PackageCompiler looks for a compiler itself"
    lld = julias_lld(world)
    assert shlex.split(heard(world, JULIA_CC=empty) or "")[-1] == lld


def test_no_compiler_is_missed_where_julia_has_lld(world, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("JULIA_CC", raising=False)
    with pytest.raises(BuildError, match="no C compiler"):
        machine.check_compiler(world.facts)
    julias_lld(world)
    machine.check_compiler(world.facts)


def test_a_compiler_that_the_user_names_is_the_one(world):
    julias_lld(world)
    assert heard(world, JULIA_CC="my cc") == "my cc"
