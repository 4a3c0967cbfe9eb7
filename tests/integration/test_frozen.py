"""A program that PyInstaller has packed: `sys.executable` is the program, and its modules lie in it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from conftest import Place

PROGRAM = """
import json, os, sys
import collections.abc, datetime, fractions, inspect, io, numbers, traceback # PythonCall imports them
import site
site.setquit(), site.setcopyright(), site.sethelper() # and asks for these builtins
with open(os.environ["RUNS"], "a") as runs:
    runs.write("run\\n")
import pyjl_autoimage
from pyjl_autoimage import jl
answer = jl.seval("sum(sqrt, 1:10)")
why = None
if "rebuild" in sys.argv:
    try:
        pyjl_autoimage.rebuild(wait=False)
    except pyjl_autoimage.BuildError as error:
        why = str(error)
print(json.dumps([sys.frozen, answer, pyjl_autoimage.started().image is not None, why]))
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, place: Place) -> Path:
    """The packed program."""
    pytest.importorskip("PyInstaller")
    root = tmp_path_factory.mktemp("packed")
    (root / "app.py").write_text(PROGRAM)
    data = [word for name in ("juliacall", "juliapkg", "pyjl_autoimage") for word in ("--collect-data", name)]
    # What compiled modules import, nobody sees: of tomli, for juliapkg.
    shared = [path.name.split(".")[0] for path in metadata.files("tomli") or () if "__mypyc" in path.name]
    data += [word for name in shared for word in ("--hidden-import", name)]
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", *data, "app.py"]
    subprocess.run(command, cwd=root, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return root / "dist" / "app" / "app"


def run(place: Place, packed: Path, *arguments: str, **environ: str) -> list:
    runs = place.root / "runs"
    runs.unlink(missing_ok=True)
    result = place.run([str(packed), *arguments], RUNS=str(runs), **environ)
    assert runs.read_text() == "run\n"
    assert result.stderr == ""
    return json.loads(result.stdout.splitlines()[-1])


def test_it_does_what_it_does_on_plain_juliacall(place: Place, packed: Path) -> None:
    plain = run(place, packed, PYJL_AUTOIMAGE="0")
    assert run(place, packed) == plain
    assert run(place, packed, PYJL_AUTOIMAGE_AUTO="1", CI="") == plain
    *_, why = run(place, packed, "rebuild")
    assert "a program of its own" in why


def test_it_starts_on_an_image_that_a_python_has_built(built: Place, packed: Path) -> None:
    frozen, answer, on_image, _ = run(built, packed)
    assert [frozen, answer] == run(built, packed, PYJL_AUTOIMAGE="0")[:2]
    assert on_image
