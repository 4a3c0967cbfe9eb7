from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjl_autoimage.people.privacy import shown_environment, without_secrets

HOME = {"HOME": "/home/somebody"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/somebody/x", "~/x"),
        ("in /home/somebody: ok", "in ~: ok"),
        ("/home/somebody2/x and /home/somebody-else", "/home/somebody2/x and /home/somebody-else"),
        ("git+https://user:pass@host/x.git", "git+https://***@host/x.git"),
        ("https://ghp_123@host", "https://***@host"),
        ("https://host/a@b", "https://host/a@b"),
        ("token=abc&x=1", "token=***&x=1"),
        ('"password": "abc"', '"password": "***"'),
        ("Authorization: Bearer abc", "Authorization: Bearer ***"),
        ("api_key = abc, next", "api_key = ***, next"),
        ("the tokens of a parser", "the tokens of a parser"),
    ],
)
def test_texts(text, shown):
    assert without_secrets(text, HOME) == shown


def test_plain_data_is_gone_through_with_its_keys():
    shown = without_secrets({"/home/somebody/a": ("token=abc", {"/home/somebody": 1})}, HOME)
    assert shown == {"~/a": ["token=***", {"~": 1}]}


def test_values_of_secret_variables_are_gone_wherever_they_stand():
    environ = {**HOME, "AWS_SECRET_ACCESS_KEY": "/abcdef+ghi", "SHORT_TOKEN": "yes", "SSH_AUTH_SOCK": os.devnull}
    text = f"x/abcdef+ghiy, yes, {os.devnull}"
    assert without_secrets(text, environ) == f"x***y, yes, {os.devnull}"


def test_only_variables_that_matter_are_shown():
    environ = {
        **HOME, "PYTHON_JULIAPKG_EXE": "/home/somebody/julia", "JULIA_NUM_THREADS": "4", "PYJL_AUTOIMAGE_AUTO": "1",
        "JULIA_PKG_TOKEN": "abcdef", "USER": "somebody", "DATABASE_URL": "postgres://u:p@h/d", "CI": "true",
        "JULIAUP_CHANNEL": "1.10",
    }  # fmt: skip
    assert shown_environment(environ) == {
        "CI": "true", "JULIAUP_CHANNEL": "1.10", "JULIA_NUM_THREADS": "4", "PYJL_AUTOIMAGE_AUTO": "1",
        "PYTHON_JULIAPKG_EXE": "~/julia",
    }  # fmt: skip


def test_a_long_path_is_cut():
    path = os.pathsep.join(f"/opt/{number}/bin" for number in range(20))
    shown = shown_environment({**HOME, "PATH": f"/home/somebody/bin{os.pathsep}{path}"})["PATH"]
    assert shown.startswith(f"~/bin{os.pathsep}/opt/0/bin{os.pathsep}") and shown.endswith("... and 9 more")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("a /home/somebody/s3cret b"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=10,
    )
)
def test_plain_data_keeps_its_form(value):
    shown = without_secrets(value, {**HOME, "A_TOKEN": "s3cret"})
    assert "s3cret" not in repr(shown) and "/home/somebody" not in repr(shown)
    assert type(shown) is type(value)
    if isinstance(value, (list, dict)):
        assert len(shown) == len(value)
