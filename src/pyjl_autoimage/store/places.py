"""The directory of images, recordings and builds: with `pyjl_autoimage.base.layout` all that knows what lies where.

Files appear by rename within one directory, so a reader sees a whole file or none. A JSON file with an
unknown schema, or none at all, is treated as absent.
"""

from __future__ import annotations

import os
import stat

from ..base.files import (
    file_sha256,
    make_private,
    read_json,
    remove_tree,
    tree_size,
    write_json,
)
from ..base.layout import Layout, depot_of
from ..base.liveness import DAY, hold, is_dead, mark_name, remove
from ..base.unchanged import identity
from ..errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Store", "default_home", "depot_of", "library_name"]

_BUILDER = ".builder"  # in a layer: the mark of the process that builds it


def default_home() -> str:
    """The user's cache directory for this package (platformdirs)."""
    from platformdirs import user_cache_dir

    return user_cache_dir("pyjl_autoimage", appauthor=False)


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

    def advice(self, environment_id: str) -> str:
        """File that says on what the last advice was given."""
        return os.path.join(self.environment(environment_id), "advice")

    def build_lock(self, environment_id: str) -> str:
        """The lock that a build holds."""
        return os.path.join(self.environment(environment_id), "build.lock")

    def build_state(self, environment_id: str) -> str:
        """File that says how the current or last build stands."""
        return os.path.join(self.environment(environment_id), "build.json")

    def build_mark(self, environment_id: str, process: str) -> str:
        """The mark of a process that builds."""
        return os.path.join(self.environment(environment_id), f"{process}.build")

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
        return sorted(_entries(os.path.join(self.root, "environments")))

    # -- images ----------------------------------------------------------------------------------------

    def image_library(self, image_id: str) -> str:
        """The file that Julia loads."""
        return os.path.join(self.images, image_id, library_name())

    def all_images(self) -> Iterator[Any]:
        """Every readable image, newest first. What cannot be read is passed over."""
        from .built import Image

        found = []
        for name in _entries(self.images):
            try:
                with open(os.path.join(self.images, name, "image.json"), encoding="utf-8") as file:
                    image = Image.from_json(file.read(), self.image_library(name))
            except (OSError, ValueError, RecursionError):
                continue
            if image.id == name:
                found.append(image)
        found.sort(key=lambda image: image.built_at, reverse=True)
        return iter(found)

    # -- layers ----------------------------------------------------------------------------------------

    def layer(self, layer_id: str) -> str:
        """The directory of one layer."""
        return os.path.join(self.layers, layer_id)

    def new_layer(self, layer_id: str) -> str:
        """Make the directory of a layer that this process is about to build. It counts when it is published.

        Raises:
            OSError: it cannot be made.
            StoreError: the store cannot be written.
        """
        self.ensure(self.layers)
        os.mkdir(self.layer(layer_id), 0o700)
        hold(os.path.join(self.layer(layer_id), f"{mark_name()}{_BUILDER}"))
        return self.layer(layer_id)

    def publish_layer(self, layer: Any) -> None:
        """Make a layer selectable.

        Raises:
            OSError: it cannot be written; then it was not published.
        """
        write_json(os.path.join(layer.path, "layer.json"), layer.to_json(), durable=True)
        remove(os.path.join(layer.path, f"{mark_name()}{_BUILDER}"))
        os.utime(self.layers)  # who looked while it was being built must look again

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

    def remove_layer(self, layer_id: str) -> int:
        """Remove a layer; the bytes that it held. A process that is about to load from it goes on without."""
        size = tree_size(self.layer(layer_id))
        doomed = f"{self.layer(layer_id)}.{os.urandom(4).hex()}.gone"
        os.rename(self.layer(layer_id), doomed)
        remove_tree(doomed)
        return size

    def damage(self, image: Any, *, thorough: bool = False) -> list[str]:
        """What is wrong with an image's files, as far as their sizes tell, or (`thorough`) their whole content."""
        for path, expected in image.files.items():
            its_file = "its file" if path == image.path else f"its file {os.path.basename(path)}"
            try:
                size = os.stat(path).st_size
            except OSError as error:
                return [f"{its_file} cannot be read: {error.strerror}"]
            if size != expected:
                return [f"{its_file} has {size} bytes, {expected} when it was published"]
        return self._checksum(image) if thorough else []

    def _checksum(self, image: Any) -> list[str]:
        """Whether the content is what was published; read once, as long as no file changes."""
        try:
            now = [list(identity(os.stat(path))) for path in image.files]
            note = os.path.join(self.root, "checked", image.id)
            if (read_json(note) or {}).get("files") == now:
                return []
            if file_sha256(*image.files) != image.sha256:
                return ["its file is damaged (its checksum is not the one it was published with)"]
        except OSError as error:
            return [f"its file cannot be read: {error.strerror}"]
        try:
            write_json(self.ensure(os.path.dirname(note)) and note, {"schema": 1, "files": now})
        except (OSError, StoreError):
            pass  # read again next time
        return []

    # -- who could have written it ---------------------------------------------------------------------

    def distrust_of_itself(self) -> str | None:
        """Why nothing may be read or written in this store; None where nothing is against it."""
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

    def condemn(self, image_id: str, why: str) -> None:
        """Never choose an image again, until it is restored. What cannot be written here is kept `aside`."""
        import time

        for store in (self, self.aside(make=True)):
            try:
                if store is not None:
                    store.ensure(store.condemnations)
                    verdict = {"schema": 1, "why": why, "when": time.time()}
                    return write_json(os.path.join(store.condemnations, image_id), verdict)
            except (OSError, StoreError):
                pass

    def condemned(self, image_id: str) -> str | None:
        """Why an image is condemned; None if it is not."""
        for store in (self, self.aside()):
            path = os.path.join(store.condemnations, image_id) if store is not None else ""
            if os.path.exists(path):
                return str((read_json(path) or {}).get("why", "it was condemned"))
        return None

    def restore(self, image_id: str) -> bool:
        """Take a condemnation back; False if there was none.

        Raises:
            OSError: the store cannot be written.
        """
        found = False
        for store in (self.aside(), self):
            try:
                if store is not None:
                    os.unlink(os.path.join(store.condemnations, image_id))
                    found = True
            except FileNotFoundError:
                pass
        return found

    def publish(self, staging: str, image: Any) -> None:
        """Make a proved image selectable: one rename, after everything is on disk.

        Args:
            staging: directory on the store's file system that holds the image's files; it becomes the image.
            image: its facts.

        Raises:
            OSError: it cannot be written; then nothing was published.
        """
        for path in image.files:
            with open(os.path.join(staging, os.path.basename(path)), "rb") as file:
                os.fsync(file.fileno())
        write_json(os.path.join(staging, "image.json"), image.to_json(), durable=True)
        self.ensure(self.images)
        self.restore(image.id)  # it has just been proved
        target = os.path.join(self.images, image.id)
        try:
            os.rename(staging, target)
        except OSError:
            if not os.path.isfile(os.path.join(target, "image.json")):
                raise
            # The very same image, built before: its facts are renewed.
            os.replace(os.path.join(staging, "image.json"), os.path.join(target, "image.json"))
            remove_tree(staging)

    def remove_image(self, image_id: str) -> int:
        """Remove an image that nobody uses; the bytes that it held, 0 if somebody does.

        It stops being selectable first. Who chose it at that very moment has marked it by then and looks
        once more whether it is there, so one of the two sees the other.
        """
        directory = os.path.join(self.images, image_id)
        if self.users(image_id):
            return 0
        size = tree_size(directory)
        doomed = f"{directory}.{os.urandom(4).hex()}.gone"
        os.rename(directory, doomed)
        if self.users(image_id):
            os.rename(doomed, directory)
            return 0
        remove_tree(doomed)
        remove_tree(os.path.join(self.uses, image_id))
        for path in (self.contents(image_id), os.path.join(self.condemnations, image_id)):
            _unlink(path)
        return size

    def remove_debris(self) -> None:
        """Remove what a killed removal or publication has left."""
        for name in _all_entries(self.images):
            if name.endswith((".tmp", ".gone")):
                remove_tree(os.path.join(self.images, name))
        for name in _all_entries(self.layers):
            if name.endswith(".gone") or self._is_abandoned(name):
                remove_tree(self.layer(name))

    def _is_abandoned(self, layer_id: str) -> bool:
        """Whether a layer was never published, and whoever built it is dead."""
        if os.path.exists(os.path.join(self.layer(layer_id), "layer.json")):
            return False
        marks = [name for name in _all_entries(self.layer(layer_id)) if name.endswith(_BUILDER.lstrip("."))]
        return all(is_dead(os.path.join(self.layer(layer_id), name), DAY) for name in marks)

    # -- who uses an image -----------------------------------------------------------------------------

    def users(self, image_id: str) -> list[str]:
        """The living processes that use an image; marks of the dead are removed."""
        directory = os.path.join(self.uses, image_id)
        living = []
        for name in _entries(directory):
            mark = os.path.join(directory, name)
            if is_dead(mark):
                _unlink(mark)
            else:
                living.append(name)
        return living


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def library_name() -> str:
    """``sys`` with the suffix of a shared library on this system."""
    import sys

    return "sys.dll" if sys.platform == "win32" else "sys.dylib" if sys.platform == "darwin" else "sys.so"


def _entries(directory: str) -> list[str]:
    return [name for name in _all_entries(directory) if not name.endswith((".tmp", ".gone"))]


def _all_entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
