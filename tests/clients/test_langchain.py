"""LangChain's ChatOpenAI, unchanged, against the backend."""

from __future__ import annotations

import asyncio
import functools
import operator
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr


@pytest.fixture
def model(backend: str) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{backend}/v1", api_key=SecretStr("-"), model="bundled", temperature=0)


def test_it_streams(model: ChatOpenAI) -> None:
    chunks = list(model.stream("How do you make cheese?"))
    assert "curd" in "".join(str(chunk.content) for chunk in chunks)
    assert len(chunks) > 20


def test_the_same_answer_comes_whole(model: ChatOpenAI) -> None:
    whole = model.invoke("How do you make cheese?")
    assert whole.content == "".join(str(chunk.content) for chunk in model.stream("How do you make cheese?"))
    assert whole.response_metadata["finish_reason"] == "stop"


def test_a_stop_string_is_not_part_of_the_answer(model: ChatOpenAI) -> None:
    cut = "".join(str(chunk.content) for chunk in model.stream("How do you make cheese?", stop=["curd"]))
    whole = str(model.invoke("How do you make cheese?").content)
    assert cut == whole.partition("curd")[0]


def test_async(model: ChatOpenAI) -> None:
    async def main() -> str:
        return "".join([str(chunk.content) async for chunk in model.astream("How do you make cheese?")])

    assert "curd" in asyncio.run(main())


def test_the_example(backend: str, model: ChatOpenAI) -> None:
    program = Path(__file__).parents[2] / "examples" / "langchain_chat.py"
    output = subprocess.run([sys.executable, str(program), backend], capture_output=True, check=True, text=True).stdout
    assert output == f"{model.invoke('How do you make cheese?').content}\n"


def test_the_mock(mock: Callable[..., str]) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Nuremberg"}}
    url = mock({"when": {"tool": "get_weather"}, "tool_calls": [call]}, {"text": "Milk, rennet and salt."})
    model = ChatOpenAI(base_url=f"{url}/v1", api_key=SecretStr("-"), model="m")
    assert model.invoke("cheese").content == "Milk, rennet and salt."
    chunks = list(model.stream("cheese"))
    assert "".join(str(chunk.content) for chunk in chunks) == "Milk, rennet and salt."
    assert len(chunks) >= 4

    def get_weather(city: str) -> str:
        """The weather of a city."""
        return city

    bound = model.bind_tools([get_weather])
    whole: Any = bound.invoke("The weather?")
    assert [(each["name"], each["args"]) for each in whole.tool_calls] == [("get_weather", {"city": "Nuremberg"})]
    streamed: Any = functools.reduce(operator.add, bound.stream("The weather?"))
    assert [(each["name"], each["args"]) for each in streamed.tool_calls] == [("get_weather", {"city": "Nuremberg"})]
