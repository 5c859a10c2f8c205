"""huggingface_hub's InferenceClient, unchanged, against the backend."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from conftest import KEY
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import GenerationError, HfHubHTTPError, OverloadedError, ValidationError

CHEESE = [{"role": "user", "content": "How do you make cheese?"}]
PROMPT = "How do you make cheese?"


@pytest.fixture
def client(backend: str) -> InferenceClient:
    return InferenceClient(backend)


def test_text_streams(client: InferenceClient) -> None:
    streamed = "".join(client.text_generation(PROMPT, max_new_tokens=12, stream=True))
    assert streamed == client.text_generation(PROMPT, max_new_tokens=12, return_full_text=False)
    assert PROMPT + streamed == client.text_generation(PROMPT, max_new_tokens=12)  # it posts to `/`, which repeats it


def test_details_stream(client: InferenceClient) -> None:
    events = list(client.text_generation(PROMPT, max_new_tokens=12, details=True, stream=True))
    assert len(events) == 12
    assert events[-1].details is not None
    assert events[-1].details.finish_reason == "length"
    assert events[-1].generated_text == PROMPT + "".join(event.token.text for event in events)


def test_a_chat_streams(client: InferenceClient) -> None:
    chunks = list(client.chat_completion(CHEESE, temperature=0, stream=True))
    assert "curd" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_same_answer_comes_whole(client: InferenceClient) -> None:
    whole = client.chat_completion(CHEESE, temperature=0)
    chunks = client.chat.completions.create(CHEESE, temperature=0, stream=True)
    assert whole.choices[0].message.content == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert whole.usage.completion_tokens > 20


def test_usage_is_told_at_the_end(client: InferenceClient) -> None:
    chunks = list(client.chat_completion(CHEESE, max_tokens=3, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


def test_async(backend: str) -> None:
    async def main() -> tuple[str, str]:
        client = AsyncInferenceClient(backend)
        text = [token async for token in await client.text_generation(PROMPT, max_new_tokens=12, stream=True)]
        chat = [chunk async for chunk in await client.chat_completion(CHEESE, temperature=0, stream=True)]
        return "".join(text), "".join(chunk.choices[0].delta.content or "" for chunk in chat)

    text, chat = asyncio.run(main())
    assert text
    assert "curd" in chat


def test_info_and_health(client: InferenceClient, backend: str) -> None:
    client = InferenceClient(backend, provider="hf-inference")
    assert client.get_endpoint_info()["max_concurrent_requests"] == 128
    assert client.health_check() is True


def test_a_wrong_value_is_told(client: InferenceClient) -> None:
    with pytest.raises(ValidationError, match="`temperature` must be strictly positive"):
        client.text_generation(PROMPT, temperature=-1)
    with pytest.raises(HfHubHTTPError, match="`temperature` must be strictly positive"):
        client.chat_completion(CHEESE, temperature=-1)


def test_overload_has_its_own_error(serve: Callable[..., str]) -> None:
    client = InferenceClient(serve("--max-concurrent-requests", "1", "--tokens-per-second", "5"))
    stream = client.text_generation(PROMPT, stream=True)
    next(iter(stream))
    with pytest.raises(OverloadedError, match="Model is overloaded"):
        list(client.text_generation(PROMPT, stream=True))
    with pytest.raises(HfHubHTTPError, match="overloaded"):
        list(client.chat_completion(CHEESE, stream=True))


def test_a_key_is_asked_for(guarded: str) -> None:
    with pytest.raises(HfHubHTTPError, match="401"):
        InferenceClient(guarded, token="another").text_generation(PROMPT)
    assert InferenceClient(base_url=guarded, api_key=KEY).chat_completion(CHEESE, max_tokens=1).choices


def test_the_table_of_the_documentation_is_complete() -> None:
    """What hfstream does with each public name of huggingface_hub's two tasks, one row a name."""
    page = Path(__file__).parents[2] / "docs" / "migration.md"
    rows = set(re.findall(r"^\| `(\w+)`", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
    names = {name for name in dir(huggingface_hub) if name.startswith(("ChatCompletion", "TextGeneration"))}
    names |= {name for name in dir(InferenceClient) if not name.startswith("_")}
    assert not names - rows
    for task in (InferenceClient.text_generation, InferenceClient.chat_completion, InferenceClient.__init__):
        parameters = set(task.__annotations__) - {"return"}
        assert not parameters - rows, task.__name__


def test_the_errors_are_there_under_the_same_names() -> None:
    source = Path(__file__).parents[2] / "hfstream" / "errors" / "exceptions.py"
    assert {OverloadedError.__name__, ValidationError.__name__, GenerationError.__name__} <= set(
        re.findall(r"\w+", source.read_text(encoding="utf-8"))
    )


def test_the_mock(mock: Callable[..., str]) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Nuremberg"}}
    client = InferenceClient(
        mock(
            {"when": {"contains": "busy"}, "error": "overloaded", "after": 0},
            {"when": {"contains": "half"}, "text": "one two three", "fault": "drop", "after": 2},
            {"when": {"tool": "get_weather"}, "tool_calls": [call]},
            {"text": "Milk, rennet and salt."},
        )
    )
    # Its streams have the text of special tokens too, here and with TGI.
    assert "".join(client.text_generation(PROMPT, stream=True)) == "Milk, rennet and salt.</s>"
    events = list(client.text_generation(PROMPT, details=True, stream=True))
    assert events[-1].details is not None
    assert events[-1].details.finish_reason == "eos_token"
    assert client.text_generation(PROMPT) == f"{PROMPT}Milk, rennet and salt."  # as TGI's `/`
    chunks = list(client.chat_completion(CHEESE, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Milk, rennet and salt."
    assert chunks[-1].choices[0].finish_reason == "stop"
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "description": "", "parameters": {}}}]
    [made] = client.chat_completion(CHEESE, tools=tools).choices[0].message.tool_calls
    assert (made.function.name, made.function.arguments) == ("get_weather", '{"city": "Nuremberg"}')
    with pytest.raises(OverloadedError, match="Model is overloaded"):
        list(client.text_generation("busy", stream=True))
    with pytest.raises(Exception, match="incomplete chunked read"):
        list(client.text_generation("half", stream=True))
