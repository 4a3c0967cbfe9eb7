"""Which image and which layer a start gets: of all that are valid here, whoever built them, what serves it best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..base.files import names_in
from ..julia.environment import Environment
from .built import Image, Layer
from .places import Store
from .validity import Situation, may_hold, objections, stated

__all__ = ["best_first", "best_valid", "layers_of", "suspicious", "valid_image"]


def valid_image(
    environment: Environment, store: Store, program: str, situation: Situation, trusted: Sequence[str] = ()
) -> Image | None:
    """The image that a program starts on now; None if there is none that is valid."""
    images = best_first(environment, store, program, trusted, partial(may_hold, now=situation))
    return best_valid(images, store, situation, trusted)


def best_first(
    environment: Environment,
    store: Store,
    program: str,
    trusted: Sequence[str] = (),
    may_be: Callable[[Any], bool] = lambda facts: True,
) -> list[Image]:
    """The images of the user's store and of trusted ones, those first that would serve a program best.

    Those that know the program rank before others: they hold its own code and what it compiled. Then come this
    environment's own, the newest first, and others', those with the most packages first.

    Args:
        environment: in which the program starts.
        store: the user's.
        program: its name.
        trusted: other stores.
        may_be: as in `pyjl_autoimage.store.places.Store.all_images`.
    """
    stores = [store, *(type(store)(home) for home in trusted)]
    images = {image.id: image for place in reversed(stores) for image in place.all_images(may_be)}

    def rank(image: Image) -> tuple[bool, bool, int, float]:
        own = image.environment == environment.id
        return program in image.programs, own, 0 if own else len(image.packages), image.built_at

    return sorted(images.values(), key=rank, reverse=True)


def best_valid(
    images: Sequence[Image],
    store: Store,
    situation: Situation,
    trusted: Sequence[str] = (),
    look: Callable[[Image], None] = lambda image: None,
) -> Image | None:
    """The first valid image.

    Args:
        images: the best first.
        store: the user's store.
        situation: what they are compared with.
        trusted: stores whose images are not asked who could have written them.
        look: called with each image whose files are looked at; nothing else of an image was asked of the disk.
    """
    thorough = suspicious(images, store)
    for image in images:
        if not any(stated(image, situation)):
            look(image)
            if not any(objections(image, situation, store, trusted=trusted, thorough=thorough)):
                return image
    return None


def suspicious(images: Sequence[Image], store: Store) -> bool:
    """Whether checksums are compared: a disk that has spoiled one of them may have spoiled others."""
    condemned = {key.partition("-")[0] for key in names_in(store.condemnations)}
    return any(image.id in condemned or store.condemned(image.id) for image in images)


def layers_of(store: Store, program: str) -> list[Layer]:
    """The layers of a program, newest first."""
    return [layer for layer in store.all_layers() if layer.program == program]
