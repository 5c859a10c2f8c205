"""Pydantic AI, unchanged, against the backend: text, output types and tools, on both of OpenAI's routes."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

CHEESE = "How do you make cheese?"
SETTINGS = ModelSettings(temperature=0)


class Shop(BaseModel):
    """A shop."""

    name: Annotated[str, Field(max_length=12)]
    kind: Literal["dairy", "bakery"]
    stars: Annotated[int, Field(ge=1, le=5)]


@pytest.fixture(params=[OpenAIChatModel, OpenAIResponsesModel])
def model(request: pytest.FixtureRequest, backend: str) -> Model:
    made: Model = request.param("bundled", provider=OpenAIProvider(base_url=f"{backend}/v1", api_key="-"))
    return made


def test_an_agent_answers(model: Model) -> None:
    result = Agent(model, model_settings=SETTINGS, instructions="You are a cook.").run_sync(CHEESE)
    assert "curd" in result.output
    assert result.usage.output_tokens > 20


def test_an_agent_streams(model: Model) -> None:
    async def main() -> list[str]:
        async with Agent(model, model_settings=SETTINGS).run_stream(CHEESE) as result:
            return [text async for text in result.stream_text(delta=True, debounce_by=None)]

    pieces = asyncio.run(main())
    assert len(pieces) > 20
    assert "curd" in "".join(pieces)


def test_a_conversation_goes_on(model: Model) -> None:
    agent = Agent(model, model_settings=SETTINGS)
    first = agent.run_sync(CHEESE)
    second = agent.run_sync("What is the capital of France?", message_history=first.all_messages())
    assert "Paris" in second.output


@pytest.mark.parametrize("form", [ToolOutput, NativeOutput])
def test_an_output_type(model: Model, form: type[ToolOutput[Shop] | NativeOutput[Shop]]) -> None:
    result = Agent(model, model_settings=SETTINGS, output_type=form(Shop), retries=0).run_sync("Which shop?")
    assert isinstance(result.output, Shop)


def test_an_output_type_streams(model: Model) -> None:
    async def main() -> list[Shop]:
        async with Agent(model, model_settings=SETTINGS, output_type=Shop).run_stream("Which shop?") as result:
            return [shop async for shop in result.stream_output(debounce_by=None)]

    shops = asyncio.run(main())
    assert shops
    assert all(isinstance(shop, Shop) for shop in shops)


def test_a_function_as_output_is_called(model: Model) -> None:
    def open_shop(kind: Literal["dairy", "bakery"]) -> str:
        """Opens a shop."""
        return f"the {kind} is open"

    result = Agent(model, model_settings=SETTINGS, output_type=open_shop, retries=0).run_sync("Open a shop")
    assert result.output in ("the dairy is open", "the bakery is open")


def test_tools_may_be_left_alone(model: Model) -> None:
    agent = Agent(model, model_settings=SETTINGS)

    @agent.tool_plain
    def opening_hours(kind: Literal["dairy", "bakery"]) -> str:
        """When a shop is open."""
        return f"the {kind} opens at nine"

    result = agent.run_sync(CHEESE)
    assert result.output
