"""What the real juliapkg does to Julias and projects, Julia and juliacall being stand-ins: how starts get along with it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pyjl_autoimage.julia.manifest import load_manifest
from pyjl_autoimage.store.built import baked_package

from environments import VirtualEnvironment
from standin import EXAMPLE_TREE, EXAMPLE_UUID, REPORT, World, age, told_by_julia, until, wait_for

MANIFEST = """julia_version = "1.10.4"
manifest_format = "2.0"

[[deps.Example]]
git-tree-sha1 = "{tree}"
uuid = "{uuid}"
version = "{version}"
"""

# As pip makes it for a package like PyPI's `julialang`.
LAUNCHER = """#!{python}
import json, os, sys
with open({configuration!r}) as file:
    julia = os.path.join({versions!r}, json.load(file)["default"], "bin", "julia")
os.execv(julia, [julia, *sys.argv[1:]])
"""


class Installed(World):
    """A virtual environment whose juliapkg is the real one, and makes a project with the Julia on PATH."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "world")
        self.venv = VirtualEnvironment(root / "venv")
        for real in (self.venv.root / "dependencies" / "site-packages").glob("juliacall*"):
            real.unlink()
        for name in os.listdir(self.site):
            shutil.move(str(self.site / name), self.venv.site / name)
        self.project = self.venv.root / "julia_env"
        self.requirements = self.venv.site / "juliacall" / "juliapkg.json"
        self.requirements.write_text(json.dumps({"packages": {"Example": {"uuid": EXAMPLE_UUID}}}))
        self.resolved = self.root / "resolved.toml"
        self.resolves("0.5.3")
        self.facts = self.install("1.10.4")
        self.executable = Path(self.facts.bindir) / "julia"

    def resolves(self, version: str, tree: str = EXAMPLE_TREE) -> None:
        """What Pkg comes to from now on."""
        self.resolved.write_text(MANIFEST.format(tree=tree, uuid=EXAMPLE_UUID, version=version))

    def install(self, version: str, does: str = ":"):
        """A Julia that answers juliapkg (and `does` something before its Pkg writes a manifest); what it says of itself."""
        julia = self.root / "versions" / version
        (julia / "bin").mkdir(parents=True)
        for library in ("libjulia.so", "sys.so"):
            (julia / library).write_text(version)
        facts = replace(
            self.facts,
            version=version,
            bindir=str(julia / "bin"),
            base_sysimage=str(julia / "sys.so"),
            libjulia=str(julia / "libjulia.so"),
            load_path=(str(self.project / "Project.toml"),),
        )
        (julia / "answer").write_bytes(told_by_julia(facts))
        executable = julia / "bin" / "julia"
        executable.write_text(
            f"""#!/bin/sh
for a; do case "$a" in --project=*) project=${{a#--project=}};; esac; done
case "$*" in
*--version*) echo "julia version {version}";;
*probe.jl*) cat "{julia}/answer";;
*dlpath*) printf '{facts.libjulia}\\0{facts.bindir}';;
*Pkg.resolve*) {does}; cp "{self.resolved}" "$project/Manifest.toml"; echo >> "{self.root}/resolutions";;
esac
"""
        )
        executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
        return facts

    @property
    def environ(self) -> dict[str, str]:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "JULIA", "PYJL_", "CONDA"))}
        return {
            **keep,
            "PATH": f"{self.executable.parent}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "HOME": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYJL_AUTOIMAGE_HOME": self.store.home,
        }

    def start(self, code: str = "") -> dict:
        """Start there, and read what its juliacall was told."""
        code = f"{code}\nfrom pyjl_autoimage import jl\n{REPORT}"
        return json.loads(self.venv("-c", code, environ=self.environ, check=True).stdout.splitlines()[-1])

    def resolutions(self) -> int:
        """How often Pkg has made the manifest."""
        try:
            return len((self.root / "resolutions").read_text().splitlines())
        except FileNotFoundError:
            return 0

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.venv("-m", "pyjl_autoimage", *arguments, environ=self.environ)

    def reasons(self) -> list[str]:
        """Why its one image is not used."""
        (entry,) = json.loads(self.command("status", "--json").stdout)["rejected"]
        return entry["reasons"]


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """A project that juliapkg has made, with an image that is used."""
    world = Installed(tmp_path)
    assert world.start()["sysimage"] is None and world.resolutions() == 1
    image = world.publish()
    age(world.root, world.project, world.venv.site, world.store.root)
    assert world.start()["sysimage"] == image.path
    return world


# -- whole manifests made anew -----------------------------------------------------------------------------


def another_package(world: Installed) -> None:
    """Which makes juliapkg delete the manifest, and have Pkg make another."""
    package = world.venv.site / "another"
    package.mkdir()
    (package / "juliapkg.json").write_text('{"packages": {}}')


def test_a_manifest_made_anew_with_the_same_versions_keeps_the_image(installed):
    (image,) = installed.store.all_images()
    installed.resolved.write_text("# made again\n" + installed.resolved.read_text())
    another_package(installed)
    assert installed.start()["sysimage"] == image.path
    assert installed.resolutions() == 2
    assert (installed.project / "Manifest.toml").read_text().startswith("# made again")


def test_a_manifest_made_anew_with_other_versions_does_not(installed):
    installed.resolves("0.5.4")
    another_package(installed)
    assert installed.start()["sysimage"] is None, "in the very start that makes it"
    assert installed.reasons() == ["Example 0.5.3 in the image, 0.5.4 in the manifest"]


def test_the_same_versions_with_another_source_do_not(installed):
    installed.resolves("0.5.3", tree=EXAMPLE_TREE[::-1])
    another_package(installed)
    assert installed.start()["sysimage"] is None
    assert installed.reasons() == ["Example 0.5.3 has another source in the manifest (git-tree-sha1)"]


@pytest.mark.parametrize("with_image", [True, False])
def test_a_start_while_another_process_makes_it_anew_waits_for_the_end(tmp_path, with_image):
    """As `import juliacall` does: the manifest is not there meanwhile."""
    world = Installed(tmp_path)
    go = world.root / "go"
    go.write_text("")
    shutil.rmtree(Path(world.facts.bindir).parent)
    world.install("1.10.4", does=until(go))
    stub = world.venv.site / "juliacall" / "__init__.py"
    stub.write_text(stub.read_text() + "assert os.path.exists(os.path.join(CONFIG['project'], 'Manifest.toml'))\n")
    world.start()
    image = world.publish() if with_image else None
    age(world.root, world.project, world.venv.site, world.store.root)
    world.start()
    go.unlink()

    def python(code: str) -> subprocess.Popen[str]:
        command = [str(world.venv.python), "-u", "-c", code]
        return subprocess.Popen(command, env=world.environ, cwd=world.venv.root, stdout=subprocess.PIPE, text=True)

    with python("import juliapkg; juliapkg.resolve(force=True)") as other:
        wait_for(lambda: not (world.project / "Manifest.toml").exists())
        with python(f"from pyjl_autoimage import jl\n{REPORT}") as start:
            assert start.stdout is not None
            waits = any("Waiting for lock" in line for line in start.stdout)
            go.write_text("")
            assert waits
            told = json.loads(start.stdout.read().splitlines()[-1])
    assert (other.returncode, start.returncode) == (0, 0)
    assert told["sysimage"] == (image.path if image else None)


# -- Julias rewritten in place -----------------------------------------------------------------------------

JLL = """
[[deps.OpenSSL_jll]]
uuid = "458c3c95-2e84-50aa-8efc-19380b2a3a95"
version = "3.5.4+0"
"""


@pytest.fixture
def with_jll(tmp_path: Path) -> Installed:
    """A JLL that comes with Julia is in an image that is used."""
    world = Installed(tmp_path)
    world.resolved.write_text(world.resolved.read_text() + JLL)
    world.jll = Path(world.facts.stdlib, "OpenSSL_jll", "src", "OpenSSL_jll.jl")
    world.jll.parent.mkdir(parents=True)
    world.jll.write_text('const libcrypto = "libcrypto.so.3"')
    world.start()
    read = load_manifest(str(world.project / "Manifest.toml"))
    packages = (baked_package(p, world.facts.depots, {}, world.facts.stdlib) for p in read.packages.values())
    image = world.publish(packages=tuple(packages))
    age(world.root, world.project, world.venv.site, world.store.root)
    assert world.start()["sysimage"] == image.path
    return world


def test_a_jll_of_julia_that_names_other_libraries_is_noticed(with_jll):
    """pyjuliapkg 97: Julia's OpenSSL gets private names, so that Python's cannot stand in for it."""
    (image,) = with_jll.store.all_images()
    before = with_jll.jll.read_text()
    with_jll.jll.write_text('const libcrypto = "libcrypto-julia.so.3"')
    assert with_jll.start()["sysimage"] is None
    assert with_jll.reasons() == [
        f"OpenSSL_jll, which comes with Julia, has another source in {with_jll.facts.stdlib} now"
    ]
    with_jll.jll.write_text(before)
    assert with_jll.start()["sysimage"] == image.path


def test_a_jll_that_juliapkg_rewrites_in_this_very_start_is_noticed(with_jll):
    julia = Path(with_jll.facts.bindir, "julia")
    rewrites = f"echo 'const libcrypto = 1' > '{with_jll.jll}'; cp"
    julia.write_text(julia.read_text().replace("cp", rewrites, 1))
    another_package(with_jll)
    assert with_jll.start()["sysimage"] is None


def test_a_jll_that_is_gone_is_noticed(with_jll):
    shutil.rmtree(with_jll.jll.parent.parent)
    assert with_jll.start()["sysimage"] is None


def test_libraries_that_no_image_names_are_no_reason_against_it(with_jll):
    """Nor is libjulia's file: which Julia it is its version, its commit and its default image's build id say."""
    (image,) = with_jll.store.all_images()
    library = Path(with_jll.facts.libjulia)
    library.with_name("libcrypto.so.3").write_text("renamed")
    assert with_jll.start()["sysimage"] == image.path
    library.write_text("patched")
    assert with_jll.start()["sysimage"] == image.path


@pytest.mark.parametrize("file", ["libjulia", "base_sysimage"])
def test_a_julia_put_in_the_place_of_another_is_asked_what_it_is(installed, file):
    answer = Path(installed.facts.bindir).parent / "answer"
    answer.write_text(answer.read_text().replace("base_build_id=1234", "base_build_id=5678"))
    Path(getattr(installed.facts, file)).write_text("of another build")
    assert installed.start()["sysimage"] is None
    assert installed.reasons() == ["built on top of another default system image"]


# -- launchers ---------------------------------------------------------------------------------------------


@pytest.fixture
def launched(tmp_path: Path) -> Installed:
    """The Julia on PATH is a Python script that starts one of two others."""
    world = Installed(tmp_path)
    world.install("1.10.5")
    world.configuration = world.root / "config.json"
    use(world, "1.10.4")
    world.executable = world.root / "bin" / "julia"
    world.executable.parent.mkdir()
    text = LAUNCHER.format(
        python=sys.executable, configuration=str(world.configuration), versions=str(world.root / "versions")
    )
    world.executable.write_text(text)
    world.executable.chmod(0o755)
    return world


def use(world: Installed, version: str) -> None:
    world.configuration.write_text(json.dumps({"default": version}))


def test_a_launcher_starts_the_julia_that_it_chooses_now(launched):
    told = launched.start()
    assert told["exe"] == str(launched.executable)
    assert told["lib_object"] == launched.facts.libjulia and told["home"] == launched.facts.bindir
    image = launched.publish()
    assert launched.start()["sysimage"] == image.path
    for chosen, path in (("1.10.5", None), ("1.10.4", image.path)):
        use(launched, chosen)
        age(launched.root, launched.project, launched.venv.site, launched.store.root)
        for _ in range(2):
            told = launched.start()
            assert told["lib_object"] == str(launched.root / "versions" / chosen / "libjulia.so")
            assert told["sysimage"] == path
    use(launched, "1.10.5")
    launched.start()
    assert launched.reasons() == ["built for Julia 1.10.4, this is Julia 1.10.5"]


def test_what_it_starts_is_asked_of_itself_once(launched):
    """Not at each start: juliapkg says which one it is."""
    launched.start()
    launched.publish()
    launched.start()
    Path(launched.facts.bindir, "..", "answer").resolve().unlink()
    assert launched.start()["on_image"]


def test_doctor_tells_of_the_launcher_and_of_the_way_around_it(launched):
    launched.start()
    checks = {c["what"]: c for c in json.loads(launched.command("doctor", "--json", "--no-start").stdout)["checks"]}
    julia = Path(launched.facts.bindir, "julia")
    assert checks["Julia"]["ok"]
    assert checks["Julia"]["found"].endswith(f"found on PATH by juliapkg; a launcher, which starts {julia}")
    assert f"PYTHON_JULIAPKG_EXE={julia}" in checks["Julia"]["remedy"]


def test_no_launcher_nothing_to_tell(installed):
    check = json.loads(installed.command("doctor", "--json", "--no-start").stdout)["checks"]
    (julia,) = [c for c in check if c["what"] == "Julia"]
    assert julia["found"].endswith("found on PATH by juliapkg") and not julia["remedy"]
