"""Error messages in the words of serde, the library that reads TGI's request bodies.

Validators raise `serde_error`, `wrong_type` or `duplicate_field`; `describe_first_error` turns what pydantic reports
into the one message that serde would give, with its path, line and column.

Does not depend on HTTP or on any particular body.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pydantic
from pydantic_core import ErrorDetails, PydanticCustomError

from .json_position import find_key_end, find_value, line_and_column

MAX_DESCRIBED = 200
"""Characters of a wrong value that a message repeats."""
_STRUCT_NAMES = {"ContentPart": "Part"}
"""The name that a message gives to an object, where it is not the name of our class. Clients see these names."""


# --- what validators raise -------------------------------------------------------------------------------------------


def serde_error(message: str) -> PydanticCustomError:
    """An error with serde's own message."""
    return PydanticCustomError("serde", "{message}", {"message": message})


def wrong_type(value: object, expected: str) -> PydanticCustomError:
    """The error for a value of another type than the one `expected`."""
    return serde_error(f"invalid type: {_describe(value)}, expected {expected}")


def invalid_value(value: object, expected: str) -> PydanticCustomError:
    """The error for a value of the right type that is out of its range."""
    return serde_error(f"invalid value: {_describe(value)}, expected {expected}")


def duplicate_field(field: str, *keys: str) -> PydanticCustomError:
    """The error of a whole body in which several `keys` give the same field."""
    return PydanticCustomError("duplicate", "duplicate field `{field}`", {"field": field, "keys": keys})


def _describe(value: object) -> str:
    """A JSON value as serde's messages describe it."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{json.dumps(value)}`"
        case int():
            return f"integer `{value}`" if abs(value) < 10**MAX_DESCRIBED else "a very large integer"
        case float():
            return f"floating point `{value!r}`"
        case str():
            text = value if len(value) <= MAX_DESCRIBED else value[:MAX_DESCRIBED] + "..."
            return f"string {json.dumps(text, ensure_ascii=False)}"
        case _:
            return "sequence" if isinstance(value, list) else "map"


# --- from pydantic's report to one message ---------------------------------------------------------------------------


def describe_syntax_error(error: pydantic.ValidationError) -> str | None:
    """serde_json's message if the text is not JSON, else None. pydantic's parser, jiter, copies those messages."""
    first = error.errors(include_url=False, include_input=False)[0]
    return str(first.get("ctx", {}).get("error")) if first["type"] == "json_invalid" else None


def describe_first_error(error: pydantic.ValidationError, text: str) -> str:
    """The message for the first error in the JSON `text`.

    serde stops at the first error; pydantic reports all of them, in the order in which the fields are declared.
    """
    located = (_locate(detail, text) for detail in error.errors(include_url=False))
    position, path, message = min(located, key=lambda entry: entry[0])
    prefix = f"{path}: " if path else ""
    return f"{prefix}{message} at {line_and_column(text, position)}"


def _locate(detail: ErrorDetails, text: str) -> tuple[int, str, str]:
    """Position, path and message of one of pydantic's errors.

    The position is how far serde_json has read when it raises the error: a missing field is noticed at the end of its
    object, an object or array of the wrong type at its start, any other value at its end. One difference is known: of
    a key given twice, which serde refuses, pydantic takes the last one.
    """
    path, value = detail["loc"], detail["input"]
    if detail["type"] == "missing":
        return find_value(text, path[:-1])[1], _dotted(path[:-1]), f"missing field `{path[-1]}`"
    start, end = find_value(text, path)
    if detail["type"] == "duplicate":
        last_key = max(find_key_end(text, start, key) for key in detail.get("ctx", {})["keys"])
        return last_key, _dotted(path), detail["msg"]
    return (start if isinstance(value, dict | list) else end), _dotted(path), _message(detail)


def _message(detail: ErrorDetails) -> str:
    if detail["type"] == "serde":
        return detail["msg"]
    if detail["type"] == "list_type":
        return f"invalid type: {_describe(detail['input'])}, expected a sequence"
    if detail["type"] == "dict_type":
        return f"invalid type: {_describe(detail['input'])}, expected a map"
    class_name = detail.get("ctx", {}).get("class_name")
    return (
        f"invalid type: {_describe(detail['input'])}, expected struct {_STRUCT_NAMES.get(str(class_name), class_name)}"
    )


def _dotted(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
