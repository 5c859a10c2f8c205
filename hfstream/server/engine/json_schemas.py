"""Where JSON schemas stand within a JSON schema, which members its objects may have, and how the JSON is written.

Does not depend on how schemas are compiled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, TypeAlias, TypeGuard, cast

Schema: TypeAlias = dict[str, Any]

JSON_OPTIONS: dict[str, Any] = {
    "whitespace_flexible": False,  # a model could go on with spaces and line feeds for ever
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,  # what is not known is an error
    "coerce_one_of": False,
}
"""How JSON is written: on one line, as Python's `json.dumps` does, and as models have read most of it."""

KNOWN_FORMATS = (
    "date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri",
)  # fmt: skip
"""Values of `format` that llguidance makes a string fit."""

_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "additionalItems", "not", "contains", "propertyNames")
_OPEN = ("patternProperties", "minProperties", "additionalProperties", "unevaluatedProperties")
"""Keywords with which an object may need members that its `properties` do not name."""
_NEUTRAL_VALUES: dict[str, Any] = {
    "uniqueItems": False, "dependentRequired": {}, "dependentSchemas": {}, "dependencies": {},
}  # fmt: skip
_EXCLUSIVE_BOUNDS = (
    ("exclusiveMinimum", "minimum", ("maximum", "exclusiveMaximum"), 1),
    ("exclusiveMaximum", "maximum", ("minimum", "exclusiveMinimum"), -1),
)
"""A bound, its inclusive form, the bounds on the other side, and the direction to them."""
_OTHERS = ("anyOf", "oneOf", "$ref")
_MEMBERS = ("properties", "required", *_OPEN)


def children(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The schemas directly within `schema`, each with its path from there as a JSON pointer."""
    for keyword in _MAPS:
        if isinstance(parts := schema.get(keyword), dict):
            for name, part in cast("Schema", parts).items():
                if isinstance(part, dict):
                    escaped = name.replace("~", "~0").replace("/", "~1")
                    yield f"/{keyword}/{escaped}", cast("Schema", part)
    for keyword in _LISTS:
        if isinstance(parts := schema.get(keyword), list):
            for index, part in enumerate(cast("list[Any]", parts)):
                if isinstance(part, dict):
                    yield f"/{keyword}/{index}", cast("Schema", part)
    for keyword in _SINGLE:
        if isinstance(part := schema.get(keyword), dict):
            yield f"/{keyword}", cast("Schema", part)


def prepare(root: Schema) -> None:
    """Changes a schema so that it is compiled as it is meant here."""
    drop_unknown_formats(root)
    drop_neutral_keywords(root)
    step_off_exclusive_bounds(root)
    close_objects(root)


def close_objects(root: Schema) -> None:
    """Forbid members that are not among an object's `properties`, where a schema says nothing about them.

    They are valid, but no use to who has written the schema, and a small model goes on with them for ever. TGI does not
    generate them either. If an object has to fit several schemas at once, all are left alone: what one of them does not
    name, another one may.
    """
    schemas = _all_in(root)
    if any(map(_combines, schemas)):
        return
    for schema in schemas:
        names, required = schema.get("properties"), schema.get("required", [])
        if not isinstance(names, dict) or not isinstance(required, list) or _has(schema, _OPEN):
            continue
        if all(name in names for name in cast("list[Any]", required)):
            schema["additionalProperties"] = False


def drop_unknown_formats(root: Schema) -> None:
    """Take away each `format` that is not known: by JSON Schema a format need not be checked, and anybody may name one.

    pydantic's are among them, such as "path" and "binary".
    """
    for schema in _all_in(root):
        if schema.get("format") not in KNOWN_FORMATS:
            schema.pop("format", None)


def drop_neutral_keywords(root: Schema) -> None:
    """Take away keywords that would be refused, where they say no more than if they were not there."""
    for schema in _all_in(root):
        for keyword, value in _NEUTRAL_VALUES.items():
            if keyword in schema and schema[keyword] == value:
                del schema[keyword]


def step_off_exclusive_bounds(root: Schema) -> None:
    """Make exclusive bounds inclusive ones a little further in, where llguidance would take them for inclusive ones.

    It does so with a whole number whose other bound is less than one away, as in `0 < x <= 0.5`. The step is about a
    millionth of the range, which nothing that is generated will miss.
    """
    for schema in _all_in(root):
        for exclusive, inclusive, others, direction in _EXCLUSIVE_BOUNDS:
            bound, given = schema.get(exclusive), schema.get(inclusive, 0)
            if not (_is_moderate(bound) and _is_moderate(given)) or bound % 1:
                continue
            ranges = [direction * (schema[other] - bound) for other in others if _is_moderate(schema.get(other))]
            if ranges and 0 < min(ranges) < 1:
                step = Decimal(10) ** (math.floor(math.log10(min(ranges))) - 6)
                stepped = float(Decimal(bound) + direction * max(step, Decimal(math.ulp(bound))))
                del schema[exclusive]
                schema[inclusive] = direction * max(direction * stepped, direction * schema.get(inclusive, stepped))


def _all_in(root: Schema) -> list[Schema]:
    """The schema and all those within it."""
    schemas = [root]
    for schema in schemas:  # which grows meanwhile
        schemas += [part for _, part in children(schema)]
    return schemas


def _is_moderate(value: Any) -> TypeGuard[float]:
    """Whether it is a number that a float has exactly, so that bounds can be compared."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53


def _combines(schema: Schema) -> bool:
    return "allOf" in schema or (_has(schema, _OTHERS) and _has(schema, _MEMBERS))


def _has(schema: Schema, keywords: Iterable[str]) -> bool:
    return any(keyword in schema for keyword in keywords)
