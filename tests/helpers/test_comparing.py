"""The comparison that tests of a model use: it must not let a difference pass."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream import Token
from tests.helpers.comparing import assert_alike, differences

TOKEN = Token(id=1, text="a", logprob=-11.3565, special=False)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (-11.3565, -11.35649),
        ([(1, -0.5)], [(1, -0.5004)]),
        ({"a": [TOKEN]}, {"a": [TOKEN.model_copy(update={"logprob": -11.35649})]}),
        (None, None),
    ],
)
def test_the_last_digits_do_not_matter(found: Any, expected: Any) -> None:
    assert_alike(found, expected)


@pytest.mark.parametrize(
    ("found", "expected", "place"),
    [
        (-0.5, -0.502, "answer"),
        (-0.5, None, "answer"),
        (float("nan"), -0.5, "answer"),
        (1, 1.0, "answer"),
        (True, 1, "answer"),
        ("ab", "ac", "answer"),
        ([1, 2], [1, 3], "answer[1]"),
        ([1, 2], [1], "answer"),
        ({"a": 1}, {"a": 1, "b": 2}, "answer"),
        ({"a": [0, {"b": -1.0}]}, {"a": [0, {"b": -2.0}]}, "answer.a[1].b"),
        ([TOKEN], [TOKEN.model_copy(update={"text": "b"})], "answer[0].text"),
        ([TOKEN], [dict(TOKEN)], "answer[0]"),
    ],
)
def test_everything_else_does_and_the_place_is_said(found: Any, expected: Any, place: str) -> None:
    assert [difference.partition(":")[0] for difference in differences(found, expected)] == [place]
    with pytest.raises(AssertionError, match=r"answer"):
        assert_alike(found, expected)
