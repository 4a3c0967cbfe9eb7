"""The report: one page, whole, that asks nobody for anything."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from pyjl_autoimage.base.files import parsed_json, write_json
from pyjl_autoimage.build.contents import Contents, Held
from pyjl_autoimage.build.state import State
from pyjl_autoimage.explain.canvas import STYLE, WIDTH
from pyjl_autoimage.explain.measurement import KINDS, Call, Compiled, Explanation, Loaded, Phase, Timeline
from pyjl_autoimage.people import page
from pyjl_autoimage.profile.profile import Profile, Statement
from pyjl_autoimage.profile.recordings import parse_statement

from colours import contrast
from standin import World, cli, past_build

VOID = {"meta", "br", "link", "img", "hr"}


class Parser(HTMLParser):
    """Complains of what is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)


def words(html: str) -> str:
    parser = Parser()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return " ".join(" ".join(parser.text).split())


def explanation() -> Explanation:
    compiled = tuple(Compiled(f"precompile(Tuple{{typeof(A.f{n}), Int64}})", "A", n / 10, 0.05) for n in range(12))
    phases = (Phase("python", 0, 0.1), Phase("running", 0.1, 2.0, 0.6))
    timelines = [
        Timeline(way, 2.0, 0.1, 0.6, True, phases=phases, statements=compiled, image=image)
        for way, image in (("plain", None), ("image", "3fd2a8c1"))
    ]
    return Explanation("<script>alert(1)</script>", "1.10.4", 1e9, tuple(timelines))


def composed(world: World, **changes: object) -> str:
    facts = {
        "julia_version": "1.10.4",
        "project": "/opt/$some/<b>",
        "image": world.image(bytes=300_000_000, build_seconds=240.0),
        "why": "",
        "explanation": explanation(),
        "recorded": Profile({one.statement: Statement() for one in explanation().timelines[0].statements}, runs=3),
        "held": Contents(
            "i", 300_000_000, (Held("DataFrames", "u", 900, 20_000_000), Held("Base", "", 9000, 50_000_000))
        ),
        "builds": [past_build("a", 1e9, 240, "failed", "no <compiler>", seconds={"load": 240.0})],
    }
    return page.compose(**{**facts, **changes})  # type: ignore[arg-type]


def test_it_says_everything(world):
    text = words(composed(world))
    for said in ("Fast.", "Project /opt/$some/<b>", "built", "compilation", "A", "DataFrames", "20 MB", "230 MB are data",
                 "failed: no <compiler>", "4 min 00 s", "<script>alert(1)</script>"):  # fmt: skip
        assert said in text, said


def test_it_asks_nobody_for_anything(world):
    html = composed(world)
    assert "<script" not in html and "@import" not in html
    assert not re.search(r"\b(src|href|action|data|srcset|poster)\s*=", html)
    assert set(re.findall(r"\w+://[^\"'\s<]*", html)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"url\(", html)


def test_light_dark_and_printed(world):
    html = composed(world)
    assert "@media print" in html and "viewport" in html
    assert (
        html.count("prefers-color-scheme: dark") == html.count("@media screen and (prefers-color-scheme: dark)") > 1
    )


def test_text_can_be_read_in_light_and_dark(world):
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in composed(world).split("@media")[:2])
    assert light.keys() == dark.keys()
    for colours in (light, dark):
        for name in ("ink", "dim", "good", "bad"):
            assert contrast(colours[name], colours["paper"]) >= 4.5, (name, colours)


def test_what_a_reader_that_does_not_see_is_told(world):
    html = composed(world)
    assert '<html lang="en">' in html and re.search(r"<title>\S.*</title>", html)
    assert re.findall(r"<h(\d)", html) == ["1", "2", "2", "2", "2"]
    assert len(re.findall(r"<th\b", html)) == len(re.findall(r"<th scope=", html)) > 0
    drawings = re.findall(r"<svg[^>]*>", html)
    assert len(drawings) == 4 and all(re.search(r'role="img" aria-label="[^"]+"', one) for one in drawings)


def test_no_text_of_a_drawing_is_made_smaller_than_it_is_drawn(world):
    html = composed(world)
    assert re.search(rf"\.wide svg {{[^}}]*min-width: {WIDTH}px", html)
    assert min(int(size) for size in re.findall(r"font(?:-size)?: (\d+)px", STYLE)) >= 12


def test_builds_say_what_came_of_them_and_not_where_somebody_lives(world, monkeypatch):
    monkeypatch.setenv("HOME", "/home/jo")
    monkeypatch.setenv("USERPROFILE", "/home/jo")
    assert "/scratch/***/<b>" in words(composed(world, project="/scratch/jo/<b>", explanation=None))
    builds = [
        past_build("a", 1e9, 2, "failed", "no Foo in /home/jo/p/Manifest.toml"),
        past_build("b", 1e9, 2, "cancelled", "the build was cancelled"),
        past_build("c", 1e9, 2, layers=["1"]),
    ]
    text = words(composed(world, builds=builds))
    assert "failed: no Foo in ~/p/Manifest.toml" in text and "1 layer " in text
    assert "cancelled" in text and "the build was cancelled" not in text


def test_what_is_not_listed_is_counted(world):
    many = {f"precompile(Tuple{{typeof(P{n}.f), Int64}})": Statement(milliseconds=1000) for n in range(page.ROWS + 3)}
    assert re.search(r"3 others 3 3\.00 s", words(composed(world, recorded=Profile(many, runs=1))))
    held = Contents("i", 1_000_000, tuple(Held(f"P{n}", "u", 2, 1000) for n in range(page.ROWS + 3)))
    assert re.search(r"3 others 6 3 kB", words(composed(world, held=held)))


def test_where_nothing_is_known_yet(world):
    html = composed(world, image=None, why="", explanation=None, recorded=Profile(), held="No.", builds=[])
    text = words(html)
    assert "Slow." in text and "none yet" in text and "Nothing has been recorded" in text
    assert "No start has been measured" in text and "No build has ended" in text


def test_costs_that_julia_noted_count_before_estimates(world, fixtures):
    recorded = Profile()
    for line in (fixtures / "julia-1.12" / "trace-stock-timed.jl").read_text().splitlines():
        parsed = parse_statement(line)
        if parsed:
            recorded.statements[parsed[0]] = Statement(milliseconds=parsed[1])
    text = words(composed(world, recorded=recorded, explanation=None))
    assert "Costs are those that Julia noted" in text
    assert re.search(r"the program .*?6\.28 s", text) and re.search(r"CSV .*?1\.42 s \(5\)", text)
    estimated = words(composed(world))
    assert "Costs are estimates" in estimated and "0.60 s (12)" in estimated and "and 4 more" in estimated


def test_the_command_writes_it(world):
    write_json(
        world.store.ensure(world.store.environment(world.environment.id)) + "/explanation.json",
        explanation().to_json(),
    )
    result = cli(world.environ, "report", "--no-measure", "r.html", cwd=world.root)
    assert result.returncode == 0, result.stderr
    text = words((world.root / "r.html").read_text())
    assert "There is no valid image" in text and "alert(1)" in text
    assert result.stdout == "The report is in r.html\n"
    refused = cli(world.environ, "report", "--no-measure", "nowhere/r.html", cwd=world.root)
    assert refused.returncode == 1 and "cannot be written" in refused.stderr


def test_an_image_that_is_not_valid_is_told_with_its_reason(world):
    world.publish(juliacall="0.9.35")
    assert cli(world.environ, "report", "--no-measure", "r.html", cwd=world.root).returncode == 0
    assert "juliacall 0.9.35 in the image, 0.9.37 installed" in words((world.root / "r.html").read_text())


TIMES = st.floats(-9e18, 9e18) | st.sampled_from([0.0, 1e18, 1e-300])
COUNTS = st.integers(-(10**18), 10**18)
STRETCHES = st.builds(Phase, st.sampled_from(sorted(KINDS)), TIMES, TIMES, TIMES)
TIMELINES = st.builds(
    Timeline,
    st.sampled_from(["plain", "image", "?"]),
    *(TIMES, TIMES, TIMES, st.booleans()),
    beyond_layer=COUNTS,
    phases=st.lists(STRETCHES, max_size=3).map(tuple),
    packages=st.lists(st.builds(Loaded, st.text(), TIMES, TIMES, TIMES, st.text()), max_size=2).map(tuple),
    statements=st.lists(st.builds(Compiled, st.text(), st.text(), TIMES, TIMES), max_size=2).map(tuple),
    calls=st.lists(st.builds(Call, st.text(), TIMES, TIMES, TIMES), max_size=2).map(tuple),
)
BUILDS = st.builds(
    State,
    *(st.text(), st.text()),
    started=TIMES,
    finished=TIMES,
    state=st.sampled_from(["done", "failed", "?"]),
    error=st.text(),
    image=st.none() | st.text(),
    bytes=COUNTS,
    layers=st.lists(st.text(), max_size=2),
    seconds=st.dictionaries(st.sampled_from(["load", "link", "?"]), TIMES, max_size=3),
)


@given(
    st.builds(Explanation, st.text(), st.text(), TIMES, st.lists(TIMELINES, max_size=2).map(tuple)),
    st.lists(BUILDS, max_size=3),
    st.lists(st.builds(Statement, COUNTS, TIMES, TIMES), max_size=3),
)
def test_whatever_files_hold_there_is_a_page(tmp_path_factory, measured, builds, statements):
    """What can be read of a file is typed and finite, and may be any nonsense beside."""
    read = Explanation.from_json(parsed_json(json.dumps(measured.to_json())))
    assert read == measured
    recorded = Profile({f"precompile(Tuple{{typeof(Base.f{n})}})": one for n, one in enumerate(statements)})
    world = World(tmp_path_factory.mktemp("world"))
    words(composed(world, explanation=read, builds=builds, recorded=recorded))
