"""Remove images and layers that no start will choose again, and say what that frees."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

from ..base import settings
from ..base.files import tree_size
from ..errors import AutoimageError
from ..julia.environment import Environment
from ..store import validity
from ..store.built import Image, Layer, Requirements
from ..store.places import Store
from ..store.publish import remove_debris, remove_image, remove_layer
from ..store.sweep import sweep
from ..store.validity import Situation
from .state import State

__all__ = ["clean", "prune", "prune_caches"]

MONTH = 30 * 86400.0


def clean(*, everything: bool = False, dry_run: bool = False) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Remove what is not valid any more or has been superseded; never an image that a process uses.

    Args:
        everything: remove valid images and layers, recordings and profiles, too.
        dry_run: remove nothing, only say what would be.

    Returns:
        What was removed and what was kept: name, bytes (of what was removed) and reason of each.

    Raises:
        SettingsError: a setting has an unknown name or a bad value.
    """
    settled = settings.settle()
    store = Store(settled.home)
    removed: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    newest: set[str] = set()
    for image in store.all_images():
        name = f"image {image.id}"
        reason = "everything goes" if everything else _reason_to_go(image, newest, store)
        users = store.users(image.id)
        if users:
            use = "1 running process uses it" if len(users) == 1 else f"{len(users)} running processes use it"
            kept.append({"name": name, "reason": use})
        elif reason is None:
            kept.append({"name": name, "reason": "the next start uses it"})
        else:
            directory = os.path.join(store.images, image.id)
            size = tree_size(directory) if dry_run else remove_image(store, image.id)
            if size:
                removed.append({"name": name, "bytes": size, "reason": reason})
            else:
                kept.append({"name": name, "reason": "a process has just begun to use it"})
    for layer in store.all_layers():
        name = f"layer {layer.id}"
        reason = "everything goes" if everything else _reason_against_layer(layer, store)
        if reason is None:
            kept.append({"name": name, "reason": f"{layer.program or 'interactive use'} starts with it"})
        else:
            size = tree_size(layer.path) if dry_run else remove_layer(store, layer.id)
            removed.append({"name": name, "bytes": size, "reason": reason})
    if everything:
        for environment_id in store.environment_ids():
            directory = store.environment(environment_id)
            state = State.read(store, environment_id)
            if state is not None and state.state == "running":
                kept.append({"name": f"environment {environment_id}", "reason": "a build is running"})
                continue
            removed.append(_remove_tree(f"environment {environment_id}", directory, dry_run))
        rest = {
            store.launches: "what start-up remembers",
            store.builder_project: "the Julia project that builds use",
            store.uses: "marks of processes",
        }
        for directory, name in rest.items():
            if os.path.isdir(directory) and not (directory == store.uses and kept):
                removed.append(_remove_tree(name, directory, dry_run))
    return removed, kept


def prune(store: Store, *, keep: int, max_bytes: float, spare: str) -> list[str]:
    """Remove images until few enough are left, the oldest first, and before those the ones whose Julia is gone.

    Layers whose Julia or image is gone go with them.

    Args:
        store: where.
        keep: images that one environment may have.
        max_bytes: bytes that all images may have together.
        spare: id of the image that has just been published. It stays, and so does every image in use.

    Returns:
        The ids of the removed images.
    """
    remove_debris(store)
    sweep(store)
    images = list(store.all_images())
    images.sort(key=lambda image: (os.path.exists(image.executable) and os.path.isdir(image.project), image.built_at))
    sizes = {image.id: tree_size(os.path.join(store.images, image.id)) for image in images}
    left = {image.environment: sum(other.environment == image.environment for other in images) for image in images}
    removed = []
    for image in images:
        gone = not (os.path.exists(image.executable) and os.path.isdir(image.project))
        too_many = left[image.environment] > max(1, keep)
        if image.id == spare or not (gone or too_many or sum(sizes.values()) > max_bytes):
            continue
        if remove_image(store, image.id):
            removed.append(image.id)
            left[image.environment] -= 1
            del sizes[image.id]
    for layer in store.all_layers():
        gone = not (os.path.exists(layer.executable) and os.path.isdir(layer.project))
        if gone or (layer.image is not None and not os.path.exists(store.image_library(layer.image))):
            remove_layer(store, layer.id)
    return removed


def prune_caches(store: Store) -> None:
    """Remove the precompile caches of builds that none has used for a month. Julia touches those that it uses."""
    for directory, _, names in os.walk(store.builder_depot):
        for name in names:
            path = os.path.join(directory, name)
            try:
                if os.stat(path).st_mtime < time.time() - MONTH:
                    os.remove(path)
            except OSError:
                pass  # another build has just removed it


def _remove_tree(name: str, directory: str, dry_run: bool) -> dict[str, Any]:
    size = tree_size(directory)
    if not dry_run:
        shutil.rmtree(directory, ignore_errors=True)
    return {"name": name, "bytes": size, "reason": "everything goes"}


def _reason_to_go(image: Image, newest: set[str], store: Store) -> str | None:
    """Why no start will choose this image; None if one will. Newer images come first."""
    environment = Environment(image.executable, image.project)
    if image.environment in newest:
        return "a newer image of the same environment is valid"
    try:
        reasons = validity.reasons_against(image, _situation(environment, image, store), store)
    except (AutoimageError, ValueError) as error:
        return str(error)
    if reasons:
        return reasons[0]
    newest.add(image.environment)
    return None


def _reason_against_layer(layer: Layer, store: Store) -> str | None:
    """Why no start will use this layer; None if one may."""
    if layer.image is not None and not os.path.exists(store.image_library(layer.image)):
        return "the image that it was precompiled for is gone"
    newer = (other for other in store.all_layers() if other.environment == layer.environment)
    if any((o.program, o.image) == (layer.program, layer.image) and o.built_at > layer.built_at for o in newer):
        return "a newer layer of the same program is there"
    try:
        situation = _situation(Environment(layer.executable, layer.project), layer, store)
        return next(iter(validity.reasons_against_layer(layer, layer.image, situation, store)), None)
    except (AutoimageError, ValueError) as error:
        return str(error)


def _situation(environment: Environment, built: Requirements, store: Store) -> Situation:
    # Whether another start gives other code generation flags cannot be known here: its own count.
    return validity.situation_of(environment, store, built.flags)
