"""OpenAI's Agents SDK, unchanged, against the backend: it uses the Responses API."""

from __future__ import annotations

import asyncio
from typing import Literal

import openai
import pydantic
import pytest
from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, set_tracing_disabled

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
