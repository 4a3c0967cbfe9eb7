"""Remove images and layers that no start will choose again, and say what that frees."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..base import settings
from ..base.files import names_in, tree_size
from ..base.liveness import discard
from ..base.locks import is_held, lock
from ..errors import AutoimageError, StoreError
from ..julia.environment import Environment
from ..store import validity, wants
from ..store.built import Image, Layer, Requirements
from ..store.places import Store
from ..store.publish import remove_debris, remove_image, remove_layer
from ..store.sweep import sweep
from ..store.validity import Situation

__all__ = ["clean", "prune", "prune_caches"]

MONTH = 30 * 86400.0

ANOTHER_VERSIONS = "only another version of pyjl_autoimage can read it"


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
    wanted = wants.wanted_by(store)
    for image in store.all_images():
        name = f"image {image.id}"
        reason = "everything goes" if everything else _reason_to_go(image, newest, store)
        elsewhere = _elsewhere(image, wanted)
        users = store.users(image.id)
        if users:
            use = "1 running process uses it" if len(users) == 1 else f"{len(users)} running processes use it"
            kept.append({"name": name, "reason": use})
        elif reason is None:
            kept.append({"name": name, "reason": "the next start uses it"})
        elif elsewhere and not everything:
            kept.append({"name": name, "reason": f"programs of {elsewhere[0]} start on it"})
        else:
            directory = os.path.join(store.images, image.id)
            size = tree_size(directory) if dry_run else remove_image(store, image.id)
            if size:
                removed.append({"name": name, "bytes": size, "reason": reason})
            else:
                kept.append({"name": name, "reason": "a process has just begun to use it"})
    for image_id in store.unreadable_images():
        lately = not everything and time.time() - _last_use(store, image_id) < MONTH
        size = tree_size(os.path.join(store.images, image_id)) if dry_run else 0
        size = size if dry_run or lately else remove_image(store, image_id)
        if lately or not size:
            kept.append(
                {"name": f"image {image_id}", "reason": f"{ANOTHER_VERSIONS}, and it was used within a month"}
            )
        else:
            removed.append({"name": f"image {image_id}", "bytes": size, "reason": ANOTHER_VERSIONS})
    for layer in store.all_layers():
        name = f"layer {layer.id}"
        reason = "everything goes" if everything else _reason_against_layer(layer, store)
        if reason is None:
            kept.append({"name": name, "reason": f"{layer.program or 'interactive use'} starts with it"})
        else:
            size = tree_size(layer.path) if dry_run else remove_layer(store, layer.id)
            removed.append({"name": name, "bytes": size, "reason": reason})
    if everything:
        builds = False
        for environment_id in store.environment_ids():
            gone = _remove_environment(store, environment_id, dry_run)
            if gone is None:
                kept.append({"name": f"environment {environment_id}", "reason": "a build is running"})
                builds = True
            else:
                removed.append(gone)
        needed = [*([store.builder_project] if builds else []), *([store.uses, store.images] if kept else [])]
        for name in names_in(store.root):
            path = os.path.join(store.root, name)
            if path not in (*needed, store.environments, store.layers, store.booting):
                removed.append(_remove_tree(_WHAT.get(name, name), path, dry_run))
    return removed, kept


_WHAT = {
    "launch": "what start-up remembers",
    "builder": "the Julia project that builds use",
    "uses": "marks of processes",
}


def prune(store: Store, *, keep: int, max_bytes: float, spare: str) -> list[str]:
    """Remove images until few enough are left, those first whose Julia is not here, then those of the longest disuse.

    Layers count and go likewise, those first of which their program has a newer one.

    Args:
        store: where.
        keep: images that one environment may have built, of each kind of CPU and flags; those that programs of other
            environments start on go for room alone, and last.
        max_bytes: bytes that all images and layers may have together.
        spare: id of the image that has just been published. It stays, and so does every image in use.

    Returns:
        What was removed, by name.
    """
    remove_debris(store)
    sweep(store)
    images = sorted(store.all_images(), key=lambda image: (_has_its_project(image), last_use(store, image)))
    layers = sorted(store.all_layers(), key=lambda layer: (_has_its_project(layer), layer.built_at))
    sizes = {image.id: tree_size(os.path.dirname(image.path)) for image in images}
    sizes |= {layer.id: tree_size(layer.path) for layer in layers}
    kinds = Counter(map(_kind, images))
    wanted = wants.wanted_by(store)
    removed = []
    for image in sorted(images, key=lambda image: bool(_elsewhere(image, wanted))):
        unused = not _has_its_project(image) and time.time() - last_use(store, image) > MONTH
        old = (unused or kinds[_kind(image)] > max(1, keep)) and not _elsewhere(image, wanted)
        if image.id == spare or not (old or sum(sizes.values()) > max_bytes):
            continue
        if remove_image(store, image.id):
            removed.append(f"image {image.id}")
        if not os.path.exists(store.facts_of_image(image.id)):  # another build may have been first
            kinds[_kind(image)] -= 1
            del sizes[image.id]
    for image_id in store.unreadable_images():
        if time.time() - _last_use(store, image_id) > MONTH and remove_image(store, image_id):
            removed.append(f"image {image_id}")
    newest = {(layer.environment, layer.program): layer.id for layer in layers}
    for layer in sorted(layers, key=lambda layer: layer.id in newest.values()):
        orphan = layer.image is not None and not os.path.exists(store.image_library(layer.image))
        unused = not _has_its_program(layer) and time.time() - layer.built_at > MONTH
        if orphan or unused or sum(sizes.values()) > max_bytes:
            remove_layer(store, layer.id)
            removed.append(f"layer {layer.id}")
            del sizes[layer.id]
    return removed


def _elsewhere(image: Image, wanted: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The projects of other environments whose programs start on an image."""
    return sorted(project for one, project in wanted.get(image.id, {}).items() if one != image.environment)


def _kind(image: Image) -> tuple[str, str, str]:
    """What a start chooses among: programs with other flags, and other CPUs, have images of their own."""
    return image.environment, str(sorted(image.flags.items())), image.cpu if image.cpu_target == "native" else ""


def _has_its_project(built: Requirements) -> bool:
    """Whether its Julia and project are here: they may be on another host, or in another container."""
    return os.path.exists(built.executable) and os.path.isdir(built.project)


def _has_its_program(layer: Layer) -> bool:
    return _has_its_project(layer) and (not os.path.isabs(layer.program) or os.path.exists(layer.program))


def last_use(store: Store, image: Image) -> float:
    """When a start last chose an image, or it came here: seconds since the epoch."""
    return max(image.built_at, _last_use(store, image.id))


def _last_use(store: Store, image_id: str) -> float:
    found = [0.0]
    for path in (store.image_library(image_id), os.path.join(store.uses, image_id)):
        try:
            found.append(os.stat(path).st_mtime)
        except OSError:
            pass
    return max(found)


def prune_caches(store: Store) -> None:
    """Remove the precompile caches of builds that none has used for a month. Julia touches those that it uses.

    Nothing else in that depot: images refer to scratch spaces and artifacts by their paths.
    """
    for directory, _, names in os.walk(os.path.join(store.builder_depot, "compiled")):
        for name in names:
            path = os.path.join(directory, name)
            try:
                if os.stat(path).st_mtime < time.time() - MONTH:
                    os.remove(path)
            except OSError:
                pass  # another build has just removed it


def _remove_environment(store: Store, environment_id: str, dry_run: bool) -> dict[str, Any] | None:
    """Remove all that is known of an environment, while no build of it can begin; None if one runs."""
    name, directory = f"environment {environment_id}", store.environment(environment_id)
    path = store.build_lock(environment_id)
    if dry_run:
        return None if is_held(path) else _remove_tree(name, directory, dry_run)
    try:
        with lock(path, 0):
            return _remove_tree(name, directory, dry_run)
    except TimeoutError:
        return None
    except StoreError:  # nobody can build here either
        return _remove_tree(name, directory, dry_run)


def _remove_tree(name: str, directory: str, dry_run: bool) -> dict[str, Any]:
    size = tree_size(directory)
    if not dry_run:
        shutil.rmtree(directory, ignore_errors=True)
        discard(directory)  # what is a file
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
