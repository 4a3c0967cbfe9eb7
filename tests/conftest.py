"""What tests share: a store in a temporary directory, fixtures of what real Julias printed, and, where there
is one, a real Julia, found the way the product finds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from pyjl_autoimage.store.places import Store

from standin import World

# How long an example takes says how busy the machine is, nothing else.
hypothesis_settings.register_profile("unhurried", deadline=None)
hypothesis_settings.load_profile("unhurried")

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees, or writes to, the store of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("PYJL_AUTOIMAGE", "PYTHON_JULIACALL_")) and name != "PYJL_AUTOIMAGE_BUILDER_PROJECT":
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYJL_AUTOIMAGE_HOME", str(tmp_path / "store"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture(scope="session")
def no_julia_environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which juliapkg finds no Julia and cannot go and get one."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON_JULIA", "PYJL_", "JULIA"))}
    tools = tmp_path_factory.mktemp("no-julia-bin")
    environ["PATH"] = str(tools)
    environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    environ["PYTHON_JULIAPKG_OFFLINE"] = "yes"
    environ["PYTHON_JULIAPKG_PROJECT"] = str(tmp_path_factory.mktemp("project"))
    return environ
