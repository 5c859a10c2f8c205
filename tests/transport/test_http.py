"""The wire below the streams: proxies, redirects, forks, and clients that are closed at a bad moment."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import threading
import time
import zlib
from typing import Any

import httpcore
import httpx
import pytest

from hfstream import (
    AsyncInferenceClient,
    InferenceClient,
    InferenceConnectionError,
    InferenceTimeoutError,
    RetryPolicy,
    Timeouts,
    UnexpectedResponseError,
)
from hfstream.testing import Fault, Request, Response, ScriptedServer, token_events
from tests.helpers.variants import Clients, Variant

STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")
ENDLESS = Response([STREAM[0], Fault.STALL])


@pytest.mark.parametrize("named", ["localhost,127.0.0.1", "*", ".example.com, 127.0.0.1", "::1,http://127.0.0.1"])
@pytest.mark.slow
async def test_a_host_that_needs_no_proxy_gets_our_sockets(
    variant: Variant, clients: Clients, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("NO_PROXY", named)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with ScriptedServer(ENDLESS) as server:
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError, match="between_tokens"):
            stream = await variant.open(clients(server.url, timeout=Timeouts(first_token=300, between_tokens=0.2)))
            await variant.rest(stream)
        assert time.monotonic() - started < 60


async def test_a_proxy_from_the_environment_is_used(
    variant: Variant, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with ScriptedServer(Response([*STREAM, Fault.STALL])) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        started = time.monotonic()
        limits = Timeouts(first_token=300, between_tokens=300)
        stream = await variant.open(clients("http://model.invalid", timeout=limits))
        assert await variant.rest(stream) == ["Hello", ",", " you"]
        assert time.monotonic() - started < 60  # its sockets know no deadline, and the end is still bounded
        assert proxy.requests[0].path == "http://model.invalid/generate_stream"


@pytest.mark.parametrize("status", [307, 308])
async def test_no_secret_follows_a_redirect_to_another_origin(variant: Variant, clients: Clients, status: int) -> None:
    with ScriptedServer(Response(STREAM)) as elsewhere:
        location = elsewhere.url.replace("127.0.0.1", "localhost") + "/generate_stream"
        with ScriptedServer(Response(status=status, headers={"Location": location})) as server:
            client = clients(
                server.url,
                token="hf_secret",
                cookies={"sess": "secret"},
                headers={"api-key": "secret"},
                bill_to="secret",
            )
            assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
            assert server.requests[0].headers["cookie"] == "sess=secret"
            assert server.requests[0].headers["authorization"] == "Bearer hf_secret"
        assert "secret" not in str(elsewhere.requests[0].headers)
        assert elsewhere.requests[0].json() == server.requests[0].json()


async def test_a_redirect_that_leads_nowhere_ends(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(status=307, headers={"Location": "/generate_stream"})) as server:
        with pytest.raises(UnexpectedResponseError, match="redirect"):
            await variant.open(clients(server.url))
        assert len(server.requests) == 21


async def test_a_redirect_within_the_origin_keeps_the_token(variant: Variant, clients: Clients) -> None:
    def answer(request: Request) -> Response:
        if request.path == "/generate_stream":
            return Response(status=307, headers={"Location": "/other/generate_stream"})
        return Response(STREAM)

    with ScriptedServer(answer) as server:
        stream = await variant.open(clients(server.url, token="secret"))
        assert await variant.rest(stream) == ["Hello", ",", " you"]
        assert server.requests[1].headers["authorization"] == "Bearer secret"


async def test_nothing_is_asked_again_when_the_end_is_interrupted(
    variant: Variant, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Response([STREAM[0], 0.05, Fault.DROP]), Response(STREAM)) as server:
        stream = await variant.open(clients(server.url))
        response = stream._response

        def interrupt() -> None:
            raise KeyboardInterrupt

        async def interrupt_async() -> None:
            raise KeyboardInterrupt

        assert await variant.next(stream) == "Hello"
        name = "close" if variant.name == "sync" else "aclose"
        close = getattr(response, name)
        monkeypatch.setattr(response, name, interrupt if variant.name == "sync" else interrupt_async)
        read: Any = stream._read() if variant.name == "async" else None
        with pytest.raises(KeyboardInterrupt):
            if read is None:
                stream._read()
            else:
                read.send(None)
                while True:
                    await asyncio.sleep(0.01)
                    read.send(None)
        await asyncio.to_thread(close) if variant.name == "sync" else await close()
        assert await variant.rest(stream) == []
        assert len(server.requests) == 1


async def test_an_alarm_rings_in_another_thread_too() -> None:
    client: Any = None

    async def wait_for_a_retry() -> None:
        nonlocal client
        client = AsyncInferenceClient(server.url, retry=RetryPolicy(max_wait=30))
        with pytest.raises(InferenceConnectionError, match="client was closed"):
            await client.text_generation("Hi", stream=True)

    with ScriptedServer(Response.error(429, "Model is overloaded", Retry_After="30")) as server:
        thread = threading.Thread(target=lambda: asyncio.run(wait_for_a_retry()))
        thread.start()
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        await client.aclose()
        await asyncio.to_thread(thread.join, 60)
        assert not thread.is_alive()


def test_a_client_that_is_closed_while_it_connects_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = httpcore.SyncBackend.connect_tcp
    connecting = threading.Event()

    def slowly(self: Any, *args: Any, **kwargs: Any) -> Any:
        connecting.set()
        end = time.monotonic() + 60
        while not client._http._closed and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)
        return connect(self, *args, **kwargs)

    def close_then() -> None:
        assert connecting.wait(60)
        client.close()

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", slowly)
    with ScriptedServer(ENDLESS) as server:
        client = InferenceClient(server.url)
        closer = threading.Thread(target=close_then)
        closer.start()
        started = time.monotonic()
        with pytest.raises(InferenceConnectionError, match="client was closed"):
            client.text_generation("Hi", stream=True)
        assert time.monotonic() - started < 60
        closer.join()


def test_many_readers_end_when_their_client_is_closed() -> None:
    with ScriptedServer(ENDLESS) as server:
        for _ in range(5):
            client = InferenceClient(server.url)
            ended: list[Any] = []

            def read(client: InferenceClient = client, ended: list[Any] = ended) -> None:
                try:
                    ended.append(list(client.text_generation("Hi", stream=True)))
                except (InferenceConnectionError, RuntimeError) as error:
                    ended.append(error)

            threads = [threading.Thread(target=read) for _ in range(20)]
            for thread in threads:
                thread.start()
            time.sleep(0.02)
            client.close()
            for thread in threads:
                thread.join(60)
            assert not any(thread.is_alive() for thread in threads)
            assert len(ended) == 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_stream_alone() -> None:
    with ScriptedServer(Response([STREAM[0], 0.3, *STREAM[1:]])) as server, InferenceClient(server.url) as client:
        stream = client.text_generation("Hi", stream=True)
        child = os.fork()
        if child == 0:
            try:
                stream.__del__()
                client._http._states.__del__()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert list(stream) == ["Hello", ",", " you"]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.slow
async def test_a_stream_that_is_compressed_unasked_is_read(
    variant: Variant, clients: Clients, coding: str, size: int
) -> None:
    texts = [*(f"word{number} " * 40 for number in range(400)), "end"]
    body = b"".join(token_events(*texts))
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    with ScriptedServer(Response(pieces, headers={"Content-Encoding": coding})) as server:
        stream = await variant.open(clients(server.url))
        assert "".join(await variant.rest(stream)) == "".join(texts)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
async def test_an_unsupported_content_encoding_is_an_error(variant: Variant, clients: Clients, coding: str) -> None:
    with ScriptedServer(Response([b"whatever"], headers={"Content-Encoding": coding})) as server:
        with pytest.raises(UnexpectedResponseError, match=coding):
            await variant.open(clients(server.url))
        assert server.wait_until_running(0)


async def test_a_body_that_is_not_coded_as_it_says_is_told(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([b"no gzip"], headers={"Content-Encoding": "gzip"})) as server:
        client = clients(server.url)
        with pytest.raises(UnexpectedResponseError, match="does not match its Content-Encoding"):
            await variant.open(client)


@pytest.mark.filterwarnings("error")
@pytest.mark.slow
def test_a_client_that_is_collected_as_part_of_a_cycle_closes_its_idle_connections() -> None:
    with ScriptedServer(Response(STREAM)) as server:
        for _ in range(3):
            client = InferenceClient(server.url)
            assert client.text_generation("Hi", stream=True).final() == "Hello, you"
            state: Any = client._http._states.current()
            cycle: list[Any] = [state.transport._pool, client]  # in this order sockets would be finalized first
            cycle.append(cycle)
            del client, state, cycle
            gc.collect()


async def test_what_replaces_a_method_of_httpxs_transport_sees_every_request(
    variant: Variant, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenTelemetry's instrumentation does, and pytest-httpx; with a client that has made requests before."""
    seen: list[str] = []
    plain, later = httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request

    def observe(transport: Any, request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return plain(transport, request)

    async def observe_async(transport: Any, request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return await later(transport, request)

    def mock(transport: Any, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=b"".join(STREAM))

    async def mock_async(transport: Any, request: httpx.Request) -> httpx.Response:
        return mock(transport, request)

    with ScriptedServer(Response(STREAM)) as server:
        client = clients(server.url)
        assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", observe)
        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", observe_async)
        assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
        assert seen == [f"{server.url}/generate_stream"]
        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", mock)
        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", mock_async)
        assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
        assert len(server.requests) == 2
