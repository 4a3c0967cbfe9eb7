"""docs/architecture.md lists the modules in an order; a module imports only from those listed above it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyjl_autoimage

from pages import DOCS

PACKAGE = Path(pyjl_autoimage.__file__).parent
PAGE = DOCS / "architecture.md"


def stated() -> tuple[list[str], set[tuple[str, str]]]:
    """The modules in the page's order, and the imports that it admits against it."""
    layers, upward = PAGE.read_text(encoding="utf-8").split("## The layers")[1].split("## Imports that point upward")
    order = re.findall(r"^\| `([\w/]+\.py)` \|", layers, re.M)
    admitted = re.findall(r"^\| `([\w/]+\.py)` \| `([\w/]+\.py)` \|", upward.split("\n## ")[0], re.M)
    return order, set(admitted)


def modules() -> list[str]:
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imports(module: str) -> Iterator[str]:
    """The modules of this package that a module imports, at whatever depth, but for type checkers alone."""
    todo: list[ast.AST] = [ast.parse((PACKAGE / module).read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (found(alias.name.split(".")[1:], "") for alias in node.names if ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and (node.level or ours(node.module or "")):
            base = module.split("/")[: -node.level] if node.level else []
            names = (node.module or "").split(".") if node.module else []
            for alias in node.names:
                yield found([*base, *(names if node.level else names[1:])], alias.name)


def ours(name: str) -> bool:
    return name.split(".")[0] == "pyjl_autoimage"


def found(package: list[str], name: str) -> str:
    """The file of ``package``, or of the module ``name`` in it."""
    for parts in ([*package, name], package):
        for path in ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"])):
            if parts != [""] and (PACKAGE / path).is_file():
                return path
    raise AssertionError(f"no module {package} {name}")


def test_the_page_lists_every_module_once():
    order, _ = stated()
    assert sorted(order) == modules(), f"{PAGE} and src/pyjl_autoimage differ"


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_from_those_listed_above_it(module):
    order, admitted = stated()
    above = order[: order.index(module)]
    wrong = {name for name in imports(module) if name != module and name not in above}
    assert wrong == {to for source, to in admitted if source == module}


def test_only_the_modules_for_people_import_rich():
    page = PAGE.read_text(encoding="utf-8")
    people = set(re.findall(r"^\| `([\w/]+\.py)` \|", page.split("### people")[1].split("\n## ")[0], re.M))
    users = {
        module
        for module in modules()
        for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rich"
    }
    assert users and users <= people


def test_imports_are_found_wherever_they_stand():
    """That the reader of imports reads: some that are known to stand within functions, and at the top."""
    assert "startup/decide.py" in set(imports("startup/start.py"))
    assert {"build/begin.py", "errors.py"} <= set(imports("people/cli.py"))
    assert "hook/__init__.py" in set(imports("hook/handover/sitecustomize.py"))
    assert "__init__.py" in set(imports("people/demos/tables.py"))
