"""Record, build, and again: the whole of it, with a stand-in for the Julia that builds and for juliacall."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pyjl_autoimage.build.build import NOTHING_RECORDED
from pyjl_autoimage.profile import recordings
from pyjl_autoimage.profile.profile import Origin

from standin import (
    World,
    age,
    buildable_world,
    cli,
    environ_of,
    julia_that,
    julia_that_builds,
    python,
    runs,
    until,
    wait_for,
)

# Writes to its recording, as Julia would, what a program still compiles on the stock image and on later ones.
PROGRAM = """
import os, sys
import juliacall
image = juliacall.CONFIG["sysimage"]
which = open(image).read() if image else "stock"
with open(juliacall.CONFIG["trace_compile"], "a") as trace:
    for name in {compiles!r}.get(which, []):
        trace.write("precompile(Tuple{{typeof(Base.%s), Int64}})\\n" % name)
print("argv", sys.argv[1:])
"""


def statement(name: str) -> str:
    return f"precompile(Tuple{{typeof(Base.{name}), Int64}})"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return buildable_world(tmp_path)


def program(world: World, name: str = "prog.py", after: str = "", **compiles: list[str]) -> str:
    path = world.root / name
    names = {key.replace("_", " "): value for key, value in compiles.items()}
    path.write_text(PROGRAM.format(compiles=names) + after)
    return str(path)


def julia_that_builds_generations(world: World, **keywords) -> None:
    """Each image says which it is."""
    count = world.root / "count"
    julia_that_builds(world, meanwhile=f'echo x >> "{count}"', content="image $(wc -l < COUNT)", **keywords)
    world.executable.write_text(world.executable.read_text().replace("COUNT", f'"{count}"'))
    age(world.project, world.executable)


def build(world: World, *arguments: str, check: bool = True, **environ: str) -> dict:
    result = cli(environ_of(world, **environ), "build", "--json", *arguments, cwd=world.root)
    assert not check or result.returncode == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    told["notes"] = without_layers(told.get("notes", []))
    return told | {"status": result.returncode, "stderr": result.stderr}


def without_layers(notes: list[str]) -> list[str]:
    """The stand-in Julia precompiles no layers."""
    return [note for note in notes if not note.startswith("no layer for ")]


def log(world: World) -> str:
    return Path(world.store.build_log(world.environment.id)).read_text()


def images_built(world: World) -> int:
    return len((world.root / "count").read_text().splitlines())


def test_it_builds_until_a_run_compiles_nothing_more(world):
    julia_that_builds_generations(world)
    script = program(world, stock=["a", "b"], image_1=["c"], image_2=[])
    told = build(world, "--train", script, "--", "--size", "3")
    assert images_built(world) == 2
    assert Path(told["path"]).read_text() == "image 2"
    assert [(w["generation"], w["statements"], w["new"], w["problem"]) for w in told["workloads"]] == [
        (1, 2, 2, ""),
        (2, 1, 1, ""),
        (3, 0, 0, ""),
    ]
    assert log(world).count("argv ['--size', '3']") == 3
    kept = recordings.load(world.store, world.environment.id)
    assert set(kept.statements) == {statement(name) for name in "abc"}
    assert kept.statements[statement("c")].programs == {script}


def test_what_an_image_was_given_in_vain_is_no_reason_for_another_one(world):
    julia_that_builds_generations(world)
    build(world, "--train", program(world, stock=["a", "b"], image_1=["b"]))
    assert images_built(world) == 1


def test_what_no_image_can_hold_is_no_reason_for_another_one(world):
    julia_that_builds_generations(world, unresolved=(2,))
    script = program(world, stock=["a", "b"], image_1=["b"], image_2=["b"])
    build(world, "--train", script)
    assert images_built(world) == 1
    build(world, "--train", script)  # in which it is not even tried
    assert images_built(world) == 2


def test_it_ends_after_a_few_generations(world):
    julia_that_builds_generations(world)
    told = build(world, "--train", program(world, stock=["a"], image_1=["b"], image_2=["c"], image_3=["d"]))
    assert images_built(world) == 3
    assert len(told["workloads"]) == 3


def test_runs_that_do_not_start_on_the_image_cannot_go_on_for_ever(world):
    julia_that_builds_generations(world)
    path = Path(program(world, stock=["a"]))
    path.write_text("import os; os.environ['PYTHON_JULIACALL_CHECK_BOUNDS'] = 'yes'\n" + path.read_text())
    world.write_manifest(extra=world.project.joinpath("Manifest.toml").read_text().split('version = "0.5.3"\n')[1])
    told = build(world, "--train", str(path))
    assert images_built(world) <= 2 and told["state"] == "done"


def test_workloads_that_fail_are_notes_and_keep_what_they_recorded(world):
    julia_that_builds_generations(world)
    failing = program(world, "failing.py", "raise ValueError('the reason')", stock=["a"])
    hanging = program(world, "hanging.py", "import time; time.sleep(60)", stock=["b"])
    told = build(world, "--train", failing, "--train", hanging, "--time-limit", "4", check=False)
    assert (told["state"], told["status"]) == ("done", 1), "not one of them ended well"
    assert told["notes"] == [
        "workload failing.py: it ended with status 1: ValueError: the reason",
        "workload hanging.py: it was ended after 4 s (setting time_limit)",
    ]
    assert set(recordings.load(world.store, world.environment.id).statements) == {statement("a"), statement("b")}
    assert "ValueError: the reason" in log(world)


def test_of_a_program_that_fails_the_reason_is_told_once_and_at_once(world):
    julia_that_builds_generations(world)
    failing = program(world, "failing.py", "raise ValueError('the reason')", stock=["a"])
    good = program(world, "good.py", stock=["b"])
    for programs, status in ([failing], 1), ([failing, good], 0):
        result = subprocess.run(
            [sys.executable, "-m", "pyjl_autoimage", "build", *(a for p in programs for a in ("--train", p))],
            env=environ_of(world), cwd=world.root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == status, result.stdout
        told = " ".join(result.stdout.split())
        assert "failed failing.py: it ended with status 1: ValueError: the reason; " in told
        assert "note: workload" not in told and "ran failing.py" not in told
        assert told.index("failed failing.py") < told.index("Built image")
        assert ("Every program to train on failed" in told) is (status == 1)


def test_a_later_image_that_fails_leaves_the_earlier_one(world):
    build_once = f'if [ -e "{world.root}/once" ]; then echo "ERROR: no memory"; exit 1; fi; touch "{world.root}/once"'
    julia_that_builds(world, meanwhile=build_once, content="image 1")
    age(world.project, world.executable)
    told = build(world, "--train", program(world, stock=["a"], image_1=["b"]))
    assert told["state"] == "done" and Path(told["path"]).read_text() == "image 1"
    assert told["notes"][0].startswith(f"image {told['image']} stays in use, the one after it could not be built")


def test_a_first_image_that_fails_is_a_failed_build(world):
    julia_that(world, 'echo "ERROR: no memory"; exit 1')
    age(world.executable)
    told = build(world, "--train", program(world, stock=["a"]), check=False)
    assert told["status"] == 1 and "no memory" in told["error"]


def test_arguments_belong_to_one_program(world):
    told = build(world, "--", "x", check=False)
    assert told["status"] == 2 and "--train PROGRAM" in told["stderr"]
    told = build(world, "--train", "nowhere.py", check=False)
    assert told["status"] == 2 and "there is no file nowhere.py" in told["stderr"]


REBUILD = """
import json, sys
import pyjl_autoimage as a
from pyjl_autoimage import jl
names = ["x", "y"]
def f():
    import juliacall
    assert type(jl).__name__ == "Main"
    if juliacall.CONFIG["sysimage"] is None:
        with open(juliacall.CONFIG["trace_compile"], "a") as trace:
            trace.writelines("precompile(Tuple{typeof(Base.%s), Int64})\\n" % name for name in names)
handle = a.rebuild(workload=[f, a.Workload(statements="s.jl")])
print(json.dumps({"notes": handle.state().notes, "workloads": [vars(ran) for ran in handle.state().workloads]}))
"""


def test_rebuild_takes_a_function_of_main_and_a_file_of_statements(world):
    julia_that_builds_generations(world)
    (world.root / "s.jl").write_text(f"{statement('z')}\nrun(`rm -rf /`)\nprecompile(f, (Int,))\n")
    script = world.root / "caller.py"
    script.write_text(REBUILD)
    result = python(environ_of(world), str(script), cwd=world.root)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert without_layers(told["notes"]) == []
    assert [(w["name"], w["statements"], w["new"]) for w in told["workloads"][:2]] == [("f", 2, 2), ("s.jl", 1, 1)]
    kept = recordings.load(world.store, world.environment.id)
    assert set(kept.statements) == {statement(name) for name in "xyz"}
    assert kept.statements[statement("x")].programs == {str(script)}
    origins = [kept.statements[statement(name)].origin for name in "xyz"]
    assert origins == [Origin.RECORDED, Origin.RECORDED, Origin.IMPORTED]


def test_a_build_with_something_to_run_waits_for_the_one_that_runs(world):
    release = world.root / "release"
    julia_that_builds(world, meanwhile=until(release))
    age(world.project, world.executable)
    script = program(world, a_new_image=["a"])
    code = f"""
import time, pyjl_autoimage as a
first = a.rebuild(wait=False)
while first.progress.state == "starting": time.sleep(0.05)
second = a.rebuild(wait=False, workload={script!r})
while second.progress.detail != "another build ends first": time.sleep(0.05)
open({str(release)!r}, "w").close()
second.wait(60)
print(first.progress.state, second.joined, second.state().workloads[0].new)
"""
    told = python(environ_of(world), "-c", code, cwd=world.root)
    assert told.stdout == "done False 1\n", told.stderr
    assert statement("a") in recordings.load(world.store, world.environment.id).statements


def test_a_cancelled_training_ends_its_workload(world):
    julia_that_builds_generations(world)
    script = program(world, after="print('pid', os.getpid(), flush=True)\nimport time; time.sleep(60)", stock=["a"])
    code = f"import pyjl_autoimage as a, time; h = a.rebuild(wait=False, workload={script!r})\nimport os"
    watch = """
while "pid " not in (open(h.log).read() if os.path.exists(h.log) else ""): time.sleep(0.05)
h.cancel()
while not h.done: time.sleep(0.05)
print(h.progress.state)
"""
    result = python(environ_of(world), "-c", code + watch, cwd=world.root)
    assert result.stdout == "cancelled\n", result.stderr
    pid = int(log(world).partition("pid ")[2].split()[0])
    wait_for(lambda: not runs(pid))


# -- libraries -----------------------------------------------------------------------------------------------


def install(world: World, name: str, source: str, *entries: str, version: str = "1.0") -> Path:
    """An installed library with these entry points."""
    package = world.site / name
    package.mkdir()
    (package / "__init__.py").write_text(
        "raise SystemExit('a library was imported')\n" if "import" not in source else ""
    )
    (package / "images.py").write_text(textwrap.dedent(source))
    metadata = world.site / f"{name}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text("[pyjl_autoimage.workloads]\n" + "".join(f"{e}\n" for e in entries))
    return package


GOOD = """
from pyjl_autoimage import Workload, workload

@workload(packages=["Example"])
def tables():
    import juliacall
    with open(juliacall.CONFIG["trace_compile"], "a") as trace:
        trace.write("precompile(Tuple{typeof(Base.tables), Int64})\\n")

declared = Workload(statements="precompile.jl", packages=["Example"])
absent = Workload("import juliacall", packages=["Nowhere"])
"""


def test_what_libraries_bring_along_goes_into_an_ordinary_build(world):
    julia_that_builds_generations(world)
    package = install(
        world,
        "goodlib",
        GOOD,
        "a = goodlib.images:tables",
        "b = goodlib.images:declared",
        "c = goodlib.images:absent",
    )
    (package / "precompile.jl").write_text(f'{statement("declared")}\ntouch("trap")\n')
    told = build(world)
    assert [(w["name"], w["statements"], w["new"], w["problem"]) for w in told["workloads"]] == [
        ("goodlib: a", 1, 1, ""),
        ("goodlib: b", 1, 1, ""),
        ("goodlib: c", 0, 0, "not run: the project has no Nowhere"),
    ]
    kept = recordings.load(world.store, world.environment.id).statements
    assert {text: one.origin for text, one in kept.items()} == {
        statement("tables"): Origin.RECORDED,
        statement("declared"): Origin.LIBRARY,
    }
    assert images_built(world) == 1
    again = build(world)
    assert [w["new"] for w in again["workloads"]] == [0, 0, 0]


def test_a_broken_library_costs_a_note(world):
    julia_that_builds_generations(world)
    install(world, "broken", "import no_such_thing", "a = broken.images:f", "b = broken.nowhere")
    install(world, "odd", "", "c = ???")
    (world.site / "unreadable-1.dist-info").mkdir()
    told = build(world)
    assert told["state"] == "done" and images_built(world) == 1
    odd = told["notes"].pop(0)
    # From 3.15 on Python itself refuses such a one, and does not give out the others of that package.
    assert odd == "workload odd: c: '???' names no module" or odd.startswith("odd's metadata cannot be read: ")
    assert told["notes"] == [
        "workload broken: a: it ended with status 1: ModuleNotFoundError: No module named 'no_such_thing'",
        f"workload broken: b: it ended with status 1: {sys.executable}: No module named broken.nowhere",
        NOTHING_RECORDED,
    ]


def test_libraries_can_be_left_out(world):
    julia_that_builds_generations(world)
    install(world, "goodlib", GOOD, "a = goodlib.images:tables")
    assert build(world, "--no-libraries")["workloads"] == []
    assert build(world, PYJL_AUTOIMAGE_LIBRARIES="0")["workloads"] == []
