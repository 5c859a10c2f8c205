"""The package's modules as source code: their syntax trees and imports. Nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name_of(path): path for path in sorted((ROOT / "hfstream").rglob("*.py"))}
"""The path of every module, by its dotted name."""


@cache
def tree_of(module: str) -> ast.Module:
    """The syntax tree of `module`."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def within(module: str, *packages: str) -> bool:
    """Whether `module` is one of `packages`, or in one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def imports_of(module: str, *, for_types: bool = True, in_functions: bool = True) -> Iterator[str]:
    """The modules that `module` imports. ``from .x import name`` is an import of ``x``, or of ``x.name`` if a module.

    Without `for_types` those under ``if TYPE_CHECKING`` are left out, without `in_functions` those within functions.
    """
    for node in _statements(tree_of(module), for_types=for_types, in_functions=in_functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base


def _statements(node: ast.AST, *, for_types: bool, in_functions: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not in_functions and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not for_types and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _statements(child, for_types=for_types, in_functions=in_functions)
