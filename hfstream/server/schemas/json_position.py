"""Where a value stands in a JSON text, and how serde_json counts lines and columns.

pydantic reports the path of a wrong value and not its position. So after an error the text is scanned once more, with
the standard library's decoder, which skips whole values. All functions expect valid JSON.

Does not depend on pydantic or HTTP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_decode_at = json.JSONDecoder().raw_decode
_whitespace = re.compile(r"[ \t\n\r]*")


def find_value(text: str, path: Sequence[str | int]) -> tuple[int, int]:
    """The start and the end of the value at `path`, a sequence of keys and indices."""
    start = _skip_whitespace(text, 0)
    for step in path:
        start = _find_member(text, start, step)
    return start, _decode_at(text, start)[1]


def find_key_end(text: str, container: int, key: str) -> int:
    """The end of one key, its closing quote included, of the object that starts at `container`."""
    return text.rindex('"', 0, _find_member(text, container, key)) + 1


def line_and_column(text: str, position: int) -> str:
    """A position as serde_json reports it: lines count from 1, columns are the bytes of the line read so far."""
    before = text[:position]
    line = before.count("\n") + 1
    column = len(before.rpartition("\n")[2].encode())
    return f"line {line} column {column}"


def _find_member(text: str, container: int, step: str | int) -> int:
    """The start of one member (a key's value, or an element) of the object or array that starts at `container`.

    Of a key that is given more than once it is the last one, which is the one that pydantic takes.
    """
    position, index, found = container, 0, None
    while True:
        position = _skip_whitespace(text, position + 1)  # past the opening bracket, or the comma
        if text[position] in "]}":  # of an empty container
            break
        member: str | int = index
        if isinstance(step, str):
            member, position = _decode_at(text, position)
            position = _skip_whitespace(text, _skip_whitespace(text, position) + 1)  # past the colon
        if member == step:
            found = position
        position = _skip_whitespace(text, _decode_at(text, position)[1])
        if text[position] != "," or (member == step and isinstance(step, int)):
            break
        index += 1
    if found is None:
        raise LookupError(f"there is no member {step!r}")
    return found


def _skip_whitespace(text: str, position: int) -> int:
    match = _whitespace.match(text, position)
    return match.end() if match else position
