"""Makes the pictures of docs/tour.md: what people see, made by running the program in a terminal.

    pip install '.[docs]'
    python docs/tour.py

Needs a Julia project with DataFrames and CSV (PYTHON_JULIAPKG_PROJECT), and builds one image (minutes). All of it
happens in a home directory of its own, with a copy of the project: that is what is seen in the pictures.
"""

from __future__ import annotations

import argparse
import io
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyte
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
COLUMNS, LINES = 80, 60

THEME = TerminalTheme(
    (250, 250, 250),
    (40, 44, 52),
    [
        (40, 44, 52),
        (190, 40, 50),
        (20, 130, 60),
        (150, 105, 0),
        (30, 90, 190),
        (140, 50, 150),
        (0, 125, 140),
        (90, 95, 105),
    ],
)
COLOURS = {"brown": "yellow", "black": "black"}

# Rich's own format loads a font from elsewhere.
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px;
line-height: {line_height}px; }} .{unique_id}-title {{ font-family: sans-serif; font-size: 16px; }}
{styles}</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


class Terminal:
    """Runs commands in a terminal of 80 columns, and draws what is on it."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self.directory = directory
        self.environ = {**environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}

    def run(self, *command: str, picture: str, snapshot: float = 0, **environ: str) -> None:
        """Run a command to its end; a picture of it, or of how it looked after `snapshot` seconds."""
        screen = pyte.HistoryScreen(COLUMNS, LINES, history=1000)
        stream = pyte.ByteStream(screen)
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.directory)
            os.execvpe(command[0], command, {**self.environ, **environ})
        began, frame = time.monotonic(), None
        while True:
            if select.select([terminal], [], [], 0.5)[0]:
                try:
                    data = os.read(terminal, 65536)
                except OSError:
                    break
                if not data:
                    break
                stream.feed(data)
            if snapshot and frame is None and time.monotonic() - began > snapshot:
                frame = self.text(screen)
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(f"{picture}: status {status}, {time.monotonic() - began:.1f} s", file=sys.stderr)
        if frame is not None:
            self.draw(command, frame, f"{picture}-running")
        self.draw(command, self.text(screen), picture)

    def text(self, screen: pyte.Screen) -> Text:
        text = Text()
        for number in range(max(screen.cursor.y + 1, 1)):
            line = screen.buffer[number]
            for column in range(COLUMNS):
                char = line[column]
                colour = COLOURS.get(char.fg, char.fg)
                colour = (
                    None if colour == "default" else f"#{colour}" if len(colour) == 6 and _is_hex(colour) else colour
                )
                text.append(char.data, _style(colour, bold=char.bold, italic=char.italics))
            text.append("\n")
        return text

    def draw(self, command: Sequence[str], text: Text, picture: str) -> None:
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
        shown = " ".join(
            ["pyjl-autoimage", *command[3:]] if command[1:3] == ("-m", "pyjl_autoimage") else ["python", *command[1:]]
        )
        console.print(Text(f"$ {shown}", style="bold"))
        for line in text.split("\n"):
            line.rstrip()
            console.print(line, soft_wrap=True)
        svg = console.export_svg(title="", theme=THEME, code_format=SVG, unique_id=picture)
        target = HERE / "images" / "tour" / f"{picture}.svg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)


def _style(colour: str | None, *, bold: bool, italic: bool) -> str:
    return " ".join(word for word in (bold and "bold", italic and "italic", colour) if word)


def photograph(page: Path, target: Path) -> None:
    """A picture of a page, where there is a browser."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print(f"no browser: {target.name} was not made anew", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as profile:
        quiet = ("--disable-gpu", "--no-first-run", "--disable-background-networking", "--hide-scrollbars")
        sandbox = ("--no-sandbox",) if hasattr(os, "getuid") and os.getuid() == 0 else ()
        where = (f"--user-data-dir={profile}", f"--screenshot={target}", "--window-size=1100,1500")
        subprocess.run([browser, "--headless", *quiet, *sandbox, *where, page.as_uri()], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--place", type=Path, help="where everything is kept; default: a temporary directory")
    options = parser.parse_args()
    home = (options.place or Path(tempfile.mkdtemp(prefix="tour-"))).absolute()
    work, project = home / "fit", home / ".julia" / "environments" / "pyjuliapkg"
    store, python = home / ".cache" / "pyjl_autoimage", str(home / ".venv" / "bin" / "python")
    shutil.copytree(HERE.parent / "examples" / "model", work, ignore=shutil.ignore_patterns("juliapkg.json"))
    given = os.environ.get("PYTHON_JULIAPKG_PROJECT") or str(Path.home() / ".julia/environments/pyjuliapkg")
    shutil.copytree(given, project, ignore=shutil.ignore_patterns("meta.json", "lock.pid"))
    (home / ".venv").symlink_to(sys.prefix)
    dropped = ("PYJL_AUTOIMAGE_HOME", "XDG_CACHE_HOME", "VIRTUAL_ENV")
    environ = {name: value for name, value in os.environ.items() if name not in dropped}
    environ |= {"HOME": str(home), "PYTHON_JULIAPKG_PROJECT": str(project)}
    environ.setdefault("JULIA_DEPOT_PATH", str(Path.home() / ".julia"))
    builder = environ.get("PYJL_AUTOIMAGE_BUILDER_PROJECT")
    if builder:
        project.with_name("pyjl-builder").symlink_to(builder)
        environ["PYJL_AUTOIMAGE_BUILDER_PROJECT"] = str(project.with_name("pyjl-builder"))
    terminal = Terminal(work, environ)

    def ours(*arguments: str, picture: str, snapshot: float = 0, **environ: str) -> None:
        terminal.run(python, "-m", "pyjl_autoimage", *arguments, picture=picture, snapshot=snapshot, **environ)

    subprocess.run([python, "-c", "import juliacall"], env=environ, cwd=work, check=True)
    ours("status", picture="status-nothing")
    ours("run", "fit.py", picture="run-plain")
    ours("status", picture="status-recorded")
    ours("build", picture="build", snapshot=100)
    ours("run", "fit.py", picture="run-image")
    ours("status", picture="status-fast")
    ours("explain", "fit.py", picture="explain")
    page = home / "report.html"
    ours("report", str(page), picture="report")
    photograph(page, HERE / "images" / "tour" / "report-page.png")

    manifest = project / "Manifest.toml"
    text = manifest.read_text()
    head, tables = text.split("[[deps.Tables]]", 1)
    manifest.write_text(head + "[[deps.Tables]]" + re.sub(r'"\d+\.\d+\.\d+"', '"1.99.0"', tables, count=1))
    ours("status", picture="status-stale")
    manifest.write_text(text)

    (library,) = store.glob("v1/images/*/sys.*")
    with library.open("r+b") as file:
        file.seek(library.stat().st_size // 2)
        file.write(bytes(4096))
    julia = os.path.dirname(shutil.which("julia") or "")  # no compiler beside it
    ours("doctor", picture="doctor-broken", PATH=f"{Path(python).parent}:{julia}", JULIA_CC="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
