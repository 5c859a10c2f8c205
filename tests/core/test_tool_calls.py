"""Tool calls are put together again, whatever their indices and ids are."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.core.tool_calls import ToolCallsBuilder
from hfstream.types import ChatCompletionDeltaToolCall

X1, X2 = '{"x":1}', '{"x":2}'


def call(arguments: str | None = None, name: str | None = None, **more: Any) -> dict[str, Any]:
    return {"index": 0, "function": {"name": name, "arguments": arguments}, **more}


def built(*deltas: dict[str, Any]) -> list[tuple[str, str, str]]:
    builder = ToolCallsBuilder()
    for delta in deltas:
        builder.add([ChatCompletionDeltaToolCall.model_validate(delta)])
    return [(found["id"], found["function"]["name"], found["function"]["arguments"]) for found in builder.build() or []]


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        # Gemini: an empty object first.
        ([call("{}", "f", id="a"), call(X1)], [("a", "f", X1)]),
        ([call("{}", "f", id="a"), call(X1, "f", id="a")], [("a", "f", X1)]),
        ([call("{}", "f", id="a"), call('{"x"'), call(":1}")], [("a", "f", X1)]),
        # Gemini and others: all have the index 0.
        ([call(X1, "f", id="a"), call(X2, "f", id="b")], [("a", "f", X1), ("b", "f", X2)]),
        ([call(X1, "f"), call(X2, "g")], [("", "f", X1), ("", "g", X2)]),
        ([call(X1, "f"), call(X2, "f"), call(X1, "f")], [("", "f", X1), ("", "f", X2), ("", "f", X1)]),
        ([call("{}", "f"), call("{}", "f")], [("", "f", "{}"), ("", "f", "{}")]),
        ([call(X1, "f", id="a"), call(X2, id="b")], [("a", "f", X1), ("b", "f", X2)]),
        ([call(X1, "f", id="a"), call(X2)], [("a", "f", X1), ("", "f", X2)]),
        ([call(X1, "f"), call('{"y"', "g"), call(":1}")], [("", "f", X1), ("", "g", '{"y":1}')]),
        ([call("{}", "f", id="a"), call(X1, "g", id="b")], [("a", "f", "{}"), ("b", "g", X1)]),
        # Some servers end with all of the arguments again, or with white space.
        ([call('{"x"', "f", id="a"), call(":1}"), call(X1)], [("a", "f", X1)]),
        ([call(X1, "f", id="a"), call("\n"), call("")], [("a", "f", X1 + "\n")]),
        # OCI sends another id with every piece.
        ([call("", "f", id="a"), call('{"x"', "", id="b"), call(":1}", "", id="c")], [("a", "f", X1)]),
        # A name in pieces, and repeated ones.
        ([call("", "get_", id="a"), call("", "wea"), call(None, "ther"), call("{}")], [("a", "get_weather", "{}")]),
        ([call("", "get_", id="a"), call("{", "weather"), call("}")], [("a", "get_weather", "{}")]),
        ([call("", "f", id="a"), call(None, "f"), call("{", "f"), call("}", "f")], [("a", "f", "{}")]),
        ([call("", "get_", id="a"), call("", "get_weather"), call("{}")], [("a", "get_weather", "{}")]),
        ([call("{", "f", id="a"), call("}", "g")], [("a", "f", "{}")]),
        ([call("", "f"), call("", "g", index=1)], [("", "f", ""), ("", "g", "")]),
        # Without indices.
        (
            [call("", "f", id="a", index=None), call("", "g", id="b", index=None), call(X1, id="a", index=3)],
            [("a", "f", X1), ("b", "g", "")],
        ),
        # What looks like an end, and is none.
        ([call('{"x":"}', "f"), call('"}')], [("", "f", '{"x":"}"}')]),
        ([call('{"x":"\\', "f"), call('"}'), call('"}')], [("", "f", '{"x":"\\"}"}')]),
        ([call("[{}", "f"), call(",{}]")], [("", "f", "[{},{}]")]),
        ([call("not JSON }", "f"), call("{")], [("", "f", "not JSON }{")]),
        ([call("\\n", "f"), call(X1)], [("", "f", "\\n" + X1)]),
    ],
)
def test_a_piece_after_complete_arguments_is_another_call(
    deltas: list[dict[str, Any]], expected: list[tuple[str, str, str]]
) -> None:
    assert built(*deltas) == expected


JSON = st.recursive(
    st.integers() | st.text() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.slow
@settings(max_examples=50)
@given(
    st.dictionaries(st.text(), JSON, min_size=1, max_size=5), st.lists(st.integers(0, 200), max_size=6), st.booleans()
)
def test_arguments_may_be_divided_anywhere(value: dict[str, Any], cuts: list[int], escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(bounds)]
    deltas = [call(piece, "f" if not number else None) for number, piece in enumerate(pieces)]
    assert built(*deltas, call(X1, "g")) == [("", "f", text), ("", "g", X1)]
