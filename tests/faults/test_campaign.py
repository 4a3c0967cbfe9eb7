"""The campaign (`tests/campaign.py`) in short: each kind of hurt once, at moments that a fixed seed gives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from campaign import HURTS, campaign, skipped, table


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_whatever_hurts_a_build_what_must_hold_still_holds(tmp_path: Path) -> None:
    kinds = [kind for kind in HURTS if kind != "nothing" and kind not in skipped()]
    cases = list(campaign(tmp_path, range(len(kinds)), 7, workers=3, kinds=kinds))
    print(f"\n{table(cases)}", *(f"\nskipped: {kind}: {why}" for kind, why in skipped().items()))
    assert {case.kind for case in cases} == set(kinds)
    wrong = [f"{c.kind} at {c.moment} ({c.hit}): {text}" for c in cases for text in c.violations]
    assert not wrong, "\n".join(wrong)
