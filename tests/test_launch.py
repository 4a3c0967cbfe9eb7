"""The remembered answer: what it is asked again for, and that nothing else costs a second thought."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import pyjl_autoimage
from pyjl_autoimage.base import unchanged
from pyjl_autoimage.base.liveness import boot_id
from pyjl_autoimage.base.reads import Reads
from pyjl_autoimage.startup import plan
from pyjl_autoimage.store.places import Store
from pyjl_autoimage.store.publish import new_layer, publish_layer

from standin import World, age, python, start_in

JULIAPKG = """
import os
from .state import STATE
def resolve(julia_args=None, dry_run=False):
    with open({log!r}, "a") as file:
        file.write("asked\\n")
    return True
def executable():
    return os.environ.get("PYTHON_JULIAPKG_EXE", {executable!r})
def project():
    return {project!r}
def libjulia():
    return {libjulia!r}
def bindir():
    return {bindir!r}
"""


class Managed(World):
    """A world in which juliapkg (a stand-in, which counts how often it is asked) says where Julia is."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.log = root / "asked"
        # Deep enough that its parents' pyproject.toml is not one that settings could come from.
        self.place = root / "lib" / "python" / "site"
        self.place.parent.mkdir(parents=True)
        self.site.rename(self.place)
        self.site = self.place
        package = self.site / "juliapkg"
        package.mkdir()
        (package / "__init__.py").write_text(
            JULIAPKG.format(
                log=str(self.log),
                executable=str(self.executable),
                project=str(self.project),
                libjulia=str(self.libjulia),
                bindir=self.facts.bindir,
            )
        )
        (package / "state.py").write_text("STATE = {'project': 'p', 'override_executable': None, 'offline': False}\n")
        (package / "juliapkg.json").write_text("{}")
        (self.site / "plain").mkdir()
        (self.project / "pyjuliapkg").mkdir()
        (self.project / "pyjuliapkg" / "meta.json").write_text("{}")
        (root / "juliaup" / "juliaup").mkdir(parents=True)
        self.juliaup = root / "juliaup" / "juliaup" / "juliaup.json"
        self.store.ensure(self.store.launches)  # in the current directory, which is on sys.path as well

    @property
    def environ(self) -> dict[str, str]:
        environ = {k: v for k, v in super().environ.items() if not k.startswith("PYTHON_JULIACALL_")}
        return {**environ, "JULIAUP_DEPOT_PATH": str(self.root / "juliaup"), "PYTHONDONTWRITEBYTECODE": "1"}

    def times_asked(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def asks(self, *arguments: str, code: str = "", **environ: str) -> bool:
        """Whether a start asks juliapkg."""
        before = self.times_asked()
        start_in(self, *arguments, code=code, **environ)
        return self.times_asked() > before


@pytest.fixture
def managed(tmp_path: Path) -> Managed:
    """A world whose answer is remembered."""
    world = Managed(tmp_path)
    age(tmp_path)
    assert world.asks()
    assert not world.asks(), "remembered"
    return world


def quietly(path: Path, change) -> None:
    """Change something below a directory whose own modification time stays."""
    status = path.stat()
    change()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def another_package(world: Managed) -> None:
    (world.site / "another").mkdir()
    (world.site / "another" / "juliapkg.json").write_text("{}")


def in_a_package_already_there(world: Managed) -> None:
    quietly(world.site, lambda: (world.site / "plain" / "juliapkg.json").write_text("{}"))


def at_the_top(world: Managed) -> None:
    (world.site / "juliapkg.json").write_text("{}")


def changed(world: Managed) -> None:
    (world.site / "juliapkg" / "juliapkg.json").write_text('{"julia": "1"}')


def changed_at_the_same_time(world: Managed) -> None:
    path = world.site / "juliapkg" / "juliapkg.json"
    before = path.stat()
    path.write_text('{"julia": "1"}')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def removed(world: Managed) -> None:
    (world.site / "juliapkg" / "juliapkg.json").unlink()


def of_the_project(world: Managed) -> None:
    (world.project / "pyjuliapkg" / "juliapkg.json").write_text("{}")


def meta_changed(world: Managed) -> None:
    (world.project / "pyjuliapkg" / "meta.json").write_text("{ }")


def meta_removed(world: Managed) -> None:
    (world.project / "pyjuliapkg" / "meta.json").unlink()


def another_julia(world: Managed) -> None:
    world.write_julia(replace(world.facts, version="1.10.5"))


def libjulia_moved(world: Managed) -> None:
    world.libjulia.unlink()
    world.libjulia.write_text("another lib")


def juliaup_moved(world: Managed) -> None:
    world.juliaup.write_text('{"Default": "1.11"}')


def from_its_own_repository(world: Managed) -> None:
    (world.site.parent / "pyproject.toml").write_text("")


@pytest.mark.parametrize(
    "change",
    [
        another_package,
        in_a_package_already_there,
        at_the_top,
        changed,
        changed_at_the_same_time,
        removed,
        of_the_project,
        meta_changed,
        meta_removed,
        another_julia,
        libjulia_moved,
        juliaup_moved,
        from_its_own_repository,
    ],
    ids=lambda change: change.__name__,
)
def test_whatever_juliapkg_would_notice_is_asked_again(managed, change):
    change(managed)
    assert managed.asks()


def in_whole_seconds(root: Path, later: int = 0) -> None:
    """What is left of modification times when an archive of all this is unpacked: a layer of a container."""
    for path in sorted(root.rglob("*"), reverse=True):
        if not path.is_symlink():
            os.utime(path, (1, path.stat().st_mtime_ns // 1_000_000_000 + later))


def test_what_was_packed_and_unpacked_is_the_same(managed):
    in_whole_seconds(managed.root)
    assert not managed.asks()


def test_what_was_only_touched_is_the_same(managed):
    in_whole_seconds(managed.root, later=1)
    assert not managed.asks()


def test_a_package_without_a_juliapkg_json_costs_no_question(managed):
    """Nor does a program that makes a directory beside itself at each run; one that comes with such a file does."""
    for number in range(3):
        (managed.site / f"run-{number}").mkdir()
        age(managed.root)
        assert not managed.asks()
    (managed.site / "run-3").mkdir()
    (managed.site / "run-3" / "juliapkg.json").write_text("{}")
    age(managed.root)
    assert managed.asks()
    assert not managed.asks()


# -- many installed distributions ----------------------------------------------------------------------


def install(site: Path, name: str, version: str = "1.0", *, holds: str = "__init__.py") -> None:
    """As pip does: the package first, what was before it goes, its ``.dist-info`` comes last."""
    for old in site.glob(f"{name}-*.dist-info"):
        (old / "RECORD").unlink()
        old.rmdir()
    (site / name).mkdir(exist_ok=True)
    (site / name / holds).write_text("{}")
    about = site / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "RECORD").write_text(f"{name}/{holds},,\n{about.name}/RECORD,,\n")


@pytest.fixture
def populated(managed: Managed) -> Managed:
    """With an installed distribution, which is remembered."""
    install(managed.site, "numbers")
    age(managed.root)
    managed.asks("-X", "juliapkg-offline=no")
    assert not managed.asks("-X", "juliapkg-offline=no")
    return managed


def plans(world: Managed) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(world.store.launches).iterdir()}


def test_what_is_looked_at_does_not_grow_with_what_is_installed(tmp_path, monkeypatch):
    def looks(number: int) -> int:
        site = tmp_path / str(number)
        site.mkdir()
        for one in range(number):
            install(site, f"distribution{one}")
        age(site)
        reads = Reads()
        reads.directory_of_sys_path(str(site))
        noted, calls = reads.to_data(), []
        with monkeypatch.context() as patch:
            for name in ("stat", "access", "scandir", "open"):
                original = getattr(os, name)
                patch.setattr(os, name, lambda *a, original=original, **k: (calls.append(a), original(*a, **k))[1])
            assert unchanged.difference(noted) == ""
        return len(calls)

    assert looks(60) == looks(2) <= 3


def test_the_next_version_of_what_is_installed_may_bring_a_juliapkg_json(populated):
    install(populated.site, "numbers", "1.1", holds="juliapkg.json")
    age(populated.root)
    assert populated.asks("-X", "juliapkg-offline=no")


def test_nor_do_times_hide_it_that_were_set_back(populated):
    quietly(populated.site, lambda: install(populated.site, "numbers", "1.1", holds="juliapkg.json"))
    assert populated.asks("-X", "juliapkg-offline=no")


def test_what_brings_none_costs_one_search_and_no_question(populated):
    install(populated.site, "more")
    age(populated.root)
    before = plans(populated)
    assert not populated.asks("-X", "juliapkg-offline=no")
    after = plans(populated)
    assert after != before, "noted anew"
    assert not populated.asks("-X", "juliapkg-offline=no")
    assert plans(populated) == after
    install(populated.site, "more", "1.1", holds="juliapkg.json")
    assert populated.asks("-X", "juliapkg-offline=no")


def test_what_has_just_changed_is_not_noted(populated):
    """It may change again, and look the same."""
    install(populated.site, "more")
    before = plans(populated)
    assert not populated.asks("-X", "juliapkg-offline=no")
    assert plans(populated) == before
    install(populated.site, "more", "1.1", holds="juliapkg.json")
    assert populated.asks("-X", "juliapkg-offline=no")


def test_an_installed_package_that_is_a_link_is_looked_at(managed):
    elsewhere = managed.root / "elsewhere"
    elsewhere.mkdir()
    (managed.site / "numbers").symlink_to(elsewhere)
    install(managed.site, "numbers")
    age(managed.root)
    managed.asks("-X", "juliapkg-offline=no")
    assert not managed.asks("-X", "juliapkg-offline=no")
    (elsewhere / "juliapkg.json").write_text("{}")
    assert managed.asks("-X", "juliapkg-offline=no")


# -- what a start needs nobody for ---------------------------------------------------------------------


def test_a_program_that_makes_a_directory_beside_itself_at_each_run_starts_quickly(managed):
    managed.publish()
    program = managed.root / "app" / "main.py"
    program.parent.mkdir()
    program.write_text(
        "import os, pathlib; here = pathlib.Path(__file__).parent\n"
        "(here / f'run-{len(os.listdir(here))}').mkdir()\nfrom pyjl_autoimage import jl\n"
        "from pyjl_autoimage.startup.start import session; assert session.on_image, session.notes\n"
    )
    age(managed.root)

    def run() -> None:
        python(managed.environ, str(program)).check_returncode()

    run()
    asked, kept = managed.times_asked(), plans(managed)
    for _ in range(4):
        run()
    assert len(os.listdir(program.parent)) == 6
    assert (managed.times_asked(), plans(managed)) == (asked, kept)


NO_SCRIPT = "from pyjl_autoimage.julia.environment import Environment; Environment.is_script = lambda self: False"
"""The stand-in Julia is one only because it is a stand-in; a script may start another Julia each time."""


@pytest.mark.parametrize("kind", [World, Managed])
def test_where_executable_and_project_are_given_no_julia_is_asked_for_them(kind, tmp_path):
    world = kind(tmp_path)
    image = world.publish()
    given = {"PYTHON_JULIAPKG_EXE": str(world.executable), "PYTHON_JULIAPKG_PROJECT": str(world.project)}
    age(tmp_path)
    assert start_in(world, code=NO_SCRIPT, **given)["sysimage"] == image.path
    started = world.times_started()
    asked = world.times_asked() if kind is Managed else 0
    for _ in range(3):
        assert start_in(world, **given)["sysimage"] == image.path
    assert world.times_started() == started > 0
    assert kind is World or world.times_asked() == asked > 0


@pytest.mark.parametrize(
    "environ",
    [
        {"PYTHON_JULIAPKG_OFFLINE": "yes"},
        {"PYTHON_JULIAPKG_PROJECT": "/nowhere"},
        {"PYTHON_JULIACALL_CHECK_BOUNDS": "yes"},
        {"CONDA_PREFIX": "/nowhere"},
        {"JULIA_DEPOT_PATH": "/nowhere"},
        {"JULIA_LOAD_PATH": "@:/nowhere"},
        {"JULIA_PROJECT": "/nowhere"},
        {"HOME": "/nowhere"},
        {"JULIAUP_CHANNEL": "1.11"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_another_environment_is_another_question(managed, environ):
    assert managed.asks(**environ)
    assert not managed.asks(), "and the first answer is still there"
    assert not managed.asks(**environ)


def test_another_executable_is_another_question(managed):
    other = managed.executable.parent / "other-julia"
    other.write_text(managed.executable.read_text())
    other.chmod(0o755)
    os.utime(other, (1, 1))
    assert managed.asks(PYTHON_JULIAPKG_EXE=str(other))
    for _ in range(2):
        assert not managed.asks(PYTHON_JULIAPKG_EXE=str(other))
        assert not managed.asks()


def test_another_julia_on_path_does_not_matter_once_juliapkg_has_chosen(managed):
    """`can_skip_resolve` of juliapkg looks at the executable that its ``meta.json`` names."""
    for program in ("julia", "juliaup"):
        directory = managed.root / f"bin-{program}"
        directory.mkdir()
        (directory / program).write_text("")
        (directory / program).chmod(0o755)
        assert not managed.asks(PATH=f"{directory}{os.pathsep}{os.environ['PATH']}")


def test_an_option_of_the_interpreter_is_another_question(managed):
    assert managed.asks("-X", "juliapkg-offline=yes")
    assert managed.asks("-X", "juliapkg-offline=no")


def test_another_python_is_another_question(managed):
    assert managed.asks(code="import sys; sys.version += ' of another build'")


def test_another_sys_path_is_another_question(managed):
    assert managed.asks(code=f"import sys; sys.path.append({str(managed.root / 'later')!r})")


def test_a_directory_of_sys_path_that_appears_is_noticed(managed):
    code = f"import sys; sys.path.append({str(managed.root / 'later')!r})"
    assert managed.asks(code=code)
    assert not managed.asks(code=code)
    (managed.root / "later").mkdir()
    assert managed.asks(code=code)


def test_what_the_program_told_juliapkg_is_part_of_the_question(managed):
    code = "import juliapkg.state; juliapkg.state.STATE['offline'] = True"
    assert managed.asks(code=code)
    assert not managed.asks(code=code)
    assert managed.asks(code=code.replace("True", "False"))


EDITABLE = """
import sys, types
finder = types.ModuleType("__editable___mine_1_0_finder")
finder.MAPPING = {{"mine": {directory!r}}}
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None
Finder.__module__ = finder.__name__
sys.modules[finder.__name__] = finder
sys.meta_path.append(Finder)
"""


def test_editable_installs_are_searched_as_juliapkg_does(managed):
    directory = managed.root / "mine"
    directory.mkdir()
    age(directory)
    code = EDITABLE.format(directory=str(directory))
    assert managed.asks(code=code)
    assert not managed.asks(code=code)
    (directory / "juliapkg.json").write_text("{}")
    assert managed.asks(code=code)


def test_a_link_that_leads_to_another_julia_is_noticed_though_times_and_sizes_agree(tmp_path):
    world = Managed(tmp_path)
    link = tmp_path / "julia-link"
    link.symlink_to(world.executable)
    age(tmp_path)
    assert world.asks(PYTHON_JULIAPKG_EXE=str(link))
    assert not world.asks(PYTHON_JULIAPKG_EXE=str(link))
    other = tmp_path / "other-julia"
    other.write_text(world.executable.read_text())
    other.chmod(0o755)
    status = world.executable.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    link.unlink()
    link.symlink_to(other)
    assert world.asks(PYTHON_JULIAPKG_EXE=str(link))


def test_a_link_to_a_package_that_appears_later(tmp_path):
    world = Managed(tmp_path)
    (world.site / "linked").symlink_to(tmp_path / "mounted")
    age(tmp_path)
    assert world.asks()
    assert not world.asks()
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "juliapkg.json").write_text("{}")
    assert world.asks()


def test_what_changes_with_the_directory_is_not_taken_from_another_one(managed):
    """juliaup's launcher, with an override; without one what it starts is in a file that we look at."""
    installed = managed.juliaup.parent / "julia-1.10.4" / "bin" / "julia"
    installed.parent.mkdir(parents=True)
    installed.write_text(managed.executable.read_text())
    installed.chmod(0o755)
    juliapkg = managed.site / "juliapkg" / "__init__.py"
    juliapkg.write_text(juliapkg.read_text().replace(repr(managed.facts.bindir), repr(str(installed.parent))))
    managed.juliaup.write_text(json.dumps({"Overrides": [{"Path": "/somewhere", "Channel": "1.11"}]}))
    age(managed.juliaup.parent, juliapkg.parent)
    for _ in range(2):
        assert managed.asks(), "never remembered"
    # But a Julia that juliaup installed is itself, wherever one is.
    assert managed.asks(PYTHON_JULIAPKG_EXE=str(installed))
    assert not managed.asks(PYTHON_JULIAPKG_EXE=str(installed))
    managed.juliaup.write_text("{}")
    age(managed.juliaup.parent)
    assert managed.asks()
    assert not managed.asks()


def test_what_a_launcher_of_the_users_own_starts_is_not_remembered(tmp_path):
    """Nothing says whether it starts the same Julia next time; what Julia said of itself is of no more use."""
    world = World(tmp_path)
    launcher = tmp_path / "julia" / "launcher"
    launcher.write_text(world.executable.read_text())
    launcher.chmod(0o755)
    world.executable = launcher
    image = world.publish()
    age(tmp_path)
    for times in (1, 2):
        assert start_in(world)["sysimage"] == image.path
        assert world.times_started() == times
        assert not os.path.exists(world.store.launches)


def test_an_executable_on_path_by_its_name(managed):
    path = f"{managed.executable.parent}{os.pathsep}{os.environ['PATH']}"
    told = start_in(managed, PYTHON_JULIAPKG_EXE="julia", PATH=path)
    assert told["exe"] == str(managed.executable)


def test_relative_options_mean_something_else_in_another_directory(tmp_path):
    """The image of one project must not be used for another one of the same name."""
    world = World(tmp_path)
    image = world.publish()
    other = tmp_path / "other" / "project"
    other.mkdir(parents=True)
    (other / "Project.toml").write_text("")
    (other / "Manifest.toml").write_text('manifest_format = "2.0"\n[deps]\n')
    age(tmp_path)

    def sysimage(directory):
        code = f"import os; os.chdir({str(directory)!r})"
        return start_in(world, code=code, PYTHON_JULIACALL_PROJECT="project")["sysimage"]

    assert [sysimage(tmp_path) for _ in range(2)] == [image.path] * 2
    assert [sysimage(other.parent) for _ in range(2)] == [None] * 2
    assert sysimage(tmp_path) == image.path


@pytest.mark.parametrize(
    ("key", "value", "relative"),
    [
        ("PYTHON_JULIACALL_PROJECT", "project", True),
        ("PYTHON_JULIACALL_PROJECT", "/project", False),
        ("PYTHON_JULIACALL_EXE", "julia", True),
        ("-Xjuliacall-project", "project", True),
        ("PYTHON_JULIACALL_THREADS", "2", False),
        ("JULIA_DEPOT_PATH", f"/a{os.pathsep}/b{os.pathsep}", False),
        ("JULIA_DEPOT_PATH", f"/a{os.pathsep}b", True),
        ("JULIA_LOAD_PATH", f"@{os.pathsep}@v1.10{os.pathsep}@stdlib", False),
        ("JULIA_LOAD_PATH", "@.", True),
        ("home", Path("store"), True),
        ("trusted_stores", ["/a", "b"], True),
        ("record", False, False),
    ],
)
def test_which_options_depend_on_the_directory(key, value, relative):
    assert plan._is_relative(key, value) is relative


def test_a_current_directory_that_is_gone_does_not_keep_julia_from_starting(tmp_path):
    world = World(tmp_path)
    code = f"import os; os.mkdir({str(tmp_path / 'gone')!r}); os.chdir({str(tmp_path / 'gone')!r}); os.rmdir(os.getcwd())"
    assert start_in(world, code=code)["exe"] == str(world.executable)


def test_an_answer_for_another_cpu_is_not_used(tmp_path):
    """A home directory that different machines share: Julia aborts on an image for the other's CPU."""
    world = World(tmp_path)
    image = world.publish()
    age(tmp_path)
    for _ in range(2):
        assert start_in(world)["sysimage"] == image.path
    elsewhere = "from pyjl_autoimage.startup import plan as launch\nfrom pyjl_autoimage.store import validity\nlaunch._cpu = validity.cpu_identity = lambda: 'another'\n"
    for _ in range(2):
        assert start_in(world, code=elsewhere)["sysimage"] is None
    assert start_in(world)["sysimage"] == image.path


def test_this_machines_cpu_has_a_name():
    assert plan._cpu() == plan._cpu() != ""
    assert plan._cpu().strip()


def test_boot_has_a_name_where_the_kernel_gives_one():
    assert bool(boot_id()) is os.path.exists("/proc/sys/kernel/random/boot_id")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_an_answer_that_somebody_else_could_have_written_is_not_used(managed):
    (name,) = os.listdir(managed.store.launches)
    path = Path(managed.store.launches, name)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o666)
    assert managed.asks()
    assert path.stat().st_mode & 0o777 == 0o600, "written anew"
    assert not managed.asks()


def test_a_damaged_answer_is_as_good_as_none(managed):
    (name,) = os.listdir(managed.store.launches)
    path = Path(managed.store.launches, name)
    content = path.read_bytes()
    project, answer = str(managed.project).encode(), content.index(b"\0", len(plan.MAGIC))
    another_project = content[:answer] + content[answer:].replace(project, project[:-1] + b"T", 1)
    for damaged in (b"", content[:-1], content[: len(content) // 2], content.upper(), b"\0" * 99, another_project):
        path.write_bytes(damaged)
        assert managed.asks()
        assert path.read_bytes()[:24] == content[:24], "and it is mended"
        assert not managed.asks()


def test_a_change_while_the_answer_was_made_is_not_missed(tmp_path):
    """juliapkg may take minutes, so that what changed meanwhile looks old in the end."""
    store, file = Store(str(tmp_path / "store")), tmp_path / "file"
    file.write_text("")

    def noted(before: int, grain: int = 1) -> Reads:
        reads = Reads()
        reads.since -= 60_000_000_000
        os.utime(file, ns=(0, (reads.since - before) // grain * grain))
        reads.file(str(file))
        return reads

    second = 1_000_000_000
    for before, grain in ((-1, 1), (0, 1), (second, second)):  # the last: within the grain of some clocks
        assert not plan.remember(plan.Plan(home=store.home), "question", noted(before, grain))
    # By a finer one that is before; and a time that is yet to come tells as much as any other.
    for before in (second, 3 * second, -3600 * second):
        assert plan.remember(plan.Plan(home=store.home, notes=["one"]), "question", noted(before))
    assert plan.recall(store, "question").notes == ["one"]
    assert plan.recall(store, "another question") is None


def test_questions_whose_answers_have_one_file_are_told_apart(store, monkeypatch):
    """Its name is short, and not of a kind that nobody could find another question for."""
    monkeypatch.setattr(plan, "_file", lambda store, asked: store.launch("one"))
    assert plan.remember(plan.Plan(home=store.home), "question", Reads())
    assert plan.recall(store, "question") is not None
    assert plan.recall(store, "QUESTION") is None


# -- what it costs -------------------------------------------------------------------------------------

LISTING = ("os.listdir", "os.scandir")
WHAT_JULIACALL_NEEDS_ANYWAY = "import ctypes, faulthandler"

OBSERVED = """
import sys
before = set(sys.modules)
events = []
ACTIONS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec", "os.spawn",
           "os.startfile", "socket.connect", "os.listdir", "os.scandir")
def watch(event, arguments):
    if event in ACTIONS:
        events.append([event, str(arguments[0])])
sys.addaudithook(watch)
import os, pyjl_autoimage.base.liveness as liveness
liveness._own_names[os.getpid()] = "host-1-boot-00000001"  # not one of those that sweep
from pyjl_autoimage import jl
events = list(events)
import pyjl_autoimage.startup.start as runtime
assert runtime.session.on_image, runtime.session.notes
print(repr((sorted(set(sys.modules) - before), events)))
"""


def observe(world):
    """The modules that a start imports, and what it does, without anything that a site imports beforehand."""
    path = [str(world.site), str(Path(pyjl_autoimage.__file__).parent.parent)]
    if sys.version_info < (3, 11):  # the slow way reads TOML with what is installed
        path.append(sysconfig.get_path("purelib"))

    def run(code):
        result = subprocess.run(
            [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
            env=world.environ,
            cwd=world.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return eval(result.stdout.splitlines()[-1])

    run(OBSERVED)
    modules, events = run(OBSERVED)
    needed = run(f"before = set(sys.modules)\n{WHAT_JULIACALL_NEEDS_ANYWAY}\nprint(set(sys.modules) - before)")
    # What it lists of sys.path is Python's import system at work.
    started = [event for event in events if event[0] not in LISTING]
    listed = [path for action, path in events if action in LISTING and path.startswith(world.store.home)]
    return set(modules) - needed, started, listed


def test_the_hot_path_imports_little_and_starts_no_process(tmp_path):
    world = World(tmp_path)
    world.publish()
    age(tmp_path)
    modules, started, listed = observe(world)
    here = ("door", "guard", "options", "plan", "recording", "start")
    below = ("call", "layout", "liveness", "program", "unchanged")
    ours = ("startup", *(f"startup.{name}" for name in here), "base", *(f"base.{name}" for name in below))
    standard = {"__future__", "atexit", "fcntl", "zlib"}
    assert modules == {*standard, "juliacall", "pyjl_autoimage", *(f"pyjl_autoimage.{m}" for m in ours)}
    assert not started
    assert listed == [world.store.booting], "nothing that grows"


def test_it_does_the_same_with_a_store_full_of_recordings_and_images(tmp_path):
    world = World(tmp_path)
    for number in range(20):
        world.publish(b"%d" % number, built_at=float(number))
    recordings = Path(world.store.recordings(world.environment.id))
    recordings.mkdir(parents=True)
    for number in range(200):
        (recordings / f"host-{number}-{number}-0.jl").write_text("")
    age(tmp_path)
    assert observe(world)[1:] == ([], [world.store.booting])


def test_older_images_are_no_witnesses(tmp_path):
    world = World(tmp_path)
    old = world.publish(b"old", built_at=1.0)
    newest = world.publish(b"new", built_at=2.0)
    age(tmp_path)
    for _ in range(2):
        assert start_in(world)["sysimage"] == newest.path
    started = world.times_started()
    (name,) = os.listdir(world.store.launches)
    before = Path(world.store.launches, name).stat().st_mtime_ns
    os.truncate(old.path, 1)
    assert start_in(world)["sysimage"] == newest.path
    assert world.times_started() == started
    assert Path(world.store.launches, name).stat().st_mtime_ns == before


def test_a_layer_published_after_somebody_looked_is_noticed(store):
    """Its directory was there before: the directory of layers would look as it did."""
    path = new_layer(store, "layer")
    os.utime(store.layers, (1, 1))
    publish_layer(store, SimpleNamespace(path=path, to_json=dict))
    assert os.stat(store.layers).st_mtime > 1
