"""What published packages that wrap Julia do at their start (docs/wrappers.md), on stand-ins."""

from __future__ import annotations

import os
import subprocess

from pyjl_autoimage.base.settings import Settings
from pyjl_autoimage.build import measured
from pyjl_autoimage.build.recipe import choose
from pyjl_autoimage.profile import recordings as profile
from pyjl_autoimage.profile.profile import LoadedPackage, Profile
from pyjl_autoimage.store.validity import situation_of
from test_launch import Managed

from environments import VirtualEnvironment
from standin import PYTHONCALL, World, age, buildable_world, cli, python

# -- juliapkg.add (or require_julia) at every import --------------------------------------------

ADD = (
    "import os\n"
    "path = {path!r}\n"
    "text = open(path).read()\n"  # what juliapkg.add does: read, add what is there already, write
    "open(path, 'w').write(text)\n"
)


def test_a_file_that_is_written_anew_with_the_same_content_is_no_change(tmp_path):
    """juliapkg itself compares contents once the time differs (`can_skip_resolve`)."""
    world = Managed(tmp_path)
    deps = world.project / "pyjuliapkg" / "juliapkg.json"
    deps.write_text('{"packages": {"Example": {"uuid": "7876af07-990d-54b4-ab0e-23690620f79a"}}}')
    age(tmp_path)
    add = ADD.format(path=str(deps))
    assert world.asks(code=add)
    asked = [world.asks(code=add) for _ in range(3)]
    assert asked == [False] * 3


# -- a library that brings an image of its own --------------------------------------------------

OWN_IMAGE = "import os\nos.environ['PYTHON_JULIACALL_SYSIMAGE'] = {path!r}\nimport juliacall\n"


def run(world: World, code: str) -> subprocess.CompletedProcess[str]:
    program = world.root / "program.py"
    program.write_text(code)
    result = cli(world.environ, "run", str(program), cwd=world.root)
    assert result.returncode == 0, result.stderr
    return result


# -- Julia code that comes inside a wheel -------------------------------------------------------


def test_a_julia_package_inside_an_installed_wheel_is_baked(tmp_path):
    """What pip installed is edited by nobody; it is compared by its digest anyway."""
    world = buildable_world(tmp_path)
    inside = tmp_path / "env" / "lib" / "python3.12" / "site-packages" / "wrapper" / "julia" / "Example"
    (inside / "src").mkdir(parents=True)
    (inside / "src" / "Example.jl").write_text("module Example end")
    record = inside.parents[2] / "wrapper-1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text("wrapper/julia/Example/src/Example.jl,,\n")
    (world.project / "Manifest.toml").write_text(
        'julia_version = "1.10.4"\nmanifest_format = "2.0"\n'
        f'[[deps.Example]]\npath = "{inside}"\nuuid = "7876af07-990d-54b4-ab0e-23690620f79a"\nversion = "0.5.3"\n'
        + PYTHONCALL
    )
    situation = situation_of(world.environment, world.store, {})
    seen = Profile(packages={"7876af07-990d-54b4-ab0e-23690620f79a": LoadedPackage("Example", 1, 1.0)})
    recipe = choose(situation, seen, Settings())
    assert recipe.left_out == {}


# -- `build` sets the Julia project up again, without the program's packages ---------------------

LIKE_IESOPT = """
import sys
sys.path.insert(0, {target!r})
import juliapkg
juliapkg.add("Example", "7876af07-990d-54b4-ab0e-23690620f79a", target={target!r})
juliapkg.resolve()
"""

JULIA = """#!/bin/sh
case "$*" in
*--version*) echo "julia version 1.10.4";;
*probe.jl*) cat "{root}/answer";;
*dlpath*) printf '{root}/libjulia.so\\0{root}';;
esac
"""


def test_a_build_leaves_the_project_as_it_is(tmp_path):
    """With the real juliapkg: the program adds a directory to sys.path, which no command of ours knows of.

    The same happens with a juliapkg.json beside a script, when the build is asked for in another directory.
    """
    env = VirtualEnvironment(tmp_path / "env")
    root, target, elsewhere = tmp_path / "julia", tmp_path / "target", tmp_path / "elsewhere"
    for directory in (root, target, elsewhere, tmp_path / "home"):
        directory.mkdir()
    (root / "libjulia.so").write_text("lib")
    (root / "julia").write_text(JULIA.format(root=root))
    (root / "julia").chmod(0o755)
    project = tmp_path / "env" / "julia_env"
    facts = {
        "version": "1.10.4", "commit": "x", "word_size": "64", "base_build_id": "1", "cpu_name": "znver3",
        "bindir": str(root), "base_sysimage": str(root / "sys.so"), "libjulia": str(root / "libjulia.so"),
        "depot": str(tmp_path / "depot"), "load_path": str(project / "Project.toml"),
    }  # fmt: skip
    (root / "answer").write_bytes(b"".join(f"{k}={v}".encode() + b"\0" for k, v in facts.items()))
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON_JULIA", "JULIA", "PYJL_"))}
    environ |= {
        "HOME": str(tmp_path / "home"), "PYTHON_JULIAPKG_EXE": str(root / "julia"),
        "PYJL_AUTOIMAGE_HOME": str(tmp_path / "store"), "JULIA_DEPOT_PATH": str(tmp_path / "depot"),
    }  # fmt: skip

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(env.python), *arguments],
            env=environ, cwd=elsewhere, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    program = start("-c", LIKE_IESOPT.format(target=str(target)))
    assert program.returncode == 0, program.stderr
    (project / "Manifest.toml").write_text('manifest_format = "2.0"\n')
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert b"Example" in before[project / "Project.toml"]
    said = {}
    for command in ("status", "build", "explain", "report", "doctor", "profile export x", "log", "demo", "clean"):
        said[command] = start("-m", "pyjl_autoimage", *command.split())
        assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before, command
    assert said["status"].returncode == 3 and "only then" in said["status"].stderr
    assert "is taken as it was set up last" in said["log"].stdout and "only then" in said["log"].stdout
    assert "only then" in said["doctor"].stdout
    (root / "answer").write_bytes(b"")
    (root / "julia").write_text(JULIA.format(root=root).replace("1.10.4", "1.10.5"))
    changed = start("-m", "pyjl_autoimage", "build")
    assert changed.returncode == 3 and "set up with Julia 1.10.4" in changed.stderr
    assert (project / "Manifest.toml").exists()


# -- a library's options that come when Julia runs already -----------------------------------------

LIBRARY = """
import os
os.environ.setdefault("PYTHON_JULIACALL_THREADS", "auto")
import juliacall
from . import helpers
"""


def library(world: World) -> None:
    package = world.site / "solver"
    package.mkdir()
    (package / "__init__.py").write_text("from . import julia_import\n")
    (package / "julia_import.py").write_text(LIBRARY)
    (package / "helpers.py").write_text("")


def test_options_of_a_library_that_come_too_late_are_told_once(world):
    library(world)
    result = python(world.environ, "-c", "from pyjl_autoimage import jl\nimport solver, csv, json\n", cwd=world.root)
    assert result.returncode == 0
    assert result.stderr.count("PYTHON_JULIACALL_THREADS=auto (set by solver.julia_import): too late") == 1
    strict = python(
        world.environ, "-W", "error", "-c", "from pyjl_autoimage import jl\nimport solver", cwd=world.root
    )
    assert strict.returncode == 0, "not at the cost of the program"
    off = {**world.environ, "PYJL_AUTOIMAGE": "0"}
    assert python(off, "-c", "from pyjl_autoimage import jl\nimport solver", cwd=world.root).stderr == ""


def test_options_of_a_library_count_where_it_starts_julia(world):
    library(world)
    code = "import solver, juliacall, json; print(juliacall.CONFIG['threads'])"
    (world.root / "program.py").write_text(code)
    result = cli(world.environ, "run", "program.py", cwd=world.root)
    assert (result.stdout, result.stderr) == ("auto\n", "")


# -- `Pkg` at run time -----------------------------------------------------------------------------


def test_what_was_compiled_to_install_a_package_once_is_baked_by_no_build():
    installed = "precompile(Tuple{typeof(Pkg.API.add), Pkg.Types.Context})"
    used, seen = "precompile(Tuple{typeof(Example.hello), String})", profile.Profile()
    seen.statements = {installed: profile.Statement(runs=1), used: profile.Statement(runs=1)}
    assert seen.bakeable() == [used]
    seen.statements[installed].runs = 2  # it asks Pkg at each start
    assert seen.bakeable() == [installed, used]


def test_status_says_which_image_a_program_chooses_itself(world):
    theirs = world.root / "theirs.so"
    theirs.write_text("x")
    run(world, OWN_IMAGE.format(path=str(theirs)))
    (entry,) = measured.times(profile.peek(world.store, world.environment.id))
    assert entry["theirs"] == str(theirs)
    assert f"choose their image themselves: {theirs}" in cli(world.environ, "status").stdout


# -- pins of an older juliacall --------------------------------------------------------------------


def test_beside_an_older_juliacall_a_start_is_plain_and_says_so(world):
    module, metadata = world.site / "juliacall" / "__init__.py", world.site / "juliacall-0.9.37.dist-info"
    module.write_text(module.read_text().replace('"0.9.37"', '"0.9.26"'))
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: juliacall\nVersion: 0.9.26\n")
    world.publish(juliacall="0.9.26")
    age(world.root)
    code = (
        "import sys; from pyjl_autoimage import jl, started; import juliacall\n"
        "print(juliacall.CONFIG['sysimage'], *started().notes, 'pyjl_autoimage.startup.decide' in sys.modules)"
    )
    says = (
        "None plain start, not recorded: juliacall 0.9.26 cannot start on an image with PythonCall in it, as 0.9.35"
    )
    first, second = (python(world.environ, "-c", code, cwd=world.root) for _ in range(2))
    assert first.stdout.startswith(says) and first.stdout.endswith(" True\n") and first.stderr == ""
    assert second.stdout.startswith(says) and second.stdout.endswith(" False\n"), "it is remembered"
    assert "juliacall 0.9.26 cannot start" in cli(world.environ, "doctor").stdout
    built = cli(world.environ, "build")
    assert built.returncode == 1 and "juliacall 0.9.26 cannot start" in built.stdout + built.stderr
