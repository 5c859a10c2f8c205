"""Forked processes, copies and pickles of a client, and programs that run event loops in their own way."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import sys
from typing import Any

import pytest

from hfstream import AsyncInferenceClient, InferenceConnectionError
from hfstream.testing import Request, Response, ScriptedServer
from tests.helpers.forks import FORKS, Child, in_child
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import WORDS, Task

PROCESSES = "Processes and other programs"

FORK = row(
    PROCESSES,
    "`os.fork()` after a call (gunicorn's `preload_app`, multiprocessing), and both processes go on",
    "an `httpx.Client` gets the other process's response, or `RemoteProtocolError`; huggingface_hub works",
    "each process gets its own: a child makes connections of its own",
)


@FORK
@FORKS
async def test_forked_processes_get_their_own_responses(variant: Variant, clients: Clients, task: Task) -> None:
    def answer(request: Request) -> Response:
        body = json.loads(request.body)
        name = body["inputs"] if task.text else body["messages"][0]["content"]
        return Response([step for event in task.whole(*[name] * 5) for step in (event, 0.002)])

    async def ask(name: str) -> list[str]:
        given = {"prompt": name} if task.text else {"messages": [{"role": "user", "content": name}]}
        return task.texts(await variant.rest(await task.open(variant, client, **given)))

    with ScriptedServer(answer) as server:
        client = clients(server.url)
        assert await ask("parent") == ["parent"] * 5
        names = [f"child {number}" for number in range(4)]
        children = [Child(lambda name=name: asyncio.run(ask(name))) for name in names]  # type: ignore[misc]
        assert await ask("parent") == ["parent"] * 5
        for name, child in zip(names, children, strict=True):
            assert child.result() == [name] * 5
        assert server.connections == 5


@pytest.mark.slow
@FORK
@FORKS
async def test_a_stream_that_is_open_at_the_fork_is_the_parents(variant: Variant, clients: Clients, task: Task) -> None:
    async def use(stream: Any) -> str:
        with pytest.raises(InferenceConnectionError, match="forked"):
            await variant.next(stream)
        await variant.close(stream)
        return "closed"

    with ScriptedServer(Response([step for event in task.whole(*WORDS) for step in (event, 0.1)])) as server:
        stream = await task.open(variant, clients(server.url))
        assert in_child(lambda: asyncio.run(use(stream))) == "closed"
        assert task.texts(await variant.rest(stream)) == WORDS


COPY = row(
    PROCESSES,
    "`copy.deepcopy(client)`, `pickle.dumps(client)`, as Ray, Dask and multiprocessing do",
    "`TypeError` about a lock or an SSLContext (httpx); huggingface_hub works",
    "a client with the same configuration and connections of its own",
)


@COPY
async def test_a_client_is_copied_and_pickled(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        client = clients(server.url, token="hf_x")
        await variant.rest(await task.open(variant, client))
        for other in (copy.copy(client), copy.deepcopy(client), pickle.loads(pickle.dumps(client))):
            clients.made.append(other)
            assert task.texts(await variant.rest(await task.open(variant, other))) == WORDS
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer hf_x"}
        assert server.connections == 4


NESTED = row(
    PROCESSES,
    "a stream that is left in a loop of nest_asyncio's (notebooks)",
    "`async generator ignored GeneratorExit` (huggingface_hub), `no running event loop` (openai)",
    "silent, and the connection is closed",
)


@pytest.mark.slow
@NESTED.only(variant="async")
def test_a_loop_without_hooks_for_async_generators_is_silent(task: Task) -> None:
    """As nest_asyncio's nested loops are: a generator that is collected there cannot be awaited."""
    with ScriptedServer(Response(task.whole(*WORDS))) as server:

        async def main() -> None:
            sys.set_asyncgen_hooks(None, None)
            for close in (True, False):
                client = AsyncInferenceClient(server.url)
                assert task.texts([item async for item in task.opened(client)]) == WORDS
                if close:
                    await client.aclose()
                del client
                gc.collect()
                for _ in range(10):  # the loop closes the connections of the client that is gone
                    await asyncio.sleep(0)

        asyncio.run(main())
        gc.collect()
