"""Where JSON schemas stand within a JSON schema, which members its objects may have, and how the JSON is written.

Does not depend on how schemas are compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, cast

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
    close_objects(root)


def close_objects(root: Schema) -> None:
    """Forbid members that are not among an object's `properties`, where a schema says nothing about them.

    They are valid, but no use to who has written the schema, and a small model goes on with them for ever. TGI does not
    generate them either. If an object has to fit several schemas at once, all are left alone: what one of them does not
    name, another one may.
    """
    schemas, waiting = [root], [root]
    while waiting:
        parts = [part for _, part in children(waiting.pop())]
        schemas += parts
        waiting += parts
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
    waiting = [root]
    while waiting:
        schema = waiting.pop()
        if schema.get("format") not in KNOWN_FORMATS:
            schema.pop("format", None)
        waiting += [part for _, part in children(schema)]


def _combines(schema: Schema) -> bool:
    return "allOf" in schema or (_has(schema, _OTHERS) and _has(schema, _MEMBERS))


def _has(schema: Schema, keywords: Iterable[str]) -> bool:
    return any(keyword in schema for keyword in keywords)
