"""A response whose closing is interrupted."""

from __future__ import annotations

import asyncio
from typing import Any

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
