"""Files put together by chance do from a layer what they do evaluated (a long form: `python tests/generated.py`)."""

from __future__ import annotations

from conftest import make_place

from generated import FEATURES, differences, generated


def test_generated_files_do_from_a_layer_what_they_do_evaluated(tmp_path, prepared):
    found, features, compiled = differences(make_place(tmp_path, prepared), tmp_path / "files", generated(50, 1))
    assert not found, "\n".join(found)
    assert len(features) > len(FEATURES) // 2
    assert compiled > 5
