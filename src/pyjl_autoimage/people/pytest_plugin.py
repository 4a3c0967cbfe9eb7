"""``pytest --julia-record``: the test suite's Julia starts on the image, and what it compiles goes into the profile.

pytest imports this module at every start, with the flag or without: it must import nothing.
"""

from __future__ import annotations

import sys

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LINES = "julia_record_lines"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag."""
    parser.getgroup("julia").addoption(
        "--julia-record",
        action="store_true",
        help="record what the tests' Julia compiles, for the next `pyjl-autoimage build`",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Install the hook before the first conftest.py can import juliacall."""
    if early_config.known_args_namespace.julia_record:
        from .. import hook
        from ..startup.attach import attach
        from ..startup.start import running, session

        hook.install()
        if running() is not None and session.plan is None:
            attach()  # an earlier plugin has started it


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what was recorded in a worker of pytest-xdist to the process that prints."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None and session.config.getoption("julia_record"):
        output[_LINES] = _lines()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take it from there."""
    lines = getattr(node, "workeroutput", {}).get(_LINES, [])
    node.config.stash[_from_workers] = [*node.config.stash.get(_from_workers, []), *lines]


_from_workers = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what became of it."""
    if config.getoption("julia_record"):
        terminalreporter.section("Julia")
        lines = [*config.stash.get(_from_workers, []), *_lines()]
        for line in lines or ["nothing recorded: no test has started Julia"]:
            terminalreporter.write_line(line)


def _lines() -> list[str]:
    """What was recorded in this process; nothing if it has started no Julia."""
    from ..base.words import count_text
    from ..startup.start import session

    if "juliacall" not in sys.modules and session.plan is None:
        return []
    if session.tracing and session.recording is not None:
        try:
            with open(session.recording.trace, "rb") as file:
                count = sum(1 for _ in file)
        except OSError as error:
            return [f"not recorded: {error}"]
        where = "on the image" if session.on_image else "without an image"
        recorded = f"recorded {count_text(count, 'statement')}"
        return [f"{recorded} that Julia, started {where}, had to compile: {session.recording.trace}"]
    return [f"not recorded: {note}" for note in session.notes] or ["not recorded"]
