"""Field types that accept what serde accepts."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
import pytest
from pydantic import BaseModel

from hfstream.server.schemas.serde_types import F32, I32, U32, U64, Bool, Str, StrList, string_or_list
from hfstream.server.schemas.tgi import GenerateRequest


class Fields(BaseModel):
    text: Str = ""
    flag: Bool = False
    small: I32 = 0
    count: U32 = 0
    seed: U64 = 0
    number: F32 = 0.0
    texts: StrList = []
    one_or_more: Annotated[StrList, string_or_list("a string or a list of strings")] = []
    not_null: Annotated[StrList, string_or_list("a string or a list of strings", null=False)] = []


def read(field: str, value: str) -> Any:
    return getattr(Fields.model_validate_json(f'{{"{field}":{value}}}'), field)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("text", '"a"', "a"),
        ("flag", "true", True),
        ("small", "-2147483648", -(2**31)),
        ("count", "4294967295", 2**32 - 1),
        ("seed", "18446744073709551615", 2**64 - 1),
        ("number", "2", 2.0),
        ("number", "0.1", 0.10000000149011612),
        ("number", "1e-46", 0.0),
        ("one_or_more", '"a"', ["a"]),
        ("one_or_more", '["a","b"]', ["a", "b"]),
        ("one_or_more", "null", []),
    ],
)
def test_accepted_values(field: str, value: str, expected: object) -> None:
    found = read(field, value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text", "5"),
        ("flag", "1"),
        ("flag", '"true"'),
        ("small", "2147483648"),
        ("small", "true"),
        ("count", "-1"),
        ("count", "1.0"),
        ("count", '"1"'),
        ("seed", "18446744073709551616"),
        ("number", '"1"'),
        ("number", "true"),
        ("texts", '"a"'),
        ("one_or_more", "5"),
        ("not_null", "null"),
    ],
)
def test_refused_values(field: str, value: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        read(field, value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e39", "1e999", "1" + 400 * "0"])
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        GenerateRequest.model_validate_json(f'{{"inputs":"x","parameters":{{"temperature":{number}}}}}')
    assert caught.value.errors()[0]["type"] == "serde"


def test_an_integer_is_a_number_and_a_seed_may_have_64_bits() -> None:
    body = '{"inputs":"x","parameters":{"temperature":2,"seed":18446744073709551615}}'
    parameters = GenerateRequest.model_validate_json(body).parameters
    assert (parameters.temperature, parameters.seed) == (2.0, 2**64 - 1)


def test_a_list_is_read_up_to_the_first_error() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        read("texts", "[1,2,3]")
    assert caught.value.error_count() == 1
