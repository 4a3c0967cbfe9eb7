"""What packages are made of, as the building Julia reports it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pyjl_autoimage.build.made import Made, changed_since, completed, made_in, read_made
from pyjl_autoimage.julia.manifest import Manifest, Package
from pyjl_autoimage.store.built import BakedPackage, content_of

from standin import write_report

A, B, EXTENSION = (f"00000000-0000-0000-0000-00000000000{digit}" for digit in "abe")


def made(uuid: str = A, name: str = "A", files: tuple[object, ...] = (), **changes) -> Made:
    return replace(Made(uuid, name, "/d/A.ji", tuple(map(str, files)), ()), **changes)


def kept(package: BakedPackage, *parts: Made, **preferences) -> BakedPackage:
    """What is kept of the first of two packages."""
    manifest = Manifest("", None, {A: Package("A", A, extensions={"ABExt": ("B",)}), B: Package("B", B)})
    (first, second) = completed((package, BakedPackage("B", B)), parts, manifest, preferences)
    assert not second.files
    return first


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("A/src/A.jl", "A/deps/deps.jl", "shared.jl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path / "A"


def test_of_a_registered_package_what_the_tree_hash_does_not_speak_for(source):
    named = (source / "src" / "A.jl", source / "deps" / "deps.jl", source.parent / "shared.jl")
    registered = BakedPackage("A", A, tree_sha1="1", source=str(source))
    assert kept(registered, made(files=named)).files == {str(path): content_of(str(path)) for path in named[1:]}


def test_the_depot_may_have_another_name(source, tmp_path):
    (tmp_path / "link").symlink_to(source)
    registered = BakedPackage("A", A, tree_sha1="1", source=str(source))
    named = (tmp_path / "link" / "src" / "A.jl", tmp_path / "link" / "deps" / "deps.jl")
    assert list(kept(registered, made(files=named)).files) == [str(named[1])]


def test_of_a_package_tracked_by_path_every_file(source):
    named = [str(source / "src" / "A.jl"), str(source.parent / "shared.jl")]
    package = BakedPackage("A", A, path=str(source), source=str(source))
    assert list(kept(package, made(files=tuple(named))).files) == named


def test_of_what_comes_with_julia_none(source):
    """Its caches name places on the machine where that Julia was built."""
    package = BakedPackage("A", A, in_julia=True)
    assert kept(package, made(files=("/build/stdlib/A/src/A.jl",))).files == {}


def test_an_extension_is_part_of_its_package(source):
    package = BakedPackage("A", A, path=str(source), source=str(source))
    extension = made(EXTENSION, "ABExt", (source.parent / "shared.jl",))
    assert list(kept(package, extension).files) == [str(source.parent / "shared.jl")]


def test_preferences_of_others(source):
    """Those of its own are compared in any case, all of them."""
    package = BakedPackage("A", A, tree_sha1="1", source=str(source))
    read = made(preferences=((A, "own"), (B, "size"), (EXTENSION, "unset")))
    found = kept(package, read, **{B: {"size": 1, "not read": 2}}).others
    assert list(found) == [f"{B} size", f"{EXTENSION} unset"]
    assert found[f"{B} size"] and not found[f"{EXTENSION} unset"]
    assert found != kept(package, read, **{B: {"size": 2}}).others


def test_a_package_that_was_not_reported_goes_by_its_directory(source):
    package = BakedPackage("A", A, path=str(source), source=str(source))
    assert kept(package) == package


def test_what_was_written_since_is_told_from_what_the_package_wrote_as_it_was_compiled(tmp_path):
    began = time.time() - 100
    cache = tmp_path / "A.ji"
    times = {cache: 50, tmp_path / "old.jl": -1, tmp_path / "generated.jl": 49, tmp_path / "edited.jl": 51}
    times[tmp_path / "from the future.jl"] = 1000
    for path, after in times.items():
        path.touch()
        os.utime(path, (began + after, began + after))
    files = [str(path) for path in times if path != cache]
    package = BakedPackage("A", A, files=dict.fromkeys(files, ""))
    assert changed_since([made(files=tuple(files), cache=str(cache))], [package], began) == [
        str(tmp_path / "edited.jl")
    ]
    os.utime(cache, (1, 1))  # of a depot that cannot be written
    assert len(changed_since([made(files=tuple(files), cache=str(cache))], [package], began)) == 2


def test_what_was_loaded_without_a_cache_is_not_reported(tmp_path):
    report = write_report(tmp_path / "made", ("made", A, "A", "/d/A.ji", "/p/a b.jl"), ("other", "item"))
    assert read_made(report) == (made(files=("/p/a b.jl",)),)
    assert read_made(str(tmp_path / "none")) == made_in([]) == ()
