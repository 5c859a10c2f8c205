"""Several event loops in one process, asyncio and trio; both variants get the same error from a chunked body."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable

import anyio
import pytest

from hfstream import (
    AsyncInferenceClient,
    InferenceTimeoutError,
    Timeouts,
    ValidationError,
)
from hfstream.testing import (
    Fault,
    Response,
    ScriptedServer,
    Step,
)
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import PAUSES, SOON, WORDS, Task, endless

pytestmark = pytest.mark.slow

CHUNKED = row(
    "Streams",
    "the body of an error arrives in several chunks, on an async stream",
    "`ResponseNotRead`, and the class of the error is lost",
    "the same error as on a sync stream",
)


@CHUNKED
async def test_a_chunked_error_is_the_same_in_both_variants(variant: Variant, clients: Clients, task: Task) -> None:
    words = "Input validation error: `max_new_tokens` must be strictly positive"
    body = json.dumps({"error": words, "error_type": "validation"}).encode()
    steps: list[Step] = [step for place in range(len(body)) for step in (body[place : place + 1], 0.0005)]
    with ScriptedServer(Response(steps, 422, "application/json", {"X-Request-Id": "r1"})) as server:
        with pytest.raises(ValidationError) as caught:
            await task.open(variant, clients(server.url))
        assert str(caught.value) == words
        assert caught.value.request_id == "r1"
        assert caught.value.response_body == body.decode()


LOOPS = row(
    "Streams",
    "a second `asyncio.run()` with the same client; trio",
    "`RuntimeError: event loop is closed`, warnings",
    "works, without warnings",
)


@LOOPS.only(variant="async")
def test_a_client_lives_through_several_event_loops(task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        client = AsyncInferenceClient(server.url)

        async def main() -> list[str]:
            return task.texts([item async for item in task.opened(client)])

        for backend in ("asyncio", "asyncio", "trio", "trio", "asyncio"):
            assert anyio.run(main, backend=backend) == WORDS
        asyncio.run(client.aclose())
        gc.collect()


async def _read_to_the_end(task: Task, client: AsyncInferenceClient) -> None:
    with pytest.raises(InferenceTimeoutError):
        async for _ in task.opened(client, timeout=Timeouts(between_tokens=0.05)):
            pass


async def _break(task: Task, client: AsyncInferenceClient) -> None:
    async for _ in task.opened(client):
        break


async def _with(task: Task, client: AsyncInferenceClient) -> None:
    async with task.opened(client) as stream:
        await anext(stream)


async def _close_the_client(task: Task, client: AsyncInferenceClient) -> None:
    stream = await task.opened(client)
    await client.aclose()
    assert [item async for item in stream] == []


async def _fail(task: Task, client: AsyncInferenceClient) -> None:
    with pytest.raises(ZeroDivisionError):
        async with task.opened(client) as stream:
            async for _ in stream:
                raise ZeroDivisionError


async def _close_from_another_task(task: Task, client: AsyncInferenceClient) -> None:
    stream = await task.opened(client)
    await anext(stream)
    async with anyio.create_task_group() as group:
        group.start_soon(stream.aclose)
        assert [item async for item in stream] == []


@LOOPS.only(variant="async")
@pytest.mark.parametrize("backend", PAUSES)
@pytest.mark.parametrize("leave", [_read_to_the_end, _break, _with, _close_the_client, _fail, _close_from_another_task])
def test_every_way_to_stop_is_silent_in_every_event_loop(
    task: Task, backend: str, leave: Callable[[Task, AsyncInferenceClient], Awaitable[None]]
) -> None:
    with ScriptedServer(endless(task)) as server:

        async def main() -> None:
            async with AsyncInferenceClient(server.url) as client:
                await leave(task, client)
                assert await anyio.to_thread.run_sync(server.wait_until_running, 0, SOON)
                assert len(server.requests) == 1

        anyio.run(main, backend=backend)
        gc.collect()  # what was left half-way would warn here


FORGETFUL = """
import asyncio, sys
from hfstream import AsyncInferenceClient, InferenceClient

client = AsyncInferenceClient(sys.argv[1])
plain = InferenceClient(sys.argv[1]).text_generation("Hi", stream=True)
kept = []
async def main():
    kept.append(await client.text_generation("Hi", stream=True))
    print(next(plain), await anext(kept[-1]))
asyncio.run(main())
asyncio.run(main())
"""


@LOOPS.only(variant="async", task="text")
def test_streams_left_open_at_the_end_of_the_program_are_silent() -> None:
    text = Task("text")
    with ScriptedServer(Response([text.event("Hello"), text.event("Hello"), Fault.STALL])) as server:
        command = [sys.executable, "-W", "always", "-c", FORGETFUL, server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * SOON)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello Hello\nHello Hello\n", "")
