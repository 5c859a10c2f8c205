"""`TokenStreamResponse` in a FastAPI application behind uvicorn, with streams of both clients."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.types import Message

from hfstream import AsyncInferenceClient, InferenceClient, InferenceError, sse
from hfstream.starlette import TokenStreamResponse, handle_inference_error
from hfstream.testing import Fault, Response, ScriptedServer, Step, chat_events, token_event, token_events
from tests.helpers.web_applications import running

ROUTES = ("async", "awaited", "sync")


def application(model: str, kind: str, options: dict[str, Any], **settings: Any) -> FastAPI:
    """An application with one route that streams, as users write it."""
    app = FastAPI()
    app.add_exception_handler(InferenceError, handle_inference_error)
    client, async_client = InferenceClient(model, retry=None), AsyncInferenceClient(model, retry=None)

    def call(client: Any) -> Any:
        if options.get("chat"):
            return client.chat_completion([{"role": "user", "content": "Hi"}], stream=True)
        return client.text_generation("Hi", stream=True, **options)

    async def with_async_client() -> TokenStreamResponse:
        return TokenStreamResponse(call(async_client), **settings)

    async def awaited() -> TokenStreamResponse:
        return TokenStreamResponse(await call(async_client), **settings)

    def with_sync_client() -> TokenStreamResponse:
        return TokenStreamResponse(call(client), **settings)

    app.get("/")({"async": with_async_client, "awaited": awaited, "sync": with_sync_client}[kind])
    return app


def ask(kind: str, *responses: Response, **settings: Any) -> httpx.Response:
    """What the browser gets of an application whose model server answers with `responses`."""
    options = settings.pop("options", {})
    with ScriptedServer(*responses) as model, running(application(model.url, kind, options, **settings)) as url:
        return httpx.get(url, timeout=60)


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    """The events of a response: their names, and the JSON of their data."""
    return [(event.event, json.loads(event.data)) for event in sse.SSEDecoder().feed(response.content)]


@pytest.fixture(params=ROUTES)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_each_token_is_an_event_and_the_end_is_one(kind: str) -> None:
    response = ask(kind, Response(token_events("Hello", "\r\n", " you")))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    *tokens, (name, done) = events(response)
    assert tokens == [("message", "Hello"), ("message", "\r\n"), ("message", " you")]
    assert name == "done"
    assert set(done) == {"finish_reason", "usage"}


def test_details_are_objects(kind: str) -> None:
    response = ask(kind, Response(token_events("a", "b", finish_reason="eos_token")), options={"details": True})
    (_, first), *_, (_, last), done = events(response)
    assert first["token"]["text"] == "a"
    assert "generated_text" not in first
    assert last["generated_text"] == "ab"
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert done == ("done", {"finish_reason": "eos_token", "usage": usage})


def test_chunks_of_a_chat_are_objects(kind: str) -> None:
    response = ask(kind, Response(chat_events("a", "b")), options={"chat": True})
    *chunks, done = events(response)
    assert "".join(choice["delta"].get("content", "") for _, chunk in chunks for choice in chunk["choices"]) == "ab"
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    assert done == ("done", {"finish_reason": "stop", "usage": usage})


OVERLOADED = Response.error(429, "Model is overloaded", "overloaded", Retry_After="7")
INVALID = Response.error(422, "`temperature` must be strictly positive", "validation")
REFUSED = Response.error(401, "the key sk-123 is wrong")
BROKEN = Response([Fault.DROP])


@pytest.mark.parametrize(
    ("answer", "status", "error_type", "message"),
    [
        (OVERLOADED, 429, "overloaded", "Model is overloaded"),
        (INVALID, 422, "validation", "`temperature` must be strictly positive"),
        (REFUSED, 502, "upstream_authentication", "the model server refused the request"),
        (BROKEN, 502, "upstream_failed", "the model server failed"),
    ],
    ids=["overloaded", "invalid", "refused", "broken"],
)
def test_an_error_before_the_first_token_is_a_status(
    kind: str, answer: Response, status: int, error_type: str, message: str
) -> None:
    response = ask(kind, answer)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"error": message, "error_type": error_type}
    assert response.headers.get("retry-after") == ("7" if status == 429 else None)


def test_an_error_after_it_is_an_event(kind: str) -> None:
    overloaded = b'data: {"error":"Model is overloaded","error_type":"overloaded"}\n\n'
    response = ask(kind, Response([token_event(1, "Hello"), overloaded]))
    assert response.status_code == 200
    assert events(response) == [
        ("message", "Hello"),
        ("error", {"error": "Model is overloaded", "error_type": "overloaded"}),
    ]


def test_what_is_hidden_from_the_browser_is_logged(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hfstream.starlette"):
        response = ask(kind, Response([token_event(1, "Hello"), Fault.DROP]))
    assert events(response)[-1] == ("error", {"error": "the model server failed", "error_type": "upstream_failed"})
    [record] = [record for record in caplog.records if record.name == "hfstream.starlette"]
    assert "127.0.0.1" in record.getMessage()


def until(gate: threading.Event, first: list[Step], then: list[Step]) -> Iterator[Step]:
    """Steps of a body, of which the last wait for `gate`."""
    yield from first
    gate.wait(60)
    yield from then


def lines_of(url: str) -> Iterator[str]:
    with httpx.stream("GET", url, timeout=60) as response:
        assert response.status_code == 200
        yield from response.iter_lines()


@pytest.mark.parametrize("kind", ["async", "awaited", "sync"])
def test_comments_are_sent_while_nothing_comes(kind: str) -> None:
    gate = threading.Event()
    one, two = token_events("one", "two")
    answer = Response(until(gate, [one], [two]))
    with ScriptedServer(answer) as model:
        app = application(model.url, kind, {}, keepalive_interval=0.01)
        with running(app) as url:
            seen = ""
            for line in lines_of(url):
                seen += line + "\n"
                if seen.partition('"one"')[2].count(":\n") == 3:
                    gate.set()
    assert seen.partition('"one"')[2].count(":\n") >= 3
    assert 'data: "two"' in seen


def test_comments_are_sent_before_the_first_token_and_an_error_is_an_event_then() -> None:
    gate = threading.Event()
    answer = Response(until(gate, [": waiting\n\n"], [b'data: {"error":"no","error_type":"validation"}\n\n']))
    with ScriptedServer(answer) as model:
        app = application(model.url, "async", {}, keepalive_interval=0.01)
        with running(app) as url:
            seen = []
            for line in lines_of(url):
                seen.append(line)
                if line == ":":
                    gate.set()
    assert "event: error" in seen
    assert 'data: {"error":"no","error_type":"validation"}' in seen


@pytest.mark.parametrize("tokens", [0, 1])
def test_the_stream_is_closed_when_the_browser_leaves(kind: str, tokens: int) -> None:
    """While it waits for a token, in a task or in a thread; and while the response waits for the first one."""
    if kind != "async" and not tokens:
        return  # these wait for the first token before there is a response
    answer = Response([*token_events("a", "b")[:tokens], Fault.STALL])
    with ScriptedServer(answer) as model, running(application(model.url, kind, {}, keepalive_interval=0.01)) as url:
        with httpx.stream("GET", url, timeout=60) as response:
            lines = response.iter_lines()  # kept: a generator that is dropped closes the connection
            assert next(lines)
            assert model.wait_until_running(1, 10)
        assert model.wait_until_running(0, 10), "the stream goes on"
    assert len(model.requests) == 1


def test_an_event_source_that_connects_again_is_told_to_stop(kind: str) -> None:
    """Of an async client, before a request is made; a sync client's call has made one, which is closed."""
    with ScriptedServer(Response([token_event(1, "a"), Fault.STALL])) as model:
        with running(application(model.url, kind, {})) as url:
            response = httpx.get(url, headers={"Last-Event-ID": "1"}, timeout=60)
        assert response.status_code == 204
        assert response.content == b""
        assert len(model.requests) == (0 if kind == "async" else 1)


def test_headers_and_a_background_task_are_the_users_own() -> None:
    ran = threading.Event()
    response = ask("async", Response(token_events("a")), headers={"X-Mine": "1"}, background=BackgroundTask(ran.set))
    assert response.headers["x-mine"] == "1"
    assert ran.wait(60)


def test_what_is_no_stream_is_refused() -> None:
    with pytest.raises(TypeError, match="a client's call with stream=True returns a stream, not str"):
        TokenStreamResponse("text")


async def test_the_handler_leaves_other_errors_alone() -> None:
    with pytest.raises(KeyError):
        await handle_inference_error(Request({"type": "http"}), KeyError("x"))


async def test_an_error_of_the_application_is_raised_as_it_is() -> None:
    """Not in an ExceptionGroup, and not before the stream is closed."""

    class Items:
        closed = False

        def __aiter__(self) -> Items:
            return self

        async def __anext__(self) -> str:
            raise KeyError("x")

        async def aclose(self) -> None:
            self.closed = True

    async def receive() -> Message:
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError(message)

    items = Items()
    with pytest.raises(KeyError):
        await TokenStreamResponse(items)({"type": "http", "headers": []}, receive, send)
    assert items.closed


async def test_a_server_that_raises_when_the_browser_has_left() -> None:
    async def receive() -> Message:
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: Message) -> None:
        raise OSError("the connection is closed")

    with ScriptedServer(Response([token_event(1, "a"), Fault.STALL])) as model:
        async with AsyncInferenceClient(model.url) as client:
            response = TokenStreamResponse(client.text_generation("Hi", stream=True))
            await response({"type": "http", "headers": []}, receive, send)
            assert model.wait_until_running(0)
