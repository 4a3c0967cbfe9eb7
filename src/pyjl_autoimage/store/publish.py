"""Images and layers appear and go: whole, or not at all, and never while somebody uses them."""

from __future__ import annotations

import os
from typing import Any

from ..base.files import file_sha256, names_in, read_json, remove_tree, tree_size, write_json
from ..base.liveness import DAY, discard, hold, is_dead, mark_name, remove
from ..base.unchanged import identity
from ..errors import StoreError
from .places import Store

__all__ = ["damage", "new_layer", "publish_image", "publish_layer", "remove_debris", "remove_image", "remove_layer"]

_BUILDER = ".builder"  # in a layer: the mark of the process that builds it

_MOMENT = 60.0
"""Seconds in which a layer's directory has got that mark, or an image that goes is gone; either takes much less."""


def new_layer(store: Store, layer_id: str) -> str:
    """Make the directory of a layer that this process is about to build. It counts when it is published.

    Raises:
        OSError: it cannot be made.
        StoreError: the store cannot be written.
    """
    store.ensure(store.layers)
    os.mkdir(store.layer(layer_id), 0o700)
    hold(os.path.join(store.layer(layer_id), f"{mark_name()}{_BUILDER}"))
    return store.layer(layer_id)


def publish_layer(store: Store, layer: Any) -> None:
    """Make a layer selectable.

    Raises:
        OSError: it cannot be written; then it was not published.
    """
    write_json(os.path.join(layer.path, "layer.json"), layer.to_json(), durable=True)
    remove(os.path.join(layer.path, f"{mark_name()}{_BUILDER}"))
    os.utime(store.layers)  # who looked while it was being built must look again


def remove_layer(store: Store, layer_id: str) -> int:
    """Remove a layer; the bytes that it held. A process that is about to load from it goes on without."""
    size = tree_size(store.layer(layer_id))
    doomed = f"{store.layer(layer_id)}.{os.urandom(4).hex()}.gone"
    try:
        os.rename(store.layer(layer_id), doomed)
    except FileNotFoundError:
        return 0  # somebody else has just removed it
    remove_tree(doomed)
    return size


def damage(store: Store, image: Any, *, thorough: bool = False) -> list[str]:
    """What is wrong with an image's files, as far as their sizes tell, or (`thorough`) their whole content."""
    for path, expected in image.files.items():
        its_file = "its file" if path == image.path else f"its file {os.path.basename(path)}"
        try:
            size = os.stat(path).st_size
        except OSError as error:
            return [f"{its_file} cannot be read: {error.strerror}"]
        if size != expected:
            return [f"{its_file} has {size} bytes, {expected} when it was published"]
    return _checksum(store, image) if thorough else []


def _checksum(store: Store, image: Any) -> list[str]:
    """Whether the content is what was published; read once, as long as no file changes."""
    try:
        now = [list(identity(os.stat(path))) for path in image.files]
        note = os.path.join(store.root, "checked", image.id)
        if (read_json(note) or {}).get("files") == now:
            return []
        if file_sha256(*image.files) != image.sha256:
            return ["its file is damaged (its checksum is not the one it was published with)"]
    except OSError as error:
        return [f"its file cannot be read: {error.strerror}"]
    try:
        write_json(store.ensure(os.path.dirname(note)) and note, {"schema": 1, "files": now})
    except (OSError, StoreError):
        pass  # read again next time
    return []


def publish_image(store: Store, staging: str, image: Any) -> None:
    """Make a proved image selectable: one rename, after everything is on disk.

    Args:
        store: where.
        staging: directory on the store's file system that holds the image's files; it becomes the image.
        image: its facts.

    Raises:
        OSError: it cannot be written; then nothing was published.
    """
    for path in image.files:
        with open(os.path.join(staging, os.path.basename(path)), "rb") as file:
            os.fsync(file.fileno())
    write_json(os.path.join(staging, "image.json"), image.to_json(), durable=True)
    store.ensure(store.images)
    store.restore(image.id)  # it has just been proved
    target = os.path.join(store.images, image.id)
    try:
        os.rename(staging, target)
    except OSError:
        if not os.path.isfile(os.path.join(target, "image.json")):
            raise
        # The very same image, built before: its facts are renewed.
        os.replace(os.path.join(staging, "image.json"), os.path.join(target, "image.json"))
        remove_tree(staging)


def remove_image(store: Store, image_id: str) -> int:
    """Remove an image that nobody uses; the bytes that it held, 0 if somebody does.

    It stops being selectable first. Who chose it at that very moment has marked it by then and looks
    once more whether it is there, so one of the two sees the other.
    """
    directory = os.path.join(store.images, image_id)
    if store.users(image_id):
        return 0
    size = tree_size(directory)
    doomed = f"{directory}.{os.urandom(4).hex()}.gone"
    try:
        os.rename(directory, doomed)
    except FileNotFoundError:
        return 0  # somebody else has just removed it
    if store.users(image_id):
        os.rename(doomed, directory)
        return 0
    remove_tree(doomed)
    remove_tree(os.path.join(store.uses, image_id))
    discard(store.contents(image_id))
    store.restore(image_id)
    return size


def remove_debris(store: Store) -> None:
    """Remove what a killed removal or publication has left, and old layers that this version cannot read."""
    for name in names_in(store.images):
        path = os.path.join(store.images, name)
        # One that goes may come back: who removes it has yet to look whether it is in use.
        if name.endswith(".tmp") or (name.endswith(".gone") and _age(path, "st_ctime") >= _MOMENT):
            remove_tree(path)
    for name in names_in(store.layers):
        if name.endswith(".gone") or _is_abandoned(store, name):
            remove_tree(store.layer(name))
    for layer_id in store.unreadable_layers():
        if _age(store.layer(layer_id)) > 30 * DAY:
            remove_layer(store, layer_id)


def _is_abandoned(store: Store, layer_id: str) -> bool:
    """Whether a layer was never published, and whoever built it is dead.

    Whoever builds it may go on meanwhile: its mark comes just after its directory, and goes when it is published.
    """
    marks = [name for name in names_in(store.layer(layer_id)) if name.endswith(_BUILDER.lstrip("."))]
    if not marks and _age(store.layer(layer_id)) < _MOMENT:
        return False
    dead = all(is_dead(os.path.join(store.layer(layer_id), name), DAY) for name in marks)
    return dead and not os.path.exists(os.path.join(store.layer(layer_id), "layer.json"))


def _age(path: str, since: str = "st_mtime") -> float:
    import time

    try:
        return time.time() - float(getattr(os.stat(path), since))
    except OSError:
        return 0.0
