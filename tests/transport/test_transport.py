"""Our httpx transports, as other libraries observe them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hfstream.testing import Response, ScriptedServer, token_events
from tests.helpers.variants import Clients, Variant

STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")


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
