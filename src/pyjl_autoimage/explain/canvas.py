"""A drawing made of texts and bars, as SVG."""

from __future__ import annotations

from html import escape

__all__ = ["GLYPH", "MARGIN", "STYLE", "WIDTH", "Canvas", "text_width"]


WIDTH = 960

MARGIN = 16

GLYPH = 7.2
"""Width that a character of 12 pixels is given. Few fonts need more on average."""

STYLE = """
.tl { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
.tl text { fill: #1f2328 }
.tl .paper { fill: #ffffff }
.tl .dim { fill: #59636e }
.tl .strong { font-weight: 600 }
.tl .title { font-size: 16px; font-weight: 600 }
.tl .line { stroke: #d1d9e0; stroke-width: 1 }
.tl .lane { fill: #f3f5f7 }
.tl .dark { fill: #16191d }
.tl .light { fill: #ffffff }
.tl rect.bar { stroke: #ffffff; stroke-width: 0.6 }
@media screen and (prefers-color-scheme: dark) {
.tl text { fill: #e6edf3 }
.tl .paper { fill: #0d1117 }
.tl .dim { fill: #9198a1 }
.tl .line { stroke: #3d444d }
.tl .lane { fill: #1b2129 }
.tl .dark { fill: #16191d }
.tl .light { fill: #ffffff }
.tl rect.bar { stroke: #0d1117 }
}
"""


class Canvas:
    """Elements, one below the other."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y: float = float(MARGIN)

    def text(self, x: float, y: float, text: str, *classes: str, anchor: str = "start") -> None:
        """A line of text with its base line at y."""
        more = f' text-anchor="{anchor}"' if anchor != "start" else ""
        more += f' class="{" ".join(classes)}"' if classes else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{more}>{_xml(text)}</text>')

    def bar(
        self, x: float, y: float, width: float, height: float, colour: str, title: str, label: str = "",
        light: bool = False,
    ) -> None:  # fmt: skip
        """A bar that tells its title when pointed at, with a label inside if that fits."""
        self.parts.append(
            f'<rect class="bar" x="{x:.2f}" y="{y:.1f}" width="{max(width, 0.3):.2f}" height="{height:g}" '
            f'fill="{colour}"><title>{_xml(title)}</title></rect>'
        )
        fitting = next(
            (text for text in (label, label.partition("  ")[0]) if text and text_width(text) + 8 <= width), ""
        )
        if fitting:
            self.text(x + 4, y + height / 2 + 4, fitting, "light" if light else "dark")

    def plain(self, x: float, y: float, width: float, height: float, of: str) -> None:
        """A rectangle that is only background."""
        self.parts.append(f'<rect class="{of}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:g}"/>')

    def document(self, label: str) -> str:
        """The whole drawing."""
        height = self.y + MARGIN
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tl" viewBox="0 0 {WIDTH} {height:.0f}" '
            f'width="{WIDTH}" height="{height:.0f}" role="img" aria-label="{_xml(label)}">\n'
            f'<style>{STYLE}</style>\n<rect class="paper" width="{WIDTH}" height="{height:.0f}"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


def _xml(text: str) -> str:
    """Text as XML takes it: no control characters, which it has no way to write."""
    return escape("".join(c if c.isprintable() else " " for c in text))


def text_width(text: str) -> float:
    """How wide a text is, about: units of the drawing."""
    return GLYPH * len(text)
