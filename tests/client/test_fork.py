"""A forked child and its parent share nothing, whatever was open at the fork."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest

from hfstream import AsyncInferenceClient, InferenceClient, InferenceConnectionError
from hfstream.testing import Fault, Request, Response, ScriptedServer, token_event, token_events
from tests.helpers.forks import FORKS, Child, in_child
from tests.helpers.variants import Clients, Variant
from tests.stress.prefork import prefork

pytestmark = FORKS

TEXTS = ["Hello", ",", " you"]
WHOLE = Response(token_events(*TEXTS, finish_reason="eos_token"))


def _echo(request: Request) -> Response:
    return Response(token_events(request.json()["inputs"], finish_reason="eos_token"))


def run(variant: Variant, function: Any, *args: Any, **options: Any) -> Any:
    """One call in a child: each has an event loop of its own."""
    return asyncio.run(function(variant, *args, **options))


async def _read(variant: Variant, client: Any, prompt: str) -> list[str]:
    return await variant.rest(await variant.open(client, prompt))


async def test_a_child_has_connections_of_its_own(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(_echo) as server:
        client = clients(server.url)
        assert await _read(variant, client, "parent") == ["parent"]
        assert server.connections == 1
        assert in_child(lambda: run(variant, _read, client, "child")) == ["child"]
        assert server.connections == 2
        assert await _read(variant, client, "again") == ["again"]
        assert server.connections == 2


async def test_a_users_http_client_gets_connections_of_its_own_too(variant: Variant) -> None:
    http_client: Any = httpx.Client() if variant.name == "sync" else httpx.AsyncClient()
    with ScriptedServer(_echo) as server:
        client = variant.client(server.url, http_client=http_client)
        assert await _read(variant, client, "parent") == ["parent"]
        if variant.name == "sync":  # an httpx.AsyncClient belongs to the loop in which it was used
            assert in_child(lambda: run(variant, _read, client, "child")) == ["child"]
            assert server.connections == 2
        assert await _read(variant, client, "again") == ["again"]
    await (http_client.aclose() if variant.name == "async" else asyncio.to_thread(http_client.close))


async def _use(variant: Variant, stream: Any) -> tuple[str, str]:
    with pytest.raises(InferenceConnectionError, match="forked") as caught:
        await variant.next(stream)
    with pytest.raises(InferenceConnectionError, match="forked"):
        await variant.final(stream)
    assert not caught.value.retryable
    return stream.text, caught.value.partial_text


async def _close(variant: Variant, stream: Any) -> list[str]:
    await variant.close(stream)
    return await variant.rest(stream)


NUMBERED = [b"id: %d\n%b" % event for event in enumerate(token_events(*TEXTS, finish_reason="eos_token"), 1)]


@pytest.mark.slow
@pytest.mark.parametrize("resume", [False, True])
async def test_a_stream_that_is_open_at_the_fork_stays_the_parents(
    variant: Variant, clients: Clients, resume: bool
) -> None:
    go_on = threading.Event()

    def events() -> Iterator[bytes]:
        yield NUMBERED[0]
        assert go_on.wait(60)
        yield from NUMBERED[1:]

    with ScriptedServer(Response(cast("Any", events())), WHOLE) as server:
        client = clients(server.url, resume=resume)
        kept = [await variant.open(client)]
        assert await variant.next(kept[0]) == "Hello"
        assert in_child(lambda: run(variant, _use, kept[0])) == ("Hello", "Hello")
        assert in_child(lambda: run(variant, _close, kept[0])) == []
        assert in_child(lambda: run(variant, _close_client, client)) == "closed"
        assert in_child(lambda: _drop(kept)) == "dropped"
        go_on.set()
        assert await variant.rest(kept[0]) == [",", " you"]
        assert [request.method for request in server.requests] == ["POST"]


def _drop(kept: list[Any]) -> str:
    found = weakref.ref(kept[0])
    kept.clear()
    gc.collect()
    return "kept" if found() else "dropped"


async def _close_client(variant: Variant, client: Any) -> str:
    await variant.close(client)
    return "closed"


@pytest.mark.slow
async def test_a_call_that_another_thread_is_making_stays_the_parents(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(WHOLE.body, delay=1.0), _echo) as server:
        client = clients(server.url)
        call = asyncio.create_task(_read(variant, client, "slow"))
        assert await asyncio.to_thread(server.wait_until_running, 1)
        assert in_child(lambda: run(variant, _read, client, "child")) == ["child"]
        assert await call == TEXTS


async def test_a_stream_that_has_not_begun_is_opened_by_each_process() -> None:
    with ScriptedServer(_echo) as server:
        client = AsyncInferenceClient(server.url)
        opening = client.text_generation("mine", stream=True)

        async def read() -> list[str]:
            return [token async for token in opening]

        assert in_child(lambda: asyncio.run(read())) == ["mine"]
        assert await read() == ["mine"]
        assert server.connections == 2
        await client.aclose()


async def test_a_complete_stream_can_be_read_in_the_child(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(WHOLE) as server:
        stream = await variant.open(clients(server.url))
        await variant.rest(stream)
        await variant.close(stream)
        assert in_child(lambda: run(variant, type(variant).final, stream)) == "".join(TEXTS)


async def test_locks_that_another_thread_holds_at_the_fork_are_free_in_the_child(
    variant: Variant, clients: Clients
) -> None:
    busy = Response.error(503, "busy", "overloaded", Retry_After="0")
    with ScriptedServer(WHOLE, busy, WHOLE) as server:
        client: Any = clients(server.url)
        assert await _read(variant, client, "parent") == TEXTS
        locks = [client._http._lock, client._requests._pacer._lock]
        locks += [client._http._states._lock] if variant.name == "sync" else []
        with contextlib.ExitStack() as held:
            for lock in locks:
                held.enter_context(lock)
            child = Child(lambda: run(variant, _read, client, "child"))
            assert await asyncio.to_thread(child.result) == TEXTS


def test_a_stream_read_by_a_thread_at_the_fork_raises_in_the_child() -> None:
    with ScriptedServer(Response([token_event(1, "Hello"), Fault.STALL])) as server:
        with InferenceClient(server.url) as client:
            stream = client.text_generation("Hi", stream=True)
            assert next(stream) == "Hello"
            reader = threading.Thread(target=lambda: list(stream))
            reader.start()
            while not stream._read_lock.locked():
                time.sleep(0.001)

            def use() -> str:
                try:
                    next(stream)
                except InferenceConnectionError as error:
                    return str(error)
                return "no error"

            assert "forked" in in_child(use)
            assert reader.is_alive()
        reader.join(60)


def test_a_child_of_a_child_has_connections_of_its_own_again() -> None:
    with ScriptedServer(_echo) as server, InferenceClient(server.url) as client:

        def ask() -> list[str]:
            return list(client.text_generation("Hi", stream=True))

        assert ask() == ["Hi"]
        assert in_child(lambda: (ask(), in_child(ask), ask())) == (["Hi"], ["Hi"], ["Hi"])
        assert server.connections == 3


def test_under_uvloop_a_child_has_connections_of_its_own() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop does not run here")
    with ScriptedServer(_echo) as server:
        client = AsyncInferenceClient(server.url)

        async def ask(prompt: str) -> list[str]:
            return [token async for token in client.text_generation(prompt, stream=True)]

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(ask("parent")) == ["parent"]
            assert in_child(lambda: asyncio.run(ask("child"))) == ["child"]
            assert runner.run(ask("again")) == ["again"]
            runner.run(client.aclose())
        assert server.connections == 2


EXITING = """
import asyncio, os, sys
from hfstream import AsyncInferenceClient, InferenceClient

async def begin(client, plain):
    print(await client.text_generation("a"), plain.text_generation("b"), flush=True)
    return await client.text_generation("c", stream=True), plain.text_generation("d", stream=True)

async def read(stream):
    return [token async for token in stream]

client, plain = AsyncInferenceClient(sys.argv[1]), InferenceClient(sys.argv[1])
runner = asyncio.Runner()
stream, other = runner.run(begin(client, plain))
if os.fork() == 0:
    print(plain.text_generation("e"), asyncio.run(client.text_generation("f")), flush=True)
    sys.exit()  # not os._exit: all that the child has inherited is finalized
assert os.wait()[1] == 0
print(runner.run(read(stream)), list(other))
runner.run(client.aclose())
runner.close()
"""


@pytest.mark.slow
def test_a_child_that_ends_as_a_program_does_is_silent() -> None:
    def answer(request: Request) -> Response:
        if request.path == "/generate_stream":
            return _echo(request)
        return Response.json({"generated_text": request.json()["inputs"]})

    with ScriptedServer(answer) as server:
        command = [sys.executable, "-W", "always", "-W", "ignore:.*fork:DeprecationWarning", "-c", EXITING, server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a b\ne f\n['c'] ['d']\n", "")


@pytest.mark.slow
def test_prefork_workers_get_their_own_answers() -> None:
    figures = prefork(workers=8, answers=99)
    assert (figures.answered, figures.wrong, dict(figures.errors)) == (99, [], {})
