"""A real image in a store that containers share, which have all the same host name and the same pids."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from test_damaged import damaged_store, truncate, zeros

from conftest import Place

from standin import PAUSED, Container

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces of Linux")

START = """
import os
print(os.getpid(), flush=True)
from pyjl_autoimage import jl
import pyjl_autoimage
print(jl.seval("1 + 1"), pyjl_autoimage.started().image)
"""


@pytest.mark.parametrize("damage", [truncate, zeros])
def test_containers_that_share_a_damaged_image_break_one_start_in_all(built: Place, tmp_path: Path, damage) -> None:
    home, image = damaged_store(built, tmp_path, damage)
    environ = {**built.environ, "PYJL_AUTOIMAGE_HOME": str(home)}
    with Container(environ, tmp_path) as one, Container(environ, tmp_path) as other:
        said = [container.python(START) for container in (one, other, one, other, other, one)]
    pids = [out.split()[0] for _, out, _ in said]
    assert pids[0] == pids[1], "the pids collide"
    assert [status == 0 for status, *_ in said] == [False] + [True] * 5, said
    assert [out.splitlines()[1:] for _, out, _ in said[1:]] == [["2 None"]] * 5
    assert [err.count(f"system image {image} is not used any more") for *_, err in said] == [0, 1, 0, 0, 0, 0]


def test_a_start_that_is_killed_in_a_container_says_nothing_of_one_in_another(built: Place, tmp_path: Path) -> None:
    home, image = damaged_store(built, tmp_path, lambda library: None)
    environ = {**built.environ, "PYJL_AUTOIMAGE_HOME": str(home)}
    booting = home / "v1" / "booting"
    with Container(environ, tmp_path) as first:
        first.python(START)  # the first time juliapkg prints what it does
    with Container(environ, tmp_path) as one, Container(environ, tmp_path) as other:
        killed, lives = one.begin(PAUSED + START), other.begin(PAUSED + START)
        assert killed.stdout and lives.stdout
        pids = [[process.stdout.readline() for _ in range(2)] for process in (killed, lives)]
        assert pids[0] == pids[1], "the pids collide"
        assert len(os.listdir(booting)) == 4
        killed.communicate("die\n")
        assert killed.returncode != 0
        for container in (one, other):
            status, out, err = container.python(START)
            assert (status, out.splitlines()[1:]) == (0, [f"2 {image}"]), err
        assert len(os.listdir(booting)) == 2, "of the killed one nothing is left, of the living one all"
        out, err = lives.communicate("\n")
    assert (lives.returncode, out) == (0, f"2 {image}\n"), err
    assert os.listdir(booting) == []
