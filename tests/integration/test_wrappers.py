"""Small wrappers of Julia, one for each habit of the published ones (docs/wrappers.md), which import juliacall themselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conftest import Place


def wrapper(place: Place, name: str, text: str, **files: str) -> Path:
    """A package in a directory of its own, and a program beside it that uses it."""
    root = place.root / name
    package = root / "wrapper"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(text)
    for file, content in files.items():
        (package / file.replace("_jl", ".jl")).write_text(content)
    (root / "program.py").write_text("import wrapper\nprint(*wrapper.answer())\n")
    return root / "program.py"


def runs(place: Place, program: Path, **environ: str) -> str:
    return place.run([sys.executable, "-m", "pyjl_autoimage", "run", str(program)], **environ).stdout.splitlines()[-1]


INCLUDES = """
from pathlib import Path
from juliacall import Main as jl, newmodule
jl.include(str(Path(__file__).with_name("bridge.jl")))
own = newmodule("Own")
own.include(str(Path(__file__).with_name("other.jl")))
answer = lambda: (jl.bridge(), own.other())
"""


def test_files_that_a_library_includes_are_named(place: Place) -> None:
    program = wrapper(place, "includes", INCLUDES, bridge_jl="bridge() = 1\n\n", other_jl="other() = 2\n")
    assert runs(place, program) == "1 2"
    data = json.loads(place.cli("status", "--json").stdout)
    named = {Path(file["path"]).name: file["lines"] for file in data["profile"]["included"]}
    assert named == {"bridge.jl": 2, "other.jl": 1}
    assert "bridge.jl (2 lines) is compiled in each process" in " ".join(place.cli("status").stdout.split())


SETS = """
import os
os.environ["PYTHON_JULIACALL_THREADS"] = "2"
os.environ["PYTHON_JULIACALL_HANDLE_SIGNALS"] = "yes"
from juliacall import Main as jl
import wrapper.helpers
from pyjl_autoimage import started
answer = lambda: (jl.seval("Threads.nthreads()"), started().image is not None)
"""


def test_options_that_a_library_sets_count_on_an_image(built: Place) -> None:
    program = wrapper(built, "sets", SETS)
    (program.parent / "wrapper" / "helpers.py").write_text("")
    assert runs(built, program) == "2 True"
    first = "from pyjl_autoimage import jl\n"
    program.write_text(f"{first}import wrapper\nprint(*wrapper.answer())\n")
    late = built.run([sys.executable, str(program)])
    assert late.stdout == "1 True\n"
    assert late.stderr.count("PYTHON_JULIACALL_THREADS=2 (set by wrapper): too late") == 1


BRINGS = """
import os
os.environ["PYTHON_JULIACALL_SYSIMAGE"] = {path!r}
from juliacall import Main as jl
from pyjl_autoimage import started
answer = lambda: (started().image, started().sysimage)
"""


def test_an_image_that_a_library_brings_is_respected_and_recorded_as_that(built: Place) -> None:
    (image,) = (Path(built.store) / "v1" / "images").glob("*/sys.*")
    program = wrapper(built, "brings", BRINGS.format(path=str(image)))
    store = str(built.root / "store of brings")
    assert runs(built, program, PYJL_AUTOIMAGE_HOME=store) == f"None {image}"
    data = json.loads(built.cli("status", "--json", PYJL_AUTOIMAGE_HOME=store).stdout)
    assert data["times"][0]["theirs"] == str(image)
    assert data["summary"]["state"] == "off" and str(image) in data["summary"]["why"][0]
