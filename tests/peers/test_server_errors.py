"""Errors as servers write them, in a stream or with a status; overload and Retry-After."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream import (
    AuthenticationError,
    BadRequestError,
    GenerationError,
    InferenceError,
    NotFoundError,
    OverloadedError,
    RetryPolicy,
    ServerError,
    ValidationError,
)
from hfstream.testing import (
    Response,
    ScriptedServer,
    Step,
)
from tests.helpers.recordings import event
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import AGAIN, WORDS, Task

SHAPES = row(
    "Streams",
    '`{"error": {...}}`, `{"error": .., "error_type": ..}`, `event: error`, `{"detail": ..}`, `{"message": ..}`, '
    "a list, plain text, an empty body",
    "the repr of a dict as the message, a lost message, the error yielded as a chunk, `AttributeError`",
    "the matching error class, with the server's message",
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


@SHAPES
async def test_a_message_is_an_error_if_nothing_follows_it(variant: Variant, clients: Clients, task: Task) -> None:
    """``{"message": "queued"}`` is sent amid good streams too: what follows it shows what it is."""
    message = event({"message": "no words left"})
    first, second = Response([message]), Response([task.event("Hello"), message])
    third = Response([message, task.event("Hello"), message, *task.whole(" you")])
    with ScriptedServer(first, second, third) as server:
        client = clients(server.url, retry=None)
        with pytest.raises(ServerError, match="no words left"):
            await task.open(variant, client)
        stream = await task.open(variant, client)
        with pytest.raises(ServerError, match="no words left") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == "Hello"
        assert "".join(task.texts(await variant.rest(await task.open(variant, client)))) == "Hello you"


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
    "an overloaded server reports it in the first event of a 200 response",
    "never retried",
    "retried, as after a 429",
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
async def test_an_overload_in_the_first_event_is_retried_like_a_429(
    variant: Variant, clients: Clients, task: Task, event: bytes
) -> None:
    with ScriptedServer(Response([event]), Response([b":\n\n" + event]), Response(task.whole(*WORDS))) as server:
        stream = await task.open(variant, clients(server.url, retry=AGAIN))
        assert task.texts(await variant.rest(stream)) == WORDS
        refused, again, answered = stream.attempts
        assert [type(attempt.error) for attempt in (refused, again)] == [OverloadedError] * 2
        assert refused.error.status_code == 429
        assert answered.error is None


RETRY_AFTER = row(
    "Streams",
    "429 or 503 with `Retry-After`",
    "ignored (huggingface_hub), or limited in unexpected ways",
    "honoured, with jitter and an upper limit",
)


async def delays(variant: Variant, clients: Clients, task: Task, answers: list[Response], **policy: Any) -> list[float]:
    """How long the client chose to wait before each further attempt."""
    with ScriptedServer(*answers, Response(task.whole(*WORDS))) as server:
        client = clients(server.url, retry=RetryPolicy(attempts=len(answers) + 1, **policy))
        stream = await task.open(variant, client)
        assert task.texts(await variant.rest(stream)) == WORDS
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
@pytest.mark.slow
async def test_Retry_After_is_honoured(
    variant: Variant, clients: Clients, task: Task, status: int, headers: dict[str, str], seconds: float
) -> None:
    refusal = Response([b'{"error":"busy"}'], status, "application/json", headers)
    [delay] = await delays(variant, clients, task, [refusal], max_wait=0.5)
    assert seconds <= delay <= seconds + 0.11  # a quarter more at most, or a tenth of a second; and a retry's place


@RETRY_AFTER
async def test_retries_are_spread_by_jitter(variant: Variant, clients: Clients, task: Task) -> None:
    chosen = await delays(variant, clients, task, [Response.error(429, "busy", Retry_After_Ms="1")] * 4)
    assert len(set(chosen)) == 4
    assert max(chosen) - min(chosen) > 0.001
