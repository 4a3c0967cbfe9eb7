"""Virtual environments for tests: made without network, with a copy of this package that a test may break."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import pyjl_autoimage

PACKAGE = Path(pyjl_autoimage.__file__).parent


class VirtualEnvironment:
    """A virtual environment whose own site-packages hold nothing but a copy of this package."""

    def __init__(self, root: Path, *, pip: bool = False, sees_installed: bool = False) -> None:
        self.root = root
        result = subprocess.run(
            [sys.executable, "-m", "venv", *([] if pip else ["--without-pip"]), str(root)],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            pytest.skip(f"no virtual environment can be made here: {(result.stdout + result.stderr).strip()[-200:]}")
        windows = sys.platform == "win32"
        self.python = root / ("Scripts/python.exe" if windows else "bin/python")
        self.site = Path(sysconfig.get_path("purelib", "nt_venv" if windows else "posix_prefix", {"base": str(root)}))
        places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        if not sees_installed:
            # What this package depends on, from where the tests run, but not the copy of itself that may be there.
            dependencies = root / "dependencies" / "site-packages"
            dependencies.mkdir(parents=True)
            for place in places:
                for entry in Path(place).iterdir():
                    if not entry.name.startswith("pyjl_autoimage"):
                        os.symlink(entry, dependencies / entry.name)
            places = {str(dependencies)}
        self.dependencies = sorted(places)
        # Python reads .pth files in the encoding of the locale, so a path in one had better be ASCII.
        lines = (f"import sys; sys.path.append({place!a})\n" for place in self.dependencies)
        (self.site / "zz_dependencies.pth").write_text("".join(lines))
        if pip:
            self("-m", "pip", "install", "-q", "--no-index", "--no-deps", str(make_wheel(root)), check=True)
        else:
            shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("__pycache__"))

    @property
    def package(self) -> Path:
        return self.site / "pyjl_autoimage"

    @property
    def pth(self) -> Path:
        return self.site / "pyjl_autoimage_hook.pth"

    def __call__(
        self, *arguments: str, check: bool = False, environ: dict[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run its Python."""
        given = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        result = subprocess.run(
            [str(self.python), *arguments],
            env={**given, **(environ or {})},
            cwd=cwd or self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result


def make_wheel(directory: Path) -> Path:
    """A wheel of this package: what pip needs to install it, and to uninstall it."""
    version = pyjl_autoimage.__version__
    info = f"pyjl_autoimage-{version}.dist-info"
    path = directory / f"pyjl_autoimage-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        names = []
        for file in sorted(PACKAGE.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                names.append(f"pyjl_autoimage/{file.relative_to(PACKAGE).as_posix()}")
                wheel.write(file, names[-1])
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: pyjl-autoimage\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        names += [f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"]
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))
    return path
