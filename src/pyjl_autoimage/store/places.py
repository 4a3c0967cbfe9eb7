"""The directory of images, recordings and builds: with `pyjl_autoimage.base.layout` all that knows what lies where.

Files appear by rename within one directory, so a reader sees a whole file or none. A JSON file with an
unknown schema, or none at all, is treated as absent.
"""

from __future__ import annotations

import os
import stat

from ..base.files import (
    NO_HOME,
    make_private,
    names_in,
    parsed_json,
    read_json,
    write_json,
)
from ..base.layout import Layout, depot_of
from ..base.liveness import discard, is_dead
from ..errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["Store", "default_home", "depot_of", "library_name"]


def default_home() -> str:
    """The user's cache directory for this package (platformdirs); below ``~`` where nobody knows the user's home."""
    from platformdirs import user_cache_dir

    try:
        return user_cache_dir("pyjl_autoimage", appauthor=False)
    except (OSError, RuntimeError):  # newer ones say so
        return os.path.join("~", "pyjl_autoimage")


class Store(Layout):
    """All of a store at `home`. Creating the object touches nothing on disk."""

    def __init__(self, home: str | None = None) -> None:
        super().__init__(home or default_home())

    # -- places (those that every start needs are the layout's) ----------------------------------------

    @property
    def images(self) -> str:
        """Directory of published images."""
        return os.path.join(self.root, "images")

    @property
    def layers(self) -> str:
        """Directory of layers."""
        return os.path.join(self.root, "layers")

    def contents(self, image_id: str) -> str:
        """File about what an image holds, measured once. Not in the image's directory, which nobody changes."""
        return os.path.join(self.root, "contents", f"{image_id}.json")

    @property
    def condemnations(self) -> str:
        """Directory with a file for each condemned image, that of a read-only store included."""
        return os.path.join(self.root, "condemned")

    @property
    def builder_project(self) -> str:
        """The Julia project that holds PackageCompiler."""
        return os.path.join(self.root, "builder")

    @property
    def builder_depot(self) -> str:
        """A Julia depot with the precompile caches that builds make for themselves, of use to the next build."""
        return os.path.join(self.builder_project, "depot")

    @property
    def hook_log(self) -> str:
        """File with the last error of ours that an ``import juliacall`` or a start of Python was kept from."""
        return os.path.join(self.root, "hook.log")

    @property
    def environments(self) -> str:
        """Directory with a directory for each environment."""
        return os.path.join(self.root, "environments")

    def profile(self, environment_id: str) -> str:
        """File of an environment's profile."""
        return os.path.join(self.environment(environment_id), "profile.json")

    def facts(self, environment_id: str) -> str:
        """File with what the environment's Julia said of itself."""
        return os.path.join(self.environment(environment_id), "julia.json")

    def automatic(self, environment_id: str) -> str:
        """File about automatic builds: why the last decision was what it was. Its time: when to decide again."""
        return os.path.join(self.environment(environment_id), "automatic.json")

    def slow_start(self, environment_id: str) -> str:
        """File about the last start that could not go by a remembered plan."""
        return os.path.join(self.environment(environment_id), "slow.json")

    def wants(self, environment_id: str) -> str:
        """Directory of what says which images the environment's programs start on."""
        return os.path.join(self.environment(environment_id), "wants")

    def advice(self, environment_id: str) -> str:
        """File that says on what the last advice was given."""
        return os.path.join(self.environment(environment_id), "advice")

    def build_lock(self, environment_id: str) -> str:
        """The lock that a build holds."""
        return os.path.join(self.environment(environment_id), "build.lock")

    def build_state(self, environment_id: str) -> str:
        """File that says how the current or last build stands."""
        return os.path.join(self.environment(environment_id), "build.json")

    def cancellation(self, environment_id: str, token: str) -> str:
        """File that asks a build to stop."""
        return os.path.join(self.environment(environment_id), f"{token}.cancel")

    def build_log(self, environment_id: str) -> str:
        """The whole output of the current or last build."""
        return os.path.join(self.environment(environment_id), "build.log")

    def build_history(self, environment_id: str) -> str:
        """File about the latest builds, a line for each."""
        return os.path.join(self.environment(environment_id), "builds.jsonl")

    def explanation(self, environment_id: str) -> str:
        """File with the start-up that was measured last."""
        return os.path.join(self.environment(environment_id), "explanation.json")

    def build_directory(self, environment_id: str) -> str:
        """Everything that a build writes before it publishes."""
        return os.path.join(self.environment(environment_id), "build")

    def ensure(self, directory: str) -> str:
        """Create a directory of the store, and the store itself, readable by its owner alone.

        Raises:
            StoreError: it cannot be created.
        """
        try:
            make_private(directory)
        except (FileExistsError, NotADirectoryError) as error:
            raise StoreError(self.unwritable() or f"{directory} is a file, not a directory") from error
        except OSError as error:
            raise StoreError(f"the store {self.home} cannot be written: {error.strerror}") from error
        return directory

    def unwritable(self) -> str | None:
        """Why nothing can be written here; None if nothing is known against it."""
        if not os.path.isabs(self.home):
            return f"the store {self.home} cannot be made: {NO_HOME}"
        place = self.home
        while not os.path.lexists(place) and os.path.dirname(place) != place:
            place = os.path.dirname(place)
        if not os.path.isdir(place):
            which = "" if place == self.home else f"cannot be made: {place} "
            return f"the store {self.home} {which}is a file, not a directory"
        if not os.access(place, os.W_OK | os.X_OK):
            return f"the store {self.home} is read-only"
        return None

    def environment_ids(self) -> list[str]:
        """Every environment that the store knows."""
        return sorted(_entries(self.environments))

    def last_seen(self, environment_id: str) -> float:
        """When a program of an environment was last recorded, or something built: seconds since the epoch."""
        directory = self.environment(environment_id)
        times = []
        for path in (directory, *(os.path.join(directory, name) for name in names_in(directory))):
            try:
                times.append(os.stat(path).st_mtime)
            except OSError:
                pass
        return max(times, default=0.0)

    # -- images ----------------------------------------------------------------------------------------

    def image_library(self, image_id: str) -> str:
        """The file that Julia loads."""
        return os.path.join(self.images, image_id, library_name())

    def facts_of_image(self, image_id: str) -> str:
        """File that says what an image is; it is there from the moment on in which the image can be selected."""
        return os.path.join(self.images, image_id, "image.json")

    def all_images(self, may_be: Callable[[Any], bool] = lambda data: True) -> Iterator[Any]:
        """Every readable image, newest first. What cannot be read is passed over.

        Args:
            may_be: whether one is wanted, by its facts as they were parsed; it may raise what bad ones make it raise.
        """
        from .built import Image

        found = []
        for name in _entries(self.images):
            try:
                with open(self.facts_of_image(name), encoding="utf-8") as file:
                    data = parsed_json(file.read())
                if not may_be(data):
                    continue
                image = Image.from_data(data, self.image_library(name))
            except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
                continue
            if image.id == name:
                found.append(image)
        found.sort(key=lambda image: image.built_at, reverse=True)
        return iter(found)

    def unreadable_images(self) -> list[str]:
        """The ids of images that another version has built, or whose facts are damaged."""
        known = {image.id for image in self.all_images()}
        return sorted(name for name in _entries(self.images) if name not in known)

    # -- layers ----------------------------------------------------------------------------------------

    def layer(self, layer_id: str) -> str:
        """The directory of one layer."""
        return os.path.join(self.layers, layer_id)

    def all_layers(self) -> Iterator[Any]:
        """Every readable layer, newest first."""
        from .built import Layer

        found = []
        for name in _entries(self.layers):
            try:
                with open(os.path.join(self.layer(name), "layer.json"), encoding="utf-8") as file:
                    layer = Layer.from_json(file.read(), self.layer(name))
            except (OSError, ValueError, RecursionError):
                continue
            if layer.id == name:
                found.append(layer)
        found.sort(key=lambda layer: layer.built_at, reverse=True)
        return iter(found)

    def unreadable_layers(self) -> list[str]:
        """The ids of such layers; those that are being built have no facts yet."""
        known = {layer.id for layer in self.all_layers()}
        names = [name for name in _entries(self.layers) if name not in known]
        return sorted(name for name in names if os.path.exists(os.path.join(self.layer(name), "layer.json")))

    # -- who could have written it ---------------------------------------------------------------------

    def distrust_of_itself(self) -> str | None:
        """Why nothing may be read or written in this store; None where nothing is against it."""
        if not os.path.isabs(self.home):
            return self.unwritable()
        place = self.home
        while not os.path.lexists(place) and os.path.dirname(place) != place:
            place = os.path.dirname(place)
        return self.distrust(place)

    def aside(self, *, make: bool = False) -> Store | None:
        """Where marks and verdicts are kept that cannot be written here: a place of this user's own, for a while.

        Args:
            make: make it where there is none.

        Returns:
            None where there is none, or somebody else could write it.
        """
        import zlib

        user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
        environ = os.environ.get
        for base in filter(None, (environ("XDG_RUNTIME_DIR"), environ("TMPDIR") or environ("TEMP") or "/tmp")):
            place = os.path.join(base, f"pyjl_autoimage-{user}")
            try:
                if make and not os.path.lexists(place):
                    os.mkdir(place, 0o700)
                status = os.lstat(place)
            except OSError:
                continue
            private = not hasattr(os, "getuid") or (status.st_uid == user and not status.st_mode & 0o077)
            if private and stat.S_ISDIR(status.st_mode) and not self.distrust(place):
                return Store(os.path.join(place, f"{zlib.crc32(os.fsencode(self.home)):08x}"))
        return None

    # -- condemned images ------------------------------------------------------------------------------

    def condemn(self, key: str, why: str) -> None:
        """Never choose an image again, until it is restored. What cannot be written here is kept `aside`.

        Args:
            key: its id; for one that another environment built, behind that "-" and the id of the environment that it
                kills programs of.
            why: what happened.
        """
        import time

        for store in (self, self.aside(make=True)):
            try:
                if store is not None:
                    store.ensure(store.condemnations)
                    verdict = {"schema": 1, "why": why, "when": time.time()}
                    return write_json(os.path.join(store.condemnations, key), verdict)
            except (OSError, StoreError):
                pass

    def condemned(self, image_id: str, environment_id: str = "") -> str | None:
        """Why an image is condemned, for all or for one environment; None if it is not."""
        for store in filter(None, (self, self.aside())):
            for key in (image_id, f"{image_id}-{environment_id}"):
                path = os.path.join(store.condemnations, key)
                if os.path.exists(path):
                    return str((read_json(path) or {}).get("why", "it was condemned"))
        return None

    def restore(self, image_id: str) -> bool:
        """Take an image's condemnations back; False if there were none.

        Raises:
            OSError: the store cannot be written.
        """
        found = False
        for store in filter(None, (self.aside(), self)):
            for key in names_in(store.condemnations):
                if key.partition("-")[0] == image_id:
                    try:
                        os.unlink(os.path.join(store.condemnations, key))
                        found = True
                    except FileNotFoundError:
                        pass
        return found

    # -- who uses an image -----------------------------------------------------------------------------

    def users(self, image_id: str) -> list[str]:
        """The living processes that use an image; marks of the dead are removed."""
        directory = os.path.join(self.uses, image_id)
        living = []
        for name in _entries(directory):
            mark = os.path.join(directory, name)
            if is_dead(mark):
                discard(mark)
            else:
                living.append(name)
        return living


def library_name() -> str:
    """``sys`` with the suffix of a shared library on this system."""
    import sys

    return "sys.dll" if sys.platform == "win32" else "sys.dylib" if sys.platform == "darwin" else "sys.so"


def _entries(directory: str) -> list[str]:
    return [name for name in names_in(directory) if not name.endswith((".tmp", ".gone"))]
