"""`grammar` and `response_format`: the forms in which TGI's and OpenAI's clients send them, and what an engine gets.

Whether a grammar can be followed is only known to the engine, which compiles it. Does not depend on HTTP.
"""

from __future__ import annotations

import json
from typing import Any, cast

from pydantic_core import from_json

from hfstream.errors import ValidationError

from ..engine.protocol import Grammar

MAX_SIZE = 100_000
"""Characters of a grammar. The largest schemas in use have some 50,000."""
MAX_DEPTH = 64
"""Levels of a schema, each object and each array being one."""


def parse_grammar(value: object) -> Grammar | None:
    """The grammar that a request's field means; None if it is null, or `{"type": "text"}`.

    TGI's forms are ``{"type": "json", "value": <schema>}``, ``{"type": "regex", "value": <pattern>}`` and
    ``{"type": "json_schema", "value": {"schema": <schema>}}``, OpenAI's ``{"type": "json_object"}`` and
    ``{"type": "json_schema", "json_schema": {"schema": <schema>}}``. A schema may be a JSON text, as in TGI.

    Raises:
        ValidationError: it has another form, or is too large.
    """
    if value is None or isinstance(value, Grammar):  # one that the server has made
        return value
    if value == {"type": "text"}:
        return None
    if not isinstance(value, dict):
        raise invalid_grammar("it must be an object with a `type`")
    return _parse(cast("dict[str, Any]", value))


def _parse(fields: dict[str, Any]) -> Grammar:
    match fields.get("type"):
        case "json" | "json_object" if fields.get("value") is not None:
            return schema_grammar(fields["value"])
        case "json_object":
            return schema_grammar({"type": "object"})
        case "json_schema":
            return schema_grammar(_schema_in(fields))
        case "regex":
            return _regex(fields.get("value"))
        case "json":
            reason = "type `json` needs a `value`, the schema"
        case kind:
            reason = f"unknown type {_shown(kind)}, expected `json`, `json_object`, `json_schema` or `regex`"
    raise invalid_grammar(reason)


def schema_grammar(schema: object) -> Grammar:
    """The grammar of the JSON texts that fit a schema.

    Raises:
        ValidationError: it is no object, or too large.
    """
    if isinstance(schema, str):
        schema = _parse_json(schema)
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise invalid_grammar("a schema must be an object")
    if limit := exceeds(cast("object", schema)):
        raise invalid_grammar(f"it must have {limit}")
    return Grammar("json_schema", json.dumps(schema))


def exceeds(schema: object) -> str | None:
    """Which limit a JSON value exceeds, if it does. Quick for those that do."""
    size, waiting = 0, [(schema, 1)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"at most {MAX_DEPTH} levels"
        match part:
            case dict():
                members = cast("dict[str, Any]", part)
                size += sum(map(len, members))
                waiting += [(each, depth + 1) for each in members.values()]
            case list():
                waiting += [(each, depth + 1) for each in cast("list[Any]", part)]
            case str():
                size += len(part)
            case int() | float() if not -(2**63) <= part < 2**64:  # or it is not finite
                return "numbers of at most 64 bits"
            case _:
                pass
        size += 1
        if size > MAX_SIZE:
            return f"at most {MAX_SIZE} characters"
    return None


def invalid_grammar(reason: str) -> ValidationError:
    """The error for a grammar that cannot be followed."""
    return ValidationError(f"Input validation error: `grammar` is not valid: {reason}")


def _schema_in(fields: dict[str, Any]) -> object:
    config = fields.get("json_schema") or fields.get("value")
    if isinstance(config, str):
        config = _parse_json(config)
    if isinstance(config, dict):
        named = cast("dict[str, Any]", config)
        if named.get("schema") is not None:
            return named["schema"]
    raise invalid_grammar("type `json_schema` needs a `json_schema` with a `schema`")


def _regex(pattern: object) -> Grammar:
    if not isinstance(pattern, str):
        raise invalid_grammar("type `regex` needs a `value`, the pattern, which is a string")
    if len(pattern) > MAX_SIZE:
        raise invalid_grammar(f"it must have at most {MAX_SIZE} characters")
    return Grammar("regex", pattern)


def _parse_json(text: str) -> Any:
    if len(text) > MAX_SIZE:
        raise invalid_grammar(f"it must have at most {MAX_SIZE} characters")
    try:
        return from_json(text, allow_inf_nan=False)  # as a request's body is read
    except ValueError:
        raise invalid_grammar("a schema that is a string must be JSON") from None


def _shown(kind: object) -> str:
    return f"`{kind[:50]}`" if isinstance(kind, str) else "of no name"
