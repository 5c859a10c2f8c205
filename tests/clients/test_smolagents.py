"""smolagents' InferenceClientModel with hfstream's InferenceClient, against the backend and the mock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pages import run_blocks
from smolagents import ChatMessage, InferenceClientModel, MessageRole, ToolCallingAgent, tool

from hfstream import InferenceClient, OverloadedError
from hfstream.testing import Fault, Response, ScriptedServer, chat_events

QUESTION = ChatMessage(MessageRole.USER, [{"type": "text", "text": "How do you make cheese?"}])


def model_at(url: str, **settings: Any) -> InferenceClientModel:
    return InferenceClientModel("bundled", client=InferenceClient(url, **settings), retry=False)


def test_the_page(backend: str) -> None:
    run_blocks("smolagents", backend)


def test_the_same_answer_whole_and_streamed(backend: str) -> None:
    model = model_at(backend)
    whole = model.generate([QUESTION], temperature=0)
    deltas = list(model.generate_stream([QUESTION], temperature=0))
    assert "curd" in whole.content
    assert "".join(delta.content or "" for delta in deltas) == whole.content
    assert len(deltas) > 20
    [usage] = [delta.token_usage for delta in deltas if delta.token_usage]
    assert usage == whole.token_usage


@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_calls_tools(mock: Callable[..., str], stream: bool) -> None:
    cities = []

    @tool
    def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: where
        """
        cities.append(city)
        return "rain"

    weather = {"name": "get_weather", "arguments": {"city": "Nuremberg"}}
    final = {"name": "final_answer", "arguments": {"answer": "It rains."}}
    url = mock({"when": {"call": 1}, "tool_calls": [weather]}, {"tool_calls": [final]})
    agent = ToolCallingAgent([get_weather], model_at(url), stream_outputs=stream, verbosity_level=0)
    assert agent.run("The weather?") == "It rains."
    assert cities == ["Nuremberg"]


def test_errors_are_the_clients_own() -> None:
    refused = Response.error(429, "Model is overloaded", "overloaded")
    with ScriptedServer(refused) as server, pytest.raises(OverloadedError):
        model_at(server.url, retry=None).generate([QUESTION])


def test_a_stream_that_is_left_is_closed() -> None:
    with ScriptedServer(Response([*chat_events("a", "b")[:2], Fault.STALL])) as server:
        for _ in model_at(server.url).generate_stream([QUESTION]):
            break
        assert server.wait_until_running(0)
