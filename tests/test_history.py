"""The latest builds are remembered, whatever happens to one of them."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pyjl_autoimage.build import history
from pyjl_autoimage.build.state import State

from standin import World, buildable_world, cli, environ_of, julia_that, julia_that_builds, wait_for


def state(token: str, result: str = "done", **changes: object) -> State:
    given = {
        "started": 100.0,
        "phase_started": 130.0,
        "finished": 140.0,
        "phase": "publish",
        "seconds": {"load": 30.0},
    }
    return State(token, "elsewhere-1-1", state=result, **{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture
def noted(store):
    store.ensure(store.environment("e"))
    return lambda token, result="done", **changes: history.note(store, "e", state(token, result, **changes))


def test_fifty_builds_are_kept(store, noted):
    for number in range(60):
        noted(str(number))
    assert [build.token for build in history.read(store, "e")] == [str(number) for number in range(10, 60)]


def test_a_build_is_noted_once(store, noted):
    noted("a", "failed", error="no compiler\nand much more")
    noted("a", "failed")
    (build,) = history.read(store, "e")
    assert (build.state, build.error) == ("failed", "no compiler")
    noted("b", "failed", error="PackageCompiler failed (status 1):\nERROR: the sky fell\nStacktrace")
    assert history.read(store, "e")[-1].error == "ERROR: the sky fell"


def test_the_phase_in_which_it_ended_counts(store, noted):
    noted("a", "failed", phase="link")
    noted("b", seconds={"load": 30.0, "publish": 2.0})
    assert [build.seconds for build in history.read(store, "e")] == [
        {"load": 30.0, "link": 10.0}, {"load": 30.0, "publish": 2.0},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line", ['{"token": "x"', "", "[]", "null", '{"token": 1}', "\0", "[" * 5000, '{"started": NaN}']
)
def test_a_line_that_cannot_be_read_costs_no_other(store, noted, line):
    noted("a")
    path = Path(store.build_history("e"))
    whole = path.read_text()
    path.write_text(whole + line + "\n" + whole.replace('"a"', '"b"') + line)
    assert [build.token for build in history.read(store, "e")] == ["a", "b"]
    noted("c")
    assert [build.token for build in history.read(store, "e")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": {"load": "x"}},
        {"seconds": []},
        {"seconds": {"load": float("inf")}},
        {"started": None},
        {"started": 1e300},
        {"finished": float("nan")},
        {"bytes": 10**30},
        {"more": 1},
    ],
)
def test_a_line_of_strangers(store, noted, change):
    noted("a")
    path = Path(store.build_history("e"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert history.read(store, "e") == []


def test_a_disk_that_is_full_does_not_make_a_build_fail(store, noted, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    noted("a")
    monkeypatch.setattr(history, "write_atomically", full)
    noted("b")
    assert [build.token for build in history.read(store, "e")] == ["a"]


def build(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    return cli(environ_of(world), "build", "--json", *arguments, cwd=world.root)


def test_builds_that_end_well_badly_and_not_at_all(tmp_path):
    world = buildable_world(tmp_path)
    julia_that_builds(world)
    image = json.loads(build(world).stdout)["image"]
    julia_that(world, "exit 1")
    assert build(world).returncode == 1
    julia_that(world, "sleep 60")
    build(world, "--no-wait")

    def running() -> State | None:
        found = State.read(world.store, world.environment.id)
        return found if found and found.state == "running" and found.phase in ("builder", "precompile") else None

    os.killpg(wait_for(running).pid, signal.SIGKILL)
    julia_that_builds(world)
    build(world)
    builds = history.read(world.store, world.environment.id)
    assert [one.state for one in builds] == ["done", "failed", "failed", "done"]
    assert builds[0].image == builds[3].image == image
    assert builds[0].bytes == len("a new image") and builds[0].packages == 1
    assert "killed" in builds[2].error and "PackageCompiler" in builds[1].error
    assert (
        "publish" in builds[0].seconds
        and sum(builds[0].seconds.values()) <= builds[0].finished - builds[0].started + 1
    )
