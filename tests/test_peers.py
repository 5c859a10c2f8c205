"""What other clients get wrong on a stream, row by row: each test is complete by itself and runs on both faces.

The rows are the tables of docs/robustness.md, which ``python tests/robustness.py`` writes from these tests' results.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import gc
import gzip
import itertools
import json
import logging
import os
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from email.utils import formatdate
from typing import Any, Self

import anyio
import httpx
import pytest
import tenacity

from hfstream import (
    AsyncInferenceClient,
    AuthenticationError,
    BadRequestError,
    GenerationError,
    IncompleteStreamError,
    InferenceClient,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    NotFoundError,
    OverloadedError,
    RetryPolicy,
    ServerError,
    Timeouts,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.server import BackgroundServer, Settings
from hfstream.sse import SSEDecoder
from hfstream.testing import (
    DONE,
    Fault,
    Response,
    ScriptedServer,
    Step,
    chat_event,
    chat_events,
    token_event,
    token_events,
)
from tests.helpers.variants import Clients, Variant
from tests.robustness import PAGE, ROWS, page, row

WORDS = ["Hello", ",", " you"]
SOON = 60
"""Seconds within which what must happen does, on a busy machine too. Only a failure takes so long."""


class Task:
    """Text generation or chat, asked and answered in the same words."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = name == "text"

    def __repr__(self) -> str:
        return self.name

    def whole(self, *texts: str) -> list[bytes]:
        """A stream from its first event to its last."""
        return token_events(*texts, finish_reason="eos_token") if self.text else chat_events(*texts)

    def event(self, text: str) -> bytes:
        """One event in the middle."""
        return token_event(1, text) if self.text else chat_event(text)

    def document(self, text: str) -> Response:
        """A whole answer in one piece."""
        message = {"role": "assistant", "content": text}
        chat = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        return Response.json({"generated_text": text} if self.text else chat)

    async def open(self, variant: Variant, client: Any, **options: Any) -> Any:
        return await (variant.open(client, **options) if self.text else variant.open_chat(client, **options))

    async def ask(self, variant: Variant, client: Any, **options: Any) -> Any:
        return await (variant.whole(client, **options) if self.text else variant.chat(client, **options))

    def opened(self, client: Any, **options: Any) -> Any:
        """What the call with ``stream=True`` itself returns."""
        if self.text:
            return client.text_generation("Hi", stream=True, **options)
        return client.chat_completion([{"role": "user", "content": "Hi"}], stream=True, **options)

    def said(self, items: Iterable[Any]) -> list[str]:
        """The texts of a stream's items."""
        texts = (item if isinstance(item, str) else item.choices[0].delta.content for item in items)
        return [text for text in texts if text]


@pytest.fixture(params=[Task("text"), Task("chat")], ids=repr)
def task(request: pytest.FixtureRequest) -> Task:
    found: Task = request.param
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Waits until `condition()`, which asks a server: there is nothing but asking that would tell."""
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.005)


def endless(task: Task) -> Response:
    """One token, and then nothing: only a client that leaves ends it."""
    return Response([task.event("Hello"), Fault.STALL])


AGAIN = RetryPolicy(attempts=3, wait=tenacity.wait_none())
PAUSES = [pytest.param("asyncio", id="asyncio"), pytest.param("trio", id="trio")]

# The end of an answer ------------------------------------------------------------------------------------------------

EARLY_END = row(
    "Streams",
    "the body ends cleanly, without a final event, `[DONE]` or finish_reason",
    "half an answer that looks like a whole one",
    "`IncompleteStreamError`, with the text so far",
)


@EARLY_END
async def test_an_early_end_is_no_answer(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response([task.event("Hello"), task.event(",")])) as server:
        stream = await task.open(variant, clients(server.url))
        with pytest.raises(IncompleteStreamError, match="without a final event") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == stream.text == "Hello,"
        with pytest.raises(IncompleteStreamError):
            await variant.final(stream)
        assert len(server.requests) == 1, "what has begun to speak is not asked again"


@EARLY_END
async def test_a_whole_answer_is_one(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        stream = await task.open(variant, clients(server.url))
        assert task.said(await variant.rest(stream)) == WORDS
        assert stream.finish_reason


NO_STREAM = row(
    "Streams",
    "a 200 with an HTML page, with JSON, or with an error as JSON",
    "an empty answer, and no error",
    "`UnexpectedResponseError` that quotes it, or the error that it carries",
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
async def test_a_200_that_is_no_stream(
    variant: Variant, clients: Clients, task: Task, kind: str, body: bytes, expected: type[InferenceError], words: str
) -> None:
    with ScriptedServer(Response([body], content_type=kind)) as server:
        with pytest.raises(expected, match=words) as caught:
            await task.open(variant, clients(server.url, retry=None))
        assert type(caught.value) is expected


EMPTY = row(
    "Streams",
    "a 200 with an event stream that has nothing in it, or only `[DONE]`",
    "an empty answer, and no error",
    "asked again, then `IncompleteStreamError`",
)


@EMPTY
@pytest.mark.parametrize("body", [[], [DONE], [b":\n\n"]], ids=["nothing", "[DONE]", "a comment"])
async def test_an_empty_stream_is_asked_for_again(
    variant: Variant, clients: Clients, task: Task, body: list[Step]
) -> None:
    with ScriptedServer(Response(body), Response(task.whole(*WORDS))) as server:
        stream = await task.open(variant, clients(server.url, retry=AGAIN))
        assert task.said(await variant.rest(stream)) == WORDS
        assert [type(attempt.error) for attempt in stream.attempts] == [IncompleteStreamError, type(None)]
    with ScriptedServer(Response(body)) as server:
        with pytest.raises(IncompleteStreamError, match="without a token"):
            await task.open(variant, clients(server.url, retry=AGAIN))
        assert len(server.requests) == 3


# Errors --------------------------------------------------------------------------------------------------------------

SHAPES = row(
    "Streams",
    '`{"error": {...}}`, `{"error": .., "error_type": ..}`, `event: error`, `{"detail": ..}`, `{"message": ..}`, '
    "a list, plain text, an empty body",
    "a dict's repr for a message, words lost, the error handed on as a chunk, `AttributeError`",
    "the class that fits, with the server's words",
)

IN_A_STREAM = {
    "OpenAI's": (b'data: {"error":{"message":"no words left","type":"server_error"}}', ServerError, "no words left"),
    "OpenAI's code": (b'data: {"error":{"message":"gone","code":404}}', NotFoundError, "gone"),
    "TGI's": (b'data: {"error":"no words left","error_type":"generation"}', GenerationError, "no words left"),
    "TGI's for chats": (
        b'data: {"error":{"message":"Input validation error: `x`","http_status_code":422}}',
        ValidationError,
        "Input validation error: `x`",
    ),
    "named, JSON": (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"no words left"}}',
        ServerError,
        "no words left",
    ),
    "named, plain": (b"event: error\ndata: data: a tad late", ServerError, "data: a tad late"),
    "detail": (b'data: {"detail":"no words left"}', ServerError, "no words left"),
    "message": (b'data: {"message":"no words left"}', ServerError, "no words left"),
    "a list": (b'data: [{"error":{"code":400,"message":"no words left"}}]', BadRequestError, "no words left"),
    "an object of kind error": (
        b'data: {"object":"error","message":"no words left","code":400}',
        BadRequestError,
        "no words left",
    ),
}


@SHAPES
@pytest.mark.parametrize(("event", "expected", "words"), IN_A_STREAM.values(), ids=IN_A_STREAM)
async def test_every_shape_of_error_in_a_stream(
    variant: Variant, clients: Clients, task: Task, event: bytes, expected: type[InferenceError], words: str
) -> None:
    first, later = Response([event + b"\n\n"]), Response([task.event("Hello"), event + b"\n\n", *task.whole("more")])
    with ScriptedServer(first, later) as server:
        client = clients(server.url, retry=None)
        with pytest.raises(InferenceError) as caught:
            await task.open(variant, client)
        assert (type(caught.value), str(caught.value)) == (expected, words)
        stream = await task.open(variant, client)
        with pytest.raises(InferenceError) as caught:
            await variant.rest(stream)
        assert (type(caught.value), str(caught.value)) == (expected, words)
        assert caught.value.partial_text == stream.text == "Hello"


WITH_A_STATUS: dict[str, tuple[int, str | None, list[Step], type[InferenceError], str]] = {
    "OpenAI's": (400, "application/json", [b'{"error":{"message":"bad words"}}'], BadRequestError, "bad words"),
    "TGI's": (
        422,
        "application/json",
        [b'{"error":"bad words","error_type":"validation"}'],
        ValidationError,
        "bad words",
    ),
    "detail": (404, "application/json", [b'{"detail":"Not Found"}'], NotFoundError, "Not Found"),
    "details": (
        422,
        "application/json",
        [b'{"detail":[{"loc":["body","n"],"msg":"too many","type":"t"}]}'],
        ValidationError,
        "body.n: too many",
    ),
    "message": (401, "application/json", [b'{"message":"no such key"}'], AuthenticationError, "no such key"),
    "a list": (500, "application/json", [b'["bad words", "worse"]'], ServerError, "bad words; worse"),
    "plain text": (500, "text/plain", [b"bad words"], ServerError, "bad words"),
    "JSON said to be a stream": (400, "text/event-stream", [b'{"error":"bad words"}'], BadRequestError, "bad words"),
    "nothing": (401, None, [], AuthenticationError, "HTTP 401 without a message: check the token"),
}


@SHAPES
@pytest.mark.parametrize(("status", "kind", "body", "expected", "words"), WITH_A_STATUS.values(), ids=WITH_A_STATUS)
async def test_every_shape_of_error_with_a_status(
    variant: Variant,
    clients: Clients,
    task: Task,
    status: int,
    kind: str | None,
    body: list[Step],
    expected: type[InferenceError],
    words: str,
) -> None:
    with ScriptedServer(Response(body, status, kind)) as server:
        client = clients(server.url, retry=None)
        for ask in (task.open, task.ask):
            with pytest.raises(InferenceError) as caught:
                await ask(variant, client)
            assert type(caught.value) is expected
            assert str(caught.value).startswith(words)
            assert caught.value.status_code == status


OVERLOAD = row(
    "Streams",
    "a server with too much to do says so in the first event of a 200",
    "never asked again",
    "asked again, as after a 429",
)


@OVERLOAD
@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":"Model is overloaded","error_type":"overloaded"}\n\n',
        b'data: {"error":{"message":"Model is overloaded","http_status_code":422}}\n\n',
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n',
        b'data: {"error":{"message":"slower","type":"rate_limit_exceeded","code":429}}\n\n',
    ],
    ids=["TGI's", "TGI's for chats", "Anthropic's", "OpenAI's"],
)
async def test_overload_in_the_first_event_is_a_429(
    variant: Variant, clients: Clients, task: Task, event: bytes
) -> None:
    with ScriptedServer(Response([event]), Response([b":\n\n" + event]), Response(task.whole(*WORDS))) as server:
        stream = await task.open(variant, clients(server.url, retry=AGAIN))
        assert task.said(await variant.rest(stream)) == WORDS
        refused, again, answered = stream.attempts
        assert [type(attempt.error) for attempt in (refused, again)] == [OverloadedError] * 2
        assert refused.error.status_code == 429
        assert answered.error is None


RETRY_AFTER = row(
    "Streams",
    "429 or 503 with `Retry-After`",
    "not read (huggingface_hub), or bounded oddly",
    "waited for, with some jitter, and within a bound",
)


async def delays(variant: Variant, clients: Clients, task: Task, answers: list[Response], **policy: Any) -> list[float]:
    """How long the client chose to wait before each further attempt."""
    with ScriptedServer(*answers, Response(task.whole(*WORDS))) as server:
        client = clients(server.url, retry=RetryPolicy(attempts=len(answers) + 1, **policy))
        stream = await task.open(variant, client)
        assert task.said(await variant.rest(stream)) == WORDS
        return [attempt.delay for attempt in stream.attempts][1:]


@RETRY_AFTER
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "0.2"}, 0.2),
        ({"Retry-After-Ms": "200"}, 0.2),
        ({"Retry-After": "30", "Retry-After-Ms": "0"}, 0),
    ],
    ids=["seconds", "milliseconds", "milliseconds win"],
)
async def test_the_wait_that_was_asked_for_is_kept(
    variant: Variant, clients: Clients, task: Task, status: int, headers: dict[str, str], seconds: float
) -> None:
    refusal = Response([b'{"error":"busy"}'], status, "application/json", headers)
    [delay] = await delays(variant, clients, task, [refusal], max_wait=0.5)
    assert seconds <= delay <= seconds + 0.11  # a quarter more at most, or a tenth of a second; and a retry's place


@RETRY_AFTER
async def test_not_all_come_back_at_once(variant: Variant, clients: Clients, task: Task) -> None:
    chosen = await delays(variant, clients, task, [Response.error(429, "busy", Retry_After_Ms="1")] * 4)
    assert len(set(chosen)) == 4
    assert max(chosen) - min(chosen) > 0.001


@RETRY_AFTER
@pytest.mark.parametrize("after", ["3600", formatdate(4e9, usegmt=True), "9" * 400], ids=["an hour", "a date", "ever"])
async def test_no_wait_is_longer_than_the_client_allows(
    variant: Variant, clients: Clients, task: Task, after: str
) -> None:
    [delay] = await delays(variant, clients, task, [Response.error(429, "busy", Retry_After=after)], max_wait=0.05)
    assert 0.03 < delay <= 0.05


# Chunks that surprise ------------------------------------------------------------------------------------------------

DONE_TIGHT = row(
    "Streams", "`data:[DONE]`, without the space", "`JSONDecodeError`", "the end, as with the space"
)  # fmt: skip


@DONE_TIGHT.only(task="chat")
async def test_done_needs_no_space(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([*chat_events(*WORDS)[:-1], b"data:[DONE]\n\n", Fault.STALL])) as server:
        stream = await variant.open_chat(clients(server.url))
        assert Task("chat").said(await variant.rest(stream)) == WORDS
        assert (await variant.final(stream)).choices[0].message.content == "".join(WORDS)


CHOICES = row(
    "Streams",
    "`choices: []`, `choices: null`, a last chunk with the usage, tool deltas without `index`",
    "`IndexError` in the loop of their own documentation",
    "the loop runs; `usage` is on the stream",
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
async def test_chunks_without_a_choice_do_no_harm(variant: Variant, clients: Clients, odd: bytes) -> None:
    role, *words, finish, _, done = chat_events(*WORDS)
    usage = chunk(choices=None, usage=USAGE)
    with ScriptedServer(Response([odd, role, odd, *words, odd, finish, usage, done])) as server:
        stream = await variant.open_chat(clients(server.url))
        said = ""
        for item in await variant.rest(stream):
            said += item.choices[0].delta.content or ""
        assert said == "".join(WORDS)
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


# Connections ---------------------------------------------------------------------------------------------------------

REUSE = row(
    "Streams",
    "ten streams one after another",
    "ten TCP connections",
    "one: after the last event a bounded rest is read, and the connection is used again",
)


@REUSE
@pytest.mark.usefixtures("patient_drain")
@pytest.mark.parametrize("late", [[], [0.01], [b": bye\n\n"]], ids=["at once", "a late end", "a last comment"])
async def test_ten_streams_use_one_connection(variant: Variant, clients: Clients, task: Task, late: list[Step]) -> None:
    with ScriptedServer(Response([*task.whole(*WORDS), *late])) as server:
        client = clients(server.url)
        for _ in range(10):
            assert task.said(await variant.rest(await task.open(variant, client))) == WORDS
        assert len(server.requests) == 10
        assert server.connections == 1


@REUSE
@pytest.mark.usefixtures("patient_drain")
@pytest.mark.parametrize("status", [401, 422, 429, 500])
async def test_ten_refusals_use_one_connection(variant: Variant, clients: Clients, task: Task, status: int) -> None:
    with ScriptedServer(Response([b'{"error":', b'"no"}', 0.01], status, "application/json")) as server:
        client = clients(server.url, retry=None)
        for _ in range(10):
            with pytest.raises(InferenceError, match="no"):
                await task.open(variant, client)
        assert server.connections == 1


BREAK = row(
    "Streams",
    "`break` out of the loop",
    "the socket stays open until the garbage collector comes (openai), or its place in the pool is lost "
    "(huggingface_hub)",
    "closed at once, in a `with` or where nothing else holds the stream; the server stops generating",
)


async def break_off(task: Task, client: Any, held: bool) -> None:
    """Breaks off the loop as users write it: over what the call returns, or within a `with`."""
    if isinstance(client, InferenceClient):
        if held:
            with task.opened(client) as stream:
                for _ in stream:
                    break
        else:
            for _ in task.opened(client):
                break
    elif held:
        async with task.opened(client) as stream:
            async for _ in stream:
                break
    else:
        async for _ in task.opened(client):
            break


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is closed by the garbage collector's coming by."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@BREAK
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("held", [False, True], ids=["for", "with"])
async def test_break_closes_at_once(variant: Variant, clients: Clients, task: Task, held: bool) -> None:
    with ScriptedServer(endless(task)) as server:
        await break_off(task, clients(server.url), held)
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)
        assert len(server.requests) == 1


@contextlib.contextmanager
def loaded() -> Iterator[None]:
    """Spares the garbage collector the model and its libraries: going through them takes it a fifth of a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    """The reference backend, at a pace that makes a long answer last for minutes."""
    with BackgroundServer(Settings(tokens_per_second=100)) as server, loaded():
        yield server.url


def permits(url: str) -> int:
    """How many answers the backend is giving."""
    found = re.search(r"^hfstream_permits_taken (\d+)$", httpx.get(url + "/metrics").text, re.MULTILINE)
    assert found
    return int(found[1])


LONG = {
    "text": {"max_new_tokens": 1900, "repetition_penalty": 0.01},
    "chat": {"max_tokens": 1900, "frequency_penalty": -2.0},
}
"""Makes the model repeat itself for ever."""


@BREAK
@pytest.mark.usefixtures("no_collector")
async def test_the_server_stops_generating(variant: Variant, clients: Clients, task: Task, backend: str) -> None:
    await until(lambda: permits(backend) == 0)
    stream = await task.open(variant, clients(backend), **LONG[task.name])
    assert permits(backend) == 1
    await variant.next(stream)
    del stream
    await until(lambda: permits(backend) == 0)


DROPPED = row(
    "Streams",
    "a hundred streams that are made and never read",
    "the whole process hangs: each keeps its place in the pool (huggingface_hub)",
    "each is closed when it is collected, and the pool is free",
)


@DROPPED
async def test_a_hundred_forgotten_streams_leave_the_pool_whole(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(*[endless(task)] * 100, Response(task.whole(*WORDS))) as server:
        client = clients(server.url)
        for _ in range(100):
            await task.open(variant, client)
        await asyncio.sleep(0)  # the event loop still holds the result of what it ran last
        gc.collect()
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)
        assert len(server.requests) == 100
        assert task.said(await variant.rest(await task.open(variant, client))) == WORDS


@DROPPED.only(variant="async")
async def test_calls_that_nobody_awaits_are_silent(task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        async with AsyncInferenceClient(server.url) as client:
            for _ in range(100):
                task.opened(client)
            gc.collect()
        assert server.requests == []


OUTLIVES = row(
    "Streams",
    "`list(InferenceClient(url).text_generation(prompt, stream=True))`",
    "`StreamClosed`: the stream dies with the client that nobody holds",
    "works: a stream stands on its own",
)


@OUTLIVES
async def test_a_stream_outlives_its_client(variant: Variant, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        if variant.name == "sync":
            items = await asyncio.to_thread(lambda: list(task.opened(InferenceClient(server.url))))
        else:
            items = [item async for item in await task.opened(AsyncInferenceClient(server.url))]
        assert task.said(items) == WORDS
        stream = await task.open(variant, variant.client(server.url))
        gc.collect()
        assert task.said(await variant.rest(stream)) == WORDS


# Cancel --------------------------------------------------------------------------------------------------------------

CANCEL = row(
    "Streams",
    "a stream is closed from another task or thread: while it opens, while it is read, while it waits to ask again",
    "`RuntimeError`, or a reader that goes on waiting",
    "`close()` and `aclose()` work from anywhere; the reader's loop ends, and so does the server's answer",
)

BUSY = Response.error(429, "busy", Retry_After="60")


def patient(asleep: threading.Event) -> RetryPolicy:
    """Would wait for a minute, and tells when it begins to."""
    return RetryPolicy(max_wait=60, before_sleep=lambda _: asleep.set())


async def reading(variant: Variant, stream: Any) -> asyncio.Task[Any]:
    """A reader of `stream` who has had its first item and wants the next."""
    assert await variant.next(stream)
    task = asyncio.create_task(variant.rest(stream))
    await asyncio.sleep(0)
    return task


@CANCEL
async def test_close_wakes_a_reader(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(endless(task)) as server:
        stream = await task.open(variant, clients(server.url))
        reader = await reading(variant, stream)
        await variant.close(stream)
        assert task.said(await asyncio.wait_for(reader, SOON)) == []
        assert stream.text == "Hello"
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)
        with pytest.raises(IncompleteStreamError, match="closed before its end"):
            await variant.final(stream)


@CANCEL
async def test_close_from_another_thread_wakes_a_reader(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(endless(task)) as server:
        stream = await task.open(variant, clients(server.url))
        reader = await reading(variant, stream)
        close = stream.close if variant.name == "sync" else lambda: asyncio.run(stream.aclose())
        closer = threading.Thread(target=close)
        closer.start()
        assert await asyncio.wait_for(reader, SOON) == []
        await asyncio.to_thread(closer.join, SOON)
        assert not closer.is_alive()
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)


@CANCEL.only(task="text")
async def test_a_reader_who_comes_while_the_stream_is_being_closed(
    variant: Variant, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(endless(Task("text"))) as server:
        stream = await variant.open(clients(server.url))
        line, closing, read = stream._response, threading.Event(), threading.Event()
        release = line.release

        def slowly() -> None:
            closing.set()
            read.wait(SOON)
            release()

        async def slowly_async() -> None:
            closing.set()
            await asyncio.to_thread(read.wait, SOON)
            await release()

        monkeypatch.setattr(line, "release", slowly if variant.name == "sync" else slowly_async)
        closer = asyncio.create_task(variant.close(stream))
        assert await asyncio.to_thread(closing.wait, SOON)
        assert await variant.rest(stream) == []
        read.set()
        await closer


@CANCEL
@pytest.mark.parametrize("state", ["opening", "waiting to ask again"])
async def test_closing_the_client_ends_what_is_not_open_yet(
    variant: Variant, clients: Clients, task: Task, state: str
) -> None:
    asleep = threading.Event()
    with ScriptedServer(Response([Fault.STALL]) if state == "opening" else BUSY) as server:
        client = clients(server.url, retry=patient(asleep))
        call = asyncio.create_task(task.open(variant, client))
        come = asyncio.to_thread(server.wait_until_running, 1) if state == "opening" else asyncio.to_thread(asleep.wait)
        assert await asyncio.wait_for(come, SOON)
        await variant.close(client)
        with pytest.raises(InferenceConnectionError, match="client was closed"):
            await asyncio.wait_for(call, SOON)
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)


@CANCEL.only(variant="async")
@pytest.mark.parametrize("backend", PAUSES)
@pytest.mark.parametrize("state", ["opening", "reading", "waiting to ask again"])
def test_a_cancelled_task_ends_its_stream(task: Task, backend: str, state: str) -> None:
    answer = {"opening": Response([Fault.STALL]), "reading": endless(task), "waiting to ask again": BUSY}[state]
    reached = threading.Event()
    ended: list[str] = []

    async def read(client: AsyncInferenceClient) -> None:
        try:
            async for _ in task.opened(client):
                reached.set()
        finally:
            ended.append(state)

    async def main() -> None:
        async with AsyncInferenceClient(server.url, retry=patient(reached)) as client:
            with anyio.fail_after(SOON):
                async with anyio.create_task_group() as group:
                    group.start_soon(read, client)
                    if state == "opening":
                        assert await anyio.to_thread.run_sync(server.wait_until_running, 1, SOON)
                    else:
                        assert await anyio.to_thread.run_sync(reached.wait, SOON)
                    group.cancel_scope.cancel()
            assert ended == [state]
            assert await anyio.to_thread.run_sync(server.wait_until_running, 0, SOON)

    with ScriptedServer(answer) as server:
        anyio.run(main, backend=backend)
        gc.collect()


# Time ----------------------------------------------------------------------------------------------------------------

SILENCE = row(
    "Streams",
    "a silent server, or one that sends keep-alive comments only",
    "hangs; each comment starts the wait anew",
    "`InferenceTimeoutError` with its phase: first_token or between_tokens",
)

KEEP_ALIVES: list[Step] = [b": still here\n\n", 0.02] * 10_000


@SILENCE
@pytest.mark.parametrize("silence", [[Fault.STALL], KEEP_ALIVES], ids=["silent", "keep-alives"])
@pytest.mark.parametrize("phase", ["first_token", "between_tokens"])
async def test_silence_has_a_limit_with_a_name(
    variant: Variant, clients: Clients, task: Task, silence: list[Step], phase: str
) -> None:
    spoken = [task.event("Hello")] if phase == "between_tokens" else []
    limits = Timeouts(**{"first_token": 300, "between_tokens": 300, phase: 0.15})
    with ScriptedServer(Response([*spoken, *silence])) as server:
        client = clients(server.url, timeout=limits, retry=None)

        async def read() -> None:
            await variant.rest(await task.open(variant, client))

        with pytest.raises(InferenceTimeoutError, match=rf"Timeouts\.{phase}") as caught:
            await asyncio.wait_for(read(), SOON)  # the keep-alives would last for 200 s
        assert caught.value.phase == phase
        assert caught.value.partial_text == "Hello" * len(spoken)
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)


CUT = row(
    "Streams",
    "a timeout, a reset or a lost connection in the middle",
    "httpx's own errors, and the text is gone",
    "`InferenceTimeoutError` or `InferenceConnectionError`, with the text so far",
)


@CUT
@pytest.mark.parametrize(
    ("fault", "expected", "builtin"),
    [
        (Fault.DROP, InferenceConnectionError, ConnectionError),
        (Fault.RESET, InferenceConnectionError, ConnectionError),
        (Fault.STALL, InferenceTimeoutError, TimeoutError),
    ],
)
async def test_what_cuts_a_stream_is_typed_and_keeps_the_text(
    variant: Variant,
    clients: Clients,
    task: Task,
    fault: Fault,
    expected: type[InferenceError],
    builtin: type[Exception],
) -> None:
    # A reset takes what was not read yet with it: it comes when the client has read.
    read = threading.Event()

    def body() -> Iterator[Step]:
        yield task.event("Hello")
        yield task.event(",")
        read.wait(SOON)
        yield fault

    with ScriptedServer(Response(body())) as server:
        client = clients(server.url, timeout=Timeouts(between_tokens=1.0 if fault is Fault.STALL else SOON))
        stream = await task.open(variant, client)
        assert task.said([await variant.next(stream), await variant.next(stream)]) == ["Hello", ","]
        read.set()
        with pytest.raises(expected) as caught:
            await variant.rest(stream)
        assert isinstance(caught.value, builtin)
        assert caught.value.partial_text == "Hello,"
        assert len(server.requests) == 1


# Resume --------------------------------------------------------------------------------------------------------------

RESUME = row(
    "Streams",
    "the connection is lost after n tokens",
    "the answer is lost",
    "with `resume=True` it goes on: no token is lost, none comes twice",
)


class CuttingProxy:
    """Stands between a client and a server, and cuts each of its first connections after so many bytes of answer."""

    def __init__(self, url: str, cuts: Iterable[int], *, reset: bool) -> None:
        self._to = httpx.URL(url)
        self._cuts = iter(cuts)
        self._reset = reset
        self.cut = 0
        """How many connections have been cut."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._closing = False

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(SOON)

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._relay, args=(client, next(self._cuts, None)), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _relay(self, client: socket.socket, left: int | None) -> None:
        with client, socket.create_connection((self._to.host, self._to.port or 80)) as server:
            while not self._closing:
                for ready in select.select([client, server], [], [], 0.1)[0]:
                    try:
                        piece = ready.recv(65536 if left is None else min(left, 65536))
                    except OSError:
                        return
                    if not piece:
                        return
                    with contextlib.suppress(OSError):  # the other side left: its own recv() tells
                        (server if ready is client else client).sendall(piece)
                    if left is not None and ready is server:
                        left -= len(piece)
                        if left == 0:
                            self.cut += 1
                            if self._reset:
                                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                            return


ASKED: dict[str, dict[str, Any]] = {"text": {"max_new_tokens": 40}, "chat": {"max_tokens": 40, "temperature": 0}}
SAMPLED = {"temperature": 0.9, "seed": 7}


@pytest.fixture(scope="module")
def quick() -> Iterator[str]:
    with BackgroundServer() as server, loaded():
        yield server.url


@RESUME
@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_lost_answer_goes_on(
    variant: Variant, clients: Clients, task: Task, quick: str, options: dict[str, Any], reset: bool
) -> None:
    asked = {**ASKED[task.name], **options}
    expected = await variant.rest(await task.open(variant, clients(quick), **asked))
    assert len(task.said(expected)) > 20
    with CuttingProxy(quick, [1500, 1501, 2300], reset=reset) as proxy:
        stream = await task.open(variant, clients(proxy.url, resume=True, retry=AGAIN), **asked)
        assert task.said(await variant.rest(stream)) == task.said(expected)
        assert stream.text == "".join(task.said(expected))
        assert proxy.cut == 3
        assert stream.metrics.resumed >= 1


@RESUME
async def test_without_resume_a_lost_answer_is_an_error(
    variant: Variant, clients: Clients, task: Task, quick: str
) -> None:
    with CuttingProxy(quick, [2000], reset=False) as proxy:
        with pytest.raises(InferenceConnectionError) as caught:
            await variant.rest(await task.open(variant, clients(proxy.url), **ASKED[task.name]))
        assert caught.value.partial_text
        assert proxy.cut == 1


# The same on both faces ----------------------------------------------------------------------------------------------

CHUNKED = row(
    "Streams",
    "an error's body comes in chunks, on an asynchronous stream",
    "`ResponseNotRead`, and the error's class is lost",
    "the same error as on a plain one",
)


@CHUNKED
async def test_an_error_in_pieces_is_the_same_on_both_faces(variant: Variant, clients: Clients, task: Task) -> None:
    words = "Input validation error: `max_new_tokens` must be strictly positive"
    body = json.dumps({"error": words, "error_type": "validation"}).encode()
    steps: list[Step] = [step for place in range(len(body)) for step in (body[place : place + 1], 0.0005)]
    with ScriptedServer(Response(steps, 422, "application/json", {"X-Request-Id": "r1"})) as server:
        with pytest.raises(ValidationError) as caught:
            await task.open(variant, clients(server.url))
        assert str(caught.value) == words
        assert caught.value.request_id == "r1"
        assert caught.value.response_body == body.decode()


LOOPS = row(
    "Streams",
    "a second `asyncio.run()` with the same client; trio",
    "`RuntimeError: event loop is closed`, warnings",
    "works, in silence",
)


@LOOPS.only(variant="async")
def test_a_client_lives_through_several_event_loops(task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        client = AsyncInferenceClient(server.url)

        async def main() -> list[str]:
            return task.said([item async for item in task.opened(client)])

        for backend in ("asyncio", "asyncio", "trio", "trio", "asyncio"):
            assert anyio.run(main, backend=backend) == WORDS
        asyncio.run(client.aclose())
        gc.collect()


async def _read_to_the_end(task: Task, client: AsyncInferenceClient) -> None:
    with pytest.raises(InferenceTimeoutError):
        async for _ in task.opened(client, timeout=Timeouts(between_tokens=0.05)):
            pass


async def _break(task: Task, client: AsyncInferenceClient) -> None:
    async for _ in task.opened(client):
        break


async def _with(task: Task, client: AsyncInferenceClient) -> None:
    async with task.opened(client) as stream:
        await anext(stream)


async def _close_the_client(task: Task, client: AsyncInferenceClient) -> None:
    stream = await task.opened(client)
    await client.aclose()
    assert [item async for item in stream] == []


async def _fail(task: Task, client: AsyncInferenceClient) -> None:
    with pytest.raises(ZeroDivisionError):
        async with task.opened(client) as stream:
            async for _ in stream:
                raise ZeroDivisionError


async def _close_from_another_task(task: Task, client: AsyncInferenceClient) -> None:
    stream = await task.opened(client)
    await anext(stream)
    async with anyio.create_task_group() as group:
        group.start_soon(stream.aclose)
        assert [item async for item in stream] == []


@LOOPS.only(variant="async")
@pytest.mark.parametrize("backend", PAUSES)
@pytest.mark.parametrize("leave", [_read_to_the_end, _break, _with, _close_the_client, _fail, _close_from_another_task])
def test_every_way_to_leave_is_silent_in_every_loop(
    task: Task, backend: str, leave: Callable[[Task, AsyncInferenceClient], Awaitable[None]]
) -> None:
    with ScriptedServer(endless(task)) as server:

        async def main() -> None:
            async with AsyncInferenceClient(server.url) as client:
                await leave(task, client)
                assert await anyio.to_thread.run_sync(server.wait_until_running, 0, SOON)
                assert len(server.requests) == 1

        anyio.run(main, backend=backend)
        gc.collect()  # what was left half-way would warn here


FORGETFUL = """
import asyncio, sys
from hfstream import AsyncInferenceClient, InferenceClient

client = AsyncInferenceClient(sys.argv[1])
plain = InferenceClient(sys.argv[1]).text_generation("Hi", stream=True)
kept = []
async def main():
    kept.append(await client.text_generation("Hi", stream=True))
    print(next(plain), await anext(kept[-1]))
asyncio.run(main())
asyncio.run(main())
"""


@LOOPS.only(variant="async", task="text")
def test_streams_left_open_at_the_end_of_the_program_are_silent() -> None:
    text = Task("text")
    with ScriptedServer(Response([text.event("Hello"), text.event("Hello"), Fault.STALL])) as server:
        command = [sys.executable, "-W", "always", "-c", FORGETFUL, server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * SOON)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello Hello\nHello Hello\n", "")


# Secrets -------------------------------------------------------------------------------------------------------------

TOKEN = row(
    "Streams",
    "a token for huggingface.co in the environment, and another `base_url`; two clients and a server's cookies; "
    "a redirect to another host",
    "the token is sent to whatever the URL names; cookies are shared",
    "the token goes to huggingface.co only; each client has its own cookies; neither follows a redirect elsewhere",
)
SECRET = "hf_do_not_tell"


@TOKEN
async def test_the_environments_token_goes_home_only(
    variant: Variant, clients: Clients, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        for client in (clients(server.url), clients(None, base_url=server.url)):
            await variant.rest(await task.open(variant, client))
            await variant.rest(await task.open(variant, client, model=server.url))
        assert len(server.requests) == 4
        assert not any(SECRET in str(request) for request in server.requests)

    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"".join(task.whole("Hi")))

    transport = httpx.MockTransport(answer)
    own: Any = (httpx.Client if variant.name == "sync" else httpx.AsyncClient)(transport=transport)
    client = clients("org/name", http_client=own)
    await variant.rest(await task.open(variant, client))
    await variant.rest(await task.open(variant, client, model="https://huggingface.co.example.org"))
    assert [request.url.host for request in sent] == ["router.huggingface.co", "huggingface.co.example.org"]
    assert [request.headers.get("authorization") for request in sent] == [f"Bearer {SECRET}", None]


@TOKEN
async def test_cookies_stay_with_their_client(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS), headers={"Set-Cookie": "session=theirs; Path=/"})) as server:
        for cookies in ({"mine": "1"}, None, {"mine": "2"}):
            await variant.rest(await task.open(variant, clients(server.url, cookies=cookies)))
        assert [request.headers.get("cookie") for request in server.requests] == ["mine=1", None, "mine=2"]


@TOKEN
@pytest.mark.parametrize("status", [307, 308])
async def test_nothing_secret_follows_a_redirect_elsewhere(
    variant: Variant, clients: Clients, task: Task, status: int
) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as elsewhere:
        moved = Response(status=status, headers={"Location": elsewhere.url + "/generate_stream"})  # another port
        with ScriptedServer(moved) as server:
            client = clients(server.url, token=SECRET, cookies={"session": SECRET})
            assert task.said(await variant.rest(await task.open(variant, client))) == WORDS
            assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
            assert server.requests[0].headers["cookie"] == f"session={SECRET}"
        assert len(elsewhere.requests) == 1
        assert SECRET not in str(elsewhere.requests[0])


TALE = row(
    "Streams",
    "secrets in logs, reprs and messages",
    "headers and URLs are shown with what is in them",
    "never shown: no token, no cookie, no header, no password of a URL, no query",
)


@TALE
async def test_secrets_are_not_told(
    variant: Variant, clients: Clients, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="hfstream")
    with ScriptedServer(
        Response.error(503, "busy"),
        Response(task.whole(*WORDS)),
        Response.error(422, "Input validation error"),
        Response([task.event("Hello"), Fault.DROP]),
        Response([b"<html>"], content_type="text/html"),
    ) as server:
        query = ("/generate_stream" if task.text else "/v1/chat/completions") + f"?key={SECRET}"
        secrets = {"headers": {"X-Api-Key": SECRET}, "cookies": {"session": SECRET}}
        client = clients(server.url + query, retry=AGAIN, token=SECRET, **secrets)
        stream = await task.open(variant, client)
        await variant.rest(stream)
        shown = [client, stream, stream._exchange, stream._exchange.spec, client._config, *stream.attempts]
        other = clients(server.url.replace("://", f"://user:{SECRET}@") + query, retry=AGAIN, **secrets)
        shown += [other, other._config]
        nobody = clients(f"http://user:{SECRET}@127.0.0.1:1{query}", retry=None, **secrets)
        for failing, options in (
            (client, {}),
            (client, {}),
            (other, {}),
            (nobody, {}),
            (client, {"extra_headers": {"X-Api-Key": f"{SECRET}\n"}}),
            (client, {"model": f"ftp://user:{SECRET}@host{query}"}),
        ):
            with pytest.raises((InferenceError, ValueError)) as caught:
                await variant.rest(await task.open(variant, failing, **options))
            shown += [caught.value, str(caught.value), vars(caught.value)]
        first, last = server.requests[0], server.requests[-1]
        assert all(SECRET in text for text in (first.path, first.headers["authorization"], first.headers["cookie"]))
        assert last.headers["authorization"].startswith("Basic ")
        assert len(server.requests) == 5
    assert SECRET not in " ".join(map(repr, shown))
    assert base64.b64encode(f"user:{SECRET}".encode()).decode() not in " ".join(map(repr, shown))
    assert "failed, next in" in caplog.text, "nothing was logged: nothing is tested"
    assert not any(SECRET in record.getMessage() for record in caplog.records if record.name.startswith("hfstream"))


# What is sent, and what is kept --------------------------------------------------------------------------------------

NULLS = row(
    "Streams",
    "keys whose value is None inside a JSON schema of the user's",
    "deleted",
    "kept; only parameters that are None are left out",
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"unit": {"default": None, "enum": ["C", None]}, "gone": {"const": None}},
    "examples": [{"unit": None}, None],
}


@NULLS
async def test_nulls_in_a_schema_are_kept(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS)), task.document("Hello")) as server:
        client = clients(server.url)
        options: dict[str, Any] = {"seed": None, "extra_body": {"mine": None}}
        if task.text:
            options["grammar"] = {"type": "json", "value": SCHEMA}
        else:
            options["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
            options["tools"] = [{"type": "function", "function": {"name": "x", "parameters": SCHEMA}}]
        await variant.rest(await task.open(variant, client, **options))
        await task.ask(variant, client, **options)
        assert len(server.requests) == 2
        for body in (request.json() for request in server.requests):
            assert body["mine"] is None
            assert "seed" not in body
            assert "seed" not in body.get("parameters", {})
            if task.text:
                assert body["parameters"]["grammar"]["value"] == SCHEMA
            else:
                assert body["response_format"]["json_schema"]["schema"] == SCHEMA
                assert body["tools"][0]["function"]["parameters"] == SCHEMA


MEMORY = row(
    "Streams",
    "memory that a client keeps of each stream it has read",
    "12 kB, for ever",
    "none",
)


STREAMS = 25


@MEMORY
async def test_nothing_is_kept_of_a_stream(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        client = clients(server.url)

        async def after_more() -> tuple[int, int]:
            for _ in range(STREAMS):
                stream = await task.open(variant, client)
                await variant.rest(stream)
                del stream
            server.requests.clear()
            gc.collect()
            return tracemalloc.get_traced_memory()[0], len(gc.get_objects())

        tracemalloc.start(1)
        try:
            kept = [await after_more() for _ in range(5)]
        finally:
            tracemalloc.stop()
    # What is kept of each stream is kept in each round; what a thread or a cache takes, once.
    size = min(then - now for (now, _), (then, _) in itertools.pairwise(kept))
    objects = min(then - now for (_, now), (_, then) in itertools.pairwise(kept))
    assert size < STREAMS * 200
    assert objects < STREAMS / 2


# Too much ------------------------------------------------------------------------------------------------------------

BOUNDS = row(
    "Streams",
    "an event or a header without an end, a gzip body that swells to a thousand times its size",
    "read until the memory is full",
    "a typed error, and memory within a bound",
)
MIB = 2**20


@contextlib.contextmanager
def at_most(mebibytes: int) -> Iterator[None]:
    """Fails if what runs within it takes more memory at its peak."""
    tracemalloc.start(1)
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mebibytes * MIB, f"{peak / MIB:.0f} MiB"


@BOUNDS
@pytest.mark.parametrize("start", [b"data: ", b": "], ids=["data", "a comment"])
async def test_an_event_without_an_end_is_refused(variant: Variant, clients: Clients, task: Task, start: bytes) -> None:
    # One that reads it all is told by its memory, not by a machine that stands still.
    body = itertools.chain([task.event("Hello"), start], itertools.repeat(b"x" * 65536, 80 * MIB // 65536))
    with ScriptedServer(Response(body)) as server:
        stream = await task.open(variant, clients(server.url))
        assert task.said([await variant.next(stream)]) == ["Hello"]
        with (
            at_most(40),
            pytest.raises(UnexpectedResponseError, match="larger than 16777216 bytes") as caught,
        ):
            await variant.rest(stream)
        assert caught.value.partial_text == "Hello"


@functools.cache
def bomb(size: int) -> bytes:
    """Zeros, compressed: a thousandth of `size` bytes."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(size // MIB)), packer.flush()])


@BOUNDS
@pytest.mark.parametrize(
    ("status", "expected"), [(200, UnexpectedResponseError), (400, BadRequestError)], ids=["stream", "refusal"]
)
async def test_a_body_that_swells_is_refused(
    variant: Variant, clients: Clients, task: Task, status: int, expected: type[InferenceError]
) -> None:
    with ScriptedServer(Response([bomb(448 * MIB)], status, headers={"Content-Encoding": "gzip"})) as server:
        client = clients(server.url, retry=None)
        with at_most(60), pytest.raises(expected):
            await task.open(variant, client)


@BOUNDS.only(task="text")
async def test_a_body_that_swells_twice_is_refused(variant: Variant, clients: Clients) -> None:
    packed = gzip.compress(bomb(448 * MIB))
    with ScriptedServer(Response([packed], headers={"Content-Encoding": "gzip, gzip"})) as server:
        client = clients(server.url, retry=None)
        with at_most(40), pytest.raises(UnexpectedResponseError, match="encoded as 'gzip, gzip'"):
            await variant.open(client)


@contextlib.contextmanager
def endless_head() -> Iterator[str]:
    """A server whose answer's head has no end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Long: ")
                for _ in range(64 * 16):
                    sock.sendall(b"x" * 65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(SOON)


@BOUNDS
async def test_a_head_without_an_end_is_refused(variant: Variant, clients: Clients, task: Task) -> None:
    with endless_head() as url, at_most(8), pytest.raises(InferenceConnectionError, match="broke"):
        await task.open(variant, clients(url, retry=None))


# Lines on the wire ---------------------------------------------------------------------------------------------------

LINES = "Lines on the wire"
BOM = b"\xef\xbb\xbf"


async def check(
    variant: Variant, clients: Clients, task: Task, wire: bytes, expected: list[str], kind: str = ""
) -> None:
    """Reads `wire` in one piece, and in pieces of three bytes."""
    crumbs: list[Step] = [wire[place : place + 3] for place in range(0, len(wire), 3)]
    for body in ([wire], crumbs):
        with ScriptedServer(Response(body, content_type=kind or "text/event-stream")) as server:
            stream = await task.open(variant, clients(server.url, retry=None))
            assert task.said(await variant.rest(stream)) == expected
            assert stream.text == "".join(expected)


A_BOM = row(LINES, "a byte order mark, whole or cut in two", "the first event is lost", "read over")


@A_BOM
async def test_a_byte_order_mark_is_no_content(variant: Variant, clients: Clients, task: Task) -> None:
    await check(variant, clients, task, BOM + b"".join(task.whole(*WORDS)), WORDS)
    with ScriptedServer(Response([BOM[:2], BOM[2:], *task.whole(*WORDS)])) as server:
        assert task.said(await variant.rest(await task.open(variant, clients(server.url)))) == WORDS


GHOSTS = row(
    LINES,
    "a block with only `event`, `id` or `retry`; a keep-alive comment after an `id`",
    "an event that nobody sent",
    "no event",
)


@GHOSTS
@pytest.mark.parametrize(
    "block", [b"event: ping\n\n", b"id: 1\n\n", b"retry: 10\n\n", b"id: 1\n\n: keep-alive\n\n:\n\n", b":\n\n\n\n"]
)
async def test_blocks_without_data_are_no_events(variant: Variant, clients: Clients, task: Task, block: bytes) -> None:
    wire = block + b"".join(event + block for event in task.whole(*WORDS))
    await check(variant, clients, task, wire, WORDS)
    decoder = SSEDecoder()
    assert [event.data for event in decoder.feed(block + b"data: a\n\n" + block)] == ["a"]


SEPARATORS = row(
    LINES,
    "U+2028, U+2029, U+0085, VT, FF, FS within data",
    "end the line, and break the JSON",
    "characters like others",
)


@SEPARATORS
@pytest.mark.parametrize(
    "character", ["\u2028", "\u2029", "\u0085", "\x7f", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"], ids=ascii
)
async def test_only_lf_and_cr_end_a_line(variant: Variant, clients: Clients, task: Task, character: str) -> None:
    word = f"a{character}b"
    await check(variant, clients, task, b"".join(task.whole("Hello", word)), ["Hello", word])
    assert [event.data for event in SSEDecoder().feed(f"data: {word}\n\n".encode())] == [word]


TIGHT = row(
    LINES,
    "`data:x`, without the space; data that begins with letters of `data:`",
    "not read as data; or the letters are stripped too (`lstrip`)",
    "read as it is meant",
)


@TIGHT
async def test_the_space_after_the_colon_is_optional(variant: Variant, clients: Clients, task: Task) -> None:
    wire = b"".join(task.whole(*WORDS)).replace(b"data: ", b"data:")
    assert wire.count(b"data:{") >= 3
    await check(variant, clients, task, wire, WORDS)
    with ScriptedServer(Response([b"event:error\ndata:data: at a tad\n\n"])) as server:
        with pytest.raises(ServerError) as caught:
            await task.open(variant, clients(server.url, retry=None))
        assert str(caught.value) == "data: at a tad"


MANY_LINES = row(LINES, "data of several lines; `data` without a colon", "JSON in pieces, or lost", "joined by LF")


@MANY_LINES
async def test_lines_of_data_are_joined(variant: Variant, clients: Clients, task: Task) -> None:
    wire = b"data\n\n" + b"".join(task.whole("a", "b")).replace(b',"', b'\ndata: ,"').replace(b"{", b"{\ndata\ndata:")
    await check(variant, clients, task, wire, ["a", "b"])
    assert [event.data for event in SSEDecoder().feed(b"data: a\ndata\ndata:b\n\n")] == ["a\n\nb"]


PARTIAL = row(
    LINES,
    "the body ends within an event",
    "the part is handed on as an event",
    "it does not count: `IncompleteStreamError`",
)


@PARTIAL
async def test_a_part_of_an_event_is_none(variant: Variant, clients: Clients, task: Task) -> None:
    first, part = task.event("Hello"), task.event(" never")
    for end in (part[:-1], part[:-2], part[:-9]):
        with ScriptedServer(Response([first, end])) as server:
            stream = await task.open(variant, clients(server.url, retry=None))
            with pytest.raises(IncompleteStreamError) as caught:
                await variant.rest(stream)
            assert caught.value.partial_text == "Hello"


BROKEN_UTF8 = row(LINES, "bytes that are no UTF-8", "`UnicodeDecodeError`", "U+FFFD, and the stream goes on")


@BROKEN_UTF8
async def test_broken_utf8_is_a_replacement_character(variant: Variant, clients: Clients, task: Task) -> None:
    wire = b"".join(task.whole("a$b", "c")).replace(b"$", b"\xff")
    await check(variant, clients, task, wire, ["a\ufffdb", "c"])
    assert [event.data for event in SSEDecoder().feed(b"data: a\xff\n\ndata: b\n\n")] == ["a\ufffd", "b"]


CHARSET = row(
    LINES, "a charset in the header that is not UTF-8", "obeyed: the text is garbled", "passed over: SSE is UTF-8"
)


@CHARSET
@pytest.mark.parametrize("charset", ["latin-1", "utf-16", "nonsense"])
async def test_an_event_stream_is_utf8(variant: Variant, clients: Clients, task: Task, charset: str) -> None:
    words = ["Käse", " 日本", " 👩‍🚀"]
    await check(variant, clients, task, b"".join(task.whole(*words)), words, f"text/event-stream; charset={charset}")


RETRY_FIELD = row(
    LINES, "`retry: -5`, `retry: 1_000`, `retry: +5`", "taken for numbers", "passed over: only digits are one"
)


@RETRY_FIELD
async def test_only_digits_are_a_reconnection_time(variant: Variant, clients: Clients, task: Task) -> None:
    decoder = SSEDecoder()
    for value in (b" -5", b"1_000", b"+5", b"5 ", b"5.0", "\u0665".encode(), b""):
        [event] = decoder.feed(b"retry: " + value + b"\ndata: a\n\n")
        assert (event.retry, decoder.retry) == (None, None), value
    [event] = decoder.feed(b"retry: 1000\ndata: a\n\n")
    assert (event.retry, decoder.retry) == (1000, 1000)
    wire = b"".join(b"retry: -5\n" + event + b"retry: 1_000\n\n" for event in task.whole(*WORDS))
    await check(variant, clients, task, wire, WORDS)


CR_ONLY = row(LINES, "a server that ends its lines with CR", "each event comes when the next one does", "at once")


@CR_ONLY
@pytest.mark.parametrize("end", [b"\r", b"\r\n"], ids=["CR", "CRLF"])
async def test_a_cr_ends_a_line_at_once(variant: Variant, clients: Clients, task: Task, end: bytes) -> None:
    heard = threading.Semaphore(0)
    first = 0 if task.text else 1  # after the role

    def body() -> Iterator[Step]:
        """Sends an event only when the one before has been handed out."""
        for place, event in enumerate(task.whole(*WORDS), -first):
            yield event.replace(b"\n", end)
            if 0 <= place < len(WORDS) and not heard.acquire(timeout=SOON):
                yield Fault.DROP

    with ScriptedServer(Response(body())) as server:
        stream = await task.open(variant, clients(server.url, retry=None))
        said: list[str] = []
        while (item := await variant.next(stream)) is not None:
            if words := task.said([item]):
                said += words
                heard.release()
        assert said == WORDS


LARGE = row(
    LINES,
    "one event of 0.9 MiB in pieces of 1 KiB",
    "the buffer is copied at each piece: the time grows with the square",
    "linear",
)


@LARGE
async def test_a_large_event_in_small_pieces(variant: Variant, clients: Clients, task: Task) -> None:
    word = "x" * 900_000
    wire = b"".join(task.whole("Hello", word))
    pieces: list[Step] = [wire[place : place + 1024] for place in range(0, len(wire), 1024)]
    with ScriptedServer(Response(pieces)) as server:
        assert task.said(await variant.rest(await task.open(variant, clients(server.url)))) == ["Hello", word]


@LARGE.only(variant="sync", task="text")
def test_the_time_for_a_large_event_is_linear() -> None:
    # One buffer that is copied at each piece would move 0.5 TB, which takes a minute and more.
    decoder, piece = SSEDecoder(), b"x" * 16
    decoder.feed(b"data: ")
    began = os.times()
    for _ in range(250_000):
        decoder.feed(piece)
    [event] = decoder.feed(b"\n\n")
    spent = os.times()
    assert len(event.data) == 4_000_000
    assert spent.user + spent.system - began.user - began.system < 15


UNBOUNDED = row(LINES, "an event that never ends", "no bound on its size", "`UnexpectedResponseError` at 16 MiB")


@UNBOUNDED.only(variant="sync", task="text")
@pytest.mark.parametrize("start", [b"data: ", b": ", b"id: ", b"event: ", b"data: x\n"])
def test_a_decoder_has_a_bound(start: bytes) -> None:
    decoder = SSEDecoder(max_event_size=10_000)
    decoder.feed(start)
    with pytest.raises(UnexpectedResponseError, match="larger than 10000 bytes"):
        for _ in range(10_000):
            decoder.feed(b"data: x\n" if start.endswith(b"\n") else b"xxxx")


# The page ------------------------------------------------------------------------------------------------------------


def test_the_page_is_of_these_rows() -> None:
    expected = page({row: row.claimed for rows in ROWS.values() for row in rows})
    assert PAGE.read_text(encoding="utf-8") == expected, "run: python tests/robustness.py"
