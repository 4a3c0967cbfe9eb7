"""A real Julia with a prepared project, found the way the product finds it; or a reason to skip.

The project is a copy, so that tests may change it, and everything is recorded and built in a store of the test
session. Images take minutes and gigabytes: tests share them, and never build two at once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pyjl_autoimage.base.reads import load_toml
from pyjl_autoimage.build import linking
from pyjl_autoimage.julia.environment import Environment
from pyjl_autoimage.julia.facts import JuliaFacts, probe
from pyjl_autoimage.julia.manifest import Manifest, load_manifest, manifest_file
from pyjl_autoimage.julia.sources import source_directory

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples"
sys.path.append(str(HERE.parent))  # what all tests share

from pages import DOCS, Block, blocks  # noqa: E402

BUILD = "python -m pyjl_autoimage build\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in Path(str(item.fspath)).parents:
            item.add_marker("julia")
            if "built" in item.fixturenames or "built_by_path" in item.fixturenames:  # type: ignore[attr-defined]
                item.add_marker("build")


@dataclass
class Place:
    """A Julia project and a store, and how to start Python processes there."""

    root: Path
    environ: dict[str, str]
    environment: Environment
    facts: JuliaFacts
    manifest: Manifest
    history: list[dict] = field(default_factory=list)
    typed: list[tuple[str, str]] = field(default_factory=list)
    """What was typed here, word for word as in the quickstart, and what that printed."""

    @property
    def store(self) -> Path:
        return Path(self.environ["PYJL_AUTOIMAGE_HOME"])

    def run(
        self, command: Sequence[str], *, check: bool = True, timeout: float = 900, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here."""
        result = subprocess.run(
            command,
            env={**self.environ, **environ},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or result.returncode == 0, result.stderr[-3000:] + self.build_log()
        return result

    def python(
        self, code: str, *arguments: str, check: bool = True, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run code in a fresh process."""
        return self.run([sys.executable, *arguments, "-c", code], check=check, **environ)

    def run_file(self, path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a program in a fresh process."""
        return self.run([sys.executable, str(path), *arguments], **environ)

    def json(self, code: str, *arguments: str, **environ: str) -> dict:
        """Run code whose last line of output is JSON."""
        return json.loads(self.python(code, *arguments, **environ).stdout.splitlines()[-1])

    def cli(self, *arguments: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours."""
        return self.run([sys.executable, "-m", "pyjl_autoimage", *arguments], check=check, timeout=1800, **environ)

    def type(self, script: str, **environ: str) -> str:
        """Type a block of commands, as a person would whose ``python`` is the one that runs the tests."""
        path = os.pathsep.join((os.path.dirname(sys.executable), self.environ.get("PATH", "")))
        result = self.run(["sh", "-e", "-c", script], timeout=1800, **{**environ, "PATH": path})
        self.typed.append((script, result.stdout))
        return result.stdout

    def follow(self, steps: Sequence[Block]) -> None:
        """Do what steps of a page say: save a file, type commands."""
        for step in steps:
            if step.title:
                (self.root / step.title).write_text(step.text, encoding="utf-8")
            elif step.language == "sh":
                self.type(step.text)

    def build_log(self) -> str:
        logs = list(self.store.glob("v1/environments/*/build.log"))
        return "".join(f"\n--- {log}:\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    def program(self, variant: str, **environ: str) -> dict:
        """Run the example program; what it printed."""
        return self.json(f"from pyjl_autoimage.people.demos import tables; tables.main({variant!r})", **environ)

    def caches(self) -> set[str]:
        """Every precompile cache in the user's depots."""
        return {str(path) for depot in self.facts.depots for path in Path(depot, "compiled").glob("*/*/*")}

    @property
    def variant(self) -> str:
        names = {package.name for package in self.manifest.packages.values()}
        if "DataFrames" not in names:
            return "standard-library"
        return "with-csv" if "CSV" in names else "without-csv"


@pytest.fixture(scope="session")
def julia() -> str:
    """The Julia that is tested with; alone it is enough for what needs no Python."""
    exe = shutil.which(os.environ.get("PYTHON_JULIAPKG_EXE") or "julia")
    if exe is None:
        pytest.skip("no Julia: put julia on PATH, or name one with PYTHON_JULIAPKG_EXE")
    return exe


@pytest.fixture(scope="session")
def prepared(julia: str) -> Path:
    """The directory of a Julia project that has PythonCall."""
    given = os.environ.get("PYTHON_JULIAPKG_PROJECT")
    project = Path(given) if given else Path.home() / ".julia" / "environments" / "pyjuliapkg"
    path = manifest_file(str(project))
    if path is None or not load_manifest(path).by_name("PythonCall"):
        pytest.skip(f"no prepared Julia project at {project}: name one with PYTHON_JULIAPKG_PROJECT")
    return project


def make_place(root: Path, prepared: Path) -> Place:
    project = root / "julia project"  # a space: paths are not to be trusted
    shutil.copytree(prepared, project, ignore=shutil.ignore_patterns("meta.json", "lock.pid"))
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON_JULIACALL_", "PYJL_"))}
    builder = os.environ.get("PYJL_AUTOIMAGE_BUILDER_PROJECT") or str(prepared.parent / "pyjl-builder")
    if os.path.isdir(builder):
        environ["PYJL_AUTOIMAGE_BUILDER_PROJECT"] = builder
    environ |= {
        "PYTHON_JULIAPKG_PROJECT": str(project),
        "PYTHON_JULIAPKG_OFFLINE": "yes",
        "JULIA_PKG_OFFLINE": "true",
        "JULIA_CONDAPKG_BACKEND": "Null",
        "PYJL_AUTOIMAGE_HOME": str(root / "store"),
    }
    exe = shutil.which(os.environ.get("PYTHON_JULIAPKG_EXE") or "julia")
    assert exe is not None
    environment = Environment(os.path.abspath(exe), str(project))
    path = manifest_file(str(project))
    assert path is not None
    return Place(root, environ, environment, probe(environment), load_manifest(path))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Place:
    """A place without any image, which tests must not build in."""
    return make_place(tmp_path_factory.mktemp("plain"), prepared)


def install_example_library(place: Place) -> None:
    """Put the example of a library that brings workloads along where this place's processes find it installed."""
    example = HERE.parent.parent / "examples" / "library"
    site = place.root / "site-packages"
    shutil.copytree(example / "src" / "shop_tables", site / "shop_tables")
    declared = load_toml(str(example / "pyproject.toml"))["project"]
    metadata = site / f"shop_tables-{declared['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {declared['name']}\nVersion: {declared['version']}\n"
    )
    (metadata / "RECORD").write_text("shop_tables/__init__.py,,\n")
    add_path_package(place, site / "shop_tables" / "ShopTables")
    groups = declared["entry-points"]
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{k} = {v}" for k, v in entries.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    place.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), place.environ.get("PYTHONPATH"))))
    place.python("import shop_tables", PYJL_AUTOIMAGE="0")  # Julia precompiles its package at the first import


def add_path_package(place: Place, directory: Path) -> None:
    """Have the place's project track a Julia package by path, as juliapkg does where a juliapkg.json says "dev"."""
    about = load_toml(str(directory / "Project.toml"))
    name, uuid, needs = about["name"], about["uuid"], list(about.get("deps", {}))
    project, manifest = Path(place.environment.project, "Project.toml"), Path(place.manifest.path)
    project.write_text(project.read_text().replace("[deps]\n", f'[deps]\n{name} = "{uuid}"\n', 1))
    entry = f"\n[[deps.{name}]]\ndeps = {json.dumps(needs)}\npath = {json.dumps(str(directory))}\n"
    manifest.write_text(f'{manifest.read_text()}{entry}uuid = "{uuid}"\nversion = "{about["version"]}"\n')
    place.manifest = load_manifest(str(manifest))


def quickstart() -> tuple[list[Block], list[Block]]:
    """The quickstart's steps: those before its build, and those after it. (The first installs: `tests/test_docs.py`.)"""
    steps = list(blocks(DOCS / "quickstart.md"))[1:]
    (build,) = (number for number, step in enumerate(steps) if step.text == BUILD)
    return steps[:build], steps[build + 1 :]


def build_in(place: Place, *, like_quickstart: bool = False, **environ: str) -> Place:
    if not (os.environ.get("JULIA_CC") or linking.lld(place.facts.bindir) or linking.compiler()):
        pytest.skip("neither Julia's lld nor a C compiler to link an image with")
    if "PYJL_AUTOIMAGE_BUILDER_PROJECT" not in place.environ:
        pytest.skip("no PackageCompiler: name a Julia project that has it with PYJL_AUTOIMAGE_BUILDER_PROJECT")
    place.history.append(place.program(place.variant))
    if place.variant == "with-csv":
        # Without what it asks of juliapkg: that would count for everything else that is run here.
        shutil.copytree(EXAMPLES / "model", place.root / "model", ignore=shutil.ignore_patterns("juliapkg.json"))
        place.run_file(place.root / "model" / "fit.py")
    if like_quickstart:
        place.follow(quickstart()[0])
    place.history.append(json.loads(place.cli("status", "--json").stdout))
    before = place.caches()
    if like_quickstart:
        place.type(BUILD, **environ)
        place.history.append(json.loads(place.cli("status", "--json").stdout)["build"])
    else:
        place.history.append(json.loads(place.cli("build", "--json", **environ).stdout.splitlines()[-1]))
    place.history[-1]["caches"] = [before, place.caches()]
    (environment,) = (place.store / "v1" / "environments").iterdir()  # as this build leaves it: tests start others
    place.history[-1]["left"] = sorted(os.listdir(environment))
    place.history[-1]["text"] = (environment / "build.log").read_text()
    place.history[-1]["ended"] = json.loads((environment / "build.json").read_text())
    return place


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Place:
    """A place with an image of packages laid out as Pkg installs them: in a depot, with their tree hashes."""
    place = make_place(tmp_path_factory.mktemp("registered"), prepared)
    if any(package.path for package in place.manifest.packages.values()):
        pytest.skip(f"{prepared} tracks packages by path")
    if place.manifest.by_name("DataFrames"):
        install_example_library(place)
    return build_in(place, like_quickstart=place.variant == "with-csv" and os.name == "posix")


@pytest.fixture(scope="session")
def built_by_path(tmp_path_factory: pytest.TempPathFactory, prepared: Path, built: Place) -> Place:
    """The same with some packages tracked by path, and baked, with those that do something as they are loaded. (After `built`: never two builds at once.)"""
    from acting import PACKAGES, add_packages

    root = tmp_path_factory.mktemp("by-path")
    place = make_place(root, prepared)
    path = Path(place.manifest.path)
    text = path.read_text(encoding="utf-8")
    moved = []
    for name in ("CSV", "DataFrames", "Tables"):
        for package in place.manifest.by_name(name):
            source = source_directory(package, place.facts.depots)
            assert source is not None
            shutil.copytree(source, root / "dev" / name)
            subprocess.run(["chmod", "-R", "u+w", str(root / "dev" / name)], check=True)
            line = f'git-tree-sha1 = "{package.tree_sha1}"'
            assert text.count(line) == 1
            text = text.replace(line, f'path = "{root / "dev" / name}"')
            moved.append(name)
    if not moved:
        pytest.skip("the prepared project has none of CSV, DataFrames and Tables")
    path.write_text(text, encoding="utf-8")
    add_packages(place, root / "dev")
    place.python(f"from pyjl_autoimage import jl; jl.seval('using {', '.join(PACKAGES)}')", LICENSED_KEY="x")
    place.manifest = load_manifest(str(path))
    # CSV stays outside: what is not in an image must start fast on it, too.
    return build_in(place, PYJL_AUTOIMAGE_DEV_PACKAGES="bake", PYJL_AUTOIMAGE_EXCLUDE="CSV", PYJL_AUTOIMAGE_SLIM="1")
