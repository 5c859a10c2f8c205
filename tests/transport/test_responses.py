"""A response whose closing is interrupted, and one that a hook has read."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import httpx
import pytest

from hfstream import IncompleteStreamError
from hfstream.testing import Fault, Response, ScriptedServer, token_events
from tests.helpers.variants import Clients, Variant

STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")


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
        with pytest.raises(IncompleteStreamError):
            await variant.rest(stream)
        assert len(server.requests) == 1


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_a_body_that_a_hook_has_read_is_the_answer(variant: Variant, clients: Clients, coding: str) -> None:
    """As a hook does that logs bodies."""
    read: list[bytes] = []

    def log(response: httpx.Response) -> None:
        read.append(response.read())

    async def log_async(response: httpx.Response) -> None:
        read.append(await response.aread())

    body = b"".join(STREAM)
    headers = {"Content-Encoding": coding}
    document = Response.json({"generated_text": "Hi"})
    packed = Response([gzip.compress(body) if coding == "gzip" else body], headers=headers)
    with ScriptedServer(packed, packed, document) as server:
        http_client: Any
        if variant.name == "sync":
            http_client = httpx.Client(event_hooks={"response": [log]})
        else:
            http_client = httpx.AsyncClient(event_hooks={"response": [log_async]})
        client = clients(server.url, http_client=http_client, retry=None, timeout=5)
        assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
        unfinished = await variant.open(client)
        await variant.close(unfinished)  # its connection may be another's by now
        assert await variant.whole(client) == "Hi"
        assert read[:2] == [body, body]
        assert server.connections == 1
        http_client.close() if variant.name == "sync" else await http_client.aclose()
