"""The examples, as far as that needs no Julia: what they tell people to run exists, and what they declare holds."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from pyjl_autoimage.base.reads import load_toml
from pyjl_autoimage.base.settings import from_everywhere
from pyjl_autoimage.people import cli, demo
from pyjl_autoimage.profile.workloads import tasks

from dockerfile import commands, stages, variables

EXAMPLES = Path(__file__).parent.parent / "examples"
DOCKERFILE = EXAMPLES / "container" / "Dockerfile"
PROGRAMS = [
    EXAMPLES / name
    for name in (
        "sales_report.py",
        "model/fit.py",
        "library/src/shop_tables/__init__.py",
        "web/app.py",
        "container/app.py",
    )
]
TELLING = [*PROGRAMS, EXAMPLES / "notebook" / "sales.ipynb", EXAMPLES / "container" / "README.md"]
IN_JULIA = {"LinearAlgebra", "Statistics"}


def text_for_people(path: Path) -> str:
    """What a program, a notebook or a page says to whoever wants to run it."""
    if path.suffix == ".ipynb":
        return "".join(json.loads(path.read_text())["cells"][0]["source"])
    return path.read_text().split('"""')[1] if path.suffix == ".py" else path.read_text()


def told(path: Path) -> list[list[str]]:
    """The commands in it: indented by four blanks."""
    lines = re.findall(r"^    (?! )(.+)$", text_for_people(path), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def check_arguments(words: list[str]) -> None:
    """Our command line knows them."""
    if words[0] != "run":
        cli._parser().parse_args(words)


def test_the_list_names_every_example_and_nothing_else():
    listed = re.findall(r"^\| \[.*?\]\((.+?)\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    entries = {path.name for path in EXAMPLES.iterdir()} - {"README.md", "juliapkg.json", "__pycache__"}
    assert {Path(entry).parts[0] for entry in listed} == entries
    assert all((EXAMPLES / entry).exists() for entry in listed)


@pytest.mark.parametrize("path", TELLING, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_what_to_run_is_at_the_top_and_can_be_run(path):
    found = told(path)
    assert found
    directory = EXAMPLES.parent if found[0][0] in ("cd", "pip") else path.parent
    for words in found:
        if words[0] == "cd":
            directory = EXAMPLES.parent / words[1]
            assert directory.is_dir()
        elif words[:3] == ["python", "-m", "pyjl_autoimage"]:
            check_arguments(words[3:])
        for word in words[1:]:
            if re.search(r"\w\.(py|csv|json|ipynb)$", word):
                assert (directory / word.removeprefix("@")).is_file(), word


@pytest.mark.parametrize("julia", sorted(EXAMPLES.rglob("*.jl")), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_the_packages_that_julia_files_use_are_asked_for(julia):
    used = {name for line in re.findall(r"^using (.+)$", julia.read_text(), re.M) for name in re.split(r",\s*", line)}
    project = next((file for up in julia.parents[:2] if (file := up / "Project.toml").is_file()), None)
    beside = julia.parent / "juliapkg.json"
    named = load_toml(str(project))["deps"] if project else json.loads(beside.read_text())["packages"]
    assert used - IN_JULIA <= set(named)


def test_packages_are_the_same_everywhere():
    for path in EXAMPLES.rglob("juliapkg.json"):
        for name, package in json.loads(path.read_text())["packages"].items():
            if package.get("dev"):  # its own one, beside it
                theirs = load_toml(str(path.parent / package["path"] / "Project.toml"))
                assert (name, package["uuid"]) == (theirs["name"], theirs["uuid"])
            else:
                assert package["uuid"] == demo.JULIAPKG_JSON["packages"][name]["uuid"], path


@pytest.mark.parametrize(("path", "function"), [("web/app.py", "first_request"), ("container/app.py", "first_event")])
def test_what_an_image_shall_hold_is_found_in_them(path, function):
    assert [task.function for task in tasks(str(EXAMPLES / path))] == [function]


# -- the notebook --------------------------------------------------------------------------------------


def test_the_notebook_is_valid_unrun_and_loads_us_first():
    nbformat = pytest.importorskip("nbformat")
    transform = pytest.importorskip("IPython.core.inputtransformer2").TransformerManager().transform_cell
    notebook = nbformat.read(EXAMPLES / "notebook" / "sales.ipynb", as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    for cell in code:
        compile(transform(cell.source), "a cell", "exec")
    assert code[0].source == "%load_ext pyjl_autoimage" and "juliacall" in code[1].source


# -- the web service -----------------------------------------------------------------------------------


class JuliaError(Exception):
    pass


@pytest.fixture
def web(monkeypatch) -> ModuleType:
    """The service, with a Julia that knows one answer."""
    pytest.importorskip("flask")

    def totals(text):
        if text != "region,amount\nnorth,1\n":
            raise JuliaError
        return {"north": 1.0}

    ours = SimpleNamespace(include=lambda path: SimpleNamespace(totals=totals), workload=lambda **_: lambda f: f)
    monkeypatch.setitem(sys.modules, "pyjl_autoimage", ours)
    monkeypatch.setitem(sys.modules, "juliacall", SimpleNamespace(JuliaError=JuliaError))
    spec = importlib.util.spec_from_file_location("web_app", EXAMPLES / "web" / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_service_answers_and_refuses_what_it_cannot_read(web):
    client = web.app.test_client()
    assert client.post("/totals", data="region,amount\nnorth,1\n").get_json() == {"north": 1.0}
    assert client.post("/totals", data="nonsense").status_code == 400


def test_the_service_refuses_to_call_julia_from_another_thread(web):
    """A hang, otherwise, as soon as Julia collects garbage."""
    answers = []

    def ask():
        answers.append(web.app.test_client().post("/totals", data="region,amount\nnorth,1\n").status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    ask()
    assert answers == [500, 200]


# -- the container -------------------------------------------------------------------------------------


def test_the_container_bakes_for_every_cpu_into_a_store_of_its_own():
    _, bake, last = stages(DOCKERFILE)
    environ: dict[str, str] = {"PATH": "/bin"}
    for rest in bake.of("ENV"):
        environ |= variables(rest, environ)
    settings = from_everywhere(environ=environ)  # raises where a variable is no setting
    assert settings.cpu_target == "portable" and settings.home == "/app/.autoimage"
    assert environ["PATH"] == "/app/.venv/bin:/bin" and "generic" in environ["JULIA_CPU_TARGET"]
    at_the_end: dict[str, str] = {}
    for rest in last.of("ENV"):
        at_the_end |= variables(rest, environ)
    settings = from_everywhere(environ=at_the_end)
    assert settings.home == "/app/.autoimage" and not settings.record
    assert "JULIA_CPU_TARGET" not in at_the_end


def test_the_container_does_not_run_as_root_and_copies_the_whole_place():
    base, bake, last = stages(DOCKERFILE)
    assert bake.base == last.base == base.name
    assert last.of("USER")[-1] == bake.of("USER")[-1] == "app"
    assert last.of("COPY") == ["--from=bake --chown=app /app /app"]
    assert last.of("WORKDIR") == ["/app"]


def test_the_container_runs_what_there_is():
    ours = []
    for stage in stages(DOCKERFILE):
        for rest in stage.of("RUN"):
            ours += [words[3:] for words in commands(rest) if words[:3] == ["python", "-m", "pyjl_autoimage"]]
        for rest in stage.of("COPY"):
            *sources, _ = (word for word in rest.split() if not word.startswith("--"))
            assert "--from=bake" in rest or all((DOCKERFILE.parent / source).is_file() for source in sources)
    assert ["build", "--train", "app.py"] in ours
    for words in ours:
        check_arguments(words)
    assert json.loads(stages(DOCKERFILE)[-1].of("CMD")[0]) == ["python", "app.py"]


def test_what_the_container_leaves_out_is_not_needed_in_it():
    ignored = set((DOCKERFILE.parent / ".dockerignore").read_text().split())
    copied = {word for stage in stages(DOCKERFILE) for rest in stage.of("COPY") for word in rest.split()}
    needed = {path.name for path in DOCKERFILE.parent.iterdir()} - ignored - {"Dockerfile", ".dockerignore"}
    assert needed <= copied
