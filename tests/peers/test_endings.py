"""Where a stream ends, and what only looks like its end."""

from __future__ import annotations

import pytest

from hfstream import (
    IncompleteStreamError,
    InferenceError,
    OverloadedError,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.testing import (
    DONE,
    Response,
    ScriptedServer,
    Step,
)
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import AGAIN, WORDS, Task

EARLY_END = row(
    "Streams",
    "the body ends cleanly, without a final event, `[DONE]` or finish_reason",
    "the partial output looks complete",
    "`IncompleteStreamError`, with the text so far",
)


@EARLY_END
async def test_an_early_end_raises_with_the_partial_text(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response([task.event("Hello"), task.event(",")])) as server:
        stream = await task.open(variant, clients(server.url))
        with pytest.raises(IncompleteStreamError, match="without a final event") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == stream.text == "Hello,"
        with pytest.raises(IncompleteStreamError):
            await variant.final(stream)
        assert len(server.requests) == 1, "there is no retry after the first content"


@EARLY_END
async def test_a_complete_stream_returns_its_items_and_result(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        stream = await task.open(variant, clients(server.url))
        assert task.texts(await variant.rest(stream)) == WORDS
        assert stream.finish_reason


NO_STREAM = row(
    "Streams",
    "a 200 with an HTML page, with JSON, or with an error as JSON",
    "empty output and no error",
    "`UnexpectedResponseError` that quotes the body, or the error in the body",
)


@NO_STREAM
@pytest.mark.parametrize(
    ("kind", "body", "expected", "words"),
    [
        ("text/html", b"<!doctype html><title>Sign in</title>", UnexpectedResponseError, "Sign in"),
        ("text/event-stream", b"<html>Sign in</html>", UnexpectedResponseError, "Sign in"),
        ("application/json", b'{"answer": "all at once"}', UnexpectedResponseError, "all at once"),
        ("application/json", b'{"error":"no such adapter","error_type":"validation"}', ValidationError, "no such ada"),
        ("application/json", b'{"error":{"message":"full","type":"overloaded_error"}}', OverloadedError, "full"),
        ("text/event-stream", b'{"error":"Model is overloaded"}', OverloadedError, "Model is overloaded"),
    ],
    ids=["HTML", "HTML said to be a stream", "JSON", "JSON error", "OpenAI's error", "an error said to be a stream"],
)
async def test_a_200_that_is_not_an_event_stream_is_an_error(
    variant: Variant, clients: Clients, task: Task, kind: str, body: bytes, expected: type[InferenceError], words: str
) -> None:
    with ScriptedServer(Response([body], content_type=kind)) as server:
        with pytest.raises(expected, match=words) as caught:
            await task.open(variant, clients(server.url, retry=None))
        assert type(caught.value) is expected


EMPTY = row(
    "Streams",
    "a 200 with an empty event stream, or with only `[DONE]`",
    "empty output and no error",
    "retried, then `IncompleteStreamError`",
)


@EMPTY
@pytest.mark.parametrize("body", [[], [DONE], [b":\n\n"]], ids=["nothing", "[DONE]", "a comment"])
async def test_an_empty_stream_is_retried(variant: Variant, clients: Clients, task: Task, body: list[Step]) -> None:
    with ScriptedServer(Response(body), Response(task.whole(*WORDS))) as server:
        stream = await task.open(variant, clients(server.url, retry=AGAIN))
        assert task.texts(await variant.rest(stream)) == WORDS
        assert [type(attempt.error) for attempt in stream.attempts] == [IncompleteStreamError, type(None)]
    with ScriptedServer(Response(body)) as server:
        with pytest.raises(IncompleteStreamError, match="without a token"):
            await task.open(variant, clients(server.url, retry=AGAIN))
        assert len(server.requests) == 3
