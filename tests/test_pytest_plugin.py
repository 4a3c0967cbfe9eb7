"""`pytest --julia-record`, on a test suite that does not know of us, with stand-ins for Julia and juliacall."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from standin import World

OURS = "sorted(m for m in sys.modules if m.startswith('pyjl_autoimage'))"


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "world")
    (world.root / "conftest.py").write_text("import juliacall\n")
    (world.root / "test_theirs.py").write_text(
        "import juliacall, pytest\n@pytest.mark.parametrize('n', range(4))\n"
        "def test_it(n):\n    print('\\nIMAGE', juliacall.CONFIG['sysimage'])\n"
        "    if juliacall.CONFIG['trace_compile']:\n"
        "        open(juliacall.CONFIG['trace_compile'], 'a').write('precompile(Tuple{typeof(f)})\\n')\n"
    )
    return world


def suite(world: World, *options: str, status: int = 0, **environ: str) -> str:
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-s",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(world.root),
            *options,
        ],
        env={**world.environ, **environ},
        cwd=world.root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout


def recordings(world: World) -> list[str]:
    try:
        return os.listdir(world.store.recordings(world.environment.id))
    except FileNotFoundError:
        return []


def test_with_the_flag_the_suite_is_recorded_and_starts_on_the_image(world):
    image = world.publish()
    shown = suite(world, "--julia-record")
    assert shown.count(f"IMAGE {image.path}") == 4
    assert "recorded 4 statements that Julia, started on the image, had to compile: " in shown
    assert len(recordings(world)) == 2


def test_without_the_flag_nothing_happens_and_nothing_is_imported(world):
    world.publish()
    (world.root / "test_theirs.py").write_text(
        "import sys\n\ndef test_it():\n"
        f"    assert {OURS} == ['pyjl_autoimage', 'pyjl_autoimage.people', 'pyjl_autoimage.people.pytest_plugin']\n"
        "    assert sys.modules['juliacall'].CONFIG['sysimage'] is None\n"
        "    assert not [f for f in sys.meta_path if hasattr(f, 'pyjl_autoimage')]\n"
    )
    assert "Julia" not in suite(world)
    assert recordings(world) == []


def test_the_flag_in_a_configuration_file(world):
    (world.root / "pytest.ini").write_text("[pytest]\naddopts = --julia-record\n")
    assert "recorded 4 statements that Julia, started without an image" in suite(world)


@pytest.mark.skipif(find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_the_workers_of_xdist_are_recorded_each(world):
    image = world.publish()
    (world.root / "conftest.py").unlink()
    (world.root / "test_theirs.py").write_text(
        "import pytest, time\n@pytest.mark.parametrize('n', range(8))\n"
        "def test_it(n):\n    import juliacall\n    time.sleep(0.05)\n"
        f"    assert juliacall.CONFIG['sysimage'] == {image.path!r}\n"
    )
    shown = suite(world, "--julia-record", "-n", "2")
    assert shown.count("recorded ") == 2
    assert len(recordings(world)) == 4


def test_a_suite_without_julia(world):
    (world.root / "conftest.py").unlink()
    (world.root / "test_theirs.py").write_text("def test_it():\n    pass\n")
    assert "nothing recorded: no test has started Julia" in suite(world, "--julia-record")
    assert recordings(world) == []


def test_a_suite_that_fails_is_recorded_and_fails(world):
    with (world.root / "test_theirs.py").open("a") as file:
        file.write("    assert n\n")
    assert "recorded 4 statements" in suite(world, "--julia-record", status=1)


@pytest.mark.parametrize(
    "environ", [{"PYJL_AUTOIMAGE_RECORD": "0"}, {"PYJL_AUTOIMAGE": "0"}, {"PYJL_AUTOIMAGE": "no"}]
)
def test_it_says_when_it_could_not(world, environ):
    assert "not recorded" in suite(world, "--julia-record", **environ)
    assert recordings(world) == []
