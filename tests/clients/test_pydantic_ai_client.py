"""Pydantic AI's HuggingFaceModel with hfstream's AsyncInferenceClient, against the backend and the mock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pages import run_blocks
from pydantic_ai import Agent
from pydantic_ai.models.huggingface import HuggingFaceModel
from pydantic_ai.providers.huggingface import HuggingFaceProvider
from pydantic_ai.settings import ModelSettings

from hfstream import AsyncInferenceClient, OverloadedError
from hfstream.testing import Fault, Response, ScriptedServer, chat_events

CHEESE = "How do you make cheese?"


def model_at(url: str, **settings: Any) -> HuggingFaceModel:
    client: Any = AsyncInferenceClient(url, **settings)
    return HuggingFaceModel("bundled", provider=HuggingFaceProvider(hf_client=client, api_key="-"))


def test_the_page(backend: str) -> None:
    run_blocks("pydantic_ai", backend)


def test_an_agent_answers(backend: str) -> None:
    result = Agent(model_at(backend), model_settings=ModelSettings(temperature=0)).run_sync(CHEESE)
    assert "curd" in result.output
    assert result.usage.output_tokens > 20


def test_an_agent_streams(backend: str) -> None:
    settings = ModelSettings(temperature=0, extra_body={"stream_options": {"include_usage": True}})

    async def main() -> tuple[list[str], int]:
        async with Agent(model_at(backend), model_settings=settings).run_stream(CHEESE) as result:
            texts = [text async for text in result.stream_text(delta=True, debounce_by=None)]
            return texts, result.usage.output_tokens

    pieces, tokens = asyncio.run(main())
    assert len(pieces) > 20
    assert "curd" in "".join(pieces)
    assert tokens > 20


def test_an_agent_calls_a_tool(mock: Callable[..., str]) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Nuremberg"}}
    url = mock({"when": {"tool": "get_weather", "role": "user"}, "tool_calls": [call]}, {"text": "It rains."})
    agent = Agent(model_at(url))
    cities = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        cities.append(city)
        return "rain"

    assert agent.run_sync("The weather?").output == "It rains."
    assert cities == ["Nuremberg"]


def test_errors_are_the_clients_own() -> None:
    refused = Response.error(429, "Model is overloaded", "overloaded")
    with ScriptedServer(refused) as server, pytest.raises(OverloadedError):
        Agent(model_at(server.url, retry=None)).run_sync("x")


def test_a_stream_that_is_left_is_closed() -> None:
    async def main(url: str) -> None:
        async with Agent(model_at(url)).run_stream("x") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                break

    with ScriptedServer(Response([*chat_events("a", "b")[:2], Fault.STALL])) as server:
        asyncio.run(main(server.url))
        assert server.wait_until_running(0)
