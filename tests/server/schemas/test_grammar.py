"""`grammar` and `response_format`: which forms are read, and which are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hfstream.errors import ValidationError
from hfstream.server.engine.protocol import Grammar
from hfstream.server.schemas.grammar import MAX_DEPTH, MAX_SIZE, parse_grammar

SCHEMA = {"type": "object", "properties": {"b": {}, "a": {"type": "integer"}}}
FORMS: list[Any] = [
    {"type": "json", "value": SCHEMA},
    {"type": "json", "value": json.dumps(SCHEMA)},
    {"type": "json_object", "value": SCHEMA},
    {"type": "json_schema", "value": {"name": "x", "schema": SCHEMA}},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
]


@pytest.mark.parametrize("value", FORMS)
def test_a_schema(value: Any) -> None:
    grammar = parse_grammar(value)
    assert grammar is not None
    assert grammar.kind == "json_schema"
    assert grammar.source == json.dumps(SCHEMA)  # in the order of its members, which is that of the answer's


def test_other_forms() -> None:
    assert parse_grammar(None) is parse_grammar({"type": "text"}) is None
    assert parse_grammar({"type": "json_object"}) == Grammar("json_schema", '{"type": "object"}')
    assert parse_grammar({"type": "json", "value": True}) == Grammar("json_schema", "{}")
    assert parse_grammar({"type": "regex", "value": "a+"}) == Grammar("regex", "a+")


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


def test_the_largest() -> None:
    assert parse_grammar({"type": "json", "value": nested(MAX_DEPTH)})
    assert parse_grammar({"type": "regex", "value": MAX_SIZE * "a"})
    assert parse_grammar({"type": "json", "value": {"enum": [2**64 - 1, -(2**63), 1.5, True]}})


NO_SCHEMA = "type `json_schema` needs a `json_schema` with a `schema`"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("json", "it must be an object with a `type`"),
        ({}, "unknown type of no name, expected `json`, `json_object`, `json_schema` or `regex`"),
        ({"type": "yaml"}, "unknown type `yaml`, expected `json`, `json_object`, `json_schema` or `regex`"),
        ({"type": "json"}, "type `json` needs a `value`, the schema"),
        ({"type": "json", "value": 5}, "a schema must be an object"),
        ({"type": "json", "value": "{"}, "a schema that is a string must be JSON"),
        ({"type": "json", "value": 10_000 * "["}, "a schema that is a string must be JSON"),
        ({"type": "json", "value": MAX_SIZE * " " + "{}"}, f"it must have at most {MAX_SIZE} characters"),
        ({"type": "json", "value": nested(MAX_DEPTH + 1)}, f"it must have at most {MAX_DEPTH} levels"),
        ({"type": "json", "value": {"enum": ["a" * MAX_SIZE]}}, f"it must have at most {MAX_SIZE} characters"),
        ({"type": "json", "value": {"enum": [0] * MAX_SIZE}}, f"it must have at most {MAX_SIZE} characters"),
        ({"type": "json", "value": {"const": 2**64}}, "it must have numbers of at most 64 bits"),
        ({"type": "json", "value": {"enum": [[-(2**63) - 1]]}}, "it must have numbers of at most 64 bits"),
        ({"type": "json", "value": {"maximum": float("inf")}}, "it must have numbers of at most 64 bits"),
        ({"type": "json", "value": '{"const": "\\ud800"}'}, "a schema that is a string must be JSON"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, NO_SCHEMA),
        ({"type": "regex", "value": {}}, "type `regex` needs a `value`, the pattern, which is a string"),
        ({"type": "regex", "value": "a" * (MAX_SIZE + 1)}, f"it must have at most {MAX_SIZE} characters"),
    ],
)  # fmt: skip
def test_refused(value: Any, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_grammar(value)
    assert str(caught.value) == f"Input validation error: `grammar` is not valid: {reason}"
