"""The async client on uvloop, whose sockets are not Python's: every way a stream ends, and nothing said on the way."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from hfstream import AsyncInferenceClient, GenerationError, InferenceTimeoutError, Timeouts
from hfstream._transport.sockets import shutdown, socket_handle
from hfstream.testing import Fault, Response, ScriptedServer, token_event, token_events

uvloop = pytest.importorskip("uvloop", reason="uvloop does not run here")

ERROR = b'data: {"error":"Request failed during generation","error_type":"generation"}\n\n'


@pytest.fixture
def stalled() -> Iterator[ScriptedServer]:
    with ScriptedServer(Response([token_event(1, "Hello"), Fault.STALL])) as server:
        yield server


async def break_off(client: AsyncInferenceClient) -> None:
    async for _ in client.text_generation("Hi", stream=True):
        break


async def leave(client: AsyncInferenceClient) -> None:
    async with client.text_generation("Hi", stream=True) as stream:
        assert await anext(stream) == "Hello"


async def close(client: AsyncInferenceClient) -> None:
    await (await client.text_generation("Hi", stream=True)).aclose()


async def close_from_elsewhere(client: AsyncInferenceClient) -> None:
    stream = await client.text_generation("Hi", stream=True)
    reader = asyncio.create_task(stream.final())
    await asyncio.sleep(0.05)
    await stream.aclose()
    with pytest.raises(Exception, match="closed before its end"):
        await reader


async def cancel(client: AsyncInferenceClient) -> None:
    stream = await client.text_generation("Hi", stream=True)
    reader = asyncio.create_task(stream.final())
    await asyncio.sleep(0.05)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def run_out_of_time(client: AsyncInferenceClient) -> None:
    with pytest.raises(InferenceTimeoutError, match="between_tokens"):
        await (await client.text_generation("Hi", stream=True, timeout=Timeouts(between_tokens=0.05))).final()


async def forget(client: AsyncInferenceClient) -> None:
    stream = await client.text_generation("Hi", stream=True)
    del stream
    gc.collect()


async def close_the_client(client: AsyncInferenceClient) -> None:
    stream = await client.text_generation("Hi", stream=True)
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await client.text_generation("Hi", stream=True)
    assert stream.text == "Hello"


WAYS = [break_off, leave, close, close_from_elsewhere, cancel, run_out_of_time, forget, close_the_client]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("way", WAYS)
def test_a_stream_ends(
    stalled: ScriptedServer, way: Callable[[AsyncInferenceClient], Coroutine[Any, Any, None]]
) -> None:
    async def main() -> None:
        async with AsyncInferenceClient(stalled.url) as client:
            await way(client)
            assert await asyncio.to_thread(stalled.wait_until_running, 0)

    uvloop.run(main())


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("patient_drain")
def test_whole_answers_errors_and_the_connection_that_is_used_again() -> None:
    async def main() -> None:
        async with AsyncInferenceClient(server.url) as client:
            for _ in range(3):
                assert await (await client.text_generation("Hi", stream=True)).final() == "Hello you"
            assert server.connections == 1
            with pytest.raises(GenerationError, match="Request failed"):
                await (await client.text_generation("Hi", stream=True)).final()

    whole = Response(token_events("Hello", " you"))
    with ScriptedServer(whole, whole, whole, Response([token_event(1, "Hello"), ERROR])) as server:
        uvloop.run(main())


def test_a_number_that_is_another_connections_by_now_is_let_alone() -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        _, writer = await asyncio.open_connection(*listener.getsockname())
        stale = socket_handle(writer.get_extra_info("socket"))
        number = writer.get_extra_info("socket").fileno()
        others, theirs = socket.socketpair()
        kept = os.dup(number)
        os.dup2(others.fileno(), number)  # as if it had been closed, and taken by the next who asked
        shutdown(stale)
        theirs.send(b"still there")
        assert others.recv(20) == b"still there"
        os.dup2(kept, number)
        shutdown(stale)
        writer.close()
        for sock in (others, theirs, listener):
            sock.close()
        os.close(kept)

    uvloop.run(main())
