"""How a stream ends: read out, broken off, closed, cancelled, forgotten, out of time. On both faces."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import httpx
import pytest

from hfstream import (
    AsyncInferenceClient,
    AsyncTokenStream,
    IncompleteStreamError,
    InferenceClient,
    InferenceConnectionError,
    InferenceTimeoutError,
    OverloadedError,
    RetryPolicy,
    Timeouts,
)
from hfstream.testing import Fault, Response, ScriptedServer, Step, chat_events, token_event, token_events
from tests.helpers.variants import Clients, Variant

STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")
ENDLESS = Response([STREAM[0], Fault.STALL])
"""One token, and then nothing: only a client that leaves ends it."""

SOON = 60
"""Seconds within which what must happen does, on a busy machine too. Only a failure takes so long."""


async def waiting(reading: Coroutine[Any, Any, Any], stream: Any) -> asyncio.Task[Any]:
    """A reader that waits for the stream's next item."""
    reader = asyncio.create_task(reading)
    async with asyncio.timeout(SOON):
        while not stream._read_lock.locked():
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.1)  # from there it is not far to the socket
    assert not reader.done()
    return reader


# Connections ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient_drain")
async def test_ten_streams_in_a_row_use_one_connection(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        client = clients(server.url)
        for _ in range(10):
            await variant.rest(await variant.open(client))
        assert server.connections == 1


@pytest.mark.usefixtures("patient_drain")
async def test_a_late_end_of_the_body_is_waited_for_a_little(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([*STREAM, 0.02])) as server:
        client = clients(server.url)
        for _ in range(3):
            await variant.rest(await variant.open(client))
        assert server.connections == 1


@pytest.mark.parametrize("own", [False, True], ids=["our sockets", "a user's client"])
async def test_a_body_that_never_ends_costs_a_moment_and_the_connection(
    variant: Variant, clients: Clients, own: bool
) -> None:
    with ScriptedServer(Response([*STREAM, Fault.STALL])) as server:
        http_client: Any = (httpx.Client if variant.name == "sync" else httpx.AsyncClient)() if own else None
        client = clients(server.url, http_client=http_client, timeout=Timeouts(first_token=300, between_tokens=300))
        started = time.monotonic()
        assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
        assert time.monotonic() - started < 60  # the read limit would be 300 s
        assert server.wait_until_running(0)
        if own:
            await asyncio.to_thread(http_client.close) if variant.name == "sync" else await http_client.aclose()


@pytest.mark.slow
async def test_a_hundred_forgotten_streams_leave_the_client_whole(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(*[ENDLESS] * 100, Response(STREAM)) as server:
        client = clients(server.url)
        for _ in range(100):
            await variant.open(client)
        await asyncio.sleep(0)  # the event loop still holds the result of what it ran last
        gc.collect()
        assert server.wait_until_running(0)
        assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]


# Ends before the end -------------------------------------------------------------------------------------------------


async def test_close_ends_the_answer_and_the_loop(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(ENDLESS) as server:
        stream = await variant.open(clients(server.url))
        assert await variant.next(stream) == "Hello"
        await variant.close(stream)
        await variant.close(stream)
        assert server.wait_until_running(0)
        assert await variant.rest(stream) == []
        assert stream.text == "Hello"
        with pytest.raises(IncompleteStreamError, match="closed before its end") as caught:
            await variant.final(stream)
        assert caught.value.partial_text == "Hello"


async def test_close_wakes_a_reader_who_waits(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(ENDLESS) as server:
        stream = await variant.open(clients(server.url))
        assert await variant.next(stream) == "Hello"
        reader = await waiting(variant.rest(stream), stream)
        await variant.close(stream)
        assert await asyncio.wait_for(reader, SOON) == []
        assert server.wait_until_running(0)


async def test_closing_the_client_ends_its_streams(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(ENDLESS) as server:
        client = clients(server.url)
        stream = await variant.open(client)
        assert await variant.next(stream) == "Hello"
        reader = await waiting(variant.rest(stream), stream)
        await variant.close(client)
        assert await asyncio.wait_for(reader, SOON) == []
        assert server.wait_until_running(0)
        with pytest.raises(RuntimeError, match="closed"):
            await variant.open(client)


@pytest.mark.parametrize(
    "answer", [Response([Fault.STALL]), Response.error(429, "Model is overloaded", Retry_After="30")]
)
@pytest.mark.slow
async def test_closing_the_client_ends_calls_that_are_still_opening(
    variant: Variant, clients: Clients, answer: Response
) -> None:
    with ScriptedServer(answer) as server:
        client = clients(server.url, retry=RetryPolicy(max_wait=30))
        call = asyncio.create_task(variant.open(client))
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        await variant.close(client)
        with pytest.raises(InferenceConnectionError, match="client was closed"):
            await asyncio.wait_for(call, SOON)
        assert server.wait_until_running(0)


@pytest.mark.slow
async def test_a_stream_lives_on_when_its_client_is_gone(variant: Variant) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        stream = await variant.open(variant.client(server.url))
        gc.collect()
        assert await variant.rest(stream) == ["Hello", ",", " you"]


async def test_two_readers_of_one_stream_are_told(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(ENDLESS) as server:
        stream = await variant.open(clients(server.url))
        await variant.next(stream)
        reader = await waiting(variant.next(stream), stream)
        with pytest.raises(RuntimeError, match="being read already"):
            await variant.next(stream)
        await variant.close(stream)
        assert await reader is None


def test_breaking_off_a_plain_loop_ends_the_answer() -> None:
    with ScriptedServer(ENDLESS) as server, InferenceClient(server.url) as client:
        for _ in client.text_generation("Hi", stream=True):
            break
        assert server.wait_until_running(0)
        with client.text_generation("Hi", stream=True) as stream:
            for _ in stream:
                break
        assert server.wait_until_running(0)


def test_close_from_another_thread_wakes_a_blocked_read() -> None:
    with ScriptedServer(ENDLESS) as server, InferenceClient(server.url) as client:
        stream = client.text_generation("Hi", stream=True)
        assert next(stream) == "Hello"
        closer = threading.Timer(0.1, stream.close)
        closer.start()
        assert list(stream) == []
        assert server.wait_until_running(0)
        closer.join()


async def _leave_by_break(client: AsyncInferenceClient, server: ScriptedServer) -> None:
    async with client.text_generation("Hi", stream=True) as stream:
        async for _ in stream:
            break


async def _cancel_when_answering(asking: Callable[[], Coroutine[Any, Any, None]], server: ScriptedServer) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asking)
        assert await anyio.to_thread.run_sync(server.wait_until_running, 1)
        await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()


async def _leave_by_cancel(client: AsyncInferenceClient, server: ScriptedServer) -> None:
    async def read() -> None:
        async for _ in client.text_generation("Hi", stream=True):
            pass

    await _cancel_when_answering(read, server)


async def _leave_by_cancelling_the_call(client: AsyncInferenceClient, server: ScriptedServer) -> None:
    async def ask() -> None:
        await client.text_generation("Hi")

    await _cancel_when_answering(ask, server)


async def _leave_from_another_task(client: AsyncInferenceClient, server: ScriptedServer) -> None:
    stream = await client.text_generation("Hi", stream=True)
    async with anyio.create_task_group() as tasks:

        async def close_soon() -> None:
            await anyio.sleep(0.1)
            await stream.aclose()

        tasks.start_soon(close_soon)
        assert [token async for token in stream] == ["Hello"]


async def _leave_by_forgetting(client: AsyncInferenceClient, server: ScriptedServer) -> None:
    async for _ in client.text_generation("Hi", stream=True):
        break
    gc.collect()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "leave",
    [
        _leave_by_break,
        _leave_by_cancel,
        _leave_by_cancelling_the_call,
        _leave_from_another_task,
        _leave_by_forgetting,
    ],
)
@pytest.mark.slow
def test_leaving_is_seen_by_the_server_under_asyncio_and_trio(backend: str, leave: Any) -> None:
    with ScriptedServer(ENDLESS) as server:

        async def main() -> None:
            async with AsyncInferenceClient(server.url) as client:
                await leave(client, server)
                assert await anyio.to_thread.run_sync(server.wait_until_running, 0)
                assert server.requests

        anyio.run(main, backend=backend)
        gc.collect()


async def test_a_cancelled_task_ends_its_stream() -> None:
    with ScriptedServer(ENDLESS) as server:
        async with AsyncInferenceClient(server.url) as client:

            async def read() -> None:
                async for _ in client.text_generation("Hi", stream=True):
                    pass

            task = asyncio.create_task(read())
            assert await asyncio.to_thread(server.wait_until_running, 1)
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.wait_until_running, 0)


async def test_a_read_after_a_cancelled_one_is_no_normal_end() -> None:
    with ScriptedServer(ENDLESS) as server:
        async with AsyncInferenceClient(server.url) as client:
            stream = await client.text_generation("Hi", stream=True)
            assert await anext(stream) == "Hello"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.05)
            assert await asyncio.to_thread(server.wait_until_running, 0)
            for _ in range(2):
                with pytest.raises(IncompleteStreamError, match="cancelled or interrupted") as caught:
                    await anext(stream)
                assert caught.value.partial_text == "Hello"
            await stream.aclose()
            assert [token async for token in stream] == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, LookupError])
async def test_a_read_after_an_interrupted_one_is_no_normal_end(
    variant: Variant, clients: Clients, interruption: type[BaseException]
) -> None:
    """What a signal's handler raises is raised where the reader waits."""

    def interrupt() -> Any:
        raise interruption

    async def interrupt_async() -> Any:
        raise interruption

    with ScriptedServer(ENDLESS) as server:
        stream = await variant.open(clients(server.url))
        assert await variant.next(stream) == "Hello"
        if variant.name == "sync":
            stream._response.chunks = iter(interrupt, None)
        else:
            stream._response.chunks = (await interrupt_async() for _ in "a")
        with pytest.raises(interruption):
            await variant.rest(stream)
        for read in (variant.rest, variant.final):
            with pytest.raises(IncompleteStreamError, match="cancelled or interrupted") as caught:
                await read(stream)
            assert caught.value.partial_text == "Hello"
        assert server.wait_until_running(0)


async def test_an_interruption_after_the_whole_answer_loses_nothing(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([*chat_events("Hello")[:-2], Fault.STALL])) as server:
        stream = await variant.open_chat(clients(server.url))
        while (await variant.next(stream)).choices[0].finish_reason is None:
            pass
        stream._exchange.interrupt()
        assert await variant.rest(stream) == []
        assert (await variant.final(stream)).choices[0].message.content == "Hello"


async def test_a_read_after_an_error_is_no_normal_end(variant: Variant, clients: Clients) -> None:
    """A loop that takes TimeoutError for its own limit would end as at the end of the response."""
    with ScriptedServer(ENDLESS) as server:
        stream = await variant.open(clients(server.url, timeout=Timeouts(between_tokens=0.05)))
        with pytest.raises(InferenceTimeoutError):
            await variant.rest(stream)
        with pytest.raises(IncompleteStreamError, match="ended in an error: no") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == "Hello"


@pytest.mark.parametrize("run", [asyncio.run, anyio.run], ids=["asyncio", "trio"])
@pytest.mark.parametrize("closes", [False, True], ids=["read", "closed"])
def test_a_stream_in_another_event_loop_is_told_and_closed(run: Any, closes: bool) -> None:
    with ScriptedServer(ENDLESS) as server:
        client = AsyncInferenceClient(server.url)

        async def read() -> AsyncTokenStream[str]:
            stream = await client.text_generation("Hi", stream=True)
            assert await anext(stream) == "Hello"
            return stream

        async def go_on() -> None:
            if closes:
                await stream.aclose()
            else:
                with pytest.raises(RuntimeError, match="belongs to the event loop in which its call was made"):
                    await anext(stream)
            assert server.wait_until_running(0)

        loop = asyncio.new_event_loop()
        stream = loop.run_until_complete(read())
        run(go_on()) if run is asyncio.run else run(go_on, backend="trio")
        loop.run_until_complete(client.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


# Time ----------------------------------------------------------------------------------------------------------------

SILENT = Response([Fault.STALL])
KEEP_ALIVES: list[Step] = [b":\n\n", 0.05] * 4000
"""For 200 s. A wait that they prolonged would last as long."""
KEEP_ALIVE_ONLY = Response(KEEP_ALIVES)
THEN_SILENT = ENDLESS
THEN_KEEP_ALIVE_ONLY = Response([STREAM[0], *KEEP_ALIVES])
TRICKLE = Response([piece for index in range(1, 4000) for piece in (token_event(index, "a"), 0.05)])


@pytest.mark.parametrize(
    ("answer", "timeouts", "phase"),
    [
        (SILENT, Timeouts(first_token=0.2, between_tokens=300), "first_token"),
        (KEEP_ALIVE_ONLY, Timeouts(first_token=0.2, between_tokens=300), "first_token"),
        (THEN_SILENT, Timeouts(first_token=300, between_tokens=0.2), "between_tokens"),
        (THEN_KEEP_ALIVE_ONLY, Timeouts(first_token=300, between_tokens=0.2), "between_tokens"),
        (TRICKLE, Timeouts(total=0.3), "total"),
        (SILENT, Timeouts(total=0.2), "total"),
    ],
    ids=["silent", "keep-alives only", "then silent", "then keep-alives only", "trickle", "silent, total"],
)
@pytest.mark.slow
async def test_every_wait_has_a_limit_with_a_name(
    variant: Variant, clients: Clients, answer: Response, timeouts: Timeouts, phase: str
) -> None:
    with ScriptedServer(answer) as server:
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError, match=rf"Timeouts\.{phase}") as caught:
            await variant.rest(await variant.open(clients(server.url, timeout=timeouts, retry=None)))
        assert caught.value.phase == phase
        assert isinstance(caught.value, TimeoutError)
        assert time.monotonic() - started < 60
        assert server.wait_until_running(0)


async def test_a_limit_of_the_call_wins(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(SILENT) as server, pytest.raises(InferenceTimeoutError, match=r"within 0\.1 s"):
        await variant.whole(clients(server.url, retry=None), timeout=0.1)


async def test_no_limit_is_no_limit(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([0.2, *STREAM])) as server:
        assert await variant.final(await variant.open(clients(server.url, timeout=None))) == "Hello, you"


@pytest.mark.slow
async def test_a_users_client_reads_by_the_larger_limit(variant: Variant, clients: Clients) -> None:
    own: Any = (httpx.Client if variant.name == "sync" else httpx.AsyncClient)()
    with ScriptedServer(THEN_SILENT) as server:
        client = clients(server.url, http_client=own, timeout=Timeouts(first_token=1.0, between_tokens=0.1))
        with pytest.raises(InferenceTimeoutError) as caught:
            await variant.rest(await variant.open(client))
        assert caught.value.phase == "between_tokens"
    await asyncio.to_thread(own.close) if variant.name == "sync" else await own.aclose()


async def test_the_total_ends_the_waits_between_attempts_too(variant: Variant, clients: Clients) -> None:
    long_wait = RetryPolicy(max_wait=600)
    with ScriptedServer(Response.error(429, "Model is overloaded", Retry_After="600")) as server:
        started = time.monotonic()
        with pytest.raises(OverloadedError):
            await variant.open(clients(server.url, retry=long_wait, timeout=Timeouts(total=120)))
        assert time.monotonic() - started < 60  # there is no time for another attempt: no use in waiting
        assert len(server.requests) == 1


# The end of the program ----------------------------------------------------------------------------------------------

FORGETFUL = """
import asyncio, sys
from hfstream import AsyncInferenceClient, InferenceClient

plain = InferenceClient(sys.argv[1]).text_generation("Hi", stream=True)
client = AsyncInferenceClient(sys.argv[1])
async def main():
    global stream
    stream = await client.text_generation("Hi", stream=True)
    print(next(plain), await anext(stream))
asyncio.run(main())
"""


@pytest.mark.slow
def test_streams_that_are_open_when_the_program_ends_are_silent() -> None:
    with ScriptedServer(ENDLESS) as server:
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", FORGETFUL, server.url], capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello Hello\n", "")
