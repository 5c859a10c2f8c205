"""Tool calls whose deltas do not follow OpenAI's rule of indices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.recordings import DONE, chunk
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import ask_chat, read_chat

FORMS = "Responses in other forms"

CALLS = row(
    FORMS,
    "tool calls: arguments `{}` first and the real ones after (Gemini); several calls that all have the index 0, or "
    "none, with different ids or none, each piece complete JSON",
    "`{}{...}` as arguments, or the arguments of all calls in one, if they are joined by index",
    "each call with its own arguments",
)

X1, X2 = '{"x":1}', '{"x":2}'
Call = tuple[str, str, str]


def part(arguments: Any = None, name: str | None = None, index: int | None = 0, **fields: Any) -> dict[str, Any]:
    return {"index": index, "function": {"name": name, "arguments": arguments}, **fields}


SHAPES: dict[str, tuple[list[dict[str, Any]], list[Call]]] = {
    "OpenAI's": ([part("", "f", id="a"), part('{"x"'), part(":1}")], [("a", "f", X1)]),
    "{} first": ([part("{}", "f", id="a"), part(X1)], [("a", "f", X1)]),
    "{} first, repeated": ([part("{}", "f", id="a"), part(X1, "f", id="a")], [("a", "f", X1)]),
    "one index, two ids": ([part(X1, "f", id="a"), part(X2, "f", id="b")], [("a", "f", X1), ("b", "f", X2)]),
    "one index, no ids": ([part(X1, "f"), part(X2, "f")], [("", "f", X1), ("", "f", X2)]),
    "one index, empty ids": ([part(X1, "f", id=""), part(X2, "g", id="")], [("", "f", X1), ("", "g", X2)]),
    "no index": ([part(X1, "f", None, id="a"), part(X2, "g", None, id="b")], [("a", "f", X1), ("b", "g", X2)]),
    "no index, no ids": ([part(X1, "f", None), part(X2, "g", None)], [("", "f", X1), ("", "g", X2)]),
    "without arguments": ([part("{}", "f", id="a"), part("{}", "g", id="b")], [("a", "f", "{}"), ("b", "g", "{}")]),
    "an object": ([part({"x": 1}, "f", id="a")], [("a", "f", '{"x": 1}')]),
    "all of it again": ([part('{"x"', "f", id="a"), part(":1}"), part(X1)], [("a", "f", X1)]),
    "an index from 1": ([part('{"x"', "f", 1, id="a"), part(":1}", None, 1)], [("a", "f", X1)]),
    "another id each": ([part("", "f", id="a"), part('{"x"', "", id="b"), part(":1}", "", id="c")], [("a", "f", X1)]),
    "a brace in a string": ([part('{"x":"}', "f", id="a"), part('{"}')], [("a", "f", '{"x":"}{"}')]),
}


def built(final: Any) -> list[Call]:
    message = final.choices[0].message
    assert message.content is None
    return [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]


@CALLS.only(task="chat")
@pytest.mark.parametrize(("parts", "calls"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("together", [False, True], ids=["a delta each", "one delta"])
async def test_tool_calls_are_told_apart(
    variant: Variant, clients: Clients, parts: list[dict[str, Any]], calls: list[Call], together: bool
) -> None:
    deltas = [parts] if together else [[each] for each in parts]
    events = [chunk(content=None, tool_calls=delta) for delta in deltas]
    _, stream = await read_chat(variant, clients, [*events, chunk("tool_calls"), DONE])
    assert built(await variant.final(stream)) == calls


@CALLS.only(task="chat")
async def test_tool_calls_in_other_forms_without_streaming(variant: Variant, clients: Clients) -> None:
    calls: list[Any] = [
        {"id": 1, "function": {"name": "f", "arguments": {"x": 1}}},
        None,
        {"id": None, "type": None, "index": "0", "function": {"name": "g", "arguments": None}},
    ]
    whole = await ask_chat(variant, clients, {"choices": [{"message": {"content": None, "tool_calls": calls}}]})
    assert built(whole) == [("1", "f", '{"x": 1}'), ("", "g", "")]
