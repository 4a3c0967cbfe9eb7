"""The status: as data in each of its states, and as a person sees it, in a terminal of 80 columns and in a pipe."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from pyjl_autoimage.base.words import bytes_text
from pyjl_autoimage.people.status import status
from pyjl_autoimage.people.terminal import show_status
from pyjl_autoimage.startup.code import fingerprints
from pyjl_autoimage.store.built import OwnCode
from pyjl_autoimage.store.places import depot_of

from standin import EXAMPLE_UUID, PYTHONCALL, World, age, buildable_world, building, cli, environ_of, start_in

PROGRAM = "/home/somebody/projects/forecast/scripts/a_report_with_quite_a_long_name.py"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = buildable_world(tmp_path)
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    return world


def lines_of(data: dict, *, width: int = 80, terminal: bool = True) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, highlight=False, color_system=None)
    console.soft_wrap = not terminal
    show_status(data, console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def on_plain(world: World) -> None:
    world.record(PROGRAM, 1.31, 10.6, ago=9000)
    world.record(PROGRAM, 1.29, 10.4, ago=8000)


def a_build(world: World, **facts: object) -> None:
    world.store.ensure(world.store.environment(world.environment.id))
    building(world.store, world.environment.id, **facts)
    Path(world.store.build_log(world.environment.id)).write_text("what it says\n")


def test_nothing_recorded(world):
    data = status()
    assert data["summary"] == {
        "state": "nothing",
        "fast": False,
        "why": ["nothing has been recorded, and there is no image"],
    }
    assert (data["estimate"], data["times"]) == (None, [])
    lines = lines_of(data)
    assert lines[0] == "Slow. Nothing has been recorded, and there is no image."
    assert lines[1].startswith("pyjl-autoimage run script.py ")


def test_recorded_but_no_image(world):
    on_plain(world)
    data = status()
    assert data["summary"] == {"state": "recorded", "fast": False, "why": ["there is no image yet"]}
    assert data["estimate"] == {
        "program": PROGRAM, "seconds": 11.8, "now_seconds": 11.8, "then_seconds": None, "build_seconds": 300,
    }  # fmt: skip
    lines = lines_of(data)
    assert lines[0] == "Slow. There is no image yet; 2 recorded runs can go into one."
    assert " ".join(lines[1:3]) == (
        "pyjl-autoimage build saves about 12 s per run of a_report_with_quite_a_long_name.py, takes about 5 min"
    )
    assert lines_of(data, width=120)[1] == " ".join(lines[1:3])


def test_a_layer_only(world):
    on_plain(world)
    layer = world.publish_layer(program=PROGRAM)
    world.record(PROGRAM, 0.7, 1.8, layer=layer.id)
    data = status()
    assert data["summary"]["state"] == "layer" and data["summary"]["fast"]
    assert data["estimate"]["seconds"] == 2.5, "what the layer leaves"
    assert data["saved"] == {"seconds": 9.3, "runs": 1}
    lines = lines_of(data)
    assert lines[0].startswith("Faster. ") and "Saved so far: 9.30 s in 1 run." in lines


def test_a_layer_whose_cache_is_gone(world):
    world.publish_layer(program=PROGRAM, caches={"/depot/compiled/v1.10/Example/a.ji": "0" * 16})
    data = status()
    why = "Julia's precompile cache /depot/compiled/v1.10/Example/a.ji is not the same any more"
    assert data["summary"] == {"state": "stale", "fast": False, "why": [why]}
    told = " ".join(lines_of(data, width=200))
    assert told.startswith(f"Slow. No layer fits any more, so starts are plain ones:   {why}")


def test_a_valid_image(world):
    on_plain(world)
    image = world.publish(built_at=time.time() - 7200)
    world.record(PROGRAM, 0.20, 0.012, image=image.id, ago=3000, statements=0)
    world.record("-m worker", 0.20, 0.0, image=image.id, ago=2000, statements=0)
    data = status()
    assert data["summary"] == {"state": "image", "fast": True, "why": []}
    assert data["times"][1]["image"] == {"runs": 1, "ready_seconds": 0.2, "compile_seconds": 0.012}
    assert data["saved"] == {"seconds": 11.59, "runs": 1}
    lines = lines_of(data)
    assert lines[0] == f"Fast. The next start uses image {image.id}, built 2 hours ago."
    assert lines[1] == "Another build would bring nothing to speak of."
    table = [" ".join(line.split()) for line in lines[lines.index("") + 1 :][:6]]
    assert table == [
        "medians of the last runs runs start compiling together",
        "-m worker",
        "on an image 1 0.20 s 0.00 s 0.20 s",
        "...ts/a_report_with_quite_a_long_name.py",
        "plain 2 1.30 s 10.5 s 11.8 s",
        "on an image 1 0.20 s 12.0 ms 0.21 s",
    ]


def test_an_image_on_which_nothing_has_run_yet(world):
    on_plain(world)
    world.publish()
    assert lines_of(status())[1] == "No recorded run of a_report_with_quite_a_long_name.py on it has ended yet."


def test_an_image_that_lacks_what_runs_compile(world):
    on_plain(world)
    image = world.publish(built_at=time.time() - 7200)
    world.record(PROGRAM, 0.20, 1.5, image=image.id, ago=3000)
    assert lines_of(status(), width=200)[1].startswith("pyjl-autoimage build saves about 1.5 s per run of ")


def test_a_stale_image_with_its_reasons(world):
    on_plain(world)
    world.publish()
    world.write_manifest(version="0.5.4", extra=PYTHONCALL)
    data = status()
    assert data["summary"] == {
        "state": "stale",
        "fast": False,
        "why": ["Example 0.5.3 in the image, 0.5.4 in the manifest"],
    }
    lines = lines_of(data)
    assert lines[0] == "Slow. No image fits any more, so starts are plain ones:"
    assert lines[1] == "  Example 0.5.3 in the image, 0.5.4 in the manifest"
    assert sum("0.5.4" in line for line in lines) == 1, "said once"


def test_more_than_three_reasons_are_counted(world):
    world.publish(juliacall="0.9.1", julia_version="1.9.0", word_size=32, flags={"inline": "no"})
    lines = lines_of(status())
    assert len(status()["summary"]["why"]) == 4
    assert lines[4] == "  and 1 more reason"


def test_an_image_is_named_before_a_layer_that_the_same_keeps_from_use(world):
    changes = {"juliacall": "0.9.1"}
    world.publish_layer(image=world.publish(**changes).id, **changes)
    assert lines_of(status())[0] == "Slow. No image fits any more, so starts are plain ones:"


def test_an_older_image_is_not_used(world):
    world.publish(b"new", built_at=2.0)
    world.publish(b"old", built_at=1.0)
    lines = lines_of(status())
    assert lines[-1].startswith("1 older image, ") and lines[-1].endswith(": `clean` removes what is not used")


def test_building(world):
    on_plain(world)
    a_build(world, phase="statements", detail="240/960", started=time.time() - 70, phase_started=time.time() - 5)
    data = status()
    progress = data["build"]["progress"]
    assert (data["build"]["state"], progress["phase"], progress["detail"]) == ("running", "statements", "240/960")
    assert progress["elapsed_seconds"] == pytest.approx(70, abs=5) and 0.2 < progress["fraction"] < 0.4
    lines = lines_of(data)
    assert lines[1].startswith("Building: statements 240/960, 28 %, about 3 min left")
    assert lines[2] == "pyjl-autoimage log --follow shows what it does"
    assert not any("saves about" in line for line in lines)


def test_a_build_that_failed(world):
    on_plain(world)
    error = "PackageCompiler failed (status 1):\nERROR: LoadError: the sky fell"
    a_build(world, state="failed", error=error, started=time.time() - 70, finished=time.time() - 61)
    data = status()
    assert data["build"]["progress"] is None and data["build"]["error"] == error
    lines = lines_of(data)
    assert lines[1:3] == [
        "The last build failed 1 minute ago: ERROR: LoadError: the sky fell",
        "pyjl-autoimage log shows all that it said",
    ]
    assert any("saves about" in line for line in lines)


@pytest.mark.parametrize(
    ("variable", "value"), [("PYJL_AUTOIMAGE", "0"), ("PYTHON_JULIACALL_SYSIMAGE", "/opt/julia/own.so")]
)
def test_what_was_switched_off_is_said_to_be(world, monkeypatch, variable, value):
    world.publish()
    monkeypatch.setenv(variable, value)
    data = status()
    assert data["summary"]["state"] == "off" and not data["summary"]["fast"]
    assert lines_of(data)[0].startswith("Off. ")


def test_what_lies_on_the_disk(world):
    image = world.publish(b"x" * 5000)
    world.publish(b"y" * 700, environment="another")
    layer = world.publish_layer()
    (Path(depot_of(world.store.layer(layer.id))) / "cache.ji").write_bytes(b"z" * 3000)
    on_plain(world)
    disk = status()["disk"]
    assert disk["images"] == sum(p.stat().st_size for p in Path(image.path).parent.iterdir())
    assert disk["layers"] > 3000 and disk["recordings"] > 0
    everything = sum(p.stat().st_size for p in Path(world.store.home).rglob("*") if p.is_file())
    assert disk["store"] == everything


def busy(world: World) -> dict:
    """Everything at once that a status can show, with long names."""
    on_plain(world)
    image = world.publish(built_at=time.time() - 100)
    world.publish(b"stale", built_at=1.0, juliacall="0.9.35")
    world.publish_layer(program=PROGRAM, image=image.id)
    for number in range(4):
        world.record(f"/srv/{'deep/' * 12}program{number}.py", 0.2, 0.3, image=image.id, ago=90)
    world.record(PROGRAM, 0.2, 4000.0, image=image.id, ago=50)
    error = "ERROR: LoadError: " + "something long that cannot be said in fewer words " * 4
    a_build(
        world, state="failed", error=error, started=time.time() - 70, left_out={"Example": "tracked by path " * 8}
    )
    return status()


@pytest.mark.parametrize("width", [80, 60, 200])
def test_no_line_is_wider_than_the_terminal_and_tables_stay_tables(world, width):
    lines = lines_of(busy(world), width=width)
    assert max(map(len, lines)) <= width
    heading = next(n for n, line in enumerate(lines) if line.startswith("medians"))
    assert "together" in lines[heading]
    rows = [line for line in lines[heading + 1 :] if line.startswith(("  plain", "  on an image", "  with a layer"))]
    ends = {len(line) for line in rows}
    assert len(rows) == 4 and ends == {len(lines[heading])}, "right-aligned, each in one line"
    assert "and 2 more programs" in lines
    facts = lines[lines.index("", heading) + 1 :]
    labels = [line.split()[0] for line in facts[: facts.index("")] if not line.startswith(" ")]
    assert " ".join(labels) == "Julia project image layer profile last build left hook disk store"


def test_in_a_pipe_there_are_neither_colours_nor_broken_lines(world):
    data = busy(world)
    lines = lines_of(data, terminal=False)
    assert not any("\x1b" in line for line in lines)
    assert f"store     {data['store']}" in lines and len(max(lines, key=len)) > 200


def command(*arguments: str, **environ: str) -> str:
    found = cli({**os.environ, **environ}, *arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_command_prints_the_same_data_and_honours_no_color(world):
    on_plain(world)
    data = json.loads(command("status", "--json"))
    assert data["summary"] == status()["summary"] and data["times"] == status()["times"]
    assert "\x1b[" in command("status", FORCE_COLOR="1", TERM="xterm-256color")
    uncoloured = command("status", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color")
    assert "\x1b[3" not in uncoloured and "Slow." in uncoloured


def test_a_program_that_still_compiles_much_on_its_image(world):
    on_plain(world)
    image = world.publish(built_at=time.time() - 7200)
    world.record(PROGRAM, 0.20, 5.0, image=image.id, ago=60)
    told = " ".join(lines_of(status())[:3])
    assert told.startswith(f"Fast start. The next start uses image {image.id}, built 2 hours ago, but ")
    assert "a_report_with_quite_a_long_name.py still compiles about 5 s on it." in told


def test_older_images_are_one_line(world):
    for number in range(3):
        world.publish(f"content {number}".encode(), built_at=1000.0 + number)
    data = status()
    assert [entry["superseded"] for entry in data["rejected"]] == [True, True]
    lines = lines_of(data, width=120)
    size = sum(entry["bytes"] for entry in data["rejected"])
    assert f"2 older images, {bytes_text(size)}: `clean` removes what is not used" in lines
    assert not any("is not used:" in line for line in lines)


def test_only_layers_that_a_start_uses_are_shown(world):
    for number in range(5):
        program = f"/home/somebody/{number}.py"
        world.publish_layer(f"{number}" * 16, program=program, built_at=1000.0 + number)
        world.publish_layer(f"{number + 5}" * 16, program=program, built_at=500.0)
    lines = lines_of(status(), width=160)
    assert sum(line.startswith("layer  ") for line in lines) == 3
    assert any(line.endswith("and 2 more layers") for line in lines)


def test_own_code_that_changed_is_told(world, tmp_path):
    path = tmp_path / "model.jl"
    path.write_text("f() = 1")
    own = OwnCode("model_1", EXAMPLE_UUID, str(path), fingerprints([str(path)]))
    world.publish_layer(program=PROGRAM, code=(own,))
    assert "changed since" not in " ".join(lines_of(status(), width=200))
    path.write_text("f() = 2")
    assert "model.jl; model.jl changed since, and is evaluated" in " ".join(lines_of(status(), width=200))


def test_a_store_that_is_a_file_is_the_first_thing_said(world, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PYJL_AUTOIMAGE_HOME", str(tmp_path / "file"))
    first = lines_of(status(), width=300)[0]
    assert first.startswith("Nothing can be recorded or built: the store ") and first.endswith(
        "is a file, not a directory."
    )


def test_why_the_last_start_looked_at_everything_anew_is_told(world):
    world.publish()
    environ = {**os.environ, **environ_of(world)}
    program = world.root / "program.py"
    program.write_text("from pyjl_autoimage import jl")

    def start() -> dict:
        subprocess.run([sys.executable, program], env=environ, cwd=world.root, check=True)
        return status()["slow_start"]

    age(world.root)
    assert status()["slow_start"] is None
    start()  # it makes the environment's directory
    start()
    with open(world.project / "Manifest.toml", "a") as manifest:
        manifest.write("\n# resolved again\n")
    age(world.project)
    told = start()
    assert told["why"] == f"{world.project / 'Manifest.toml'} has changed" and told["program"] == str(program)
    assert start() == told, "this one went by what is remembered"
    (line,) = [line for line in lines_of(status(), width=300) if line.startswith("looked anew")]
    assert line.endswith("Manifest.toml has changed")


def test_an_image_that_only_its_checksum_condemns_is_not_told_to_be_used(world):
    """Since an older one was condemned, starts compare checksums."""
    older, newest = world.publish(b"older", built_at=1.0), world.publish(b"newest image", built_at=2.0)
    Path(newest.path).write_bytes(b"NEWEST image")
    world.store.condemn(older.id, "a start died")
    assert start_in(world)["sysimage"] is None
    assert status()["image"] is None
