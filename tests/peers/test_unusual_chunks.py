"""Chunks of a chat without the fields that a loop expects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hfstream.testing import (
    DONE,
    Fault,
    Response,
    ScriptedServer,
    chat_event,
    chat_events,
)
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import WORDS, Task

DONE_TIGHT = row(
    "Streams", "`data:[DONE]`, without the space", "`JSONDecodeError`", "the end of the stream, as with the space"
)  # fmt: skip


@DONE_TIGHT.only(task="chat")
async def test_DONE_needs_no_space(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([*chat_events(*WORDS)[:-1], b"data:[DONE]\n\n", Fault.STALL])) as server:
        stream = await variant.open_chat(clients(server.url))
        assert Task("chat").texts(await variant.rest(stream)) == WORDS
        assert (await variant.final(stream)).choices[0].message.content == "".join(WORDS)


CHOICES = row(
    "Streams",
    "`choices: []`, `choices: null`, a last chunk with the usage, tool deltas without `index`",
    "`IndexError` in the loop shown in their documentation",
    "`choices` is empty, and `choices[0]` reads as an empty delta all the same: the loop works with and without a "
    "check; `stream.usage` is set",
)


def chunk(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": "1", "object": "chat.completion.chunk", **fields}).encode() + b"\n\n"


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@CHOICES.only(task="chat")
@pytest.mark.parametrize(
    "odd",
    [chunk(choices=[]), chunk(choices=None), chunk(choices=[], prompt_filter_results=[]), chunk(usage=None)],
    ids=["[]", "null", "a filter's", "none"],
)
async def test_chunks_without_a_choice_do_not_break_the_loop(variant: Variant, clients: Clients, odd: bytes) -> None:
    role, *words, finish, _, done = chat_events(*WORDS)
    usage = chunk(choices=None, usage=USAGE)
    with ScriptedServer(Response([odd, role, odd, *words, odd, finish, usage, done])) as server:
        stream = await variant.open_chat(clients(server.url))
        checked = unchecked = ""
        for item in await variant.rest(stream):
            unchecked += item.choices[0].delta.content or ""
            if item.choices:
                checked += item.choices[0].delta.content or ""
            else:
                assert item.choices == list(item.choices) == []
        assert checked == unchecked == "".join(WORDS)
        assert stream.usage.total_tokens == 10
        assert (await variant.final(stream)).usage.completion_tokens == 3


@CHOICES.only(task="chat")
async def test_tool_deltas_need_no_index(variant: Variant, clients: Clients) -> None:
    def tool(**call: Any) -> bytes:
        return chat_event(tool_calls=[call])

    body = [
        tool(id="a", type="function", function={"name": "add", "arguments": ""}),
        tool(function={"arguments": '{"x":'}),
        tool(function={"arguments": " 1}"}),
        tool(id="b", type="function", function={"name": "sub", "arguments": "{}"}),
        chat_event(finish_reason="tool_calls"),
        DONE,
    ]
    with ScriptedServer(Response(body)) as server:
        whole = await variant.final(await variant.open_chat(clients(server.url)))
    calls = [(call.id, call.function.name, call.function.arguments) for call in whole.choices[0].message.tool_calls]
    assert calls == [("a", "add", '{"x": 1}'), ("b", "sub", "{}")]
