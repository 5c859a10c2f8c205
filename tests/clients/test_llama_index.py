"""LlamaIndex's OpenAILike, unchanged, against the backend."""

from __future__ import annotations

from typing import Annotated

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pages import run_blocks
from pydantic import BaseModel, Field

CHEESE = [ChatMessage(content="How do you make cheese?")]


@pytest.fixture
def llm(backend: str) -> OpenAILike:
    return OpenAILike(
        model="bundled",
        api_base=f"{backend}/v1",
        api_key="-",
        is_chat_model=True,
        is_function_calling_model=True,
        temperature=0,
        max_tokens=200,
    )


def test_the_page(backend: str) -> None:
    run_blocks("llama_index", backend)


def test_the_same_answer_whole_and_streamed(llm: OpenAILike) -> None:
    whole = llm.chat(CHEESE).message.content
    chunks = list(llm.stream_chat(CHEESE))
    assert "curd" in (whole or "")
    assert "".join(chunk.delta or "" for chunk in chunks) == whole
    assert len(chunks) > 20


async def test_async(llm: OpenAILike) -> None:
    stream = await llm.astream_chat(CHEESE)
    assert "".join([chunk.delta or "" async for chunk in stream]) == llm.chat(CHEESE).message.content


def test_a_completion_is_streamed(backend: str) -> None:
    llm = OpenAILike(model="bundled", api_base=f"{backend}/v1", api_key="-", temperature=0, max_tokens=20)
    chunks = list(llm.stream_complete("How do you make cheese?"))
    assert len(chunks) > 10
    assert chunks[-1].text == llm.complete("How do you make cheese?").text


class City(BaseModel):
    """A city."""

    name: Annotated[str, Field(max_length=12)]


def test_a_pydantic_class_is_filled_in(llm: OpenAILike) -> None:
    city = llm.as_structured_llm(City).complete("Nuremberg").raw
    assert isinstance(city, City)
