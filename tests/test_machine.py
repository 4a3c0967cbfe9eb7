"""What this machine can do for a build, said before minutes pass: memory as a container has it, room, noexec."""

from __future__ import annotations

import builtins
import os
import subprocess
from types import SimpleNamespace

import psutil
import pytest

from pyjl_autoimage.build import machine
from pyjl_autoimage.build.state import State
from pyjl_autoimage.errors import StoreError
from pyjl_autoimage.store.places import Store

from standin import past_build

GB = 2**30
V2 = "/sys/fs/cgroup"


@pytest.fixture
def figures(monkeypatch, tmp_path):
    """Files of the kernel's that say something else; those below its control groups that are not given are not there."""
    given: dict[str, str] = {}
    plain = builtins.open

    def opened(path, *arguments, **keywords):
        if path in given:
            file = tmp_path / str(path).replace("/", "_")
            file.write_text(given[path])
            path = file
        elif str(path).startswith((V2, "/proc/self/cgroup")):
            raise FileNotFoundError(2, "No such file or directory", path)
        return plain(path, *arguments, **keywords)

    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * GB))
    return given


def group(directory: str, most: str | float, used: float, cache: float = 0.0) -> dict[str, str]:
    limit = most if isinstance(most, str) else str(int(most * GB))
    return {
        f"{directory}/memory.max": f"{limit}\n",
        f"{directory}/memory.current": f"{int(used * GB)}\n",
        f"{directory}/memory.stat": f"anon 1\ninactive_file {int(cache * GB)}\n",
    }


def test_the_page_cache_is_no_memory_in_use(figures):
    """A container that has read an image and a data set: the kernel gives that back when somebody asks for memory."""
    figures.update(group(V2, 16, 15.8, cache=14))
    assert machine.available_gigabytes() == pytest.approx(14.2)


def test_the_least_of_all_levels_counts(figures):
    figures["/proc/self/cgroup"] = "0::/user.slice/job\n"
    figures.update(group(f"{V2}/user.slice", 8, 5))
    figures.update(group(f"{V2}/user.slice/job", "max", 1))
    assert machine.available_gigabytes() == pytest.approx(3)


def test_control_groups_of_version_1(figures):
    figures["/proc/self/cgroup"] = "9:cpu,cpuacct:/job\n4:memory:/job\n0::/\n"
    place = f"{V2}/memory/job"
    figures[f"{place}/memory.limit_in_bytes"] = str(6 * GB)
    figures[f"{place}/memory.usage_in_bytes"] = str(5 * GB)
    figures[f"{place}/memory.stat"] = f"inactive_file 1\ntotal_inactive_file {4 * GB}\n"
    assert machine.available_gigabytes() == pytest.approx(5)


def test_strange_words_of_the_kernel_are_no_limit(figures):
    figures["/proc/self/cgroup"] = "0::/../../elsewhere\n"
    figures.update(group(V2, "much", 1))
    assert machine.available_gigabytes() == 100


@pytest.mark.skipif(os.name != "posix", reason="there is no ulimit")
def test_ulimit_counts(figures, monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (2 * GB if which == resource.RLIMIT_AS else -1, -1))
    assert machine.available_gigabytes() == 2


def built(size: int) -> State:
    return past_build("t", 1.0, 1.0, bytes=size)


def test_no_room_for_an_image_as_large_as_the_last_one(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000_000))
    machine.check_disk(store, [])
    machine.check_disk(store, [built(900_000_000), built(300_000_000)])
    with pytest.raises(StoreError, match=r"1\.0 GB are free .* needs 2\.1 GB"):
        machine.check_disk(store, [built(300_000_000), built(900_000_000), built(0)])
    machine.check_disk(store, [built(900_000_000)], quick=True)


def test_a_store_that_is_mounted_noexec(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here (needs root)")
    try:
        with pytest.raises(StoreError, match="mounted noexec"):
            machine.check_disk(Store(str(place)), [])
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("name", ["12:00:00", "new\nline"])
def test_a_store_that_julia_has_no_way_to_name(tmp_path, name):
    place = tmp_path / name
    place.mkdir()
    with pytest.raises(StoreError, match="Put it elsewhere"):
        machine.check_disk(Store(str(place)), [])
