"""The way that most users come: nothing prepared, Julia packages from a package server.

The server is ours, on loopback, and serves what this machine has installed. Everything else is the real thing:
a fresh virtual environment, an empty depot, juliapkg's own online resolve, the first set-up of the builder's
project, and a build. Only the download of Julia itself is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pyjl_autoimage.julia.manifest import load_manifest, manifest_file

from pkgserver import PkgServer

pytestmark = pytest.mark.build


@pytest.fixture(scope="module")
def server(place, prepared: Path):
    registries = [Path(d) / "registries" / "General" for d in place.facts.depots]
    registry = next((path for path in registries if (path / "Registry.toml").exists()), None)
    if registry is None:
        pytest.skip("no unpacked General registry in the depot to serve")
    manifests = [place.manifest]
    builder = place.environ.get("PYJL_AUTOIMAGE_BUILDER_PROJECT")
    if builder is None:
        pytest.skip(
            "no PackageCompiler here to serve: name a project that has it with PYJL_AUTOIMAGE_BUILDER_PROJECT"
        )
    manifests.append(load_manifest(str(manifest_file(builder, place.facts.version))))
    if not all(manifest.by_name(name) for name in ("DataFrames", "CSV") for manifest in manifests[:1]):
        pytest.skip(f"{prepared} has no DataFrames and CSV to serve")
    server = PkgServer(registry)
    for manifest in manifests:
        for package in manifest.packages.values():
            if package.tree_sha1 is not None and not server.add(package, place.facts.depots):
                pytest.skip(f"what is installed of {package.name} is not the tree that its hash names")
    return server


def fresh(root: Path, place, address: str) -> tuple[Path, dict[str, str]]:
    """A fresh virtual environment (that sees the installed packages of this one) and an empty depot."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "venv")], check=True)
    (site,) = (root / "venv").glob("lib/python*/site-packages")
    (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    depot = root / "depot"
    depot.mkdir()
    for outer in place.facts.depots:  # binary artifacts: not packages, and not ours to serve
        if (Path(outer) / "artifacts").is_dir():
            shutil.copytree(Path(outer) / "artifacts", depot / "artifacts", symlinks=True)
            break
    environ = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON_JULIA", "PYJL_", "JULIA_", "VIRTUAL"))
    }
    system = os.pathsep.join(place.facts.depots[1:])
    return root / "venv" / "bin" / "python", environ | {
        "JULIA_DEPOT_PATH": f"{depot}{os.pathsep}{system}",
        "JULIA_PKG_SERVER": address,
        "JULIA_CONDAPKG_BACKEND": "Null",
        "PYTHON_JULIAPKG_EXE": place.environment.executable,
        "PYJL_AUTOIMAGE_HOME": str(root / "store"),
        "HOME": str(root),
    }


def test_the_demo_from_nothing(server, place, tmp_path, built, built_by_path):
    """Asks for the other images first: never two builds at once."""
    with server.serving() as address:
        python, environ = fresh(tmp_path, place, address)
        result = subprocess.run(
            [str(python), "-m", "pyjl_autoimage", "demo", "--json", "--keep"],
            env=environ,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2400,
            check=False,
        )
    logs = "".join(log.read_text(errors="replace")[-3000:] for log in tmp_path.glob("store/**/build.log"))
    assert result.returncode == 0, result.stderr[-4000:] + logs
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["variant"] == "with-csv"
    assert told["stock"]["answer"] == told["image"]["answer"]
    assert told["left_out"] == {}
    asked = set(server.asked)
    packages = {p.split("/")[2] for p in asked if p.startswith("/package/")}
    assert place.manifest.by_name("DataFrames")[0].uuid in packages
    assert "9b87118b-4619-50d2-8e1e-99f35a4d4d9d" in packages, "PackageCompiler, for the builder's project"
    # The demo's project and store are its own; the virtual environment got no Julia project.
    assert not (tmp_path / "venv" / "julia_env").exists()
    project = tmp_path / "store" / "demo" / "project"
    names = {p.name for p in load_manifest(str(project / "Manifest.toml")).packages.values()}
    assert {"DataFrames", "CSV", "PythonCall"} <= names
    assert os.listdir(tmp_path / "store") == ["demo"]
