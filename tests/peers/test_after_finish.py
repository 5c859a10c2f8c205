"""What follows a finish reason, what is missing after one, and what a server sends while nothing is ready."""

from __future__ import annotations

import asyncio

import pytest

from hfstream import IncompleteStreamError, InferenceTimeoutError, Timeouts
from hfstream.testing import Response, ScriptedServer, Step
from tests.helpers.recordings import DONE, chunk, event
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import SOON, fail_chat, read_chat

FORMS = "Responses in other forms"
HEARTBEATS: list[Step] = [b": still here\n\n", 0.02] * 10_000
"""They would last for 200 s."""

GRACE = row(
    FORMS,
    "the finish reason has come, and `[DONE]` never does: only keep-alive comments, or nothing",
    "waits until the read timeout, or for ever",
    "complete after two seconds (`Timeouts.after_finish`)",
)


@GRACE.only(task="chat")
@pytest.mark.parametrize("rest", [HEARTBEATS, [SOON * 2.0]], ids=["comments", "silence"])
async def test_a_finished_stream_needs_no_DONE(variant: Variant, clients: Clients, rest: list[Step]) -> None:
    usage = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
    limits = Timeouts(first_token=300, between_tokens=300, after_finish=0.2)
    with ScriptedServer(Response([chunk(content="Hello"), chunk("stop"), usage, *rest])) as server:
        stream = await variant.open_chat(clients(server.url, retry=None, timeout=limits))
        final = await asyncio.wait_for(variant.final(stream), SOON)
    assert (final.choices[0].message.content, final.choices[0].finish_reason) == ("Hello", "stop")
    assert final.usage.total_tokens == 2


EVERY_CHUNK = row(
    FORMS,
    'the finish reason `"stop"` on every chunk, and then the stream is cut off',
    "half an answer, as if it were complete",
    "content after a finish reason means that it was none: `IncompleteStreamError`",
)


@EVERY_CHUNK.only(task="chat")
async def test_a_finish_reason_on_every_chunk_means_nothing(variant: Variant, clients: Clients) -> None:
    every = [chunk("stop", content=text) for text in ("Hello", ",", " you")]
    error = await fail_chat(variant, clients, every)
    assert (type(error), error.partial_text) == (IncompleteStreamError, "Hello, you")
    for end in (DONE, chunk("stop")):
        text, _ = await read_chat(variant, clients, [*every, end])
        assert text == "Hello, you"


SIGNS_OF_LIFE = row(
    FORMS,
    'chunks without content (a role, `content: ""`) for minutes, while the server holds back a tool call',
    "read, without a limit on time or number",
    "after the first token each restarts the limit `between_tokens`; before it, `first_token` is the limit",
)

EMPTY: list[Step] = [chunk(content=""), 0.02] * 50
TOOL_CALL = chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}])


@pytest.mark.slow
@SIGNS_OF_LIFE.only(task="chat")
async def test_chunks_without_content_are_signs_of_life(variant: Variant, clients: Clients) -> None:
    # A second of them, with a limit of half a second.
    events = [chunk(content="Hello"), *EMPTY, TOOL_CALL, chunk("tool_calls"), DONE]
    with ScriptedServer(Response(events)) as server:
        client = clients(server.url, retry=None, timeout=Timeouts(first_token=SOON, between_tokens=0.5))
        stream = await variant.open_chat(client)
        final = await variant.final(stream)
    assert final.choices[0].message.tool_calls[0].function.name == "f"


@SIGNS_OF_LIFE.only(task="chat")
async def test_chunks_without_content_are_not_the_first_token(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(EMPTY * 200)) as server:
        client = clients(server.url, retry=None, timeout=Timeouts(first_token=0.2, between_tokens=SOON))
        with pytest.raises(InferenceTimeoutError) as caught:
            await asyncio.wait_for(variant.open_chat(client), SOON)
    assert caught.value.phase == "first_token"


@SIGNS_OF_LIFE.only(task="chat")
async def test_many_chunks_without_content_are_no_error(variant: Variant, clients: Clients) -> None:
    empty = [b"".join([chunk(role="assistant", content="")] * 1000)] * 20
    text, _ = await read_chat(variant, clients, [*empty, chunk(content="Hello"), *empty, chunk("stop"), DONE])
    assert text == "Hello"
