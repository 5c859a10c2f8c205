"""The size of a module, its docstring, and the words of the whole project."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.helpers.modules import MODULES, ROOT, tree_of

MAX_LINES = 250
"""Lines of code in one module."""


def lines_of_code(text: str) -> int:
    """Lines that have code on them: no blank ones, no comments, no docstrings."""
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose.update(range(node.lineno, (node.end_lineno or 0) + 1))
    nothing = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in nothing:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - prose)


COUNTED = '''"""Doc."""

# no
x = 1  # yes
"""about x
long"""

def f():
    """Doc."""
    return (
        1
    )
'''


def test_lines_of_code_leave_out_comments_docstrings_and_blank_lines() -> None:
    assert lines_of_code(COUNTED) == 5


def test_no_module_is_longer_than_the_limit() -> None:
    sizes = {module: lines_of_code(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}
    assert {module: size for module, size in sizes.items() if size > MAX_LINES} == {}


def test_every_module_has_a_docstring() -> None:
    assert [module for module in MODULES if len(ast.get_docstring(tree_of(module)) or "") <= 20] == []


PRIVATE_WORDS = re.compile(
    r"""(?ix) \b( porch | farewells? | twins? | nouns? | hungry | errands? | seats? | heard | speaks? | spoken | spoke
    | whoever | nobody | afresh | anew | hearsay )\b
    | \bis\ to\ be\b | \bwho\ asks\b | \bthe\ house\b"""
)
"""Words that were once names of ours, or have plainer ones. The field's terms are in docs/contributing.md."""


def prose() -> list[Path]:
    folders = ("hfstream", "tests", "examples", "scripts", "docs")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    changes = ROOT / "CHANGELOG.md"  # names what was removed
    return [path for path in [*files, *ROOT.glob("*.md")] if path not in (Path(__file__), changes)]


def test_no_private_words() -> None:
    violations = []
    for path in prose():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if found := PRIVATE_WORDS.search(line):
                violations.append(f"{path.relative_to(ROOT)}:{number} {found.group()!r}: {line.strip()}")
    assert violations == [], "\n".join(violations)


@pytest.mark.parametrize("text", ["the porch", "Nobody asks", "it is to be read", "twins"])
def test_a_private_word_is_found(text: str) -> None:
    assert PRIVATE_WORDS.search(text)
