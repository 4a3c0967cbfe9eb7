"""`%load_ext pyjl_autoimage` in IPython, and a kernel as Jupyter starts it, with stand-ins for Julia and juliacall."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from environments import VirtualEnvironment
from standin import World, path_without_compiler

pytest.importorskip("IPython")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


def ipython(world: World, code: str, status: int = 0) -> str:
    """What a session shows."""
    script = world.root / "session.ipy"
    script.write_text(code)
    result = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", str(script)],
        env={**world.environ, "IPYTHONDIR": str(world.root / "ipython"), "COLUMNS": "500", "TERM": "dumb"},
        cwd=world.root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_loading_the_extension_starts_nothing_and_imports_what_it_needs(world):
    code = (
        "%load_ext pyjl_autoimage\nimport sys\nprint('juliacall' in sys.modules)\n"
        "print([m for m in sys.modules if m in ('pyjl_autoimage.people.status', 'pyjl_autoimage.build.begin', 'juliapkg')])"
    )
    assert ipython(world, code) == "False\n[]\n"


def test_julia_starts_on_the_image_and_is_recorded(world):
    image = world.publish()
    code = "%load_ext pyjl_autoimage\nimport juliacall\nprint(juliacall.CONFIG['sysimage'])\n%autoimage"
    shown = ipython(world, code)
    assert shown.splitlines()[0] == image.path
    assert f"The next start uses image {image.id}" in shown
    assert "Julia runs in this kernel on the image, recorded." in shown


def test_a_julia_that_is_up_already_is_recorded_from_then_on(world):
    stand_in = world.site / "juliacall" / "__init__.py"
    evaluated = 'CONFIG["evaluated"].append(code.decode())'
    text = stand_in.read_text()
    assert evaluated in text
    # Julia opens the trace file when it is told to.
    opens = (
        f"{evaluated}\n            from pyjl_autoimage.startup.start import session\n"
        "            open(session.recording.trace, 'w').write('precompile(Tuple{typeof(f)})')"
    )
    stand_in.write_text(text.replace(evaluated, opens))
    shown = ipython(world, "import juliacall\n%load_ext pyjl_autoimage\n%autoimage status")
    assert "Julia runs in this kernel without an image, recorded." in shown
    assert len(os.listdir(world.store.recordings(world.environment.id))) == 2


def test_words_it_does_not_know_are_one_line(world):
    shown = ipython(world, "%load_ext pyjl_autoimage\n%autoimage burn\n", status=1)
    assert shown == "UsageError: %autoimage [status | rebuild [--wait]], not 'burn'\n"


def test_so_is_what_is_mistyped(world):
    shown = ipython(world, "%load_ext pyjl_autoimage\n%autoimage it's\n", status=1)
    assert shown.startswith("UsageError: %autoimage: No closing quotation") and "Traceback" not in shown


def test_so_are_errors(world):
    world.executable.unlink()
    shown = ipython(world, "%load_ext pyjl_autoimage\n%autoimage\n", status=1)
    assert shown.startswith("UsageError: pyjl_autoimage: ") and "Traceback" not in shown


def test_rebuild_runs_in_the_background(world):
    """It fails here, for want of a C compiler; what counts is that the notebook goes on, and hears of it."""
    code = (
        "%load_ext pyjl_autoimage\nimport os\n"
        f"os.environ['PATH'] = {path_without_compiler(world)!r}\nos.environ['JULIA_CC'] = ''\n"
        "%autoimage rebuild\nprint('going on')\n%autoimage rebuild --wait\n"
    )
    shown = ipython(world, code, status=1)
    assert "Building in the background" in shown and "build.log" in shown and "going on" in shown
    assert "UsageError: pyjl_autoimage: no C compiler" in shown, "of the second one"


def test_unloading_takes_it_back(world):
    world.publish()
    code = (
        "%load_ext pyjl_autoimage\n%unload_ext pyjl_autoimage\nimport sys\n"
        "print([f for f in sys.meta_path if hasattr(f, 'pyjl_autoimage')])\n"
        "print('autoimage' in get_ipython().magics_manager.magics['line'])\n"
        "import juliacall\nprint(juliacall.CONFIG['sysimage'])\n"
    )
    assert ipython(world, code) == "[]\nFalse\nNone\n"


@pytest.mark.parametrize("how", ["the extension", "enable"])
def test_in_a_jupyter_kernel(world, tmp_path, how):
    pytest.importorskip("ipykernel")
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import KernelManager

    image = world.publish()
    first = "%load_ext pyjl_autoimage\n"
    python = sys.executable
    if how == "enable":
        env = VirtualEnvironment(tmp_path / "env")
        env("-m", "pyjl_autoimage", "enable", check=True, environ=world.environ)
        python, first = str(env.python), ""
    manager = KernelManager()
    command = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(argv=command, display_name="test", language="python")
    environ = {
        **world.environ,
        "IPYTHONDIR": str(world.root / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(world.root / "run"),
    }
    manager.start_kernel(env=environ, cwd=str(world.root))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        printed = []

        def hear(message):
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        for cell in (
            f"{first}import juliacall\nprint(juliacall.CONFIG['sysimage'])",
            "%load_ext pyjl_autoimage\n%autoimage",
        ):
            reply = client.execute_interactive(cell, timeout=60, output_hook=hear, allow_stdin=False)
            assert reply["content"]["status"] == "ok", reply
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert "".join(printed).splitlines()[0] == image.path
