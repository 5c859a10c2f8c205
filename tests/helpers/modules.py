"""The modules of hfstream as syntax trees: what each one imports, and on which line. Imports none of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module_name(path): path for path in sorted((ROOT / "hfstream").rglob("*.py"))}


class Import(NamedTuple):
    """One imported name. `name` is the module it comes from; of ours, the innermost: ``from .core import sse``."""

    module: str
    line: int
    name: str
    type_checking: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.name}"


def within(module: str, *packages: str) -> bool:
    """Whether `module` is one of `packages`, or inside one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@cache
def parse(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """The module after ``from``, without leading dots."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def _imports(module: str) -> Iterator[Import]:
    type_checking = {
        id(inner)
        for node in ast.walk(parse(module))
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            inner = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else base for name in inner]
        else:
            continue
        yield from (Import(module, node.lineno, name, id(node) in type_checking) for name in names)


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    """All imports of `module`, those inside functions included."""
    return tuple(_imports(module))


@cache
def all_imports() -> tuple[Import, ...]:
    return tuple(found for module in MODULES for found in imports_of(module))
