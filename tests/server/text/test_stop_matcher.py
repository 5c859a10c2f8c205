"""Where a stop string ends in a text that arrives in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfstream.server.text.stop_matcher import StopMatcher

WORDS = st.text("abc", min_size=1, max_size=4)


def cut(pieces: list[str], stops: list[str]) -> str | None:
    """The text up to the first stop string's end."""
    matcher, text = StopMatcher(stops), ""
    for piece in pieces:
        if (end := matcher.find(piece)) is not None:
            assert 0 <= end <= len(piece)
            return text + piece[:end]
        text += piece
    return None


@given(st.lists(st.text("abc", max_size=5), max_size=12), st.lists(WORDS, max_size=4))
def test_the_first_end_of_any_stop_string_is_found(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    ends = [end for end in range(len(text) + 1) if text[:end].endswith(tuple(stops))]
    assert cut(pieces, stops) == (text[: ends[0]] if ends else None)


@pytest.mark.parametrize(
    ("pieces", "stops", "expected"),
    [
        (["Hello, wor", "ld!"], ["world"], "Hello, world"),
        (["a", "b", "c", "d"], ["abcd"], "abcd"),
        (["one two"], ["two", "ne"], "one"),
        (["a.", "", "b"], [".b"], "a.b"),
    ],
)
def test_examples(pieces: list[str], stops: list[str], expected: str) -> None:
    assert cut(pieces, stops) == expected
