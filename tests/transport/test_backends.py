"""Which library's sockets the asynchronous client connects with."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import httpcore
import pytest

from hfstream import AsyncInferenceClient
from hfstream._transport.asyncio_streams import AsyncioBackend
from hfstream._transport.backends import async_backend
from hfstream.testing import Response, ScriptedServer, token_events


async def test_asyncio_has_a_backend_of_its_own() -> None:
    backend: Any = async_backend()
    assert type(backend._current()) is AsyncioBackend
    began = asyncio.get_running_loop().time()
    await backend.sleep(0.01)
    assert asyncio.get_running_loop().time() >= began + 0.009


def test_trio_has_that_of_anyio() -> None:
    async def main() -> None:
        backend: Any = async_backend()
        assert type(backend._current()) is httpcore.AnyIOBackend
        await backend.sleep(0.01)

    anyio.run(main, backend="trio")


def test_trio_as_the_guest_of_an_asyncio_loop() -> None:
    trio = pytest.importorskip("trio")

    async def stream() -> list[str]:
        async with AsyncInferenceClient(server.url) as client:
            return [token async for token in client.text_generation("Hi", stream=True)]

    async def host() -> Any:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        trio.lowlevel.start_guest_run(
            stream, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result
        )
        return (await done).unwrap()

    with ScriptedServer(Response(token_events("Hello", " you"))) as server:
        assert asyncio.run(host()) == ["Hello", " you"]
