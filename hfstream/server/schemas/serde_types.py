"""Field types that accept what serde accepts, and no more: "5" is no integer, 1 is no boolean, true is no number.

pydantic's own types would convert such values, or refuse them in other words. The integer types are Rust's.

Does not depend on HTTP or on any particular body.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, FailFast, PlainValidator, WithJsonSchema

from .serde_errors import invalid_value, serde_error, wrong_type


def _instance(kind: type, expected: str) -> PlainValidator:
    def validate(value: object) -> object:
        if not isinstance(value, kind):
            raise wrong_type(value, expected)
        return value

    return PlainValidator(validate)


def _integer(name: str, lowest: int, highest: int) -> PlainValidator:
    def validate(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(value, name)
        if not lowest <= value <= highest:
            raise invalid_value(value, name)
        return value

    return PlainValidator(validate)


def _float32(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong_type(value, "f32")
    try:
        number = float(value)
    except OverflowError:
        raise serde_error("number out of range") from None
    # Rounded to 32 bits, as TGI reads it: a number that becomes 0 is then not "strictly positive".
    rounded = ctypes.c_float(number).value
    if rounded - rounded != 0:
        # TGI accepts infinity here. JSON's extension NaN never reaches it. Neither gives a distribution.
        raise invalid_value(value, "f32")
    return rounded


def _map_of_numbers(value: object) -> dict[str, float]:
    if value == []:  # huggingface_hub declares `logit_bias` as a list
        return {}
    if not isinstance(value, dict):
        raise wrong_type(value, "a map")
    return {key: _float32(number) for key, number in cast("dict[str, object]", value).items()}


def _integer_schema(lowest: int, highest: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": lowest, "maximum": highest})


Str = Annotated[str, _instance(str, "a string"), WithJsonSchema({"type": "string"})]
Bool = Annotated[bool, _instance(bool, "a boolean"), WithJsonSchema({"type": "boolean"})]
I32 = Annotated[int, _integer("i32", -(2**31), 2**31 - 1), _integer_schema(-(2**31), 2**31 - 1)]
U32 = Annotated[int, _integer("u32", 0, 2**32 - 1), _integer_schema(0, 2**32 - 1)]
U64 = Annotated[int, _integer("u64", 0, 2**64 - 1), _integer_schema(0, 2**64 - 1)]
Usize = Annotated[int, _integer("usize", 0, 2**64 - 1), _integer_schema(0, 2**64 - 1)]
F32 = Annotated[float, PlainValidator(_float32), WithJsonSchema({"type": "number"})]
FloatMap = Annotated[
    dict[str, float],
    PlainValidator(_map_of_numbers),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "number"}}),
]
StrList = Annotated[list[Str], FailFast()]
"""Stops at the first error, as serde does. One error is reported anyway, and locating a million is wasteful."""


def string_or_list(expected: str, make_item: Callable[[str], object] = str, *, null: bool = True) -> BeforeValidator:
    """For a field that is a list: accepts a string as a list of one item, and with `null` a null as an empty list."""

    def validate(value: object) -> object:
        match value:
            case str():
                return [make_item(value)]
            case list():
                return cast("object", value)
            case None if null:
                return []
            case _:
                raise wrong_type(value, expected)

    types: Any = (str | list[Any] | None) if null else (str | list[Any])
    return BeforeValidator(validate, json_schema_input_type=types)
