"""Where Julia looks: the depots and the load path, in every form that Julia takes.

What this package thinks they are is what a real Julia says, and a program that gets a layer finds each package where
plain juliacall finds it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Place, make_place

from standin import EXAMPLE_TREE, slug

pytestmark = pytest.mark.skipif(os.name != "posix", reason="makes depots of links")

DEMO = "7d1f0d65-5b0e-4b8a-9a3e-0c7a3f1f2b31"
EXTRA = "7d1f0d65-5b0e-4b8a-9a3e-0c7a3f1f2b32"

DEMO_CODE = f"""
module Demo
const PLACE = @__DIR__
const SIZE = (u -> (Base.record_compiletime_preference(u, "size"); get(Base.get_preferences(u), "size", 0)))(
    Base.UUID("{DEMO}"))
place(x) = string(PLACE, x, " ", SIZE)
end
"""

# What this Julia looks through, and where it finds what.
LOOKS = """
let say(id) = id === nothing ? "nothing" : string(id.uuid, " ", Base.locate_package(id))
    names = ["PythonCall", "Demo", "Extra", "Absent", "Random", "SHA", "Tables", "CSV"]
    found = [string(name, " ", say(Base.identify_package(name))) for name in names]
    join(map(items -> join(items, '\\x1'), (DEPOT_PATH, LOAD_PATH, Base.load_path(), found)), '\\x2')
end
"""
PROGRAM = f"""
import json, os
if os.environ.get("PLAIN"):
    from juliacall import Main as jl
else:
    from pyjl_autoimage import jl
looks = [part.split("\\1") for part in jl.seval({LOOKS!r}).split("\\2")]
layer = None
if not os.environ.get("PLAIN"):
    from pyjl_autoimage import started
    layer = started().layer
try:
    jl.seval("using Demo")
    demo = [jl.seval("pathof(Demo)"), jl.Demo.place("!")]
except Exception as error:
    demo = str(error).splitlines()[0]
print(json.dumps([looks, demo, layer, os.environ.get("JULIA_DEPOT_PATH")]))
"""
THINKS = """
import json
from pyjl_autoimage.base.settings import settle
from pyjl_autoimage.julia.environment import locate
from pyjl_autoimage.store.places import Store
from pyjl_autoimage.store.validity import julia_facts
facts = julia_facts(locate(), Store(settle({}).home))
print(json.dumps([facts.depots, facts.load_path]))
"""


@dataclass
class Places:
    """A program with a layer, and depots: the user's own, and another that has the same package."""

    place: Place
    own: Path
    other: Path

    def said(self, plain: bool, **environ: str) -> list | str:
        """What a program says; of one that ends with an error, how that ends."""
        told = {"PLAIN": "1"} if plain else {}
        command = [str(self.place.root / "program.py")]
        result = self.place.run([sys.executable, *command], check=False, **told, **environ)
        if result.returncode:
            return result.stderr.splitlines()[-1]
        return json.loads(result.stdout.splitlines()[-1])

    def thinks(self, **environ: str) -> list[list[str]]:
        return self.place.json(THINKS, **environ)  # type: ignore[return-value]

    def julia(self, **environ: str) -> list[list[str]]:
        """What a Julia says of its own."""
        environment = self.place.environment
        command = [environment.executable, f"--project={environment.project}", "--startup-file=no", "-e"]
        code = "print(join(map(p -> join(p, '\\x1'), (abspath.(DEPOT_PATH), Base.load_path())), '\\x2'))"
        out = self.place.run([*command, code], **environ).stdout
        return [[item for item in part.split("\1") if item] for part in out.split("\2")]

    def compare(self, times: int = 1, **environ: str) -> bool:
        """That starts of ours are like a plain one: decided, and remembered; whether they got the layer."""
        plain = self.said(True, **environ)
        (layered,) = {self._compare(plain, self.said(False, **environ)) for _ in range(times)}
        return layered

    def _compare(self, plain: list | str, ours: list | str) -> bool:
        if isinstance(plain, str) or isinstance(ours, str):
            assert ours == plain
            return False
        (depots, load_path, expanded, found), demo, layer, told = ours
        store = str(self.place.store)
        without = [[path for path in paths if not path.startswith(store)] for paths in (depots, load_path, expanded)]
        assert [[*without, found], demo, told] == [plain[0], plain[1], plain[3]]
        return layer is not None


def write_environment(directory: Path, *, size: int | None = None, extra: Path | None = None) -> None:
    """An environment that has the package `Extra`, or a preference of `Demo`."""
    directory.mkdir(parents=True)
    text = f'[deps]\nDemo = "{DEMO}"\n\n[preferences.Demo]\nsize = {size}\n' if size else "[deps]\n"
    if extra:
        text = f'[deps]\nExtra = "{EXTRA}"\n'
        entry = f'[[deps.Extra]]\nuuid = "{EXTRA}"\nversion = "0.1.0"\npath = "{extra}"\n'
        (directory / "Manifest.toml").write_text(f'manifest_format = "2.0"\n\n{entry}')
    (directory / "Project.toml").write_text(text)


def install(depot: Path, code: str = DEMO_CODE) -> None:
    source = depot / "packages" / "Demo" / slug(DEMO, EXAMPLE_TREE)
    (source / "src").mkdir(parents=True)
    (source / "src" / "Demo.jl").write_text(code)
    (source / "Project.toml").write_text(f'name = "Demo"\nuuid = "{DEMO}"\nversion = "0.1.0"\n')


def depot_like(real: Path, depot: Path) -> Path:
    """A depot that has what another one has: by links, but for caches. Of these Julia drops the oldest of many."""
    for entry in (real / "packages").iterdir():
        (depot / "packages").mkdir(parents=True, exist_ok=True)
        (depot / "packages" / entry.name).symlink_to(entry)
    for name in ("artifacts", "registries"):
        if (real / name).exists():
            (depot / name).symlink_to(real / name)
    shutil.copytree(real / "compiled", depot / "compiled", copy_function=_link_or_copy)
    return depot


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Places:
    place = make_place(tmp_path_factory.mktemp("places"), prepared)
    real = [Path(depot) for depot in place.facts.depots if Path(depot, "packages", "PythonCall").is_dir()]
    if not real:
        pytest.skip("PythonCall is in no depot")
    home = place.root / "home"
    own, other = depot_like(real[0], home / ".julia"), place.root / "depots" / "other"
    install(own)
    install(other)
    (place.root / "depots" / "empty").mkdir()
    (place.root / "depots" / "link").symlink_to(own)
    (own / "environments").mkdir()
    extra = place.root / "Extra"
    (extra / "src").mkdir(parents=True)
    (extra / "src" / "Extra.jl").write_text("module Extra end\n")
    (extra / "Project.toml").write_text(f'name = "Extra"\nuuid = "{EXTRA}"\nversion = "0.1.0"\n')
    version = ".".join(place.facts.version.split(".")[:2])
    for directory in (
        own / "environments" / f"v{version}",
        other / "environments" / "shared",
        place.root / "an environment",
    ):
        write_environment(directory, extra=extra)
    project = Path(place.environment.project, "Project.toml")
    project.write_text(project.read_text().replace("[deps]\n", f'[deps]\nDemo = "{DEMO}"\n', 1))
    with open(place.manifest.path, "a", encoding="utf-8") as manifest:
        manifest.write(f'\n[[deps.Demo]]\nuuid = "{DEMO}"\nversion = "0.1.0"\ngit-tree-sha1 = "{EXAMPLE_TREE}"\n')
    place.environ |= {"HOME": str(home)}
    for name in ("JULIA_DEPOT_PATH", "JULIA_LOAD_PATH", "JULIA_PROJECT"):
        place.environ.pop(name, None)
    (place.root / "program.py").write_text(PROGRAM)
    places = Places(place, own, other)
    assert isinstance(places.said(False), list)
    built = json.loads(place.cli("build", "--quick", "--json").stdout.splitlines()[-1])
    assert built["layers"] and not built["notes"], built
    return places


# Without Julia's own depots (no empty entry) the caches of its standard libraries are made anew: once, in the user's own.
DEPOTS = {
    "unset": (None, True),
    "empty": ("", False),
    "a": ("{own}", True),
    "a/": ("{own}/", True),
    ":": (":", True),
    ":a": (":{empty}", True),
    "a:": ("{empty}:", None),
    "own:": ("{own}:", True),
    "b::a": ("{other}::{own}", False),
    "a:b": ("{own}:{other}", True),
    "b:a": ("{other}:{own}", False),
    "a:a": ("{own}:{own}", True),
    "absent:a": ("{root}/depots/absent:{own}", True),
    "tilde": ("~/.julia", True),
    "link": ("{root}/depots/link", True),
    "relative": ("home/.julia", True),
    "relative link": ("./depots/link:depots/other", True),
    "relative other": ("depots/other:", False),
}


@pytest.mark.parametrize("form", DEPOTS, ids=lambda form: form.replace(" ", "-"))
def test_depots(places: Places, form: str) -> None:
    text, layered = DEPOTS[form]
    names = {"own": places.own, "other": places.other, "root": places.place.root}
    names["empty"] = places.place.root / "depots" / "empty"
    environ = {} if text is None else {"JULIA_DEPOT_PATH": text.format(**names)}
    assert places.thinks(**environ) == places.julia(**environ)
    found = places.compare(2, **environ)
    assert layered is None or found == layered


LOAD_PATHS = {
    "unset": (None, True),
    "empty": ("", False),
    "@": ("@", False),  # nor does plain juliacall start: it uses a standard library that the project need not name
    "@:": ("@:", True),
    ":": (":", True),
    "@:@stdlib": ("@:@stdlib", True),
    "@:@v#.#:@stdlib": ("@:@v#.#:@stdlib", True),
    "@stdlib": ("@stdlib", False),
    "@:@shared:@stdlib": ("@:@shared:@stdlib", True),
    ":@shared": (":@shared", True),
    "@shared:": ("@shared:", False),
    "@:@absent": ("@:@absent:@stdlib", True),
    "@:directory": ("@:{root}/an environment:@stdlib", True),
    "@:file": ("@:{root}/an environment/Project.toml:@stdlib", True),
    "@:relative": ("@:an environment:@stdlib", True),
    "@:absent": ("@:{root}/absent:", True),
    "@:@.": ("@:@.:@stdlib", True),
    "@:~": ("@:~/../an environment:@stdlib", True),
}


@pytest.mark.parametrize("form", LOAD_PATHS)
def test_load_path(places: Places, form: str) -> None:
    text, layered = LOAD_PATHS[form]
    environ = {} if text is None else {"JULIA_LOAD_PATH": text.format(root=places.place.root)}
    environ["JULIA_DEPOT_PATH"] = f"{places.own}:{places.other}:"
    assert places.thinks(**environ) == places.julia(**environ)
    assert places.compare(2, **environ) == layered


@pytest.mark.parametrize("name", ["@shared", "@v#.#", "@v#.#.#", "@v#.#-more"])
def test_a_named_environment_that_appears_in_an_earlier_depot(places: Places, name: str, tmp_path: Path) -> None:
    """It may prefer something of a package that the layer is about."""
    environ = {"JULIA_DEPOT_PATH": f"{tmp_path}:{places.own}:{places.other}:", "JULIA_LOAD_PATH": f"@:{name}:@stdlib"}
    version = iter(places.place.facts.version.split("-")[0].split("."))
    called = "".join(next(version) if letter == "#" else letter for letter in name[1:])
    later = places.other / "environments" / called
    if not later.exists():
        write_environment(later)
    assert places.compare(2, **environ)
    write_environment(tmp_path / "environments" / called, size=7)
    assert places.thinks(**environ) == places.julia(**environ)
    assert not places.compare(**environ)
    assert places.said(False, **environ)[1][1].endswith("! 7")


def test_a_package_that_appears_in_an_earlier_depot(places: Places, tmp_path: Path) -> None:
    environ = {"JULIA_DEPOT_PATH": f"{tmp_path}:{places.own}:"}
    assert places.compare(2, **environ)
    install(tmp_path)
    assert not places.compare(**environ)


def test_relative_places_are_those_of_the_directory(places: Places, tmp_path: Path) -> None:
    """The same words in another directory mean another depot, and another environment."""
    environ = {"JULIA_DEPOT_PATH": f"depots/other:{places.own}:", "JULIA_LOAD_PATH": "@:an environment:@stdlib"}
    assert not places.compare(**environ)
    root = places.place.root
    (tmp_path / "program.py").write_text(PROGRAM)
    write_environment(tmp_path / "an environment", size=9)
    there = Places(Place(**{**vars(places.place), "root": tmp_path}), places.own, places.other)
    assert there.thinks(**environ) == there.julia(**environ) != places.thinks(**environ)
    assert not there.compare(**environ) and there.said(False, **environ)[1][1].endswith("! 9")
    assert places.place.root == root and places.said(False, **environ)[1][1].endswith("! 0")


def test_a_workspace_takes_the_project_in(prepared: Path, place: Place, tmp_path: Path) -> None:
    """From then on its manifest counts, and what it prefers."""
    if tuple(map(int, place.facts.version.split(".")[:2])) < (1, 12):
        pytest.skip("workspaces came with Julia 1.12")
    place = make_place(tmp_path, prepared)
    project, manifest = Path(place.environment.project), Path(place.manifest.path)
    (tmp_path / "program.py").write_text(PROGRAM)
    for name in ("DemoBefore", "DemoInWorkspace"):
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "src" / "Demo.jl").write_text(DEMO_CODE)
        (tmp_path / name / "Project.toml").write_text(f'name = "Demo"\nuuid = "{DEMO}"\nversion = "0.1.0"\n')
    own = project / "Project.toml"
    own.write_text(own.read_text().replace("[deps]\n", f'[deps]\nDemo = "{DEMO}"\n', 1))
    entry = f'\n[[deps.Demo]]\nuuid = "{DEMO}"\nversion = "0.1.0"\npath = '
    before = manifest.read_text()
    manifest.write_text(f'{before}{entry}"{tmp_path / "DemoBefore"}"\n')
    places = Places(place, tmp_path, tmp_path)

    def build() -> None:
        built = json.loads(place.cli("build", "--quick", "--json").stdout.splitlines()[-1])
        assert built["layers"] and not built["notes"], built

    def demo(size: int) -> list[str]:
        said = places.said(False)[1]
        assert said[1].endswith(f"! {size}")
        return said[0]

    assert not places.compare() and "DemoBefore" in demo(0)
    build()
    assert places.compare(2)
    (tmp_path / manifest.name).write_text(f'{before}{entry}"{tmp_path / "DemoInWorkspace"}"\n')
    (tmp_path / "Project.toml").write_text('[deps]\n\n[workspace]\nprojects = ["julia project"]\n')
    assert not places.compare(2) and "DemoInWorkspace" in demo(0)
    assert places.thinks() == places.julia()
    build()
    assert places.compare(2) and "DemoInWorkspace" in demo(0)
    with (tmp_path / "Project.toml").open("a") as workspace:
        workspace.write(f'\n[extras]\nDemo = "{DEMO}"\n\n[preferences.Demo]\nsize = 5\n')
    assert not places.compare(2) and "DemoInWorkspace" in demo(5)
    (tmp_path / "Project.toml").unlink()
    assert not places.compare() and "DemoBefore" in demo(0)


def test_a_store_and_a_project_with_odd_names(prepared: Path, tmp_path: Path) -> None:
    place = make_place(tmp_path / "it's $HOME größe", prepared)
    (place.root / "own model.jl").write_text("probe() = 6 * 7\n")
    program = (
        "from pyjl_autoimage import include, jl\nprint(include('own model.jl').probe(), jl.seval('using Test; 1'))\n"
    )
    told = "import pyjl_autoimage\nprint(pyjl_autoimage.started().layer)\n"
    (place.root / "größe.py").write_text(program + told, encoding="utf-8")
    assert place.run_file(place.root / "größe.py").stdout.endswith("42 1\nNone\n")
    (layer,) = json.loads(place.cli("build", "--quick", "--json").stdout.splitlines()[-1])["layers"]
    assert place.run_file(place.root / "größe.py").stdout == f"42 1\n{layer}\n"
