"""``pyjl-autoimage doctor``: everything that an image needs, checked, each line with its remedy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from . import builder, choice, settings
from .environment import Environment, JuliaFacts, locate
from .errors import AutoimageError, JuliaNotFoundError
from .image import Situation
from .options import code_flags, user_options
from .recipe import PYTHONCALL_UUID
from .report import bytes_text, stdout_to_stderr
from .store import Store

__all__ = ["Check", "examine"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str
    remedy: str = ""
    """What to do about it; empty where nothing is wrong."""


def examine() -> Iterator[Check]:
    """Check everything, a piece at a time; whole images are read for their checksums.

    An image whose content is not what was published is condemned.

    Raises:
        SettingsError: a setting has an unknown name or a bad value.
    """
    settled = settings.settle()
    store = Store(settled.home)
    yield from _store(store)
    yield _compiler()
    try:
        with stdout_to_stderr():
            environment = locate(user_options(), install=False)
        facts = choice.julia_facts(environment, store, fresh=True)
    except JuliaNotFoundError as error:
        yield Check("Julia", False, str(error), "`import juliacall` once, or set PYTHON_JULIAPKG_EXE")
    else:
        yield Check("Julia", True, f"{facts.version} ({facts.commit[:10]}) {environment.executable}")
        yield from _project(environment, facts, store)
    yield from _images(store)


def _store(store: Store) -> Iterator[Check]:
    remedy = "set PYJL_AUTOIMAGE_HOME to a directory of your own"
    try:
        store.ensure(store.root)
    except AutoimageError as error:
        yield Check("store", False, str(error), remedy)
        return
    distrusted, writable = store.distrust(store.root), os.access(store.root, os.W_OK)
    if distrusted:
        yield Check("store", False, distrusted, f"chmod go-w, or {remedy}")
    elif not writable:
        yield Check("store", False, f"{store.home} is read-only: images are used, nothing is recorded", remedy)
    else:
        yield Check("store", True, store.home)
    free = shutil.disk_usage(store.root).free
    enough = free > 2e9
    yield Check("disk", enough, f"{bytes_text(free)} free", "" if enough else "a build needs 2 GB; try `clean`")


def _compiler() -> Check:
    try:
        builder.check_compiler()
    except AutoimageError as error:
        return Check("C compiler", False, "none", str(error))
    found = os.environ.get("JULIA_CC") or shutil.which("gcc") or shutil.which("clang") or "PackageCompiler's own"
    return Check("C compiler", True, found)


def _project(environment: Environment, facts: JuliaFacts, store: Store) -> Iterator[Check]:
    try:
        situation = choice.situation_of(environment, store, code_flags(user_options()))
    except (AutoimageError, ValueError) as error:
        yield Check("Julia project", False, str(error), "`import juliacall` sets the project up")
        return
    yield Check("Julia project", True, f"{environment.project} ({len(situation.manifest.packages)} packages)")
    yield _pythoncall(situation, facts)


def _pythoncall(situation: Situation, facts: JuliaFacts) -> Check:
    package = situation.manifest.packages.get(PYTHONCALL_UUID)
    if package is None:
        return Check("PythonCall", False, "not in the manifest", "`import juliacall` sets the project up")
    if package.version != situation.juliacall:
        found = f"PythonCall {package.version}, juliacall {situation.juliacall}"
        return Check("PythonCall", False, found, "the two must be of one version: `juliapkg resolve`")
    if not builder.can_host_python(package, facts.depots):
        found = f"{package.version}; this Python has no shared libpython"
        return Check("PythonCall", False, found, "images are built without PythonCall; a Python with one is faster")
    return Check("PythonCall", True, f"{package.version}; Julia can host this Python")


def _images(store: Store) -> Iterator[Check]:
    for image in store.all_images():
        what = f"image {image.id}"
        damage = store.damage(image, thorough=True)
        condemned = store.condemned(image.id)
        if damage:
            store.condemn(image.id, damage[0])
            yield Check(what, False, damage[0], "not used any more; `build` makes a new one")
        elif condemned:
            yield Check(what, False, f"condemned: {condemned}", f"its content is intact: `restore {image.id}`")
        else:
            yield Check(what, True, f"{bytes_text(image.bytes)}, checksum matches")
