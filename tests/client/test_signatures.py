"""What other programs see of the methods: their parameters, and that their results are awaited."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pydoc
from typing import Any
from unittest.mock import AsyncMock, MagicMock, create_autospec

import pytest

from hfstream import AsyncInferenceClient, InferenceClient
from hfstream.core.parameters import ChatCompletionOptions, TextGenerationOptions
from hfstream.retry import retry_on_overload
from hfstream.testing import Response, ScriptedServer, token_events

URL = "http://h"
METHODS = {
    "text_generation": (["prompt", "details", "stream"], TextGenerationOptions),
    "chat_completion": (["messages", "stream"], ChatCompletionOptions),
    "chat.completions.create": (["messages", "stream"], ChatCompletionOptions),
}


def method_of(client: Any, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), client)


@pytest.mark.parametrize("client", [InferenceClient(URL), AsyncInferenceClient(URL)])
@pytest.mark.parametrize("name", METHODS)
def test_a_signature_shows_every_parameter(client: Any, name: str) -> None:
    first, options = METHODS[name]
    signature = inspect.signature(method_of(client, name))
    assert list(signature.parameters) == [*first, *options.__annotations__]
    assert all(each.default is None for each in list(signature.parameters.values())[1:])
    assert not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())
    signature.bind([], temperature=1, extra_body={})
    with pytest.raises(TypeError, match="temprature"):
        signature.bind([], temprature=1)
    assert "temperature" in pydoc.plain(pydoc.render_doc(method_of(client, name)))


@pytest.mark.parametrize("name", METHODS)
def test_async_methods_are_coroutine_functions_and_sync_ones_are_not(name: str) -> None:
    method = method_of(AsyncInferenceClient(URL), name)
    assert inspect.iscoroutinefunction(method)
    assert inspect.iscoroutinefunction(functools.partial(method, temperature=1))
    assert inspect.ismethod(method)
    assert not inspect.iscoroutinefunction(method_of(InferenceClient(URL), name))


@pytest.mark.parametrize("name", ["text_generation", "chat_completion", "get_endpoint_info", "health_check", "close"])
def test_a_mock_of_the_async_client_is_awaited(name: str) -> None:
    for mock in (AsyncMock(spec=AsyncInferenceClient), create_autospec(AsyncInferenceClient, instance=True)):
        method = getattr(mock, name)
        method.return_value = "mocked"
        arguments = ["Hi"] if name in ("text_generation", "chat_completion") else []
        assert asyncio.run(method(*arguments)) == "mocked"
        method.assert_awaited_once_with(*arguments)


def test_a_mock_with_a_spec_knows_the_parameters() -> None:
    for mock in (create_autospec(InferenceClient, instance=True), create_autospec(AsyncInferenceClient, instance=True)):
        with pytest.raises(TypeError, match="temprature"):
            mock.text_generation("Hi", temprature=1)
    mock = MagicMock(spec=InferenceClient)
    assert mock.text_generation("Hi") is mock.text_generation.return_value


async def test_what_looks_at_a_function_first_gets_what_the_call_gives() -> None:
    with ScriptedServer(
        Response.error(503, "busy", "overloaded"), Response(token_events("Hi", finish_reason="length"))
    ) as server:
        async with AsyncInferenceClient(server.url, retry=None) as client:
            ask: Any = retry_on_overload(2, max_wait=0.01)(client.text_generation)
            assert [token async for token in await ask("Hi", stream=True)] == ["Hi"]
            assert len(server.requests) == 2


async def test_a_call_that_is_not_streamed_is_a_coroutine_and_runs_in_every_way() -> None:
    with ScriptedServer(Response.json({"generated_text": "Hi"})) as server:
        async with AsyncInferenceClient(server.url) as client:
            assert inspect.iscoroutine(call := client.text_generation("Hi"))
            assert await call == "Hi"
            assert await asyncio.create_task(client.text_generation("Hi")) == "Hi"
            assert await asyncio.wait_for(client.text_generation("Hi"), 60) == "Hi"
            with pytest.raises(TypeError, match="did you mean `temperature`"):
                client.text_generation("Hi", temprature=1)  # type: ignore[call-overload]
