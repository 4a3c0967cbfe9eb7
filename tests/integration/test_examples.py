"""Every example with a real Julia: on its own Julia at first, then on an image that holds the packages it uses."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import EXAMPLES, Place, make_place

from dockerfile import Stage, commands, stages, variables

FORECAST = {"bread": 18.0, "milk": 5.0}
TOTALS = {"north": 7.75, "south": 5.0, "east": 1.0}


def copy(place: Place, name: str, to: Path) -> Path:
    """A copy of an example where it may be built; without what it asks of juliapkg, as the project is there already."""
    missing = [
        p for p in json.loads((EXAMPLES / name / "juliapkg.json").read_text())["packages"] if not has(place, p)
    ]
    if missing:
        pytest.skip(f"the prepared project has no {', '.join(missing)}")
    return Path(
        shutil.copytree(EXAMPLES / name, to / name, ignore=shutil.ignore_patterns("juliapkg.json", "__pycache__"))
    )


def has(place: Place, package: str) -> bool:
    return bool(place.manifest.by_name(package))


def last_start(place: Place) -> dict:
    """What the recording of the newest process says of its start."""
    logs = place.store.glob("v1/environments/*/recordings/*.log")
    return json.loads(max(logs, key=lambda log: log.stat().st_mtime_ns).read_text().splitlines()[0])


# -- the script and the program with files of its own --------------------------------------------------


def test_the_script_and_the_image(built: Place) -> None:
    if not has(built, "CSV"):
        pytest.skip("the prepared project has no CSV")
    result = built.run_file(EXAMPLES / "sales_report.py")
    assert "north" in result.stdout and "first result after" in result.stdout
    assert last_start(built)["image"]


def test_the_model_finds_the_regions_of_its_data(built: Place) -> None:
    if not has(built, "CSV"):
        pytest.skip("the prepared project has no CSV")
    result = built.run_file(built.root / "model" / "fit.py")
    assert all(region in result.stdout for region in ("north", "south", "east", "west"))


# -- the notebook --------------------------------------------------------------------------------------


def shown(place: Place, directory: Path) -> list[str]:
    """What the cells of the notebook show."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(directory / "sales.ipynb", as_version=4)
    run = client(notebook, timeout=600, resources={"metadata": {"path": str(directory)}})
    own = {name: str(directory / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
    run.execute(env={**place.environ, **own})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.get("text") or output["data"]["text/plain"] for output in outputs]


def test_the_notebook(place: Place, tmp_path: Path) -> None:
    text = "\n".join(shown(place, copy(place, "notebook", tmp_path)))
    assert "{'east': 1, 'north': 7, 'south': 5}" in text
    assert "Julia runs in this kernel without an image, recorded." in text


def test_the_notebook_on_the_image(built: Place, tmp_path: Path) -> None:
    text = "\n".join(shown(built, copy(built, "notebook", tmp_path)))
    assert "{'east': 1, 'north': 7, 'south': 5}" in text
    assert "Julia runs in this kernel on the image, recorded." in text


# -- the web service -----------------------------------------------------------------------------------


@contextmanager
def served(place: Place, directory: Path) -> Iterator[str]:
    """The service as its first lines say; its address."""
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        env={**place.environ, "PORT": "0"},
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        heard = []
        for line in process.stderr:
            heard.append(line)
            address = re.search(r"Running on (http://127\.0\.0\.1:\d+)", line)
            if address:
                yield address[1]
                return
        raise AssertionError("".join(heard))
    finally:
        process.kill()
        process.communicate()


def ask(address: str, data: bytes) -> tuple[int, dict]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(f"{address}/totals", data=data), timeout=600) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def answers(place: Place, directory: Path) -> None:
    pytest.importorskip("flask")
    with served(place, directory) as address:
        assert ask(address, (directory / "sales.csv").read_bytes()) == (200, TOTALS)
        assert ask(address, b"nonsense")[0] == 400
        assert ask(address, (directory / "sales.csv").read_bytes()) == (200, TOTALS)


def test_the_web_service(place: Place, tmp_path: Path) -> None:
    answers(place, copy(place, "web", tmp_path))
    assert last_start(place)["image"] is None


def test_the_web_service_on_the_image(built: Place, tmp_path: Path) -> None:
    answers(built, copy(built, "web", tmp_path))
    assert last_start(built)["image"]


# -- the container -------------------------------------------------------------------------------------


class Container:
    """A directory in place of /app, in which the commands of the Dockerfile are run.

    What makes the machine (users, packages of the system, the virtual environment) is there already, and so are
    Julia's packages: for these the prepared depot stands in.
    """

    def __init__(self, place: Place, root: Path) -> None:
        self.place, self.app = place, root / "app"
        (self.app / ".venv" / "bin").mkdir(parents=True)
        python = self.app / ".venv" / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)
        self.stages = stages(EXAMPLES / "container" / "Dockerfile")

    def environ(self, stage: Stage) -> dict[str, str]:
        environ = dict(self.place.environ)
        for rest in stage.of("ENV"):
            environ |= variables(rest.replace("/app", str(self.app)), environ)
        return {**environ, "JULIA_DEPOT_PATH": os.pathsep.join(self.place.facts.depots)}

    def copy(self, stage: Stage) -> None:
        for rest in stage.of("COPY"):
            if "--from=" not in rest:
                for name in shlex.split(rest.removeprefix("--chown=app"))[:-1]:
                    shutil.copy(EXAMPLES / "container" / name, self.app / name)

    def sh(self, stage: Stage, command: str, **more: object) -> str:
        result = subprocess.run(
            ["/bin/sh", "-c", command],
            env=self.environ(stage),
            cwd=self.app,
            capture_output=True,
            text=True,
            check=False,
            **{"stdin": subprocess.DEVNULL, **more},
        )
        assert result.returncode == 0, result.stdout + result.stderr[-3000:]
        return result.stdout

    def start(self, event: Path) -> dict:
        """What the container does when it is run."""
        (command,) = self.stages[-1].of("CMD")
        with event.open() as file:
            return json.loads(self.sh(self.stages[-1], shlex.join(json.loads(command)), stdin=file).splitlines()[-1])

    def bake(self) -> str:
        """Every command of ours; what the last of them printed."""
        printed = ""
        for stage in self.stages[1:]:
            self.copy(stage)
            for rest in stage.of("RUN"):
                if all(words[0] == "python" and words[2:3] != ["venv"] for words in commands(rest)):
                    printed = self.sh(stage, rest)
        return printed


@pytest.fixture
def container(place: Place, prepared: Path, tmp_path: Path) -> Container:
    if not has(place, "DataFrames"):
        pytest.skip("the prepared project has no DataFrames")
    # A project of its own: juliapkg shall find the juliapkg.json that the container has.
    return Container(make_place(tmp_path, prepared), tmp_path)


def test_what_the_container_runs(container: Container) -> None:
    container.copy(container.stages[1])
    assert container.start(EXAMPLES / "container" / "event.json") == FORECAST
    assert not list((container.app / ".autoimage").rglob("recordings/*")), "it is told to record nothing"


@pytest.mark.build
@pytest.mark.skipif(not os.environ.get("PYJL_TEST_BAKE"), reason="bakes one more image: PYJL_TEST_BAKE=1")
def test_what_the_container_bakes(container: Container) -> None:
    try:
        printed = container.bake()
    except AssertionError as error:
        if "compiled for one CPU alone" in str(error):
            pytest.skip("this Julia cannot build for other CPUs")
        raise
    assert "Fast." in printed
    (described,) = (container.app / ".autoimage").glob("v1/images/*/image.json")
    assert json.loads(described.read_text())["cpu_target"] == "portable"
    assert container.start(EXAMPLES / "container" / "event.json") == FORECAST
