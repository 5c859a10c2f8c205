"""Where a value stands in a valid JSON text, for error messages with line and column.

Does not depend on what the text means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_value_at = json.JSONDecoder().raw_decode
_space = re.compile(r"[ \t\n\r]*")


def _skip(text: str, at: int) -> int:
    """The first place from `at` on that is no white space."""
    found = _space.match(text, at)
    return found.end() if found else at


def find_span(text: str, path: Sequence[str | int]) -> tuple[int, int]:
    """Where in the valid JSON `text` the value at `path` starts and ends."""
    start = _skip(text, 0)
    for step in path:
        start = _member(text, start, step)
    return start, _value_at(text, start)[1]


def _member(text: str, container: int, key: str | int) -> int:
    """Where the value of one key, or one element, of the object or array at `container` starts."""
    at, count = container, 0
    while True:
        at = _skip(text, at + 1)  # behind the bracket, or the comma
        here: str | int = count
        if isinstance(key, str):
            here, at = _value_at(text, at)
            at = _skip(text, _skip(text, at) + 1)  # behind the colon
        if here == key:
            return at
        at = _skip(text, _value_at(text, at)[1])
        count += 1


def find_key_end(text: str, container: int, key: str) -> int:
    """Where one key of the object at `container` ends."""
    return text.rindex('"', 0, _member(text, container, key)) + 1


def line_and_column(text: str, at: int) -> str:
    """As serde_json counts: lines from 1, and the bytes of the line that have been read."""
    before = text[:at]
    return f"line {before.count(chr(10)) + 1} column {len(before.rpartition(chr(10))[2].encode())}"
