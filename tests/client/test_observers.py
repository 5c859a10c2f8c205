"""Observers: what they are told of a call, and that they do it no harm. On both variants."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import tenacity

from hfstream import (
    AsyncInferenceClient,
    Attempt,
    InferenceClient,
    InferenceError,
    OverloadedError,
    RetryPolicy,
    Timeouts,
)
from hfstream.observers import Call, CallObserver
from hfstream.testing import Fault, Response, ScriptedServer, chat_events, token_events
from tests.helpers.exchanges import numbered
from tests.helpers.forks import FORKS, in_child
from tests.helpers.variants import HI, Clients, Variant

OVERLOADED = Response.error(429, "Model is overloaded", "overloaded")
STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")
ENDLESS = Response([STREAM[0], Fault.STALL])
AT_ONCE = RetryPolicy(attempts=2, wait=tenacity.wait_none())

LOG: list[str] = []
"""What the observers of a test have been told."""


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


class Recorder(CallObserver):
    def __init__(self, call: Call) -> None:
        super().__init__(call)
        LOG.append(f"{call.operation} {call.model} streamed={call.streamed}")

    def on_request(self, attempt: Attempt) -> Mapping[str, str] | None:
        LOG.append(f"request {attempt.number}")
        return {"X-Attempt": str(attempt.number), "x-key": "observer"}

    def on_first_token(self) -> None:
        LOG.append("first token")

    def on_attempt_failed(self, attempt: Attempt, delay: float | None) -> None:
        LOG.append(f"failed {type(attempt.error).__name__} {attempt.status_code} {delay}")

    def on_end(self, error: BaseException | None) -> None:
        LOG.append(f"end {type(error).__name__} complete={self.call.complete} {self.call.text!r}")


async def test_a_stream_that_is_retried(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(OVERLOADED, Response(STREAM)) as server:
        client = clients(server.url, retry=AT_ONCE, headers={"X-Key": "client"}, observers=[Recorder])
        assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
        sent = [(request.headers["x-attempt"], request.headers["x-key"]) for request in server.requests]
    assert sent == [("1", "client"), ("2", "client")]
    assert LOG == [
        "text_generation None streamed=True",
        "request 1",
        "failed OverloadedError 429 0.0",
        "request 2",
        "first token",
        "end NoneType complete=True 'Hello, you'",
    ]


async def test_a_call_that_fails(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(OVERLOADED, OVERLOADED) as server:
        client = clients(server.url, retry=AT_ONCE, observers=[Recorder])
        with pytest.raises(OverloadedError):
            await variant.chat(client)
    assert LOG == [
        "chat_completion tgi streamed=False",
        "request 1",
        "failed OverloadedError 429 0.0",
        "request 2",
        "failed OverloadedError 429 None",
        "end OverloadedError complete=False ''",
    ]


async def test_a_stream_that_is_resumed_has_one_first_token(variant: Variant, clients: Clients) -> None:
    first, *rest = numbered(STREAM)
    with ScriptedServer(Response([first, Fault.RESET]), Response(rest)) as server:
        client = clients(server.url, retry=AT_ONCE, resume=True, observers=[Recorder])
        assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
    assert LOG.count("first token") == 1
    assert LOG[2:] == [
        "first token",
        "failed InferenceConnectionError 200 0.0",
        "request 2",
        "end NoneType complete=True 'Hello, you'",
    ]


async def _close(variant: Variant, client: Any, stream: Any) -> None:
    await variant.close(stream)


async def _close_the_client(variant: Variant, client: Any, stream: Any) -> None:
    await variant.close(client)


@pytest.mark.parametrize("leave", [_close, _close_the_client])
async def test_a_stream_that_is_left(variant: Variant, clients: Clients, leave: Callable[..., Any]) -> None:
    with ScriptedServer(ENDLESS) as server:
        client = clients(server.url, observers=[Recorder])
        stream = await variant.open(client)
        assert LOG[-1] == "first token"
        await leave(variant, client, stream)
        assert LOG[-1] == "end NoneType complete=False 'Hello'"
    assert len(LOG) == 4


async def test_a_stream_that_is_dropped() -> None:
    with ScriptedServer(ENDLESS) as server:
        with InferenceClient(server.url, observers=[Recorder]) as client:
            for _ in client.text_generation("Hi", stream=True):
                break
            gc.collect()
            assert LOG[-1] == "end NoneType complete=False 'Hello'"
        LOG.clear()
        async with AsyncInferenceClient(server.url, observers=[Recorder]) as async_client:
            async for _ in async_client.text_generation("Hi", stream=True):
                break
            gc.collect()
            assert LOG[-1] == "end NoneType complete=False 'Hello'"


async def test_a_cancelled_call_has_an_end() -> None:
    with ScriptedServer(Response([Fault.STALL])) as server:
        async with AsyncInferenceClient(server.url, observers=[Recorder]) as client:
            unused = client.text_generation("never awaited", stream=True)
            task = asyncio.create_task(client.text_generation("Hi"))
            assert await asyncio.to_thread(server.wait_until_running, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del unused
    assert LOG == ["text_generation None streamed=False", "request 1", "end NoneType complete=False ''"]


async def test_a_call_that_ends_before_its_first_request(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(ENDLESS) as server:
        client = clients(server.url, max_concurrency=1, observers=[Recorder])
        stream = await variant.open(client)
        LOG.clear()
        with pytest.raises(InferenceError):
            await variant.whole(client, timeout=Timeouts(total=0.05))
        assert LOG == ["text_generation None streamed=False", "end InferenceTimeoutError complete=False ''"]
        await variant.close(stream)


async def test_what_a_call_shows(variant: Variant, clients: Clients) -> None:
    calls: list[Call] = []

    def observe(call: Call) -> CallObserver:
        calls.append(call)
        return CallObserver(call)

    with ScriptedServer(Response(chat_events("Hello", " you"))) as server:
        client = clients(server.url, observers=[observe])
        stream = await variant.open_chat(client, max_tokens=5, model="my-model")
        whole = await variant.final(stream)
        [call] = calls
        assert call.url == f"{server.url}/v1/chat/completions"
        assert call.model == "my-model"
        assert call.body == {"model": "my-model", "messages": list(HI), "stream": True, "max_tokens": 5}
        assert (call.text, call.finish_reason, call.usage) == (stream.text, stream.finish_reason, stream.usage)
        assert call.metadata["id"] == whole.id
        assert call.finish_reasons == ["stop"]
        assert call.result() == whole
        assert repr(call).startswith(f"<Call of POST {server.url}: complete")
        assert len(call.attempts) == 1


async def test_a_failing_observer_is_logged_and_does_no_harm(
    variant: Variant, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(CallObserver):
        def on_request(self, attempt: Attempt) -> None:
            raise ValueError("in on_request")

        def on_end(self, error: BaseException | None) -> None:
            raise ValueError("in on_end")

    def cannot(call: Call) -> CallObserver:
        raise ValueError("in the factory")

    with ScriptedServer(Response(STREAM)) as server, caplog.at_level(logging.ERROR, "hfstream"):
        client = clients(server.url, observers=[Failing, cannot, Recorder])
        assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
    assert [record.exc_info[1].args[0] for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        "in the factory",
        "in on_request",
        "in on_end",
    ]
    assert LOG[-1] == "end NoneType complete=True 'Hello, you'"


@pytest.mark.parametrize(
    "headers", [{"X-N": 1}, {"X-N": None}, ["x"], {"X-N": "a\nb"}, {"X N": "a"}, {"Content-Length": "1"}], ids=str
)
async def test_headers_that_cannot_be_sent_are_logged_and_left_out(
    variant: Variant, clients: Clients, caplog: pytest.LogCaptureFixture, headers: Any
) -> None:
    class Adding(CallObserver):
        def on_request(self, attempt: Attempt) -> Any:
            return headers

    with ScriptedServer(Response(STREAM)) as server, caplog.at_level(logging.ERROR, "hfstream"):
        client = clients(server.url, observers=[Adding, Recorder])
        assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
    assert "an observer of a call has failed" in caplog.text
    assert server.requests[0].headers["x-attempt"] == "1"
    assert "x-n" not in server.requests[0].headers


async def test_other_calls_are_not_observed(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response.json({})) as server:
        assert await variant.ask(clients(server.url, observers=Recorder), "health_check") is True
    assert LOG == []


@FORKS
async def test_a_forked_child_does_not_end_its_parents_call(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(ENDLESS) as server:
        client = clients(server.url, observers=[Recorder])
        streams = [await variant.open(client)]

        def end_in_child() -> list[str]:
            streams.clear()
            gc.collect()
            return LOG

        assert in_child(end_in_child)[-1] == "first token"
        await variant.close(streams[0])
    assert LOG[-1] == "end NoneType complete=False 'Hello'"


def test_an_error_that_is_kept_keeps_no_observer() -> None:
    made: list[weakref.ref[Recorder]] = []

    def observe(call: Call) -> CallObserver:
        recorder = Recorder(call)
        made.append(weakref.ref(recorder))
        return recorder

    with ScriptedServer(Response.error(422, "bad", "validation")) as server:
        client = InferenceClient(server.url, observers=[observe])
        with pytest.raises(InferenceError) as caught:
            client.text_generation("Hi")
        client.close()
    gc.collect()
    [recorder] = made
    assert recorder() is None
    assert LOG[-1].startswith(f"end {caught.type.__name__}")


def test_what_is_no_observer_is_refused() -> None:
    with pytest.raises(TypeError, match="subclasses of CallObserver"):
        InferenceClient("http://h", observers=["x"])  # type: ignore[list-item]
