"""Where and how people run: on an image each program does what it does on plain juliacall."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from conftest import Place

ON_IMAGE = "import pyjl_autoimage; print(json.dumps([seen, pyjl_autoimage.started().image is not None]))"


def see(
    place: Place, code: str, *arguments: str, python: str = sys.executable, **environ: str
) -> tuple[object, bool]:
    """What a program has seen, and whether it was on an image."""
    program = f"import json, os, sys\nfrom pyjl_autoimage import jl\n{code}\n{ON_IMAGE}"
    result = place.run([python, "-c", program, *arguments], **environ)
    seen, on_image = json.loads(result.stdout.splitlines()[-1])
    return seen, on_image


def test_nothing_that_is_drawn_comes_from_the_image(built: Place) -> None:
    code = """
jl.seval("using Random, UUIDs, Distributed; addprocs(1)")
seen = [str(jl.seval(drawn)) for drawn in ("rand(UInt64)", "rand(RandomDevice(), UInt64)", "uuid4()", "tempname()",
    "fetch(Threads.@spawn rand(UInt64))", "remotecall_fetch(() -> rand(UInt64), 2)", "rand(MersenneTwister(), UInt64)")]
seen.append(jl.seval('hash("x")'))
"""
    plain, _ = see(built, code, PYJL_AUTOIMAGE="0")
    runs = [see(built, code) for _ in range(2)]
    assert all(on_image for _, on_image in runs)
    (one, _), (other, _) = runs
    assert all(len({*drawn}) == 3 for drawn in zip(plain[:-1], one[:-1], other[:-1], strict=True))
    assert plain[-1] == one[-1] == other[-1]


@pytest.mark.parametrize("target", ["", "generic", "generic;haswell,clone_all", "native", "znver9"])
def test_a_cpu_target_that_is_set_for_everybody(built: Place, target: str) -> None:
    assert see(built, "seen = jl.seval('using Test; 6 * 7')", JULIA_CPU_TARGET=target) == (42, True)


@pytest.mark.parametrize("order", [(), ("first",), ("julia",), ("first", "julia")], ids=str)
def test_which_libssl_comes_first(built: Place, order: tuple[str, ...]) -> None:
    code = """
if "first" in sys.argv: import ssl
if "julia" in sys.argv: jl.seval("using Downloads, LibGit2, Pkg")
import hashlib, ssl
seen = [ssl.OPENSSL_VERSION, hashlib.new("sha256", b"x").hexdigest(), ssl.create_default_context() is not None]
if sys.platform == "linux":
    seen += sorted({line.split()[-1] for line in open("/proc/self/maps") if "libssl" in line or "libcrypto" in line})
"""
    plain, _ = see(built, code, *order, PYJL_AUTOIMAGE="0")
    assert see(built, code, *order) == (plain, True)


def test_an_image_is_of_use_to_another_virtual_environment_of_the_project(built: Place, tmp_path: Path) -> None:
    """Each process sees itself, whichever Python had the image built, and where that is gone."""
    pythons = []
    for name in ("one", "other"):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / name)], check=True)
        (site,) = (tmp_path / name).glob("lib/python*/site-packages")
        (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
        pythons.append(str(tmp_path / name / "bin" / "python"))
    code = """
seen = [jl.seval("string(PythonCall.C.CTX.exe_path)") == sys.executable,
    jl.seval('PythonCall.pyconvert(String, PythonCall.pyimport("sys").prefix)') == sys.prefix]
"""
    for python in pythons:
        assert see(built, code, python=python) == ([True, True], True)
    shutil.rmtree(tmp_path / "one")
    assert see(built, code, python=pythons[1]) == ([True, True], True)


def test_nothing_but_a_directory_for_temporary_files_can_be_written(built: Place, tmp_path: Path) -> None:
    """Serverless platforms and hardened clusters: project, depots, store and home are read-only."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here (needs root, and Linux)")
    program = "from pyjl_autoimage import jl\nprint(jl.seval('using DataFrames, Test; nrow(DataFrame(a = 1:3))'))\n"
    told = "import pyjl_autoimage\nassert pyjl_autoimage.started().image"
    places = {str(built.root), str(Path.home()), *filter(os.path.isdir, built.facts.depots)}
    read_only = "".join(
        f"mount --bind '{d}' '{d}' && mount -o remount,bind,ro '{d}' || exit 9\n" for d in sorted(places)
    )

    def run(code: str, **environ: str) -> tuple[int, str, str]:
        command = ["unshare", "-m", "sh", "-c", f'{read_only}exec "$@"', "sh", sys.executable, "-c", code]
        # (juliapkg would want to lock the project.)
        named = {
            "PYTHON_JULIACALL_EXE": built.environment.executable,
            "PYTHON_JULIACALL_PROJECT": built.environment.project,
        }
        result = built.run(command, check=False, TMPDIR=str(tmp_path), **named, **environ)
        return result.returncode, result.stdout, result.stderr

    assert run(program + told) == run(program, PYJL_AUTOIMAGE="0") == (0, "3\n", "")
