"""Where a value stands in a JSON text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hfstream.server.schemas.json_position import find_key_end, find_value, line_and_column

VALUE: dict[str, Any] = {"a": [1, {"b": "x,]}"}, []], "ü": {"a": None}, "last": True}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "path", [(), ("a",), ("a", 0), ("a", 1), ("a", 1, "b"), ("a", 2), ("ü",), ("ü", "a"), ("last",)]
)
def test_a_value_is_found_by_its_path(path: tuple[str | int, ...], indent: int | None) -> None:
    text = " \n" + json.dumps(VALUE, ensure_ascii=False, indent=indent)
    expected: Any = VALUE
    for step in path:
        expected = expected[step]
    start, end = find_value(text, path)
    assert json.loads(text[start:end]) == expected


def test_of_a_key_given_twice_it_is_the_last_one() -> None:
    text = '{"a": {"b": 1}, "c": 0, "a": {"c": [2]}}'
    start, end = find_value(text, ("a", "c", 0))
    assert (start, text[start:end]) == (text.index("2"), "2")


def test_the_end_of_a_key_is_behind_its_quote() -> None:
    text = '{"b": {"a" : 1}, "a" : 2}'
    assert text[: find_key_end(text, 0, "a")] == '{"b": {"a" : 1}, "a"'


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, "line 1 column 0"),
        (2, "line 1 column 2"),
        (4, "line 1 column 5"),  # "ü" has two bytes
        (5, "line 2 column 0"),
        (7, "line 2 column 2"),
    ],
)
def test_lines_count_from_1_and_columns_are_bytes(position: int, expected: str) -> None:
    assert line_and_column('{"ü"\n:1}', position) == expected
