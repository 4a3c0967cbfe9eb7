"""Real images, really damaged, in front of a real Julia."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

START = "from pyjl_autoimage import jl; import juliacall; print(jl.seval('1 + 1'), juliacall.CONFIG['opt_sysimage'])"


def damaged_store(built, root: Path, damage) -> tuple[Path, str]:
    """A store with a copy of the image, damaged in a way that its size does not show."""
    (original,) = [d for d in (built.store / "v1" / "images").iterdir() if (d / "image.json").exists()]
    copy = root / "store" / "v1" / "images" / original.name
    root.joinpath("store").mkdir(mode=0o700)
    copy.mkdir(parents=True)
    shutil.copy(original / "sys.so", copy / "sys.so")
    damage(copy / "sys.so")
    facts = json.loads((original / "image.json").read_text())
    facts["bytes"] = (copy / "sys.so").stat().st_size
    (copy / "image.json").write_text(json.dumps(facts))
    return root / "store", original.name


def truncate(library: Path) -> None:
    with library.open("r+b") as file:
        file.truncate(library.stat().st_size // 3)


def no_elf(library: Path) -> None:
    with library.open("r+b") as file:
        file.write(b"this is no ELF file".ljust(4096))


def zeros(library: Path) -> None:
    """Headers stay whole; the data that Julia reads first is nothing."""
    size = library.stat().st_size
    with library.open("r+b") as file:
        file.seek(size // 4)
        file.write(bytes(size // 2))


@pytest.mark.parametrize("damage", [truncate, no_elf, zeros])
def test_a_damaged_image_breaks_the_program_at_most_once(built, tmp_path, damage):
    home, image = damaged_store(built, tmp_path, damage)
    environ = {**built.environ, "PYJL_AUTOIMAGE_HOME": str(home)}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    first = run("-c", START)
    assert first.returncode in (1, -signal.SIGBUS, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGILL), first.stdout
    second = run("-c", START)
    assert (second.returncode, second.stdout) == (0, "2 None\n"), second.stderr
    assert second.stderr.count(f"system image {image} is not used any more") == 1
    third = run("-c", START)
    assert (third.returncode, third.stdout) == (0, "2 None\n")
    assert image not in third.stderr
    refused = run("-m", "pyjl_autoimage", "restore", image)
    assert refused.returncode == 1 and "checksum" in refused.stderr


def test_a_store_that_is_removed_while_the_program_runs(built, tmp_path):
    home, _ = damaged_store(built, tmp_path, lambda library: None)
    code = (
        "import shutil\nfrom pyjl_autoimage import jl\nimport pyjl_autoimage.startup.start as r\nassert r.session.on_image\n"
        f"shutil.rmtree({str(home)!r})\n"
        "print(jl.seval('new_function(x) = string(x, x, x); new_function(Complex{Float16}(2))'))\n"
    )
    assert "2.0" in built.python(code, PYJL_AUTOIMAGE_HOME=str(home)).stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory with setrlimit")
def test_a_julia_that_runs_out_of_memory(place):
    """A real Julia in two gigabytes of address space: the build fails with Julia's own words, and nothing is lost."""
    import resource

    if "PYJL_AUTOIMAGE_BUILDER_PROJECT" not in place.environ:
        pytest.skip("no PackageCompiler: name a Julia project that has it with PYJL_AUTOIMAGE_BUILDER_PROJECT")
    home = place.root / "little memory"
    result = subprocess.run(
        [sys.executable, "-m", "pyjl_autoimage", "build"],
        env={**place.environ, "PYJL_AUTOIMAGE_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9)),
    )
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr and "The whole log: " in result.stderr
    assert not list(home.glob("v1/images/*")) and not list(home.glob("v1/environments/*/build"))
