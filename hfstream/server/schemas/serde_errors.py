"""Why a body does not fit a model, in the words and at the place of TGI's own parser, Rust's serde_json.

TGI's clients show these texts, and some parse them. Does not depend on HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic_core import ErrorDetails, PydanticCustomError

from .json_position import find_key_end, find_span, line_and_column


def _describe(value: object) -> str:
    """A JSON value, as serde's errors call it."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{json.dumps(value)}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value!r}`"
        case str():
            return f"string {json.dumps(value, ensure_ascii=False)}"
        case _:
            return "sequence" if isinstance(value, list) else "map"


def serde_error(message: str) -> PydanticCustomError:
    """What a validator raises: serde's words for what is wrong."""
    return PydanticCustomError("serde", "{words}", {"words": message})


def duplicate(field: str, *keys: str) -> PydanticCustomError:
    """What a validator of a whole body raises: several of its keys give the same field."""
    return PydanticCustomError("duplicate", "duplicate field `{field}`", {"field": field, "keys": keys})


def wrong_type(value: object, expected: str) -> PydanticCustomError:
    """What a validator raises for a value of another type."""
    return serde_error(f"invalid type: {_describe(value)}, expected {expected}")


def _locate(detail: ErrorDetails, text: str) -> tuple[int, str, str]:
    """Place, path and words of one of pydantic's complaints.

    The place is where serde_json has got to when it complains: a missing field is noticed behind the object, a
    container that should be none in front of it, anything else behind the value. (One known difference: of a key given
    twice, which serde refuses and pydantic does not, the first is pointed at.)
    """
    path, value = detail["loc"], detail["input"]
    if detail["type"] == "missing":
        return find_span(text, path[:-1])[1], _dotted(path[:-1]), f"missing field `{path[-1]}`"
    start, end = find_span(text, path)
    if detail["type"] == "duplicate":
        return (
            max(find_key_end(text, start, key) for key in detail.get("ctx", {})["keys"]),
            _dotted(path),
            detail["msg"],
        )
    if detail["type"] == "list_type":
        message = f"invalid type: {_describe(value)}, expected a sequence"
    elif detail["type"] == "serde":
        message = detail["msg"]
    else:
        message = f"invalid type: {_describe(value)}, expected struct {detail.get('ctx', {}).get('class_name')}"
    return (start if isinstance(value, dict | list) else end), _dotted(path), message


def _dotted(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def deserialization_error(details: Sequence[ErrorDetails], text: str) -> str:
    """The first thing that is wrong with the JSON `text`: serde stops there, pydantic lists all, field by field."""
    at, path, reason = min((_locate(detail, text) for detail in details), key=lambda found: found[0])
    where = f"{path}: " if path else ""
    place = line_and_column(text, at)
    return f"Failed to deserialize the JSON body into the target type: {where}{reason} at {place}"
