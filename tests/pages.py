"""The pages of the documentation, as tests read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

_FENCE = re.compile(
    r'^```(?P<language>\w+)?[^\S\n]*(?:title="(?P<title>[^"]+)")?[^\n]*\n(?P<text>.*?)^```$', re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str
    """The file's name, where it is one."""
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block, in order."""
    for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
        yield Block(match["language"] or "", match["title"] or "", match["text"])


def pages() -> list[Path]:
    """Every page, the README among them."""
    return [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
