"""A Pkg server on loopback that serves what this machine's depots have installed.

Its protocol is a handful of static paths (Pkg.jl, `docs/src/protocol.md`): ``/registries`` lists registries by
uuid and tree hash, ``/registry/UUID/HASH`` and ``/package/UUID/HASH`` are tarballs, whose tree hashes Pkg checks.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import stat
import tarfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyjl_autoimage.base.reads import load_toml
from pyjl_autoimage.julia.manifest import Package
from pyjl_autoimage.julia.sources import source_directory


def git_tree_hash(path: Path) -> str:
    """The hash that git gives a directory: names, kinds, executable bits and contents."""
    return _tree(path).hex()


def _children(path: Path) -> list[Path]:
    """What was installed, without the bytecode that a Python hosted by Julia has left beside juliacall's source."""
    return [child for child in path.iterdir() if child.name != "__pycache__"]


def _tree(path: Path) -> bytes:
    entries = []
    for child in _children(path):
        status = child.lstat()
        if stat.S_ISLNK(status.st_mode):
            entries.append((child.name.encode(), b"120000", _blob(os.readlink(child).encode())))
        elif stat.S_ISDIR(status.st_mode):
            if any(child.rglob("*")):
                entries.append((child.name.encode() + b"/", b"40000", _tree(child)))
        else:
            mode = b"100755" if status.st_mode & stat.S_IXUSR else b"100644"
            entries.append((child.name.encode(), mode, _blob(child.read_bytes())))
    body = b"".join(mode + b" " + name.rstrip(b"/") + b"\0" + digest for name, mode, digest in sorted(entries))
    return hashlib.sha1(b"tree %d\0" % len(body) + body).digest()


def _blob(content: bytes) -> bytes:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).digest()


def tarball(path: Path) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for child in sorted(child for child in path.rglob("*") if "__pycache__" not in child.parts):
            info = tar.gettarinfo(child, str(child.relative_to(path)))
            info.mode |= stat.S_IWUSR
            if info.isreg():
                with child.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    return gzip.compress(raw.getvalue(), 1)


class PkgServer:
    """What is served, and which paths were asked for."""

    def __init__(self, registry: Path) -> None:
        self.registry = registry
        self.uuid = str(load_toml(str(registry / "Registry.toml"))["uuid"])
        self.resources: dict[str, bytes] = {}
        self.asked: list[str] = []
        digest = git_tree_hash(registry)
        self.resources["/registries"] = self.resources["/registries.eager"] = (
            f"/registry/{self.uuid}/{digest}\n".encode()
        )
        self.resources[f"/registry/{self.uuid}/{digest}"] = tarball(registry)

    def add(self, package: Package, depots: Sequence[str]) -> bool:
        """Serve an installed package; False if what is installed is not the tree that its hash names."""
        source = source_directory(package, depots)
        if source is None or package.tree_sha1 is None or git_tree_hash(Path(source)) != package.tree_sha1:
            return False
        self.resources[f"/package/{package.uuid}/{package.tree_sha1}"] = tarball(Path(source))
        return True

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serve on loopback; the address."""
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                content = server.resources.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
            threading.Thread(target=http_server.serve_forever, daemon=True).start()
            try:
                yield f"http://127.0.0.1:{http_server.server_address[1]}"
            finally:
                http_server.shutdown()
