"""The drawings: whole XML, with nothing written over something else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pyjl_autoimage.build.state import PHASES
from pyjl_autoimage.explain import canvas, timeline
from pyjl_autoimage.explain.measurement import Explanation, Timeline
from pyjl_autoimage.explain.reading import read

from colours import contrast
from standin import past_build

SVG = "{http://www.w3.org/2000/svg}"
NS = 1_000_000_000


def measured(way: str, trace: Path, seconds: float, plan: str = "") -> Timeline:
    """A start of so many seconds that compiled what a real one did."""
    lines = trace.read_text().splitlines()
    unit = seconds * NS / 10
    steps = [f"observer\t{unit / 100:.0f}\t{unit / 50:.0f}\t0\t0\t", f"plan\t0\t0\t0\t0\t{plan}"]
    for kind, start, end, before, after, label in [
        ("juliacall", 0.1, 2, 0, 1, ""), ("libjulia", 0.2, 0.3, 0, 0, ""), ("image", 0.3, 0.6, 0, 0, ""),
        ("evaluate", 0.7, 1.9, 0, 1, "juliacall"), ("call", 2.5, 4, 1, 1.5, "using DataFrames"),
        ("call", 4.2, 9, 1.5, 5, 'f("<&>")\x1b'), ("exit", 9.5, 9.5, 5, 5, ""),
    ]:  # fmt: skip
        steps.append(
            f"{kind}\t{start * unit:.0f}\t{end * unit:.0f}\t{before * unit:.0f}\t{after * unit:.0f}\t{label}"
        )
    loaded = [f"{(2.5 + n / 10) * unit:.0f}\t{unit:.0f}\tu{n}\tPackage{n}" for n in range(1, 12)]
    stamped = [(int((0.8 + 8 * n / len(lines)) * unit), line) for n, line in enumerate(lines)]
    return read(way, {"began": 0, "ended": int(10 * unit), "status": 0}, steps, loaded, stamped, {}, timed=False)


@pytest.fixture
def explanation(fixtures: Path) -> Explanation:
    julia = fixtures / "julia-1.10"
    ways = (
        measured("plain", julia / "trace-stock.jl", 11.9),
        measured("image", julia / "trace-on-image.jl", 0.24, "3fd2 -"),
    )
    return Explanation("fit.py <cases> & \x00more.csv", "1.10.4", 1.0, ways)


def texts(svg: ET.Element) -> list[tuple[float, float, float, str]]:
    """Left, right, base line and content of each text, a character having the width that is reckoned with."""
    found = []
    for text in svg.iter(f"{SVG}text"):
        size = 16 if "title" in (text.get("class") or "") else 12
        width = canvas.GLYPH * size / 12 * len(text.text or "")
        x, y = float(text.get("x", 0)), float(text.get("y", 0))
        left = {"end": x - width, "middle": x - width / 2}.get(text.get("text-anchor") or "", x)
        found.append((left, left + width, y, text.text or ""))
    return found


@pytest.mark.parametrize("only", [slice(0, 2), slice(0, 1), slice(1, 2), slice(0, 0)])
def test_no_text_lies_on_another_or_beyond_the_edge(explanation, only):
    part = Explanation(explanation.program, "1.10.4", 1.0, explanation.timelines[only])
    svg = ET.fromstring(timeline.draw(part))
    found = sorted(texts(svg), key=lambda text: (text[2], text[0]))
    assert found[0][3].startswith("fit.py")
    for number, (left, right, y, content) in enumerate(found):
        assert left >= 0 and right <= timeline.WIDTH, content
        for other_left, other_right, other_y, other in found[number + 1 :]:
            assert abs(other_y - y) >= 10 or other_left >= right - 1 or other_right <= left + 1, (content, other)


def test_it_holds_what_was_measured(explanation):
    text = timeline.draw(explanation)
    content = "".join(ET.fromstring(text).itertext())
    for words in ("plain juliacall", "image 3fd2", "compilation", "DataFrames", "PooledArrays", "12 s", "0.24 s"):
        assert words in content
    assert 'f("<&>")' in content and "\x1b" not in text and "(estimated)" in content


def test_bars_lie_within_the_drawing(explanation):
    for rect in ET.fromstring(timeline.draw(explanation)).iter(f"{SVG}rect"):
        x, width = float(rect.get("x", 0)), float(rect.get("width", 0))
        assert x >= 0 and x + width <= timeline.WIDTH + 0.5


def test_light_and_dark_but_light_on_paper(explanation):
    text = timeline.draw(explanation)
    assert (
        text.count("prefers-color-scheme: dark") == text.count("@media screen and (prefers-color-scheme: dark)") == 1
    )


def test_every_text_can_be_read_on_what_is_behind_it(explanation):
    styles = dict(re.findall(r"\.tl \.(dark|light) \{ fill: (#\w{6}) \}", canvas.STYLE))
    seen, behind = set(), ""
    for element in ET.fromstring(timeline.draw(explanation)).iter():
        of = element.get("class")
        if element.tag == f"{SVG}rect":
            behind = element.get("fill", "")
        elif element.tag == f"{SVG}text" and of in styles:  # the label of the bar before it
            assert contrast(styles[of], behind) >= 4.5, (element.text, behind)
            seen.add(of)
    assert seen == {"dark", "light"}
    for kind, colour in timeline.COLOURS.items():
        assert contrast(styles["light" if kind in timeline._LIGHT_TEXT else "dark"], colour) >= 4.5, kind


def test_pieces_are_the_whole(explanation):
    pieces = [ET.fromstring(piece) for piece in timeline.pieces(explanation)]
    whole = [content for *_, content in texts(ET.fromstring(timeline.draw(explanation)))]
    assert [content for piece in pieces for *_, content in texts(piece)] == whole
    assert len(pieces) == len({piece.get("aria-label") for piece in pieces}) == 3
    assert {piece.get("role") for piece in pieces} == {"img"}
    # On paper of 19 by 27 cm none is higher than a page.
    assert all(float(piece.get("height", 0)) < 27 / 19 * timeline.WIDTH for piece in pieces)
    nothing = Explanation("fit.py", "1.10.4", 1.0, ())
    assert len(timeline.pieces(nothing)) == 1


def test_it_asks_nobody_for_anything(explanation):
    text = timeline.draw(explanation).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "://" not in text and "url(" not in text and "<script" not in text


@pytest.mark.parametrize("total", [0.0, 0.0004, 0.24, 1.0, 11.9, 3600.0])
def test_ticks_are_few_and_within(total):
    ticks = timeline._ticks(total)
    assert ticks[0] == 0 and 1 <= len(ticks) <= 9 and ticks[-1] <= total


@pytest.mark.parametrize("length", [1, 5, 9, 10, 40])
def test_shortened(length):
    assert len(timeline.shortened("a" * 30 + "b" * 30, length)) == length
    assert timeline.shortened("short", 40) == "short"


def test_builds_are_drawn_phase_by_phase():
    builds = [
        past_build("a", 1e9, 240, "done", image="i", seconds=dict.fromkeys(PHASES, 20.0)),
        past_build("b", 2e9, 1, "failed", "no <compiler>", seconds={"prepare": 1.0, "of another version": 0.1}),
    ]
    svg = ET.fromstring(timeline.draw_builds(builds, PHASES))
    titles = [title.text or "" for title in svg.iter(f"{SVG}title")]
    assert len(titles) == len(PHASES) + 2 and "of another version: 0.10 s" in titles
    assert {text[3] for text in texts(svg)} >= {"4 min 00 s, done", "1.00 s, failed", *PHASES}
