"""Schemas within schemas, and objects whose members are those that a schema names."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream.server.engine.json_schemas import (
    children,
    close_objects,
    drop_neutral_keywords,
    drop_unknown_formats,
    step_off_exclusive_bounds,
)

A, B = {"type": "string"}, {"type": "integer"}


def test_children() -> None:
    schema = {
        "properties": {"a/b": A, "c~": True}, "$defs": {"d": B}, "anyOf": [A, False], "items": B,
        "const": {"items": {}},
    }  # fmt: skip
    assert list(children(schema)) == [("/properties/a~1b", A), ("/$defs/d", B), ("/anyOf/0", A), ("/items", B)]


def test_formats_that_are_not_known_need_not_be_checked() -> None:
    schema: dict[str, Any] = {
        "properties": {"a": {"type": "string", "format": "path"}, "format": {"type": "string", "format": "date"}},
        "const": {"format": "path"},
    }
    drop_unknown_formats(schema)
    assert schema == {
        "properties": {"a": {"type": "string"}, "format": {"type": "string", "format": "date"}},
        "const": {"format": "path"},
    }


def test_keywords_that_say_nothing_are_dropped() -> None:
    schema: dict[str, Any] = {"items": {"uniqueItems": False, "dependentRequired": {}}, "uniqueItems": True}
    drop_neutral_keywords(schema)
    assert schema == {"items": {}, "uniqueItems": True}


EXCLUSIVE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"exclusiveMinimum": 0, "maximum": 0.5}, {"minimum": 0.0000001, "maximum": 0.5}),
    ({"exclusiveMaximum": -1, "exclusiveMinimum": -1.5}, {"exclusiveMinimum": -1.5, "maximum": -1.0000001}),
    ({"exclusiveMinimum": 0.0, "minimum": 0.25, "maximum": 0.5}, {"minimum": 0.25, "maximum": 0.5}),
    ({"exclusiveMaximum": 1, "maximum": 0.75, "minimum": 0.5}, {"minimum": 0.5, "maximum": 0.75}),
    ({"exclusiveMinimum": 2**40, "maximum": 2**40 + 0.5}, {"minimum": 2**40 + 2**-12, "maximum": 2**40 + 0.5}),
]
KEPT: list[dict[str, Any]] = [
    {"exclusiveMinimum": 0}, {"exclusiveMinimum": 0, "maximum": 1}, {"exclusiveMinimum": 0.5, "maximum": 0.75},
    {"exclusiveMinimum": 0, "maximum": -0.5}, {"exclusiveMinimum": 2**64, "maximum": 0.5},
    {"exclusiveMinimum": True, "maximum": 0.5}, {"exclusiveMinimum": 0, "minimum": "a", "maximum": 0.5},
    {"exclusiveMinimum": 0, "maximum": float("inf")},
]  # fmt: skip


@pytest.mark.parametrize(("schema", "stepped"), [*EXCLUSIVE, *((each, each) for each in KEPT)])
def test_exclusive_bounds_that_would_be_lost_become_inclusive_ones(
    schema: dict[str, Any], stepped: dict[str, Any]
) -> None:
    outer: dict[str, Any] = {"items": dict(schema)}
    step_off_exclusive_bounds(outer)
    assert outer == {"items": stepped}


CLOSED: list[dict[str, Any]] = [
    {"properties": {"a": A}},
    {"properties": {}},
    {"type": "object", "properties": {"a": A}, "required": ["a"]},
]
LEFT_ALONE: list[dict[str, Any]] = [
    {"type": "object"},
    {"properties": {"a": A}, "additionalProperties": B},
    {"properties": {"a": A}, "patternProperties": {"^x": A}},
    {"properties": {"a": A}, "minProperties": 2},
    {"properties": {"a": A}, "required": ["b"]},
    {"allOf": [{"properties": {"a": A}}, {"properties": {"b": B}, "required": ["b"]}]},
    {"properties": {"a": A}, "anyOf": [{"properties": {"b": B}, "required": ["b"]}, {"properties": {"c": B}}]},
    {"const": {"properties": {"a": 1}}},
    {"properties": {"a": A}, "required": "a"},
]


@pytest.mark.parametrize("schema", CLOSED)
def test_an_object_has_the_members_that_its_schema_names(schema: dict[str, Any]) -> None:
    outer: dict[str, Any] = {"type": "array", "items": {"anyOf": [schema]}}
    close_objects(outer)
    assert outer["items"]["anyOf"][0]["additionalProperties"] is False


@pytest.mark.parametrize("schema", LEFT_ALONE)
def test_objects_that_may_need_others_are_left_alone(schema: dict[str, Any]) -> None:
    before = str(schema)
    close_objects(schema)
    assert str(schema) == before
