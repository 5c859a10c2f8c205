"""`AsyncStreamManager`: awaited, iterated over, entered, made a task of, and dropped."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Coroutine
from typing import Any

import pytest

import hfstream
from hfstream import AsyncInferenceClient, AsyncStreamManager, AsyncTokenStream
from hfstream.testing import Response, ScriptedServer, token_events

STREAM = token_events("Hello", ",", " you")


@pytest.fixture
def server() -> Any:
    with ScriptedServer(Response(STREAM)) as server:
        yield server


async def test_await_returns_the_stream(server: ScriptedServer) -> None:
    async with AsyncInferenceClient(server.url) as client:
        stream = await client.text_generation("Hi", stream=True)
        assert isinstance(stream, AsyncTokenStream)
        assert await stream.final() == "Hello, you"


async def test_anext_and_async_for_read_the_same_stream(server: ScriptedServer) -> None:
    async with AsyncInferenceClient(server.url) as client:
        manager: AsyncStreamManager[str] = client.text_generation("Hi", stream=True)
        assert await anext(manager) == "Hello"
        assert [token async for token in manager] == [",", " you"]
    assert len(server.requests) == 1


async def test_leaving_the_block_closes_the_stream(server: ScriptedServer) -> None:
    async with AsyncInferenceClient(server.url) as client:
        async with client.text_generation("Hi", stream=True) as stream:
            assert await anext(stream) == "Hello"
        assert [token async for token in stream] == []


async def test_a_task_is_made_of_it_as_of_a_coroutine(server: ScriptedServer) -> None:
    async with AsyncInferenceClient(server.url) as client:
        manager = client.text_generation("Hi", stream=True)
        assert isinstance(manager, Coroutine)
        assert await (await asyncio.create_task(manager)).final() == "Hello, you"


async def test_dropped_unused_it_sends_nothing_and_warns_of_nothing(server: ScriptedServer) -> None:
    async with AsyncInferenceClient(server.url) as client:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            client.text_generation("Hi", stream=True)
            client.text_generation("Hi", stream=True).close()
            gc.collect()
        assert not caught
        assert server.requests == []


def test_it_is_exported_and_usable_in_annotations() -> None:
    assert "AsyncStreamManager" in hfstream.__all__
    assert AsyncStreamManager.__module__ == "hfstream"
    assert AsyncStreamManager[str].__origin__ is AsyncStreamManager  # type: ignore[attr-defined]


def test_a_with_block_of_an_async_call_says_what_to_write() -> None:
    call: Any = AsyncInferenceClient("http://h").text_generation("Hi", stream=True)
    with pytest.raises(TypeError, match="write `async with client"), call:
        pass


@pytest.mark.parametrize("use", [list, iter, sorted, dict])
def test_a_for_loop_over_an_async_call_says_what_to_write(use: Any) -> None:
    call: Any = AsyncInferenceClient("http://h").text_generation("Hi", stream=True)
    with pytest.raises(TypeError, match="`async for item in"):
        use(call)
