"""What strangers see names nobody, and holds no secret."""

from __future__ import annotations

import os
import platform
import re
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjl_autoimage.people.privacy import SHOWN, shown_environment, without_secrets

HOME = {"HOME": "/home/somebody"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/somebody/x", "~/x"),
        ("in /home/somebody: ok", "in ~: ok"),
        ("/home/jo/x and /home/somebody-else", "/home/***/x and /home/***"),
        ("git+https://user:pass@host/x.git", "git+https://***@host/x.git"),
        ("https://ghp_123@host", "https://***@host"),
        ("https://host/a@b", "https://host/a@b"),
        ("token=abc&x=1", "token=***&x=1"),
        ('"password": "abc"', '"password": "***"'),
        ("Authorization: Bearer abc", "Authorization: Bearer ***"),
        ("api_key = abc, next", "api_key = ***, next"),
        ("the tokens of a parser", "the tokens of a parser"),
        ("a well-kept secret, --tokens 3, task-token 3", "a well-kept secret, --tokens 3, task-token 3"),
        ("--db-password hunter22 -x", "--db-password *** -x"),
        ("https://host/x?sv=1&sig=abc%3D next", "https://host/x?*** next"),
        ("git@github.com:org/x and jo.doe@example.org", "***@github.com:org/x and ***@example.org"),
        ("Example@0.5.3, PythonCall@v1", "Example@0.5.3, PythonCall@v1"),
        ("bearer abcdefgh-1", "bearer ***"),
        ("ghp_0123456789abcdefghij", "***"),
        (
            "glpat-0123456789_abcdef, glibc-2.36-9 and glob-pattern-matching",
            "***, glibc-2.36-9 and glob-pattern-matching",
        ),
        ("xoxb-123456-abc", "***"),
        ('token=\'a b\', "secret": "c d" e', 'token=\'***\', "secret": "***" e'),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N", "***"),
        (f"key={'0a' * 20}, commit {'0a' * 20}", f"key=***, commit {'0a' * 20}"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----.", "***."),
    ],
)
def test_texts(text, shown):
    assert without_secrets(text, HOME) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/scratch/jdoe/env", "/scratch/***/env"),
        (r"C:\Users\jdoe\.julia, C:/Users/jdoe/.julia", r"~\.julia, ~/.julia"),
        ("C:\\\\users\\\\JDOE\\\\x", "~\\\\x"),
        ("/media/jdoe/disk, //home/jdoe, /home%2Fjdoe%2Fx", "/media/***/disk, ~, /home%2F***%2Fx"),
        ("built on jdoe-laptop.example.org by JDoe, not by jdoes", "built on ***.example.org by ***, not by jdoes"),
        ("node17.cluster or node17", "*** or ***"),
        ("/Users/jo/x, d:/Users/Jo~1/x", "/Users/***/x, d:/Users/***/x"),
    ],
)
def test_names_of_users_and_hosts_are_gone_wherever_they_stand(text, shown):
    environ = {"HOME": "/home/jdoe", "USER": "jdoe", "USERPROFILE": r"C:\Users\jdoe", "HOSTNAME": "node17.cluster"}
    environ["COMPUTERNAME"] = "JDOE-LAPTOP"
    assert without_secrets(text, environ) == shown


def test_this_host_and_user_are_known_without_any_variable(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "somewhere.example.org")
    monkeypatch.setattr("pyjl_autoimage.people.privacy._login", lambda: "jdoe")
    assert without_secrets("jdoe at somewhere", {}) == "*** at ***"


@pytest.mark.parametrize("name", ["root", "julia"])
def test_a_name_that_is_nobody_s_does_not_make_the_rest_unreadable(name, monkeypatch):
    monkeypatch.setattr("pyjl_autoimage.people.privacy._login", lambda: name)
    assert without_secrets(f"a {name}", {"USER": name, "HOME": f"/{name}"}) == f"a {name}"
    assert without_secrets({"image": "image"}, {"USER": "image"}) == {"image": "***"}


@pytest.mark.parametrize("part", ["a.", "-", "a@", "://", "a://", "%2F", "/home/", "token", "eyJ.", "?"])
def test_no_text_takes_long(part):
    began = time.process_time()
    without_secrets(part * 10_000, {"HOME": "/home/jdoe", "USER": "jdoe"})
    assert time.process_time() - began < 5


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
        "JULIAUP_CHANNEL": "1.10", "JULIAHUB_PAT": "x", "JULIA_PKG_PWD": "x", "PYJL_BOT_CREDS": "x", "JULIA_S3_SIG": "x",
    }  # fmt: skip
    assert shown_environment(environ) == {
        "CI": "true", "JULIAUP_CHANNEL": "1.10", "JULIA_NUM_THREADS": "4", "PYJL_AUTOIMAGE_AUTO": "1",
        "PYTHON_JULIAPKG_EXE": "~/julia",
    }  # fmt: skip


def test_all_that_juliacall_and_juliapkg_read_is_shown():
    sources = {name: Path(find_spec(name).origin).parent for name in ("juliacall", "juliapkg")}
    read = set()
    for name, directory in sources.items():
        source = "".join(path.read_text(encoding="utf-8") for path in directory.glob("*.py"))
        asked = re.findall(r"\b(?:\w*option|choice|flag|get_config\w*)\(\s*['\"](\w+)['\"]", source)
        read |= {f"PYTHON_{name}_{option}".upper() for option in asked}
        read |= set(re.findall(r"(?:getenv\(|environ\.get\(|environ\[)\s*['\"](\w+)['\"]\s*[,)\]](?!\s*=)", source))
    assert len(read) > 20 and read - SHOWN == set()


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
