from __future__ import annotations

import os

import pytest

from pyjl_autoimage.base.settings import Settings, env_name, find_pyproject, from_everywhere
from pyjl_autoimage.errors import SettingsError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_defaults():
    settings = from_everywhere(environ={})
    assert settings == Settings()
    assert settings.enabled and settings.record and settings.dev_packages == "skip"


def test_environment_wins_over_keywords_and_keywords_over_pyproject(tmp_path):
    pyproject = write(
        tmp_path / "pyproject.toml",
        '[tool.pyjl-autoimage]\nexclude = ["A"]\ncpu-target = "generic"\nimage-threads = 3\n',
    )
    settings = from_everywhere(
        {"cpu_target": "haswell", "image_threads": 2},
        {"PYJL_AUTOIMAGE_IMAGE_THREADS": "1"},
        pyproject,
    )
    assert (settings.exclude, settings.cpu_target, settings.image_threads) == (("A",), "haswell", 1)
    assert settings.origins == {
        "exclude": pyproject,
        "cpu_target": "keyword argument",
        "image_threads": "PYJL_AUTOIMAGE_IMAGE_THREADS",
    }


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("enabled", "PYJL_AUTOIMAGE"),
        ("home", "PYJL_AUTOIMAGE_HOME"),
        ("builder_project", "PYJL_AUTOIMAGE_BUILDER_PROJECT"),
        ("dev_packages", "PYJL_AUTOIMAGE_DEV_PACKAGES"),
        ("auto_rebuild", "PYJL_AUTOIMAGE_AUTO"),
        ("cpu_target", "PYJL_AUTOIMAGE_CPU_TARGET"),
    ],
)
def test_names_that_are_fixed(name, variable):
    assert env_name(name) == variable


@pytest.mark.parametrize("text", ["0", "no", "False", "off"])
def test_switched_off(text):
    assert not from_everywhere(environ={"PYJL_AUTOIMAGE": text}).enabled


def test_an_empty_variable_is_unset():
    assert from_everywhere(environ={"PYJL_AUTOIMAGE": "", "PYJL_AUTOIMAGE_DEV_PACKAGES": ""}) == Settings()


def test_lists_from_the_environment():
    assert from_everywhere(environ={"PYJL_AUTOIMAGE_INCLUDE": "CSV, DataFrames,CSV"}).include == (
        "CSV",
        "DataFrames",
    )


@pytest.mark.parametrize(
    ("keywords", "environ", "table", "where"),
    [
        ({"colour": 1}, {}, "", "colour is not a setting"),
        ({"record": "perhaps"}, {}, "", "record='perhaps'"),
        ({"include": ["Data Frames"]}, {}, "", "include="),
        ({"include": 3}, {}, "", "include="),
        ({"image_threads": -1}, {}, "", "image_threads="),
        ({"image_threads": True}, {}, "", "image_threads="),
        ({"cpu_target": ""}, {}, "", "cpu_target="),
        ({}, {"PYJL_AUTOIMAGE_COLOUR": "1"}, "", "PYJL_AUTOIMAGE_COLOUR"),
        ({}, {"PYJL_AUTOIMAGE_DEV_PACKAGES": "burn"}, "", "PYJL_AUTOIMAGE_DEV_PACKAGES='burn'"),
        ({}, {"PYJL_AUTOIMAGE_IMAGE_THREADS": "two"}, "", "PYJL_AUTOIMAGE_IMAGE_THREADS='two'"),
        ({}, {}, "colour = 1", "pyproject.toml: [tool.pyjl-autoimage] colour"),
        ({}, {}, "record = 7", "pyproject.toml: [tool.pyjl-autoimage] record"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, keywords, environ, table, where):
    pyproject = write(tmp_path / "pyproject.toml", f"[tool.pyjl-autoimage]\n{table}\n")
    with pytest.raises(SettingsError) as caught:
        from_everywhere(keywords, environ, pyproject)
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("home", '"/tmp/x"'),
        ("builder-project", '"/tmp/x"'),
        ("builder_project", '"/tmp/x"'),
        ("trusted-stores", '["/tmp/x"]'),
        ("enabled", "false"),
    ],
)
def test_a_repository_must_not_choose_what_code_is_loaded(tmp_path, name, value):
    pyproject = write(tmp_path / "pyproject.toml", f"[tool.pyjl-autoimage]\n{name} = {value}\n")
    with pytest.raises(SettingsError, match="cannot be set there"):
        from_everywhere({}, {}, pyproject)


def test_a_table_that_is_none_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match="must be a table"):
        from_everywhere({}, {}, write(tmp_path / "pyproject.toml", "tool.pyjl-autoimage = 3\n"))


def test_paths_are_made_absolute_and_separated_as_in_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    stores = os.pathsep.join(("~/a,b", "c"))
    settings = from_everywhere(environ={"PYJL_AUTOIMAGE_HOME": "~/s", "PYJL_AUTOIMAGE_TRUSTED_STORES": stores})
    assert settings.home == str(tmp_path / "s")
    assert settings.trusted_stores == (str(tmp_path / "a,b"), str(tmp_path / "c"))


@pytest.mark.parametrize(
    ("environ", "table", "said"),
    [
        ({"PYJL_AUTOIMAGE_HOEM": "x"}, "", "PYJL_AUTOIMAGE_HOEM is not a setting; did you mean PYJL_AUTOIMAGE_HOME?"),
        (
            {"PYJL_AUTOIMAGE_QQQ": "x"},
            "",
            "PYJL_AUTOIMAGE_QQQ is not a setting; the settings are PYJL_AUTOIMAGE_ALL_D",
        ),
        ({}, "exclud = []", "[tool.pyjl-autoimage] exclud is not a setting; did you mean exclude?"),
        ({}, "time_limt = 1", "time_limt is not a setting; did you mean time-limit?"),
    ],
)
def test_what_was_meant_is_said(tmp_path, environ, table, said):
    pyproject = write(tmp_path / "pyproject.toml", f"[tool.pyjl-autoimage]\n{table}\n")
    with pytest.raises(SettingsError) as caught:
        from_everywhere({}, environ, pyproject)
    assert said in str(caught.value)


def test_the_list_of_what_may_be_set_there(tmp_path):
    pyproject = write(tmp_path / "pyproject.toml", "[tool.pyjl-autoimage]\nqqq = 1\n")
    with pytest.raises(SettingsError) as caught:
        from_everywhere({}, {}, pyproject)
    listed = str(caught.value).partition("the settings are ")[2].split(", ")
    assert "time-limit" in listed and not {"home", "enabled", "builder-project", "time_limit"} & set(listed)


def test_somebody_elses_broken_pyproject_is_not_our_business(tmp_path):
    assert from_everywhere({}, {}, write(tmp_path / "pyproject.toml", "not toml [")) == Settings()


def test_the_nearest_pyproject(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    write(tmp_path / "pyproject.toml", "")
    assert find_pyproject(str(tmp_path / "a" / "b")) == str(tmp_path / "pyproject.toml")
    write(tmp_path / "a" / "pyproject.toml", "")
    assert find_pyproject(str(tmp_path / "a" / "b")) == str(tmp_path / "a" / "pyproject.toml")


def test_with_values_checks_them():
    assert Settings().with_values(dev_packages="bake").dev_packages == "bake"
    with pytest.raises(SettingsError):
        Settings().with_values(dev_packages="burn")
