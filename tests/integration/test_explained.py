"""What real starts spend their time on: the structure of it, not how fast this machine is."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from pyjl_autoimage.explain.measurement import Explanation, Timeline

PROGRAM = "import juliacall; juliacall.Main.seval('using DataFrames; DataFrame(a = [1, 2]) |> string')"


def explained(place, *arguments: str) -> dict[str, Timeline]:
    given = json.loads(place.cli("explain", "--json", *arguments).stdout)
    given.pop("notes")
    found = Explanation.from_json(given)
    assert found is not None
    for timeline in found.timelines:
        assert timeline.status == 0, timeline.output
        assert sum(timeline.by_kind().values()) == pytest.approx(timeline.total)
        assert 0 < timeline.ready < timeline.total
        assert 0 < timeline.compiled < timeline.total
        assert sum(one.seconds for one in timeline.statements) <= timeline.compiled * 1.001
        assert min(timeline.by_kind()[kind] for kind in ("python", "juliacall", "libjulia", "image", "exit")) > 0
    return {timeline.way: timeline for timeline in found.timelines}


def test_a_start_without_image(place):
    (timeline,) = explained(
        place, "--plain-only", "-c", "import juliacall; juliacall.Main.seval('f(x) = x + 1; f(1)')"
    ).values()
    assert timeline.image is None
    assert timeline.by_kind()["pythoncall"] > 0 and timeline.by_kind()["ours"] == 0
    assert [one.root for one in timeline.packages if one.name == "PythonCall"] == ["PythonCall"]
    count, seconds = timeline.by_package()["PythonCall"]
    assert count > 10 and seconds > 0
    assert any("f(x) = x + 1" in call.label for call in timeline.calls)


def test_with_and_without_the_image(built):
    if not built.manifest.by_name("DataFrames"):
        pytest.skip("the prepared project has no DataFrames")
    before = json.loads(built.cli("status", "--json").stdout)["profile"]
    ways = explained(built, "-c", PROGRAM)
    plain, image = ways["plain"], ways["image"]
    assert image.image == json.loads(built.cli("status", "--json").stdout)["image"]["id"]
    loading, waking = (sum(one.end - one.start for one in way.by_root()["DataFrames"]) for way in (plain, image))
    assert waking < loading / 5
    assert {"PythonCall", "PooledArrays", "Tables"} <= {one.name for one in plain.packages}
    assert len(image.statements) < len(plain.statements) and image.compiled < plain.compiled
    assert image.by_kind()["ours"] > 0
    after = json.loads(built.cli("status", "--json").stdout)["profile"]
    assert after == before, "measuring is no run of the program"


def test_the_report(built):
    built.cli("explain", "--svg", "timeline.svg", "-c", PROGRAM)
    ET.parse(built.root / "timeline.svg")
    built.cli("report", "--no-measure", "report.html")
    text = (built.root / "report.html").read_text()
    assert "are native code of methods" in text and "DataFrames" in text
    (path,) = (built.store / "v1" / "contents").iterdir()
    held = {one["name"]: one for one in json.loads(path.read_text())["held"]}
    image = json.loads(built.cli("status", "--json").stdout)["image"]
    assert sum(one["bytes"] for one in held.values()) < image["bytes"]
    assert held["Base"]["methods"] > 1000 and held["PythonCall"]["bytes"] > 100_000
    if built.manifest.by_name("DataFrames"):
        assert held["DataFrames"]["bytes"] > 100_000
    assert image["id"][:8] in text
