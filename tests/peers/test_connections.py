"""Connections are reused, and closed when a stream is left."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hfstream import (
    AsyncInferenceClient,
    InferenceClient,
    InferenceError,
)
from hfstream.testing import (
    Response,
    ScriptedServer,
    Step,
)
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import SOON, WORDS, Task, endless, until

REUSE = row(
    "Streams",
    "ten streams one after another",
    "ten TCP connections",
    "one: after the final event the rest of the body is read up to a limit, and the connection is reused",
)


@REUSE
@pytest.mark.usefixtures("patient_drain")
@pytest.mark.parametrize("late", [[], [0.01], [b": bye\n\n"]], ids=["at once", "a late end", "a last comment"])
async def test_ten_streams_use_one_connection(variant: Variant, clients: Clients, task: Task, late: list[Step]) -> None:
    with ScriptedServer(Response([*task.whole(*WORDS), *late])) as server:
        client = clients(server.url)
        for _ in range(10):
            assert task.texts(await variant.rest(await task.open(variant, client))) == WORDS
        assert len(server.requests) == 10
        assert server.connections == 1


@REUSE
@pytest.mark.usefixtures("patient_drain")
@pytest.mark.parametrize("status", [401, 422, 429, 500])
@pytest.mark.slow
async def test_ten_errors_use_one_connection(variant: Variant, clients: Clients, task: Task, status: int) -> None:
    with ScriptedServer(Response([b'{"error":', b'"no"}', 0.01], status, "application/json")) as server:
        client = clients(server.url, retry=None)
        for _ in range(10):
            with pytest.raises(InferenceError, match="no"):
                await task.open(variant, client)
        assert server.connections == 1


BREAK = row(
    "Streams",
    "`break` out of the loop",
    "the socket stays open until garbage collection (openai), or its slot in the connection pool is lost "
    "(huggingface_hub)",
    "closed immediately in a `with` block, or if there is no other reference to the stream; the server "
    "stops generating",
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
async def test_break_closes_the_connection_at_once(variant: Variant, clients: Clients, task: Task, held: bool) -> None:
    with ScriptedServer(endless(task)) as server:
        await break_off(task, clients(server.url), held)
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)
        assert len(server.requests) == 1


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
@pytest.mark.slow
async def test_the_server_stops_generating(variant: Variant, clients: Clients, task: Task, backend: str) -> None:
    await until(lambda: permits(backend) == 0)
    stream = await task.open(variant, clients(backend), **LONG[task.name])
    assert permits(backend) == 1
    await variant.next(stream)
    del stream
    await until(lambda: permits(backend) == 0)


DROPPED = row(
    "Streams",
    "a hundred streams that are opened and never read",
    "the process hangs, because each stream keeps its slot in the connection pool (huggingface_hub)",
    "each is closed when it is garbage-collected, and its connection is released",
)


@DROPPED
@pytest.mark.slow
async def test_a_hundred_dropped_streams_leave_the_pool_usable(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(*[endless(task)] * 100, Response(task.whole(*WORDS))) as server:
        client = clients(server.url)
        for _ in range(100):
            await task.open(variant, client)
        await asyncio.sleep(0)  # the event loop still holds the result of what it ran last
        gc.collect()
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)
        assert len(server.requests) == 100
        assert task.texts(await variant.rest(await task.open(variant, client))) == WORDS


@DROPPED.only(variant="async")
async def test_calls_that_are_never_awaited_are_silent(task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        async with AsyncInferenceClient(server.url) as client:
            for _ in range(100):
                task.opened(client)
            gc.collect()
        assert server.requests == []


OUTLIVES = row(
    "Streams",
    "`list(InferenceClient(url).text_generation(prompt, stream=True))`",
    "`StreamClosed`: the stream is closed when its client is garbage-collected",
    "works: a stream does not depend on its client object",
)


@OUTLIVES
async def test_a_stream_outlives_its_client(variant: Variant, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        if variant.name == "sync":
            items = await asyncio.to_thread(lambda: list(task.opened(InferenceClient(server.url))))
        else:
            items = [item async for item in await task.opened(AsyncInferenceClient(server.url))]
        assert task.texts(items) == WORDS
        stream = await task.open(variant, variant.client(server.url))
        gc.collect()
        assert task.texts(await variant.rest(stream)) == WORDS
