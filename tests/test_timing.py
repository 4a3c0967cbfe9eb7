"""A start taken apart, on a stand-in for juliacall that asks of a library what the real one asks of libjulia."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pyjl_autoimage.errors import AutoimageError
from pyjl_autoimage.explain.timing import PHASES, time_start

from standin import World

# The real one's order: the library is loaded, Julia initialised, PythonCall evaluated.
ASKS = """
import ctypes, time
def ask(library, *names):
    for name in names:
        try:
            getattr(library, name)
        except AttributeError:
            pass
time.sleep(0.05)
library = ctypes.PyDLL(None)
ask(library, "jl_parse_opts")
time.sleep(0.10)
ask(library, "jl_init_with_image__threading", "jl_init_with_image")
time.sleep(0.15)
ask(library, "jl_eval_string")
time.sleep(0.20)
ask(library, "jl_eval_string")
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    return world


@pytest.mark.skipif(sys.platform == "win32", reason="there is no library that is the process itself")
def test_phases_are_told_apart_by_what_is_asked_of_the_library(world):
    stub = world.site / "juliacall" / "__init__.py"
    stub.write_text(f"{ASKS}\n{stub.read_text()}")
    start = time_start()
    assert list(start.phases) == list(PHASES)
    assert sum(start.phases.values()) == pytest.approx(start.seconds, abs=1e-4)
    for phase, least in {"juliacall": 0.05, "libjulia": 0.10, "julia": 0.15, "pythoncall": 0.20}.items():
        assert start.phases[phase] >= least


def test_which_image_it_was_on(world):
    assert time_start().image is None
    image = world.publish()
    assert time_start().image == image.id
    assert time_start({"PYJL_AUTOIMAGE": "0"}).image is None
    assert not Path(world.store.recordings(world.environment.id)).exists(), "it is not recorded"


def test_what_was_said_last_is_the_reason(world):
    (world.site / "juliacall" / "__init__.py").write_text("raise OSError('no libjulia here')")
    with pytest.raises(AutoimageError, match="status 1: OSError: no libjulia here"):
        time_start()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_julia_that_dies_of_a_signal(world):
    (world.site / "juliacall" / "__init__.py").write_text("import os; os.kill(os.getpid(), 6)")
    with pytest.raises(AutoimageError, match="signal 6"):
        time_start()
