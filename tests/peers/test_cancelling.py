"""Streams and clients are closed from other tasks and threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import anyio
import pytest

from hfstream import (
    AsyncInferenceClient,
    IncompleteStreamError,
    InferenceConnectionError,
    RetryPolicy,
)
from hfstream.testing import (
    Fault,
    Response,
    ScriptedServer,
)
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import PAUSES, SOON, Task, endless

CANCEL = row(
    "Streams",
    "a stream is closed from another task or thread while it is opened, while it is read, or while it "
    "waits for a retry",
    "`RuntimeError`, or the reader continues to wait",
    "`close()` and `aclose()` work from any thread or task; the reader's loop ends, and the server stops generating",
)

BUSY = Response.error(429, "busy", Retry_After="60")


def long_wait(asleep: threading.Event) -> RetryPolicy:
    """Would wait for a minute, and tells when it begins to."""
    return RetryPolicy(max_wait=60, before_sleep=lambda _: asleep.set())


async def reading(variant: Variant, stream: Any) -> asyncio.Task[Any]:
    """A reader of `stream` who has had its first item and wants the next."""
    assert await variant.next(stream)
    task = asyncio.create_task(variant.rest(stream))
    await asyncio.sleep(0)
    return task


@CANCEL
async def test_close_wakes_a_reader(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(endless(task)) as server:
        stream = await task.open(variant, clients(server.url))
        reader = await reading(variant, stream)
        await variant.close(stream)
        assert task.texts(await asyncio.wait_for(reader, SOON)) == []
        assert stream.text == "Hello"
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)
        with pytest.raises(IncompleteStreamError, match="closed before its end"):
            await variant.final(stream)


@CANCEL
async def test_close_from_another_thread_wakes_a_reader(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(endless(task)) as server:
        stream = await task.open(variant, clients(server.url))
        reader = await reading(variant, stream)
        close = stream.close if variant.name == "sync" else lambda: asyncio.run(stream.aclose())
        closer = threading.Thread(target=close)
        closer.start()
        assert await asyncio.wait_for(reader, SOON) == []
        await asyncio.to_thread(closer.join, SOON)
        assert not closer.is_alive()
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)


@CANCEL.only(task="text")
async def test_a_reader_that_comes_while_the_stream_is_being_closed(
    variant: Variant, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(endless(Task("text"))) as server:
        stream = await variant.open(clients(server.url))
        response, closing, read = stream._response, threading.Event(), threading.Event()
        method = "close" if variant.name == "sync" else "aclose"
        close = getattr(response, method)

        def slowly() -> None:
            closing.set()
            read.wait(SOON)
            close()

        async def slowly_async() -> None:
            closing.set()
            await asyncio.to_thread(read.wait, SOON)
            await close()

        monkeypatch.setattr(response, method, slowly if variant.name == "sync" else slowly_async)
        closer = asyncio.create_task(variant.close(stream))
        assert await asyncio.to_thread(closing.wait, SOON)
        assert await variant.rest(stream) == []
        read.set()
        await closer


@CANCEL
@pytest.mark.parametrize("state", ["opening", "waiting to ask again"])
async def test_closing_the_client_ends_calls_that_are_still_opening(
    variant: Variant, clients: Clients, task: Task, state: str
) -> None:
    asleep = threading.Event()
    with ScriptedServer(Response([Fault.STALL]) if state == "opening" else BUSY) as server:
        client = clients(server.url, retry=long_wait(asleep))
        call = asyncio.create_task(task.open(variant, client))
        reached_state = (
            asyncio.to_thread(server.wait_until_running, 1) if state == "opening" else asyncio.to_thread(asleep.wait)
        )
        assert await asyncio.wait_for(reached_state, SOON)
        await variant.close(client)
        with pytest.raises(InferenceConnectionError, match="client was closed"):
            await asyncio.wait_for(call, SOON)
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)


@CANCEL.only(variant="async")
@pytest.mark.parametrize("backend", PAUSES)
@pytest.mark.parametrize("state", ["opening", "reading", "waiting to ask again"])
@pytest.mark.slow
def test_a_cancelled_task_ends_its_stream(task: Task, backend: str, state: str) -> None:
    answer = {"opening": Response([Fault.STALL]), "reading": endless(task), "waiting to ask again": BUSY}[state]
    reached = threading.Event()
    ended: list[str] = []

    async def read(client: AsyncInferenceClient) -> None:
        try:
            async for _ in task.opened(client):
                reached.set()
        finally:
            ended.append(state)

    async def main() -> None:
        async with AsyncInferenceClient(server.url, retry=long_wait(reached)) as client:
            with anyio.fail_after(SOON):
                async with anyio.create_task_group() as group:
                    group.start_soon(read, client)
                    if state == "opening":
                        assert await anyio.to_thread.run_sync(server.wait_until_running, 1, SOON)
                    else:
                        assert await anyio.to_thread.run_sync(reached.wait, SOON)
                    group.cancel_scope.cancel()
            assert ended == [state]
            assert await anyio.to_thread.run_sync(server.wait_until_running, 0, SOON)

    with ScriptedServer(answer) as server:
        anyio.run(main, backend=backend)
        gc.collect()
