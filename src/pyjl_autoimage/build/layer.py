"""A layer: a small Julia environment of ours, stacked on the user's project, precompiled for one program.

It holds the program's own Julia code as packages, and a package that carries its recorded statements. Julia
keeps their native code in package images, that of other packages' methods included, so a layer does in seconds
much of what an image does in minutes. It lies where it was precompiled (caches hold absolute paths) and counts
from the moment when its ``layer.json`` is there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.call import JULIA_SOURCES, julia_string
from ..errors import BuildError
from ..julia.items import report_at
from ..julia.manifest import Manifest
from ..profile.profile import Code
from ..startup.code import module_uuid
from ..store.built import Layer
from .made import Made, made_in

__all__ = ["Parts", "Report", "read_report", "roots_of", "statements_of", "write_code_package", "write_packages"]


@dataclass(frozen=True)
class Parts:
    """What goes into a layer."""

    package: str
    """Name of the package with the statements."""
    roots: Mapping[str, str]
    """name -> uuid of the packages that the statements are about."""
    statements: Sequence[str]
    code: Mapping[str, Code]
    image: str | None = None
    """Id of the image that it is for."""

    def uuid(self, name: str) -> str:
        """Of one of its packages. On an image it is another one: the image may hold an older version of the code."""
        return module_uuid(f"{name} {self.image}" if self.image else name)

    @property
    def contents(self) -> str:
        """A digest that is the same for the same parts."""
        lines = [*sorted(self.statements), *sorted(self.roots.values())]
        for name, code in sorted(self.code.items()):
            lines += [name, code.path, code.text or "", code.syntax, *sorted(code.deps.values())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def write_packages(directory: str, parts: Parts) -> None:
    """Write project, manifest and packages of a layer.

    Raises:
        OSError: they cannot be written.
    """
    import tomlkit

    deps = {name: parts.uuid(name) for name in (parts.package, *parts.code)}
    entries = {}
    for name, code in parts.code.items():
        place = os.path.join(directory, "packages", name)
        entries[name] = write_code_package(place, name, deps[name], code)
    used = {**parts.roots, **{name: deps[name] for name in parts.code}}
    entries[parts.package] = _write_statements(os.path.join(directory, "packages", parts.package), parts, used)
    with open(os.path.join(directory, "Project.toml"), "w", encoding="utf-8") as file:
        tomlkit.dump({"deps": deps}, file)
    manifest = {"manifest_format": "2.0", "deps": {name: [entry] for name, entry in entries.items()}}
    with open(os.path.join(directory, "Manifest.toml"), "w", encoding="utf-8") as file:
        tomlkit.dump(manifest, file)


def write_code_package(directory: str, name: str, uuid: str, code: Code) -> dict[str, Any]:
    """Write a program's own code as a package; its entry for a manifest.

    The package includes the user's file where it lies, so that errors point there. A text is kept beside it
    and evaluated under the name of the file that it came from.
    """
    body = [f"using {package}" for package in code.using]
    files = {}
    if code.text is None:
        body.append(f"include({julia_string(code.path)})")
    else:
        files["text.jl"] = code.text
        text = 'joinpath(@__DIR__, "text.jl")'
        body += [
            f"include_dependency({text})",
            f"Base.include_string(@__MODULE__, read({text}, String), {julia_string(code.path)})",
        ]
    files[f"{name}.jl"] = "\n".join([f"module {name}", *body, "end", ""])
    # A package is parsed at the version that the manifest says (`explicit_manifest_entry_load_spec`, base/loading.jl
    # of Julia 1.14), and Pkg writes there what the project says.
    syntax = {"syntax": {"julia_version": code.syntax}} if code.syntax else {}
    return {**_write_package(directory, name, uuid, code.deps, files, syntax), **syntax}


def _write_statements(directory: str, parts: Parts, used: Mapping[str, str]) -> dict[str, Any]:
    files = {
        "statements.jl": "".join(f"{statement}\n" for statement in parts.statements),
        "code.jl": "",  # written when it is known what can be loaded: what the statements are about, and mean
        f"{parts.package}.jl": "\n".join(
            [
                f"module {parts.package}",
                'include("code.jl")',
                'include("bake.jl")',
                "Bake.unspecialize_callers()",
                "const COMPILED = ccall(:jl_generating_output, Cint, ()) == 0 ? 0 :",
                '    count(eachline(joinpath(@__DIR__, "statements.jl"))) do line',
                "        Bake.compile(Bake.named(line, OWN))",
                "    end",
                "end",
                "",
            ]
        ),
    }
    # What it is compatible with says at which version of Julia's syntax it is parsed, too: always the oldest.
    compat = {"compat": {"julia": "1.10"}}
    entry = _write_package(directory, parts.package, parts.uuid(parts.package), used, files, compat)
    for name in ("bake.jl", "callers.jl", "items.jl"):
        shutil.copyfile(os.path.join(JULIA_SOURCES, name), os.path.join(directory, "src", name))
    return entry


def _write_package(
    directory: str,
    name: str,
    uuid: str,
    deps: Mapping[str, str],
    files: Mapping[str, str],
    more: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    import tomlkit

    os.makedirs(os.path.join(directory, "src"))
    facts = {"name": name, "uuid": uuid, "version": "1.0.0"}
    with open(os.path.join(directory, "Project.toml"), "w", encoding="utf-8") as file:
        tomlkit.dump({**facts, "deps": dict(deps), **more}, file)
    for file_name, text in files.items():
        with open(os.path.join(directory, "src", file_name), "w", encoding="utf-8", newline="") as file:
            file.write(text)
    return {"uuid": facts["uuid"], "version": "1.0.0", "path": directory, "deps": dict(deps)}


def statements_of(layer: Layer) -> frozenset[str]:
    """The statements that a layer was given, those that it cannot hold included."""
    path = os.path.join(layer.path, "packages", layer.package, "src", "statements.jl")
    try:
        with open(path, encoding="utf-8") as file:
            return frozenset(file.read().splitlines())
    except OSError:
        return frozenset()


def roots_of(manifest: Manifest, uuids: Iterable[str]) -> dict[str, str]:
    """name -> uuid of the packages among these that no other of them brings along."""
    wanted = [uuid for uuid in uuids if uuid in manifest.packages]
    brought = {other for uuid in wanted for other in manifest.closure([uuid]) if other != uuid}
    return {manifest.packages[uuid].name: uuid for uuid in wanted if uuid not in brought}


@dataclass(frozen=True)
class Report:
    """What the Julia that precompiled a layer said of it."""

    statements: int
    files: Mapping[str, tuple[str, ...]]
    """module -> the files that it consists of."""
    not_for_images: Mapping[str, str]
    """module -> why it must not be part of an image."""
    failed: Mapping[str, str]
    """module -> why it could not be precompiled."""
    without: Mapping[str, str]
    """package -> why the layer is not about it."""
    caches: tuple[str, ...]
    """The precompile caches that the layer consists of, and those that it stands on."""
    made: tuple[Made, ...]
    """What its packages, and those that it stands on, are made of."""


def read_report(path: str) -> Report:
    """Read it.

    Raises:
        BuildError: it is incomplete: the statements could not be compiled.
    """
    items = report_at(path)
    if items is None:
        raise BuildError("the layer could not be precompiled")
    code = {name: of for kind, name, *of in items if kind == "code"}
    return Report(
        statements=next((int(number) for kind, number, *_ in items if kind == "statements"), 0),
        files={name: tuple(files) for name, (_, *files) in code.items()},
        not_for_images={name: against for name, (against, *_) in code.items() if against},
        failed={name: why for kind, name, *of in items if kind == "failed" for why in of},
        without={name: why for kind, name, *of in items if kind == "without" for why in of},
        caches=tuple(path for kind, path, *_ in items if kind == "cache"),
        made=made_in(items),
    )
