"""Processes that really die while they "load an image", in every way that we know of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pyjl_autoimage.startup import guard

from standin import World, age, cli, python, start_in

DIE = """
import os, sys, signal, ctypes
from pyjl_autoimage.startup import guard
how = sys.argv[1]
with guard.Guard({directory!r}, "0123456789abcdef", watch={watch!r}):
    if how == "exit":
        ctypes.CDLL(None).exit(1)
    elif how == "KeyboardInterrupt":
        raise KeyboardInterrupt
    elif how == "fine":
        pass
    elif how == "segfault":
        ctypes.string_at(8)
    elif how == "wait":
        print("up", flush=True)
        signal.pause()
    else:
        os.kill(os.getpid(), getattr(signal, how))
"""


def die(directory, how, watch=True):
    code = DIE.format(directory=str(directory), watch=watch)
    return subprocess.run([sys.executable, "-c", code, how], capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("how", ["SIGBUS", "SIGSEGV", "SIGILL", "SIGABRT", "SIGFPE", "segfault", "exit"])
def test_a_process_that_dies_of_its_image_condemns_it(tmp_path, how):
    assert die(tmp_path, how).returncode != 0
    ((image, why),) = guard.verdicts(str(tmp_path))
    assert image == "0123456789abcdef"
    assert "while it loaded the image" in why
    assert list(guard.verdicts(str(tmp_path))) == [], "judged once"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "KeyboardInterrupt", "fine"])
def test_a_process_that_was_killed_does_not(tmp_path, how):
    for _ in range(3):
        die(tmp_path, how)
        assert list(guard.verdicts(str(tmp_path))) == []
        assert os.listdir(tmp_path) == []


def test_a_power_loss_does_not(tmp_path, monkeypatch):
    die(tmp_path, "SIGBUS")
    monkeypatch.setattr(guard, "boot_id", lambda: "another boot")
    assert list(guard.verdicts(str(tmp_path))) == []


def test_a_living_process_is_not_judged(tmp_path):
    code = DIE.format(directory=str(tmp_path), watch=True)
    process = subprocess.Popen([sys.executable, "-c", code, "wait"], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    assert list(guard.verdicts(str(tmp_path))) == []
    assert len(os.listdir(tmp_path)) == 2
    process.kill()
    process.wait()
    assert list(guard.verdicts(str(tmp_path))) == []


def test_unwatched_it_takes_two_deaths_in_a_row(tmp_path):
    die(tmp_path, "SIGBUS", watch=False)
    assert list(guard.verdicts(str(tmp_path))) == []
    die(tmp_path, "fine", watch=False)
    die(tmp_path, "SIGBUS", watch=False)
    assert list(guard.verdicts(str(tmp_path))) == [], "a start in between went well"
    die(tmp_path, "SIGBUS", watch=False)
    ((image, _),) = guard.verdicts(str(tmp_path))
    assert image == "0123456789abcdef"
    die(tmp_path, "SIGBUS", watch=False)
    assert list(guard.verdicts(str(tmp_path))) == [], "after the verdict it takes two again"
    die(tmp_path, "KeyboardInterrupt", watch=False)
    die(tmp_path, "SIGBUS", watch=False)
    assert len(list(guard.verdicts(str(tmp_path)))) == 1, "a start that was interrupted says nothing for the image"


def test_a_faulthandler_of_the_users_stays_theirs(tmp_path):
    code = (
        "import faulthandler, sys; faulthandler.enable()\nfrom pyjl_autoimage.startup import guard\n"
        f"with guard.Guard({str(tmp_path)!r}, '0' * 16): pass\nassert faulthandler.is_enabled()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_noise_in_the_directory_is_no_verdict(tmp_path):
    for name in ("x", "a-b-c-d-e", "-----", ".alive", f"{guard.hostname()}-1-2-3"):
        (tmp_path / name).write_bytes(b"Fatal Python error: x")
    assert list(guard.verdicts(str(tmp_path))) == []


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with guard.Guard(str(tmp_path / "file" / "booting"), "0" * 16):
        pass


# -- a whole start-up, with a stand-in juliacall that dies ---------------------------------------------


def deadly(world: World, how: str) -> None:
    """juliacall dies when it is given an image."""
    module = world.site / "juliacall" / "__init__.py"
    text = module.read_text()
    line = f'\nif CONFIG["sysimage"]:\n    import ctypes, signal\n    {how}\n'
    module.write_text(text.replace("\nclass Main:", f"{line}\nclass Main:"))


def start(world: World, **environ: str) -> subprocess.CompletedProcess[str]:
    code = "from pyjl_autoimage import jl; import juliacall; print(juliacall.CONFIG['sysimage'])"
    return python({**world.environ, **environ}, "-c", code, cwd=world.root)


@pytest.mark.parametrize(
    ("how", "status"),
    [("os.kill(os.getpid(), signal.SIGBUS)", -signal.SIGBUS), ("ctypes.CDLL(None).exit(1)", 1)],
)
def test_the_program_breaks_once_then_starts_plainly_and_says_so_once(world, how, status):
    image = world.publish()
    deadly(world, how)
    assert start(world).returncode == status
    second = start(world)
    assert (second.returncode, second.stdout) == (0, "None\n")
    assert second.stderr.count(f"system image {image.id} is not used any more") == 1
    assert "restore" in second.stderr
    third = start(world)
    assert (third.returncode, third.stdout, third.stderr) == (0, "None\n", "")


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGKILL)", "raise KeyboardInterrupt"])
def test_a_killed_start_leaves_the_image_in_use(world, how):
    image = world.publish()
    deadly(world, how)
    assert start(world).returncode != 0
    (world.site / "juliacall" / "__init__.py").write_text(
        (world.site / "juliacall" / "__init__.py").read_text().replace(how, "pass")
    )
    assert start(world).stdout == f"{image.path}\n"


def test_the_way_back(world):
    image = world.publish()
    age(world.root)
    assert start_in(world)["sysimage"] == image.path
    world.store.condemn(image.id, "of a test")
    age(world.store.condemnations)
    for _ in range(2):
        assert start_in(world)["sysimage"] is None
    assert "condemned: of a test" in cli(world.environ, "status").stdout
    result = cli(world.environ, "restore", image.id)
    assert result.returncode == 0, result.stderr
    assert start_in(world)["sysimage"] == image.path
    assert cli(world.environ, "restore", image.id).stdout == f"image {image.id} was not condemned\n"
    assert cli(world.environ, "restore", "nonsense").returncode == 1


def test_a_damaged_image_is_not_restored_nor_chosen_while_another_is_condemned(world):
    condemned = world.publish(b"0123456789", built_at=2.0)
    other = world.publish(b"9876543210", built_at=1.0)
    world.store.condemn(condemned.id, "of a test")
    assert start_in(world)["sysimage"] == other.path
    for image in (condemned, other):
        with open(image.path, "r+b") as file:
            file.seek(4)
            file.write(b"?")
    result = cli(world.environ, "restore", condemned.id)
    assert result.returncode == 1 and "checksum" in result.stderr
    assert start_in(world)["sysimage"] is None
