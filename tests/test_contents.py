"""What an image holds: what Julia reports of it, kept apart from the image."""

from __future__ import annotations

import os

import pytest

from pyjl_autoimage.build.contents import Held, contents
from pyjl_autoimage.errors import AutoimageError
from pyjl_autoimage.store.publish import remove_image

from standin import EXAMPLE_UUID, World, reported

HELD = (("", "Core", 10, 1), ("", "Base", 20, 4), (EXAMPLE_UUID, "Example", 3, 2))
END = reported("end", "")
REPORT = "".join(reported("held", *one) for one in HELD)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    text = world.executable.read_text()
    report = f'for a; do :; done; printf "{REPORT}{END}" > "$a"; exit 0'
    world.executable.write_text(text.replace("case ", f'case "$*" in *contents.jl*) {report};; esac\ncase ', 1))
    return world


def test_code_by_package_and_the_rest(world):
    image = world.publish(b"an image with data")
    found = contents(world.store, image, world.environment, world.facts)
    assert found.held == (Held("Base", "", 30, 5), Held("Example", EXAMPLE_UUID, 3, 2))
    assert found.data == len(b"an image with data") - 7


def test_it_is_measured_once_and_the_image_is_left_alone(world):
    image = world.publish()
    before = sorted(os.listdir(os.path.dirname(image.path)))
    first = contents(world.store, image, world.environment, world.facts)
    started = world.times_started()
    assert contents(world.store, image, world.environment, world.facts) == first
    assert world.times_started() == started
    assert sorted(os.listdir(os.path.dirname(image.path))) == before
    assert f"--sysimage={image.path}" in (world.root / "julia" / "started").read_text()


def test_what_is_known_of_it_goes_with_the_image(world):
    image = world.publish()
    contents(world.store, image, world.environment, world.facts)
    assert os.path.exists(world.store.contents(image.id))
    remove_image(world.store, image.id)
    assert not os.path.exists(world.store.contents(image.id))


@pytest.mark.parametrize("kept", ["", "[]", '{"schema": 1}', '{"schema": 1, "bytes": 8, "held": [{}]}'])
def test_what_strangers_kept_is_measured_again(world, kept):
    image = world.publish()
    os.makedirs(os.path.dirname(world.store.contents(image.id)))
    with open(world.store.contents(image.id), "w") as file:
        file.write(kept)
    assert len(contents(world.store, image, world.environment, world.facts).held) == 2


def test_an_image_that_cannot_be_looked_into(world):
    text = world.executable.read_text()
    world.executable.write_text(text.replace("exit 0", 'echo no such luck >&2; rm "$a"; exit 1'))
    with pytest.raises(AutoimageError, match="no such luck"):
        contents(world.store, world.publish(), world.environment, world.facts)


def test_half_a_report_is_none(world):
    text = world.executable.read_text()
    world.executable.write_text(text.replace(END, ""))
    with pytest.raises(AutoimageError, match="Julia ended with status 0"):
        contents(world.store, world.publish(), world.environment, world.facts)
