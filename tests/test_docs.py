"""The documentation: it builds, it asks nobody else for anything, and what it says of commands and names is so."""

from __future__ import annotations

import argparse
import html.parser
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyjl_autoimage
from pyjl_autoimage.people import cli

from pages import DOCS, ROOT, blocks, pages


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built with --strict."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install '.[docs]'")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install '.[docs]'")
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return directory


class _Requests(html.parser.HTMLParser):
    """What a browser would fetch for a page by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.found.append(given.get("href", ""))
        if tag in ("script", "img", "iframe", "source", "object"):
            self.found.append(given.get("src") or given.get("data") or "")


def test_the_site_has_every_page(site):
    built = {path.relative_to(site).as_posix() for path in site.glob("*.html")} - {"404.html"}
    assert built == {f"{path.stem}.html" for path in DOCS.glob("*.md")}


def test_no_page_fetches_anything_from_elsewhere(site):
    for page in site.rglob("*.html"):
        parser = _Requests()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.found, page
        assert [url for url in parser.found if re.match(r"(https?:)?//", url)] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet


def test_every_public_name_is_in_the_reference(site):
    page = (site / "api.html").read_text(encoding="utf-8")
    described = set(re.findall(r'id="pyjl_autoimage\.(\w+)"', page))
    assert described == set(pyjl_autoimage.__all__) - {"__version__", "jl"}


def test_figures_are_those_that_were_measured():
    command = [sys.executable, str(DOCS / "figures.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_what_is_yaml_is_yaml():
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with mkdocs: pip install '.[docs]'")
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    if forms:  # an sdist has none
        loaded = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in forms}
        for name in set(loaded) - {"config.yml"}:
            assert {"name", "description", "body"} <= set(loaded[name]), name
        assert "doctor --report" in forms[0].read_text(encoding="utf-8")
    (workflow,) = (yaml.safe_load(block.text) for block in blocks(DOCS / "ci.md") if block.language == "yaml")
    assert {"PYJL_AUTOIMAGE_CPU_TARGET", "PYJL_AUTOIMAGE_HOME"} <= set(workflow["jobs"]["tests"]["env"])


# -- commands ------------------------------------------------------------------------------------------


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command of ours, those of a command's own among them."""

    def below(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, child in action.choices.items():
                    yield from below(child, f"{name} {word}".strip())
                    yield f"{name} {word}".strip(), child

    return dict(below(cli._parser(), ""))


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_and_option_is_in_the_reference(command):
    sections = re.split(r"^## ", (DOCS / "cli.md").read_text(encoding="utf-8"), flags=re.M)[1:]
    named = {name: text for text in sections for name in text.splitlines()[0].split(", ")}
    section = named[command.split()[0]]
    assert command in section
    options = {option for action in commands()[command]._actions for option in action.option_strings}
    for option in options - {"-h", "--help"}:
        assert re.search(rf"{option}\b", section), f"{option} of {command} is not in docs/cli.md"


def our_commands() -> Iterator[tuple[str, list[str]]]:
    """Every use of our command line in a page: page and arguments."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"(?:python -m pyjl_autoimage|\bpyjl-autoimage) ([^`\n]*)", text):
            yield page.name, [word for word in shlex.split(match[1], comments=True) if word != "&&"]


def test_commands_in_the_pages_are_commands():
    known = {command.split()[0] for command in commands()}
    seen = set()
    for page, words in our_commands():
        if not words or not re.fullmatch(r"[a-z]+", words[0]):
            continue  # COMMAND, or the end of a sentence
        assert words[0] in known, f"{page}: {words}"
        seen.add(words[0])
        if words[0] in {"run", "explain"}:
            continue  # what follows is another program's
        options = {
            o for name, its in commands().items() if name.split()[0] == words[0] for o in its._option_string_actions
        }
        ours = words[: words.index("--")] if "--" in words else words
        given = {match[1] for word in ours if (match := re.match(r"\[?(--[\w-]+)", word))}
        assert given <= options, f"{page}: {words}"
    assert {"build", "status", "run", "doctor"} <= seen


def test_no_block_of_the_quickstart_is_neither_typed_nor_saved():
    """What `tests/integration/test_quickstart.py` goes by."""
    steps = list(blocks(DOCS / "quickstart.md"))
    fences = (DOCS / "quickstart.md").read_text(encoding="utf-8").count("```")
    assert len(steps) == fences / 2
    assert {step.language for step in steps if not step.title} == {"sh"}
    assert [step.text for step in steps].count("python -m pyjl_autoimage build\n") == 1


def test_install_commands_of_quickstart_install(tmp_path):
    """As a person would, in a copy of this repository; where pip can fetch nothing there is nothing to see."""
    install = next(blocks(DOCS / "quickstart.md"))
    copy = tmp_path / "repository"
    copy.mkdir()
    for name in ("src", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
    script = "set -e\n" + install.text + "\ncd /\npython -c 'import pyjl_autoimage; print(pyjl_autoimage.__file__)'\n"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(["sh", "-c", script], cwd=copy, env=environ, capture_output=True, text=True, check=False)
    if re.search("No matching distribution|Could not find a version|ensurepip", result.stdout + result.stderr):
        pytest.skip("pip can fetch nothing here, or there is none")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().startswith(str(copy / ".venv"))


def test_the_page_of_versions_lists_the_internals_of_julia_that_we_touch():
    told = re.findall(r"^\| `([^`]+)` \| (.+) \| (.+) \|$", (DOCS / "versions.md").read_text(), re.MULTILINE)
    table = (Path(pyjl_autoimage.__file__).parent / "julia" / "internals.jl").read_text()
    assert told == re.findall(r'^    \("([^"]+)", "([^"]+)", "([^"]+)",', table, re.MULTILINE)
