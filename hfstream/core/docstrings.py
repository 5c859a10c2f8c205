"""Reads the docstring of a tool: what it does, and what its parameters mean.

Google's style: a section ``Args:``, or of a class ``Attributes:``, with one entry for each parameter. Does not
depend on schemas.
"""

from __future__ import annotations

import re

__all__ = ["split_docstring"]

_SECTION = re.compile(r"(?:Args|Arguments|Attributes|Parameters):\s*")
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)")
"""``city: its name`` or ``city (str): its name``."""


def split_docstring(doc: str) -> tuple[str, dict[str, str]]:
    """The text of a docstring without its section ``Args:``, and the description of each parameter in that section.

    `doc` has no common indentation, as `inspect.getdoc` returns it.
    """
    text: list[str] = []
    section: list[str] = []
    inside = False
    for line in doc.splitlines():
        if line and not line[0].isspace():
            inside = _SECTION.fullmatch(line) is not None
            if inside:
                continue
        (section if inside else text).append(line)
    # An empty line after the section separates it from the next, as the one before it does.
    return re.sub(r"\n{3,}", "\n\n", "\n".join(text)).strip(), _entries(section)


def _entries(section: list[str]) -> dict[str, str]:
    """The entries of a section: a line that is indented further than the first one continues the entry before it."""
    entries: dict[str, list[str]] = {}
    name = None
    indentation = None
    for line in filter(str.strip, section):
        width = len(line) - len(line.lstrip())
        indentation = width if indentation is None else indentation
        entry = _ENTRY.fullmatch(line.strip()) if width <= indentation else None
        if entry is not None:
            name = entry[1]
            entries[name] = [entry[2]]
        elif name is not None:
            entries[name].append(line.strip())
    return {name: " ".join(filter(None, lines)) for name, lines in entries.items()}
