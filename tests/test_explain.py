"""What a start does, measured: by what a stand-in for Julia's library notes, and by what real Julias printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from pyjl_autoimage.explain import explain, measurement
from pyjl_autoimage.explain.measurement import KINDS, Explanation, Timeline
from pyjl_autoimage.explain.reading import read
from pyjl_autoimage.julia.manifest import Package
from pyjl_autoimage.store.places import Store

from standin import EXAMPLE_UUID, World, age, python

# A library of Julia's that takes its time, and compiles. juliacall opens it in place of the real one.
LIBRARY = """
import ctypes, os, re, sys, time

class Library:
    clock, enabled = 0, False
    def __init__(self, name, mode=0):
        self.log = self.trace = None
    def compile(self, statement, milliseconds):
        time.sleep(milliseconds / 1000)
        Library.clock += int(milliseconds * 1e6) * Library.enabled
        with open(self.trace, "a") as file:
            file.write(f"precompile(Tuple{{{statement}}})\\n")
        time.sleep(0.005)
    def load(self, uuid, name):
        time.sleep(0.01)
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{time.perf_counter_ns()}\\t{Library.clock}\\t{uuid}\\t{name}\\n")
    def enable(self):
        Library.enabled = True
    def atexit(self, status):
        time.sleep(0.01)
    def init(self, *arguments):
        time.sleep(0.02)
    def evaluate(self, code):
        if b"AutoimageObserver" in code:
            escaped = re.search(rb'const LOG = "(.*?)"', code)[1].decode()
            self.log = re.sub(r"\\\\U([0-9a-f]{8})", lambda match: chr(int(match[1], 16)), escaped)
        elif b"using PythonCall" in code:
            self.trace = sys._xoptions.get("juliacall-trace-compile", os.devnull)
            self.load("1", "Dependency")
            self.compile("typeof(PythonCall.f), Int64", 30)
            self.load("6099a3de-0909-46bc-b1f4-468b9a2dfc0d", "PythonCall")
        return 1
    def call(self, code):
        if code.startswith("using "):
            self.load("2", "Below")
            self.load("EXAMPLE", code.removeprefix("using "))
        else:
            self.compile("typeof(Example.f), Int64", 40)
    functions = {
        "jl_init_with_image": "init", "jl_eval_string": "evaluate", "jl_atexit_hook": "atexit",
        "jl_cumulative_compile_timing_enable": "enable", "jl_cumulative_compile_time_ns": "now",
    }
    def now(self):
        return Library.clock
    def __getitem__(self, name):
        inner = getattr(self, self.functions[name])
        class Function:
            def __call__(self, *arguments):
                return inner(*arguments)
        return Function()
    def __getattr__(self, name):
        if name not in Library.functions:
            raise AttributeError(name)
        setattr(self, name, self[name])
        return getattr(self, name)

ctypes.PyDLL = Library
""".replace("EXAMPLE", EXAMPLE_UUID)
STARTED = """
import atexit, ctypes, time
time.sleep(0.01)
CONFIG["lib"] = library = ctypes.PyDLL("/somewhere/libjulia.so.1", mode=0)
library.jl_init_with_image(None, None)
atexit.register(library.jl_atexit_hook, 0)
library.jl_eval_string(b"using PythonCall")
class ValueBase:
    def _jl_callmethod(self, method, *arguments):
        return library.call(*arguments)
class AnyValue(ValueBase):
    pass
class ModuleValue(AnyValue):
    def seval(self, code):
        return self._jl_callmethod(1, code)
Main = ModuleValue()
"""
PROGRAM = "import sys, time, juliacall\njuliacall.Main.seval('using Example')\ntime.sleep(0.03)\njuliacall.Main.seval('f(1)')\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    (world.site / "sitecustomize.py").write_text(LIBRARY)
    stub = world.site / "juliacall" / "__init__.py"
    stub.write_text(stub.read_text() + STARTED)
    (tmp_path / "program.py").write_text(PROGRAM)
    return world


def cli(world: World, *arguments: str, status: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
    result = python({**world.environ, **environ}, "-m", "pyjl_autoimage", *arguments, cwd=world.root)
    assert result.returncode == status, result.stdout + result.stderr
    return result


def measured(world: World, *arguments: str, **environ: str) -> Explanation:
    given = json.loads(cli(world, "explain", "--json", *arguments, **environ).stdout)
    given.pop("notes")
    found = Explanation.from_json(given)
    assert found is not None
    return found


def of(found: Explanation, way: str) -> Timeline:
    timeline = found.of(way)
    assert timeline is not None
    return timeline


def test_every_moment_is_put_down_to_something(world):
    for timeline in measured(world, "program.py").timelines:
        assert [phase.start for phase in timeline.phases[1:]] == [phase.end for phase in timeline.phases[:-1]]
        assert timeline.phases[0].start == 0 and timeline.phases[-1].end == timeline.total
        assert sum(timeline.by_kind().values()) == pytest.approx(timeline.total)
        kinds = [phase.kind for phase in timeline.phases if phase.kind != "measuring"]
        for earlier, later in [("python", "juliacall"), ("juliacall", "libjulia"), ("image", "pythoncall"),
                               ("pythoncall", "packages"), ("packages", "running"), ("running", "exit")]:  # fmt: skip
            assert kinds.index(earlier) < len(kinds) - 1 - kinds[::-1].index(later), kinds
        assert ("ours" in kinds) is (timeline.way == "image")


def test_what_julia_spends_compiling_is_told_from_the_rest(world):
    timeline = of(measured(world, "--plain-only", "program.py"), "plain")
    assert timeline.compiled == pytest.approx(0.07)
    seconds = timeline.by_kind()
    assert seconds["compilation"] == pytest.approx(0.07)
    assert seconds["running"] >= 0.03 and seconds["packages"] >= 0.02 and seconds["image"] >= 0.02
    assert {one.package: round(one.seconds, 3) for one in timeline.statements} == {
        "PythonCall": 0.03,
        "Example": 0.04,
    }
    assert timeline.estimated


def test_packages_are_told_with_what_they_were_loaded_for(world):
    timeline = of(measured(world, "--plain-only", "program.py"), "plain")
    assert [(one.name, one.root) for one in timeline.packages] == [
        ("Dependency", "PythonCall"), ("PythonCall", "PythonCall"), ("Below", "Example"), ("Example", "Example"),
    ]  # fmt: skip
    assert all(one.end - one.start >= 0.01 for one in timeline.packages)
    assert {call.label for call in timeline.calls} == {"using Example", "f(1)"}


def test_it_starts_on_what_the_program_would_start_on(world):
    image = world.publish()
    age(world.root)
    found = measured(world, "program.py")
    assert of(found, "image").image == image.id
    assert of(found, "plain").image is None
    layer = world.publish_layer(image=image.id, program=str(world.root / "program.py"))
    assert of(measured(world, "program.py"), "image").layer == layer.id
    assert of(measured(world, "-c", PROGRAM), "image").layer is None


@pytest.mark.parametrize(("others", "said"), [(0, False), (1, True)])
def test_what_a_layer_was_given_and_cannot_hold_is_told(world, others, said):
    """Unless that is most of it: then it was not loaded."""
    made = world.publish_layer(program=str(world.root / "program.py"))
    source = Path(made.path, "packages", made.package, "src")
    source.mkdir(parents=True)
    more = ["PythonCall.f", *(f"Base.f{number}" for number in range(others))]  # compiled before it could be loaded
    statements = [f"precompile(Tuple{{typeof({name}), Int64}})\n" for name in ["Example.f", *more]]
    (source / "statements.jl").write_text("".join(statements[: 1 + 2 * others]))
    age(world.root)
    found = measured(world, "program.py")
    assert of(found, "plain").beyond_layer == 0
    assert of(found, "image").beyond_layer == int(said)
    text = " ".join(cli(world, "explain", "program.py").stdout.split())
    assert ("1 method of those compiled cannot be held by a layer" in text) is said


def test_measuring_is_no_run_of_the_program(world):
    measured(world, "program.py", PYJL_AUTOIMAGE_AUTO="1")
    assert not os.path.exists(world.store.recordings(world.environment.id))
    assert not os.path.exists(world.store.profile(world.environment.id))
    assert not os.path.exists(world.store.automatic(world.environment.id))


def test_the_program_sees_nothing_of_it(world):
    look = (
        "import json, os, sys; import juliacall; json.dump([dict(os.environ), sys.path, sys.argv, sys._xoptions,"
        "'sitecustomize' in sys.modules, sys.modules.get('json') is json], open('seen', 'w'))"
    )
    (world.root / "look.py").write_text(look)
    cli(world, "explain", "--plain-only", "look.py", "--json", "-x")
    seen = json.loads((world.root / "seen").read_text())
    os.remove(world.root / "seen")
    python({**world.environ, "PYJL_AUTOIMAGE": "0"}, "look.py", "--json", "-x", cwd=world.root)
    assert seen == json.loads((world.root / "seen").read_text())


def test_a_program_that_fails_is_told_from_one_that_does_not(world):
    (world.root / "broken.py").write_text(PROGRAM + "raise SystemExit('out of tea')\n")
    result = cli(world, "explain", "broken.py", status=1)
    assert " ".join(result.stdout.split()).lower().count("the program ended with status 1: out of tea") == 1
    assert "f(1)" not in result.stdout


def test_a_program_that_is_not_there(world):
    result = cli(world, "explain", "nowhere.py", status=2)
    assert result.stderr == "pyjl-autoimage: there is no file nowhere.py\n" and result.stdout == ""


def test_a_start_that_is_the_first_since_something_changed_is_measured_again(world):
    world.publish()
    (world.root / "count.py").write_text("open('runs', 'a').write('x')\n" + PROGRAM)
    (world.root / "runs").write_text("")
    age(world.root)
    assert not of(measured(world, "--image-only", "count.py"), "image").asked_anew
    assert (world.root / "runs").read_text() == "xx"
    assert not of(measured(world, "--image-only", "count.py"), "image").asked_anew
    assert (world.root / "runs").read_text() == "xxx"


def test_a_program_without_julia(world):
    (world.root / "other.py").write_text("print('hello')")
    result = cli(world, "explain", "--plain-only", "other.py")
    assert "did not import juliacall" in result.stdout


def test_doctor_tells_what_a_bare_start_is_made_of(world):
    image = world.publish()
    for environ, on in (({}, f"on image {image.id}"), ({"PYJL_AUTOIMAGE": "0"}, "on Julia's own image")):
        result = python({**world.environ, **environ}, "-m", "pyjl_autoimage", "doctor", "--json", cwd=world.root)
        start = next(check for check in json.loads(result.stdout)["checks"] if check["what"] == "start")
        assert start["ok"] and on in start["found"]
        steps = [line.split(maxsplit=2)[2] for line in start["found"].splitlines()[1:]]
        assert {"juliacall", "Julia and its image", "PythonCall", "compilation"} <= set(steps)
        assert not {"running", "Python itself", "this measurement"} & set(steps)
    assert not list(Path(world.store.recordings(world.environment.id)).glob("*")), "it is no run of a program"
    assert not Path(world.store.explanation(world.environment.id)).exists(), "what was explained is as it was"


def test_without_a_program_what_the_last_one_loads_is_loaded(world):
    world.write_manifest()
    header = {"schema": 1, "started": 5.0, "image": None, "layer": None, "flags": {}, "program": "p.py"}
    recordings = Path(world.store.recordings(world.environment.id))
    recordings.mkdir(parents=True)
    (recordings / "elsewhere-1-1-a.log").write_text(f"{json.dumps(header)}\npackage {EXAMPLE_UUID} Example\n")
    (recordings / "elsewhere-1-1-a.jl").write_text("")
    found = measured(world, "--plain-only")
    assert found.program == "import juliacall, using Example"
    assert "Example" in of(found, "plain").by_root()


def test_the_table_fits_a_terminal(world):
    text = cli(world, "explain", "program.py", COLUMNS="80").stdout
    assert max(map(len, text.partition("~: an estimate")[0].splitlines())) <= 80, text
    for words in ("compilation", "PythonCall", "Example", "in all", "does not time single methods"):
        assert words in text


@pytest.mark.parametrize("arguments", [["--svg"], ["--colour", "x.py"], ["--plain-only", "--image-only"]])
def test_usage(world, arguments):
    assert "usage" in cli(world, "explain", *arguments, status=2).stderr


def test_options_behind_the_program_are_its_own(world):
    (world.root / "options.py").write_text("import sys; open('seen', 'w').write(' '.join(sys.argv[1:]))")
    cli(world, "explain", "--plain-only", "options.py", "--json", "--svg", "x")
    assert (world.root / "seen").read_text() == "--json --svg x"


# -- reading what was noted ------------------------------------------------------------------------------


def test_times_of_methods_that_contain_one_another_are_no_more_than_all_compilation():
    lines = ["#= 3000.0 ms =# precompile(Tuple{typeof(Base.f), Int64})"]
    lines += ["#= 1000.0 ms =# precompile(Tuple{typeof(Base.g), Int64})"]
    timeline = timeline_of([(2.0, line) for line in lines], timed=True, clock=[(1.0, 0.0), (9.0, 3.0)])
    assert [one.seconds for one in timeline.statements] == [pytest.approx(2.25), pytest.approx(0.75)]


def timeline_of(lines: list[tuple[float, str]], *, timed: bool, clock: list[tuple[float, float]]) -> Timeline:
    """Of a process of ten seconds; Julia's clock was looked at now and then."""
    ns = 1_000_000_000
    steps = ["observer\t0\t0\t0\t0\t", f"juliacall\t0\t{ns}\t0\t0\t"]
    for (start, before), (end, after) in pairwise(clock):
        steps.append(f"call\t{start * ns:.0f}\t{end * ns:.0f}\t{before * ns:.0f}\t{after * ns:.0f}\tf")
    noted = [(int(moment * ns), line) for moment, line in lines]
    return read("plain", {"began": 0, "ended": 10 * ns, "status": 0}, steps, [], noted, {}, timed=timed)


def test_where_julia_times_statements_its_own_times_count(fixtures):
    lines = (fixtures / "julia-1.12" / "trace-stock-timed.jl").read_text().splitlines()
    timeline = timeline_of([(2.0, line) for line in lines], timed=True, clock=[(1.0, 0.0), (9.0, 30.0)])
    (largest,) = [one for one in timeline.statements if one.seconds > 6 and one.package == "the program"]
    assert largest.statement == 'precompile(Tuple{Main.var"#2#3", String})' and largest.seconds == 6.2799
    csv = [one for one in timeline.statements if one.package == "CSV"]
    assert len(csv) == 5 and not any("# recompile" in one.statement for one in csv)
    assert sum(seconds for _, seconds in timeline.by_package().values()) == pytest.approx(timeline.compiled)
    assert not timeline.estimated


def test_where_it_does_not_what_its_clock_says_is_shared_out(fixtures):
    lines = (fixtures / "julia-1.10" / "trace-stock.jl").read_text().splitlines()
    half = len(lines) // 2
    stamped = [(1 + 0.01 * (number + 1), line) for number, line in enumerate(lines[:half])]
    stamped += [(6 + 0.01 * (number + 1), line) for number, line in enumerate(lines[half:])]
    timeline = timeline_of(stamped, timed=False, clock=[(1.0, 0.0), (5.0, 1.0), (6.0, 1.0), (9.5, 3.0)])
    assert timeline.estimated
    assert sum(one.seconds for one in timeline.statements[:half]) == pytest.approx(1.0)
    assert sum(one.seconds for one in timeline.statements[half:]) == pytest.approx(2.0)
    assert len(timeline.statements) == len(lines)


def test_what_no_statement_names_is_told_too():
    timeline = timeline_of([], timed=False, clock=[(1.0, 0.0), (5.0, 2.0)])
    assert timeline.by_package() == {measurement.OTHER: (0, 2.0)}


def test_an_extension_comes_with_what_triggers_it():
    ns = 1_000_000_000
    packages = {uuid: Package(name, uuid, deps_by_name=deps) for uuid, name, deps in [
        ("a", "A", {}), ("b", "B", {"A": "a"}), ("c", "C", {})]}  # fmt: skip
    loaded = [f"{2 * ns + n}\t0\t{uuid}\t{name}" for n, (uuid, name) in enumerate(
        [("a", "A"), ("x", "BExt"), ("b", "B"), ("c", "C")])]  # fmt: skip
    steps = ["observer\t0\t0\t0\t0\t", f"juliacall\t0\t{ns}\t0\t0\t", f"call\t{ns}\t{3 * ns}\t0\t0\tusing B, C"]
    timeline = read("plain", {"began": 0, "ended": 4 * ns, "status": 0}, steps, loaded, [], packages, timed=False)
    assert [(one.name, one.root) for one in timeline.packages] == [("A", "B"), ("BExt", "B"), ("B", "B"), ("C", "C")]


@pytest.mark.parametrize("line", ["", "call", "call\t1\t2\tx\t4\tf", "call\t-1\t2\t3\t4\tf", "\0\t\t\t\t\t"])
def test_notes_that_are_none(line):
    facts = {"began": 0, "ended": 10, "status": 0}
    timeline = read("plain", facts, [line], [line], [(1, line)], {}, timed=False)
    assert timeline.total == 1e-8 and timeline.packages == timeline.statements == timeline.calls == ()


def test_what_was_measured_is_kept_for_the_report(world):
    found = measured(world, "--plain-only", "program.py")
    assert explain.last(world.store, world.environment.id) == found
    assert explain.last(Store(str(world.root / "nowhere")), "e") is None


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"timelines": 1}, {"timelines": [{}]}, {"program": None, "measured_at": "x"}]
)
def test_what_was_kept_by_strangers(world, change):
    value = {**Explanation("p", "1.10.4", 1.0).to_json(), **change}
    assert Explanation.from_json(value) is None


def test_kinds_have_names():
    assert all(name == name.strip() for name in KINDS.values()) and len(set(KINDS.values())) == len(KINDS)


@pytest.mark.parametrize(
    ("program", "first"),
    [(["there/p.py", "-c"], os.path.abspath("there")), (["-m", "m"], os.getcwd()), ([], os.getcwd())],
)
def test_juliapkg_is_asked_where_the_program_would_ask_it(program, first):
    before = list(sys.path)
    with explain._where_it_looks(program):
        assert sys.path == [first, *before[1:]]
    assert sys.path == before
