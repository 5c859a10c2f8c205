"""`max_concurrency`: how many requests of a client run at once, and which is next."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
from typing import Any

import pytest

from hfstream import (
    AsyncInferenceClient,
    InferenceClient,
    InferenceConnectionError,
    InferenceTimeoutError,
    Timeouts,
    ValidationError,
)
from hfstream._limiting import ThreadSafeRequestLimiter
from hfstream.core.concurrency import FixedLimit
from hfstream.testing import Fault, Request, Response, ScriptedServer, token_events
from tests.helpers.variants import Clients, Variant

EVENTS = token_events("a", "b", finish_reason="eos_token")
WHOLE = Response.json({"generated_text": "ab"})


class Gate:
    """A script whose responses end when a test says so, and which counts those that run."""

    def __init__(self) -> None:
        self.most = 0
        self.prompts: list[str] = []
        self._running = 0
        self._open = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response:
        with self._lock:
            self.prompts.append(request.json()["inputs"])
            self._running += 1
            self.most = max(self.most, self._running)
        self._open.acquire(timeout=60)
        with self._lock:
            self._running -= 1
        return Response(EVENTS) if request.path == "/generate_stream" else WHOLE

    def release(self, count: int) -> None:
        self._open.release(count)


async def until(condition: Any) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not happen")


async def test_no_more_run_at_once_and_the_others_follow_in_order(variant: Variant, clients: Clients) -> None:
    gate = Gate()
    with ScriptedServer(gate) as server:
        client = clients(server.url, max_concurrency=2)
        limiter = client._requests.limiter
        calls = []
        for number in range(6):
            calls.append(asyncio.create_task(variant.whole(client, f"{number}", stream=number % 2 == 0)))
            await until(lambda entered=number + 1: limiter.running + len(limiter._waiting) == entered)
        await until(lambda: len(gate.prompts) == 2)
        gate.release(6)
        for number, call in enumerate(calls):
            assert (await call == "ab") if number % 2 else await variant.rest(await call)
    assert gate.most <= 2
    assert sorted(gate.prompts) == ["0", "1", "2", "3", "4", "5"]
    assert set(gate.prompts[:2]) == {"0", "1"}


@pytest.mark.parametrize("end", ["read", "closed", "dropped"])
async def test_a_stream_counts_until_it_is_read_closed_or_dropped(variant: Variant, clients: Clients, end: str) -> None:
    with ScriptedServer(Response([*EVENTS[:1], Fault.STALL]), Response(EVENTS)) as server:
        client = clients(server.url, max_concurrency=1)
        limiter = client._requests.limiter
        if end == "read":
            server.responses.pop(0)
        stream = await variant.open(client)
        assert limiter.running == 1
        if end == "read":
            await variant.rest(stream)
        elif end == "closed":
            await variant.close(stream)
        else:
            del stream
            gc.collect()
        await until(lambda: limiter.running == 0)  # the thread that opened it may hold it for a moment
        assert await variant.rest(await variant.open(client)) == ["a", "b"]


async def test_a_failure_and_a_wait_before_a_retry_free_the_slot(variant: Variant, clients: Clients) -> None:
    refused = Response.error(429, "Model is overloaded", "overloaded", retry_after="0.05")
    with ScriptedServer(refused, refused, Response.error(422, "no", "validation"), Response(EVENTS)) as server:
        client = clients(server.url, max_concurrency=1)
        first = asyncio.create_task(variant.open(client))
        with pytest.raises(ValidationError, match="no"):
            await first
        assert client._requests.limiter.running == 0
        assert await variant.rest(await variant.open(client)) == ["a", "b"]


async def test_closing_the_client_ends_the_calls_that_wait(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([*EVENTS[:1], Fault.STALL])) as server:
        client = clients(server.url, max_concurrency=1)
        stream = await variant.open(client)
        waiting = asyncio.create_task(variant.open(client))
        await until(lambda: client._requests.limiter._waiting)
        await variant.close(client)
        with pytest.raises(InferenceConnectionError, match="closed while"):
            await waiting
        assert await variant.rest(stream) == []
        assert (client._requests.limiter.running, client._requests.limiter._waiting) == (0, [])


async def test_the_limit_for_the_whole_call_includes_the_wait(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([*EVENTS[:1], Fault.STALL])) as server:
        client = clients(server.url, max_concurrency=1)
        stream = await variant.open(client)
        with pytest.raises(InferenceTimeoutError, match="total") as caught:
            await variant.open(client, timeout=Timeouts(total=0.05))
        assert (caught.value.phase, len(server.requests)) == ("total", 1)
        await variant.close(stream)


async def test_a_task_that_is_cancelled_while_it_waits_leaves_the_queue() -> None:
    with ScriptedServer(Response([*EVENTS[:1], Fault.STALL])) as server:
        async with AsyncInferenceClient(server.url, max_concurrency=1) as client:
            stream = await client.text_generation("Hi", stream=True)
            waiting = asyncio.create_task(client.text_generation("Hi"))
            limiter: Any = client._requests.limiter
            await until(lambda: limiter._waiting)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert limiter._waiting == []
            await stream.aclose()


async def test_adaptive_rises_until_requests_are_refused(variant: Variant, clients: Clients) -> None:
    lock, running, refused = threading.Lock(), [0], [0]

    def limited(request: Request) -> Response:
        with lock:
            if running[0] >= 6:
                refused[0] += 1
                return Response.error(429, "Model is overloaded", "overloaded", retry_after="0")
            running[0] += 1

        threading.Event().wait(0.01)
        with lock:
            running[0] -= 1
        return WHOLE

    with ScriptedServer(limited) as server:
        client = clients(server.url, max_concurrency="adaptive", retry=100)
        assert await asyncio.gather(*(variant.whole(client) for _ in range(150))) == ["ab"] * 150
        assert client._requests.limiter.running == 0
        assert refused[0] < 150


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "fast", "8"])
@pytest.mark.parametrize("client", [InferenceClient, AsyncInferenceClient])
def test_invalid_values_are_refused(client: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="max_concurrency must be"):
        client("http://h", max_concurrency=value)


@pytest.mark.parametrize("client", [InferenceClient, AsyncInferenceClient])
def test_it_can_be_read_copied_and_pickled(client: Any) -> None:
    made = client("http://h", max_concurrency="adaptive")
    assert made.max_concurrency == "adaptive"
    assert client("http://h").max_concurrency is None
    for other in (copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert other.max_concurrency == "adaptive"
        assert other._requests.limiter is not made._requests.limiter


def test_a_slot_that_leaves_while_the_lock_is_held_is_taken_back_after_it() -> None:
    """As when the garbage collector runs in a thread that holds the lock."""
    limiter = ThreadSafeRequestLimiter(FixedLimit(1))
    first, second = limiter.slot(), limiter.slot()
    first.enter(lambda: None)
    with limiter._locked():
        first.leave()
        assert limiter.running == 1
    assert limiter.running == 0
    with limiter._lock:
        second.leave()
    second.enter(lambda: None)
    assert second.granted


def test_a_forked_child_begins_with_none_running() -> None:
    limiter = ThreadSafeRequestLimiter(FixedLimit(1))
    inherited, own = limiter.slot(), limiter.slot()
    inherited.enter(lambda: None)
    limiter._after_fork()
    own.enter(lambda: None)
    assert own.granted
    inherited.leave()
    assert limiter.running == 1
