from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjl_autoimage.julia import sources
from pyjl_autoimage.julia.manifest import ManifestError, Package, load_manifest, manifest_file
from pyjl_autoimage.julia.preferences import preferences

EXAMPLE_UUID = "7876af07-990d-54b4-ab0e-23690620f79a"
CSV_UUID = "336ed68f-0bac-5ca0-87d4-7b16caf5d00b"
PYTHONCALL_UUID = "6099a3de-0909-46bc-b1f4-468b9a2dfc0d"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("version", "julia"), [("1.10", "1.10.4"), ("1.12", "1.12.5")])
def test_real_manifests(fixtures, version, julia):
    read = load_manifest(str(fixtures / f"julia-{version}" / "Manifest-paths.toml"))
    assert read.julia_version == julia
    csv = read.packages[CSV_UUID]
    assert (csv.name, csv.version, csv.path) == ("CSV", "0.10.16", os.path.normpath("/home/me/dev/CSV"))
    assert not csv.in_julia
    assert read.by_name("Dates")[0].in_julia
    names = {read.packages[uuid].name for uuid in read.closure([CSV_UUID])}
    assert {"CSV", "Parsers", "TranscodingStreams", "Zlib_jll"} <= names
    assert "DataFrames" not in names
    compat = read.by_name("Compat")[0]
    assert "DataFrames" in {read.packages[uuid].name for uuid in read.dependents([compat.uuid])}
    assert "CompatLinearAlgebraExt" in read.extensions


def test_what_comes_with_julia_needs_no_project_that_names_it(fixtures, tmp_path):
    """``using Distributed`` works everywhere, and since Julia 1.11 it is a package that takes time to load."""
    read = load_manifest(str(fixtures / "julia-1.12" / "Manifest-paths.toml"))
    distributed, serialization = "8ba89e20-285c-5b6f-9357-94700520ee1b", "9e88b42a-f829-5b0c-bbe9-9e923198166b"
    clusters = "0e0a8d1b-56b3-4b0b-8b0f-5f0ba2d3c9ff"
    for name, uuid, deps in (
        ("Distributed", distributed, f'Serialization = "{serialization}"\nClusters = "{clusters}"'),
        ("Clusters", clusters, ""),
        ("Serialization", serialization, ""),
        ("Other", EXAMPLE_UUID, ""),
    ):
        text = f'name = "{name}"\nuuid = "{uuid}"\nversion = "1.11.0"\npath = "x"\n[deps]\n{deps}\n'
        write(tmp_path / name / "Project.toml", text)
    write(tmp_path / "Broken" / "Project.toml", "uuid = ")
    more = read.with_standard_libraries([distributed, CSV_UUID], str(tmp_path))
    assert {uuid: more.packages[uuid] for uuid in read.packages} == read.packages, (
        "the project's own stay as they are"
    )
    assert {more.packages[uuid].name for uuid in more.packages.keys() - read.packages.keys()} == {
        "Distributed",
        "Clusters",
    }
    added = more.packages[distributed]
    assert added.in_julia and added.version == "1.11.0" and set(added.deps) == {serialization, clusters}
    assert read.with_standard_libraries([CSV_UUID], str(tmp_path)) is read
    assert read.with_standard_libraries([distributed], str(tmp_path / "nowhere")).packages == read.packages


def test_the_first_format(tmp_path):
    path = write(
        tmp_path / "Manifest.toml",
        f"""
        [[Dates]]
        uuid = "ade2ca70-3891-5945-98fb-dc099432e06a"
        [[Example]]
        deps = ["Dates"]
        git-tree-sha1 = "46e44e869b4d90b96bd8ed1fdcf32244fddfb6cc"
        uuid = "{EXAMPLE_UUID}"
        version = "0.5.3"
        """,
    )
    read = load_manifest(path)
    assert read.julia_version is None
    assert read.packages[EXAMPLE_UUID].deps == ("ade2ca70-3891-5945-98fb-dc099432e06a",)


def test_what_newer_julias_write_besides_is_read(tmp_path):
    """Registries (format 2.1, Julia 1.13), and the version of the syntax (1.14; 1.13 is what none is taken for)."""
    uuids = [EXAMPLE_UUID, *(f"{EXAMPLE_UUID[:-1]}{digit}" for digit in "bcdef")]
    said = ["1.14.0-DEV", "1.15", "1.13.0", "1.0.0", "2", None]
    entries = [
        f"""
        [[deps.Example]]
        git-tree-sha1 = "46e44e869b4d90b96bd8ed1fdcf32244fddfb6cc"
        registries = "General"
        uuid = "{uuid}"
        version = "0.5.3"
        {f'syntax.julia_version = "{version}"' if version else ""}
        """
        for uuid, version in zip(uuids, said, strict=True)
    ]
    general = (
        '[registries.General]\nurl = "https://example.org/G.git"\nuuid = "23338594-aafe-5451-b93e-139f81909106"\n'
    )
    head = 'julia_version = "1.14.0"\nmanifest_format = "2.1"\n'
    read = load_manifest(write(tmp_path / "Manifest.toml", f"{head}{''.join(entries)}\n{general}"))
    assert read.julia_version == "1.14.0"
    assert [read.packages[uuid].syntax for uuid in uuids] == ["1.14", "1.15", None, None, "2.0", None]
    assert {(package.name, package.version) for package in read.packages.values()} == {("Example", "0.5.3")}


def test_a_name_with_two_uuids(tmp_path):
    path = write(
        tmp_path / "Manifest.toml",
        """
        manifest_format = "2.0"
        [[deps.A]]
        uuid = "00000000-0000-0000-0000-00000000000a"
            [deps.A.deps]
            Twin = "00000000-0000-0000-0000-000000000002"
        [[deps.Twin]]
        uuid = "00000000-0000-0000-0000-000000000001"
        [[deps.Twin]]
        uuid = "00000000-0000-0000-0000-000000000002"
        """,
    )
    read = load_manifest(path)
    assert len(read.by_name("Twin")) == 2
    assert read.packages["00000000-0000-0000-0000-00000000000a"].deps == ("00000000-0000-0000-0000-000000000002",)


@pytest.mark.parametrize(
    "text",
    [
        "[[deps.A]]\nversion = 1",
        "deps = 3\nmanifest_format='2.0'",
        "manifest_format='2.0'\n[deps]\nA = 1",
        "{",
        "\x00",
    ],
)
def test_what_is_no_manifest_is_an_error_that_names_the_file(tmp_path, text):
    path = write(tmp_path / "Manifest.toml", text if "format" in text else f"manifest_format='2.0'\n{text}")
    with pytest.raises(ManifestError, match=r"Manifest\.toml"):
        load_manifest(path)


@given(st.binary(max_size=300))
def test_noise_never_raises_anything_else(tmp_path_factory, noise):
    path = tmp_path_factory.mktemp("noise") / "Manifest.toml"
    path.write_bytes(noise)
    try:
        load_manifest(str(path))
    except ManifestError:
        pass


def test_which_manifest(tmp_path):
    project = tmp_path / "p"
    write(project / "Project.toml", "")
    assert manifest_file(str(project)) is None
    plain = write(project / "Manifest.toml", "")
    assert manifest_file(str(project), "1.10.4") == plain
    versioned = write(project / "Manifest-v1.11.toml", "")
    assert manifest_file(str(project), "1.11.2") == versioned
    assert manifest_file(str(project), "1.12.0") == plain
    write(project / "Manifest-v1.10.toml", "")
    assert manifest_file(str(project), "1.10.4") == plain, "known only since Julia 1.10.8"
    julia = write(project / "JuliaManifest.toml", "")
    assert manifest_file(str(project), "1.10.4") == julia


def test_a_manifest_elsewhere(tmp_path):
    shared = write(tmp_path / "shared" / "Manifest.toml", "")
    write(tmp_path / "p" / "Project.toml", 'manifest = "../shared/Manifest.toml"')
    assert manifest_file(str(tmp_path / "p")) == shared


def test_a_workspace_shares_its_manifest(tmp_path):
    write(tmp_path / "Project.toml", '[workspace]\nprojects = ["member"]')
    shared = write(tmp_path / "Manifest.toml", "")
    write(tmp_path / "member" / "Project.toml", "")
    write(tmp_path / "other" / "Project.toml", "")
    assert manifest_file(str(tmp_path / "member"), "1.12.5") == shared
    assert manifest_file(str(tmp_path / "member"), "1.11.5") is None
    assert manifest_file(str(tmp_path / "other"), "1.12.5") is None


def test_source_of_a_registered_package(tmp_path):
    package = Package("Example", EXAMPLE_UUID, "0.5.3", tree_sha1="46e44e869b4d90b96bd8ed1fdcf32244fddfb6cc")
    depots = [str(tmp_path / "none"), str(tmp_path / "depot")]
    assert sources.source_directory(package, depots) is None
    directory = tmp_path / "depot" / "packages" / "Example" / "aqsx3"  # Julia's own slug of Example 0.5.3
    directory.mkdir(parents=True)
    assert sources.source_directory(package, depots) == str(directory)


def test_the_digest_of_sources_sees_contents_not_times(tmp_path):
    source = tmp_path / "A"
    write(source / "src" / "A.jl", "module A end")
    write(source / "data" / "table.csv", "1,2")
    write(source / "test" / "runtests.jl", "1")
    write(source / ".git" / "HEAD", "x")
    before = sources.source_digest(str(source))
    os.utime(source / "src" / "A.jl", (1, 1))
    write(source / "test" / "runtests.jl", "2")
    write(source / ".git" / "HEAD", "y")
    assert sources.source_digest(str(source)) == before
    write(source / "data" / "table.csv", "1,3")
    changed = sources.source_digest(str(source))
    assert changed != before
    (source / "data" / "table.csv").rename(source / "data" / "table2.csv")
    assert sources.source_digest(str(source)) != changed


def test_links_to_directories_of_code_are_followed_and_others_are_not(tmp_path):
    source, code, data = tmp_path / "A", tmp_path / "code", tmp_path / "data"
    write(source / "A.toml", "")
    write(code / "A.jl", "module A end")
    write(code / "deep" / "more.jl", "")
    write(data / "large.csv", "")
    (source / "src").symlink_to(code)
    (source / "data").symlink_to(data)
    (code / "again").symlink_to(code)
    (code / "up").symlink_to(source)
    found = {path for path, _ in sources.source_files(str(source))}
    assert {"src/A.jl", "src/deep/more.jl"} <= found
    assert not any(path.endswith("large.csv") for path in found)
    assert len(found) < 20, "they are circular"


def test_preferences_are_merged_as_julia_merges_them(tmp_path):
    project, below = tmp_path / "project", tmp_path / "global"
    write(
        project / "Project.toml",
        f"""
        [deps]
        Example = "{EXAMPLE_UUID}"
        [preferences.Example]
        a = 1
        nested = {{ x = 1, y = 2 }}
        [preferences.PythonCall]
        exe = "ignored: PythonCall is no dependency of this project"
        """,
    )
    write(project / "LocalPreferences.toml", "[Example]\na = 2\nnested = { y = 3 }\n__clear__ = ['c']\n")
    write(
        below / "Project.toml",
        f"[extras]\nExample = '{EXAMPLE_UUID}'\n[preferences.Example]\nb = 5\nc = 6\na = 9\n",
    )
    found = preferences([str(project), str(below)])
    assert found == {
        EXAMPLE_UUID: {"a": 2, "b": 5, "nested": {"x": 1, "y": 3}, "__clear__": ["c"]},
    }


def test_julia_local_preferences_hide_the_others(tmp_path):
    write(tmp_path / "Project.toml", f'[deps]\nExample = "{EXAMPLE_UUID}"\n')
    write(tmp_path / "LocalPreferences.toml", "[Example]\na = 1\n")
    write(tmp_path / "JuliaLocalPreferences.toml", "[Example]\na = 2\n")
    assert preferences([str(tmp_path)]) == {EXAMPLE_UUID: {"a": 2}}


def test_preferences_of_a_workspace_count_for_its_members(tmp_path):
    from pyjl_autoimage.julia.facts import JuliaFacts
    from pyjl_autoimage.store.validity import preference_projects

    write(
        tmp_path / "Project.toml",
        f'[deps]\nExample = "{EXAMPLE_UUID}"\n[workspace]\nprojects = ["member"]\n[preferences.Example]\na = 1\nb = 1\n',
    )
    member = tmp_path / "member"
    write(member / "Project.toml", f'[deps]\nExample = "{EXAMPLE_UUID}"\n[preferences.Example]\na = 2\n')
    facts = JuliaFacts("1.12.5", "c", 64, "1", "x", "/b", "/s", "/l", (), (str(member / "Project.toml"), "/stdlib"))
    projects = preference_projects(str(member), facts)
    assert projects == [str(member), str(tmp_path), "/stdlib"]
    assert preferences(projects) == {EXAMPLE_UUID: {"a": 2, "b": 1}}
