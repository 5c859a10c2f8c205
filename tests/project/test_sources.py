"""Modules are short and say what they do; their words are the field's."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.modules import MODULES, ROOT, parse

# --- Length and docstrings -------------------------------------------------------------------------------------------

MAX_LINES = 250


def lines_of_code(text: str) -> int:
    """Lines that have code on them: no blank ones, no comments, no docstrings."""
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose.update(range(node.lineno, (node.end_lineno or 0) + 1))
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - prose)


SAMPLE = '''"""Doc."""

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


def test_only_lines_with_code_are_counted() -> None:
    assert lines_of_code(SAMPLE) == 5


def test_no_module_is_longer_than_a_few_screens() -> None:
    lengths = {module: lines_of_code(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}
    assert {module: length for module, length in lengths.items() if length > MAX_LINES} == {}


def test_every_module_begins_with_what_it_does() -> None:
    assert [module for module in MODULES if len(ast.get_docstring(parse(module)) or "") <= 20] == []


# --- Vocabulary ------------------------------------------------------------------------------------------------------

PRIVATE_WORDS = {
    r"annex(es)?": "server package",
    r"errands?": "probe, request",
    r"farewells?": "cancel",
    r"hopeless": "cannot be resumed",
    r"hungry": "needs data",
    r"imprints?": "metadata",
    r"impostors?": "unexpected body",
    r"nobody": "no client, no user, none",
    r"nouns?": "model type",
    r"patience|patiently": "retry policy, retries",
    r"porch(es)?": "prefill slot",
    r"refuses? to know": "does not depend on",
    r"seat(s|ed)?": "decoding slot, row",
    r"shrugs?": "client disconnected",
    r"the house": "the project",
    r"twins?": "sync/async variant",
    r"voices?": "response formatter",
    r"who asks": "a client that asks",
    r"whoever": "a client that, the caller",
    r"(is|are|was|were) to be": "must be, will be, should be",
}
"""Expressions of earlier versions that readers had to learn, and what to write instead. Only those with no other use
here: ordinary words such as *answer* or *wire* need a reader's judgement."""

# Not \b: an underscore joins words in a name, and `_farewell` and `FAREWELL_SECONDS` are found too.
PRIVATE_WORD = re.compile(rf"(?<![a-z])({'|'.join(PRIVATE_WORDS)})(?![a-z])", re.IGNORECASE)

SEARCHED = ("hfstream", "tests", "docs", "examples", "scripts", "README.md")
SUFFIXES = {".py", ".md", ".html", ".ipynb", ".js", ".mjs", ".css", ".svg"}


def searched_files() -> Iterator[Path]:
    for start in SEARCHED:
        path = ROOT / start
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (each for each in found if each.suffix in SUFFIXES and each != Path(__file__))


def private_words(text: str) -> Iterator[tuple[int, str]]:
    """Line number and expression; one that a line break divides counts as well, and belongs to its first line."""
    joined = re.sub(r"[ \t]*\n[ \t]*(#:? ?|> ?|\* )?", lambda gap: " " * len(gap[0]), text)
    spaced = PRIVATE_WORD.pattern.replace(" ", r"\s+")
    for found in re.finditer(spaced, joined, re.IGNORECASE):
        yield text.count("\n", 0, found.start()) + 1, " ".join(found[0].split())


def test_private_words_are_found_where_they_are() -> None:
    text = "# text\nself._farewell = FAREWELLS\n    # seated, by nobody\ninvoices of unseated twinsets"
    assert list(private_words(text)) == [(2, "farewell"), (2, "FAREWELLS"), (3, "seated"), (3, "nobody")]
    assert list(private_words("# what is\n    # to be sent")) == [(1, "is to be")]


def test_no_private_word_is_left() -> None:
    found = [
        f"{path.relative_to(ROOT).as_posix()}:{line}: {word}"
        for path in searched_files()
        for line, word in private_words(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)
