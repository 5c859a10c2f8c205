"""Reading a server's JSON although some of it is not as documented.

What the caller asked for is the text; of everything else a value that cannot be read is left out, and no reason to
fail. Pydantic says which values those are. Does not depend on the fields of a type; rules for single fields are passed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import pydantic
from pydantic import BaseModel
from pydantic_core import ErrorDetails

__all__ = ["FieldRepair", "load_json", "validate_lenient"]

ModelT = TypeVar("ModelT", bound=BaseModel)

logger: logging.Logger = logging.getLogger("hfstream")

FieldRepair = Callable[[Any], dict[str, Any] | None]
"""Takes the value of a field that did not validate; returns the fields to put in its place, or None to leave it."""

_MAX_PASSES = 8
"""Leaving a value out can make the object around it invalid; no type is nested deeper than this."""

_DROPPED = object()
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def load_json(data: bytes | str) -> Any:
    """The JSON value of `data`, with U+FFFD for what is not Unicode: invalid UTF-8, and lone surrogates.

    Servers written in JavaScript send the latter as escapes, which are valid JSON, but no text.

    Raises:
        ValueError: not JSON, or nested too deeply.
    """
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    try:
        payload = json.loads(text.removeprefix("\ufeff"))
        if _LONE_SURROGATE.search(text):
            text = json.dumps(payload, ensure_ascii=False)
            payload = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    return payload


def validate_lenient(model: type[ModelT], payload: Any, repairs: Mapping[str, FieldRepair]) -> ModelT:
    """`payload` as a `model`; values that do not fit are corrected where their meaning is clear, else left out.

    Changes `payload`. `repairs` are the rules for fields of these names, at any depth.

    Raises:
        ValueError: the payload has not even what the model requires.
    """
    for remaining in reversed(range(_MAX_PASSES)):
        try:
            return model.model_validate(payload)
        except pydantic.ValidationError as error:
            problems = error.errors(include_url=False)
            if not remaining or not _repair_all(payload, problems, repairs):
                raise
            logger.debug("%s: not as documented, and so left out or converted: %s", model.__name__, _places(problems))
    raise AssertionError  # pragma: no cover  the loop returns or raises


def _places(problems: Sequence[ErrorDetails]) -> str:
    """The names of the fields only: values may be secret."""
    return ", ".join(".".join(map(str, problem["loc"])) for problem in problems[:5])


def _repair_all(payload: Any, problems: Sequence[ErrorDetails], repairs: Mapping[str, FieldRepair]) -> bool:
    """Corrects `payload` in place; returns whether there was anything that could be corrected."""
    # All are found before one is changed, and entries of lists are marked and removed last: positions stay valid.
    found = [(_locate(payload, problem["loc"]), problem["type"]) for problem in problems]
    changed = False
    lists: list[list[Any]] = []
    for (parent, key), kind in found:
        if isinstance(parent, list):
            entries = cast("list[Any]", parent)
            entries[key] = _DROPPED
            lists.append(entries)
        elif parent is not None and key in parent:
            _repair(parent, key, kind, repairs.get(key))
        else:
            continue
        changed = True
    for entries in lists:
        entries[:] = [entry for entry in entries if entry is not _DROPPED]
    return changed


def _locate(payload: Any, loc: Sequence[int | str]) -> tuple[Any, Any]:
    """The container and the key of the value that a problem is about.

    That is the last step of its path that exists: where a field is missing, the object that lacks it; and for a union
    pydantic appends the name of a member type, which is no place in the payload.
    """
    parent: Any = None
    key: Any = None
    value: Any = payload
    for step in loc:
        fields: Any = value  # pyright would narrow `value` to a container of unknown entries
        if isinstance(value, dict):
            exists = step in fields
        else:
            exists = isinstance(value, list) and isinstance(step, int) and step < len(fields)
        if not exists:
            break
        parent, key, value = fields, step, fields[step]
    return parent, key


def _repair(parent: dict[str, Any], key: str, kind: str, field_repair: FieldRepair | None) -> None:
    value = parent[key]
    if field_repair is not None and (replacement := field_repair(value)) is not None:
        parent.update(replacement)
    elif kind == "string_type" and value and not isinstance(value, bool):
        parent[key] = json.dumps(value, ensure_ascii=False)
    elif kind == "string_type" and value == 0 and not isinstance(value, bool):
        parent[key] = "0"
    elif kind == "int_from_float":
        parent[key] = int(value)
    else:
        del parent[key]
