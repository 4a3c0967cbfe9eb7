"""Packages from elsewhere that import juliacall themselves: under `run` their programs do what they do without."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from conftest import Place

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("third_party")


def execute(place: Place, *arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**place.environ, **environ},
        cwd=place.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def profile(place: Place) -> dict:
    return json.loads(place.cli("status", "--json").stdout)["profile"]


@pytest.mark.parametrize("program", sorted((BENCHMARKS / "third_party").glob("*.py")), ids=lambda path: path.stem)
def test_a_program_of_others_prints_the_same_and_is_recorded(
    place: Place, benchmark: ModuleType, program: Path
) -> None:
    absent = benchmark.from_file(program).missing
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    plain = execute(place, program, PYJL_AUTOIMAGE="0")  # the environment may be enabled
    if plain.returncode:
        pytest.skip(f"plain juliacall cannot run it in this Julia project: {plain.stderr.strip()[-300:]}")
    before = profile(place)
    result = execute(place, "-m", "pyjl_autoimage", "run", program)
    printed = [line for line in plain.stdout.splitlines() if not benchmark.is_log(line)]
    assert (result.returncode, result.stdout.splitlines()) == (0, printed), result.stderr[-3000:]
    after = profile(place)
    assert after["recordings"] == before["recordings"] + 1
    assert after["statements"] > before["statements"]
