"""Processes that really die while they "load an image", in every way that we know of."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pyjl_autoimage.base import liveness
from pyjl_autoimage.base.liveness import boot_id, hostname
from pyjl_autoimage.startup import guard
from pyjl_autoimage.store.places import Store

from standin import PAUSED, Container, World, age, cli, python, read_only, start_in, unshare, wait_for

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
    die(tmp_path, "exit")
    (mark,) = tmp_path.iterdir()
    monkeypatch.setattr(liveness, "_boot", "another")
    assert list(guard.verdicts(str(tmp_path))) == []
    assert mark.exists(), "another host may be loading it"
    os.utime(mark, (1, 1))
    assert list(guard.verdicts(str(tmp_path))) == []
    assert os.listdir(tmp_path) == []


def test_the_words_of_a_crash_are_a_verdict_on_any_host_at_once(tmp_path, monkeypatch):
    die(tmp_path, "SIGSEGV")
    monkeypatch.setattr(liveness, "_boot", "another")
    ((image, why),) = guard.verdicts(str(tmp_path))
    assert (image, os.listdir(tmp_path)) == ("0123456789abcdef", []) and "Segmentation fault" in why


def test_marks_of_a_former_version_are_read(tmp_path):
    image = "0123456789abcdef"
    crashed, started = (tmp_path / f"{hostname()}-{n}-123456-{image}-{boot_id()}" for n in (1, 2))
    crashed.write_bytes(b"Fatal Python error: Bus error\n\n")
    for path in (started, Path(f"{started}.alive")):
        path.touch()
    assert [found for found, _ in guard.verdicts(str(tmp_path))] == [image]
    assert len(os.listdir(tmp_path)) == 2, "it may be running: nothing of it is locked"
    os.utime(started, (1, 1))
    assert list(guard.verdicts(str(tmp_path))) == [] and os.listdir(tmp_path) == []


@pytest.mark.parametrize("before", ["_words", "is_dead", "_judge"])
def test_two_who_judge_at_the_same_time_count_one_death_once(tmp_path, monkeypatch, before):
    die(tmp_path, "SIGBUS", watch=False)
    original = getattr(guard, before)

    def late(*given):
        monkeypatch.setattr(guard, before, original)
        assert list(guard.verdicts(str(tmp_path))) == []
        return original(*given)

    monkeypatch.setattr(guard, before, late)
    assert list(guard.verdicts(str(tmp_path))) == []
    assert os.listdir(tmp_path) == ["0123456789abcdef.once"]


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
    for name in (
        "x",
        "a-b-c-d-e",
        "-----",
        ".alive",
        f"{hostname()}-1-2-3",
        f"{hostname()}-{'9' * 99}-{boot_id()}-a-b",
    ):
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


SHOW = "from pyjl_autoimage import jl; import juliacall; print(juliacall.CONFIG['sysimage'])"


def test_a_damaged_image_breaks_one_start_of_all_containers_that_share_a_store(world):
    world.publish()
    deadly(world, "ctypes.string_at(8)")  # a real one: a signal that process 1 sends itself is ignored
    died = 0
    for number in range(3):
        shell = f'hostname c{number}abc; exec "$0" -c "$1"'
        command = [*unshare("-u", "-p", "-f", "--mount-proc"), "sh", "-c", shell, sys.executable, SHOW]
        died += subprocess.run(command, env=world.environ, cwd=world.root, capture_output=True).returncode != 0
    assert (died, os.listdir(world.store.booting)) == (1, [])


def test_the_living_of_other_pid_namespaces_condemn_nothing(world):
    """Where signals are not watched, a start that is under way looked like one that had died."""
    image = world.publish()
    deadly(world, f"__import__('time').sleep(0.1); __import__('standin').until_there({str(world.root / 'go')!r})")
    (world.site / "standin.py").write_text(
        "import os, time\ndef until_there(path):\n    while not os.path.exists(path): time.sleep(0.02)\n"
    )
    environ = {**world.environ, "PYTHONFAULTHANDLER": "1"}
    command = [*unshare("-p", "-f", "--mount-proc"), sys.executable, "-c", SHOW]
    started = []
    for _ in range(3):
        started.append(subprocess.Popen(command, env=environ, cwd=world.root, stdout=subprocess.PIPE, text=True))
        wait_for(
            lambda: os.path.isdir(world.store.booting) and len(os.listdir(world.store.booting)) == 2 * len(started)
        )
    (world.root / "go").touch()
    assert [process.communicate()[0] for process in started] == [f"{image.path}\n"] * 3
    assert world.store.condemned(image.id) is None and os.listdir(world.store.booting) == []


def test_containers_of_one_name_whose_pids_collide_break_one_start_of_a_damaged_image(world):
    image = world.publish()
    deadly(world, "ctypes.string_at(8)")
    telling = f"import os; print(os.getpid(), flush=True)\n{SHOW}"
    with Container(world.environ, world.root) as one, Container(world.environ, world.root) as other:
        said = [container.python(telling) for _ in range(3) for container in (one, other)]
    statuses, pids = [status for status, *_ in said], [out.split()[0] for _, out, _ in said]
    assert pids[0] == pids[1], "the pids collide"
    assert statuses[0] != 0 and statuses[1:] == [0] * 5
    assert [err.count("is not used any more") for *_, err in said] == [0, 1, 0, 0, 0, 0]
    assert world.store.condemned(image.id) and os.listdir(world.store.booting) == []


@pytest.mark.parametrize("environ", [{}, {"PYTHONFAULTHANDLER": "1"}], ids=["watched", "unwatched"])
def test_a_start_that_is_killed_says_nothing_of_that_with_the_same_pid_in_another_container(world, environ):
    image = world.publish()
    environ = {**world.environ, **environ}
    with Container(environ, world.root) as one, Container(environ, world.root) as other:
        killed, lives = one.begin(PAUSED + SHOW), other.begin(PAUSED + SHOW)
        pids = {process.stdout.readline() for process in (killed, lives) if process.stdout}
        assert len(pids) == 1 and len(os.listdir(world.store.booting)) == 4
        killed.communicate("die\n")
        assert killed.returncode != 0
        for container in (one, other, one):
            status, out, err = container.python(SHOW)
            assert (status, out, err) == (0, f"{image.path}\n", ""), "no verdict"
        left = [name for name in os.listdir(world.store.booting) if not name.endswith(".once")]
        assert len(left) == 2, "of the killed one nothing is left, of the living one all"
        out, _ = lives.communicate("\n")
    assert (out, world.store.condemned(image.id)) == (f"{image.path}\n", None)


@pytest.mark.parametrize("place", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_a_damaged_image_in_a_store_that_cannot_be_written_breaks_one_start(world, tmp_path, place):
    image = world.publish()
    deadly(world, "os.kill(os.getpid(), signal.SIGSEGV)")
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    environ = {"XDG_RUNTIME_DIR": "", "TMPDIR": "", place: str(private)}
    with read_only(Path(world.store.home)):
        results = [start(world, **environ) for _ in range(4)]
        status = cli({**world.environ, **environ}, "status")
    assert [result.returncode for result in results] == [-signal.SIGSEGV, 0, 0, 0]
    assert [result.stderr.count("is not used any more") for result in results] == [0, 1, 0, 0]
    assert "condemned: a process died" in status.stdout
    (own,) = private.iterdir()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert cli({**world.environ, **environ}, "restore", image.id).returncode == 0
    assert start(world, **environ).returncode == -signal.SIGSEGV, "it is tried again"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_place_aside_that_others_can_write_is_not_used(world, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert world.store.aside() is None, "nothing is made by who only looks"
    made = world.store.aside(make=True)
    assert made is not None and world.store.aside() is not None
    assert Store("/another").aside(make=True).home != made.home, "each store has its own"
    own = Path(made.home).parent
    own.chmod(0o755)
    assert world.store.aside() is None and world.store.aside(make=True) is None
    own.rmdir()
    own.symlink_to(world.root)
    assert world.store.aside(make=True) is None
    own.unlink()
    tmp_path.chmod(0o777)
    assert world.store.aside(make=True) is None, "others could put another in its place"


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
