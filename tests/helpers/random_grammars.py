"""Random JSON schemas and regular expressions, the same for the same seed, and grammars made to cost much."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

Schema = dict[str, Any]

NAMES = ("name", "age", "city", "tags", "unit", "id", "a/b", "Größe", "x y", "ok")
PATTERNS = ("^[a-z]{2,5}$", "^[A-Z][a-z]+$", "^\\d{3}-\\d{4}$", "^(red|green)$", "[0-9]+", "^a*b?c$", "^\\S{1,8}$")
FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email")


class SchemaMaker:
    """Makes schemas of the kinds that JSON-Schema-Test-Suite has, nested up to a depth."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._definitions: dict[str, Schema] = {}

    def make(self) -> Schema:
        schema = self._schema(3)
        if self._definitions:
            schema["$defs"] = self._definitions
        return schema

    def _schema(self, depth: int) -> Schema:
        kinds: list[Callable[[int], Schema]] = [
            self._string, self._integer, self._number, self._enum, self._const, self._plain,
        ]  # fmt: skip
        if depth:
            kinds += [self._object, self._object, self._array, self._tuple, self._union, self._reference, self._all_of]
        return self._random.choice(kinds)(depth)

    def _plain(self, depth: int) -> Schema:
        types = ["boolean", "null", "integer", "string"]
        if self._random.random() < 0.5:
            return {"type": self._random.choice(types)}
        return {"type": self._random.sample(types, 2)}

    def _string(self, depth: int) -> Schema:
        kind = self._random.randrange(4)
        if kind == 0:
            return {"type": "string", "pattern": self._random.choice(PATTERNS)}
        if kind == 1:
            return {"type": "string", "format": self._random.choice(FORMATS)}
        low = self._random.randrange(4)
        return {"type": "string", "minLength": low, "maxLength": low + self._random.randrange(8)}

    def _integer(self, depth: int) -> Schema:
        low = self._random.randrange(-200, 200)
        schema: Schema = {"type": "integer", "minimum": low, "maximum": low + self._random.randrange(500)}
        if self._random.random() < 0.2:
            return {"type": "integer", "multipleOf": self._random.choice([2, 5, 10]), "minimum": 0, "maximum": 1000}
        return schema

    def _number(self, depth: int) -> Schema:
        low = self._random.randrange(-20, 20)
        bounds = self._random.choice([("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")])
        return {"type": "number", bounds[0]: low, bounds[1]: low + 1 + self._random.randrange(50) / 2}

    def _enum(self, depth: int) -> Schema:
        values = [1, -2.5, None, True, "a", "b c", "ü", [1, 2], {"k": "v"}, ""]
        return {"enum": self._random.sample(values, self._random.randrange(1, 5))}

    def _const(self, depth: int) -> Schema:
        return {"const": self._random.choice(["yes", 7, None, [], {"a": {"b": [None]}}])}

    def _object(self, depth: int) -> Schema:
        names = self._random.sample(NAMES, self._random.randrange(1, 5))
        schema: Schema = {"type": "object", "properties": {name: self._schema(depth - 1) for name in names}}
        schema["required"] = [name for name in names if self._random.random() < 0.6]
        kind = self._random.randrange(6)
        if kind == 0:
            schema["additionalProperties"] = False
        elif kind == 1:
            schema["additionalProperties"] = {"type": "integer"}
        elif kind == 2:
            schema["patternProperties"] = {"^z_": {"type": "boolean"}}
        return schema

    def _array(self, depth: int) -> Schema:
        low = self._random.randrange(3)
        return {
            "type": "array",
            "items": self._schema(depth - 1),
            "minItems": low,
            "maxItems": low + self._random.randrange(3),
        }

    def _tuple(self, depth: int) -> Schema:
        parts = [self._schema(depth - 1) for _ in range(self._random.randrange(1, 4))]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}

    def _union(self, depth: int) -> Schema:
        parts = [self._schema(depth - 1) for _ in range(2)]
        return {self._random.choice(["anyOf", "anyOf", "oneOf"]): parts}

    def _all_of(self, depth: int) -> Schema:
        first, second = self._object(1), self._object(1)
        first.pop("additionalProperties", None)
        second.pop("additionalProperties", None)
        return {"allOf": [first, second]}

    def _reference(self, depth: int) -> Schema:
        name = f"d{len(self._definitions)}"
        self._definitions[name] = {}
        self._definitions[name].update(self._schema(depth - 1))
        return {"$ref": f"#/$defs/{name}"}


def random_schema(seed: int) -> Schema:
    return SchemaMaker(seed).make()


def random_regex(seed: int) -> str:
    """A regular expression that means the same in Python."""
    choice = random.Random(seed)

    def part(depth: int) -> str:
        kind = choice.randrange(8 if depth else 5)
        if kind == 0:
            return choice.choice(["[a-z]", "[A-F0-9]", "[^a-z\\n]", "\\d", "[äöü]"])
        if kind <= 2:
            return choice.choice(["ab", "x", "\\.", "-", " ", "Ü", "9", "\\[", "the "])
        if kind == 3:
            return choice.choice(["[a-c]", "[0-9]", "z"]) + choice.choice(["?", "{2}", "{1,3}", "+", "*"])
        if kind == 4:
            return choice.choice(["yes", "no", "maybe"])
        inner = "".join(part(depth - 1) for _ in range(choice.randrange(1, 4)))
        if kind == 5:
            return f"({inner}|{part(depth - 1)})"
        return f"(?:{inner})" + choice.choice(["", "?", "{2}", "{0,2}"])

    return "".join(part(3) for _ in range(choice.randrange(1, 6)))


def _nested(levels: int) -> Schema:
    schema: Schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def _doubling(levels: int, keyword: str) -> Schema:
    names = [f"d{level}" for level in range(levels)]
    parts: dict[str, Schema] = {
        name: {keyword: [{"$ref": f"#/$defs/{following}"}, {"type": "object", "properties": {name: {"not": {}}}}]}
        for name, following in pairwise(names)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**parts, names[-1]: {"type": "object"}}}


HOSTILE: dict[str, Any] = {
    "a megabyte": {"enum": ["x" * 1_000_000]},
    "a megabyte of names": {"properties": {f"name {number}": {} for number in range(60_000)}},
    "too deep": _nested(100),
    "a loop of references": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    "a reference to itself": {"$ref": "#"},
    "a product of unions": {
        "allOf": [
            {"anyOf": [{"properties": {f"p{i}_{j}": {"type": "string"}}, "required": [f"p{i}_{j}"]} for j in range(4)]}
            for i in range(12)
        ]
    },
    "doubling references": _doubling(40, "allOf"),
    "multiples of a large prime": {"type": "integer", "multipleOf": 1_000_000_007},
    "2,000 optional members": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(2_000)}},
    "a look-ahead over bounded counts": {"type": "string", "pattern": "^(?=.*b)((a{1,1000}){1,1000}){1,1000}$"},
}
"""Schemas that must be refused, soon, and without holding up others."""

COSTLY: dict[str, Any] = {
    "bounded counts of bounded counts": {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"},
    "many ways to match": {"type": "string", "pattern": "(a|aa)*(b|bb)*.*c.{200}"},
    "a state for each subset": {"type": "string", "pattern": ".*[a-m].{20}$"},
    "an endless object": {"type": "object", "properties": {"c": {"$ref": "#"}}, "required": ["c"]},
    "5,000 values": {"enum": [f"value {number}" for number in range(5_000)]},
}
"""Schemas that may be followed, and must not hold up others either."""
