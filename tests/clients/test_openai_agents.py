"""OpenAI's Agents SDK, unchanged, against the backend: it uses the Responses API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

import openai
import pydantic
import pytest
from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled

CHEESE = "How do you make cheese?"


@pytest.fixture
def agent(backend: str) -> Agent:
    set_tracing_disabled(disabled=True)
    client = openai.AsyncOpenAI(base_url=f"{backend}/v1", api_key="-", max_retries=0)
    model = OpenAIResponsesModel(model="bundled", openai_client=client)
    return Agent(name="Cook", instructions="You are a cook.", model=model, model_settings=ModelSettings(temperature=0))


def test_an_agent_answers(agent: Agent) -> None:
    result = Runner.run_sync(agent, CHEESE)
    assert "curd" in result.final_output
    assert result.context_wrapper.usage.total_tokens > 20


def test_an_agent_streams(agent: Agent) -> None:
    async def main() -> tuple[str, str]:
        result = Runner.run_streamed(agent, CHEESE)
        text = ""
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                text += event.data.delta
        return text, result.final_output

    text, final = asyncio.run(main())
    assert "curd" in text
    assert text == final


class Shop(pydantic.BaseModel):
    name: Literal["dairy", "bakery"]
    open: bool


def test_an_output_type(agent: Agent) -> None:
    result = Runner.run_sync(agent.clone(output_type=Shop), "Which shop?")
    assert isinstance(result.final_output, Shop)


@function_tool
def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def test_a_required_tool_is_called(agent: Agent) -> None:
    settings = ModelSettings(temperature=0, tool_choice="required")
    caller = agent.clone(tools=[get_weather], model_settings=settings, tool_use_behavior="stop_on_first_tool")
    result = Runner.run_sync(caller, "What is the weather in Paris?")
    assert result.final_output in ("sunny in Paris", "sunny in Rome")


def test_an_answer_after_a_tool(agent: Agent) -> None:
    """The SDK does not require a second call: the next response is a text."""
    settings = ModelSettings(temperature=0, tool_choice="required")
    result = Runner.run_sync(
        agent.clone(tools=[get_weather], model_settings=settings), "What is the weather in Paris?", max_turns=3
    )
    assert [item.type for item in result.new_items] == [
        "tool_call_item",
        "tool_call_output_item",
        "message_output_item",
    ]
    assert result.final_output


def test_a_second_turn(agent: Agent) -> None:
    """By its items, and by the id of the response."""

    async def main() -> tuple[str, str]:
        first = await Runner.run(agent, CHEESE)
        question = "What is the capital of France?"
        by_items = await Runner.run(agent, [*first.to_input_list(), {"role": "user", "content": question}])
        by_id = await Runner.run(agent, question, previous_response_id=first.last_response_id)
        return by_items.final_output, by_id.final_output

    by_items, by_id = asyncio.run(main())
    assert by_items == by_id


def test_the_mock(mock: Callable[..., str]) -> None:
    """A whole run by rules: a call of a tool, and the answer to what the tool has returned; streamed and not."""
    set_tracing_disabled(disabled=True)
    url = mock(
        {"when": {"role": "tool", "contains": "sunny in Paris"}, "text": "Take sunglasses."},
        {"when": {"tool": "get_weather"}, "tool_calls": [{"name": "get_weather", "arguments": {"city": "Paris"}}]},
    )
    model = OpenAIResponsesModel(model="m", openai_client=openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-"))
    agent = Agent(name="Guide", instructions="Be brief.", model=model, tools=[get_weather])

    async def main() -> None:
        result = await Runner.run(agent, "The weather in Paris?")
        streamed = Runner.run_streamed(agent, "The weather in Paris?")
        async for _ in streamed.stream_events():
            pass
        assert result.final_output == streamed.final_output == "Take sunglasses."
        assert result.context_wrapper.usage.requests == 2

    asyncio.run(main())
