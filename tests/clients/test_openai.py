"""openai's own client, unchanged, against the backend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Literal

import openai
import pydantic
import pytest
from conftest import KEY

CHEESE = [{"role": "user", "content": "How do you make cheese?"}]


@pytest.fixture
def client(backend: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{backend}/v1", api_key="-", max_retries=0)


def test_a_chat_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="bundled", messages=CHEESE, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    *content, last, usage = chunks
    assert content[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:-1])
    assert "curd" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert [chunk.choices[0].finish_reason for chunk in content] == [None] * len(content)
    assert last.choices[0].finish_reason == "stop"
    assert not usage.choices
    assert usage.usage is not None
    assert usage.usage.total_tokens == usage.usage.prompt_tokens + usage.usage.completion_tokens > 20
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].id


def test_the_same_answer_comes_whole(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="bundled", messages=CHEESE, temperature=0)
    with client.chat.completions.stream(model="bundled", messages=CHEESE, temperature=0) as stream:
        streamed = stream.get_final_completion()
    assert answer.choices[0].message.role == streamed.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == streamed.choices[0].message.content
    assert answer.choices[0].finish_reason == streamed.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.object == "chat.completion"


def test_what_an_application_sets_by_habit_is_taken(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="gpt-of-some-kind", messages=CHEESE, top_p=1, n=1, frequency_penalty=0, presence_penalty=0, stop="\n",
        max_completion_tokens=5, logit_bias={}, user="me", seed=7,
    )  # fmt: skip
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 5
    assert answer.model == "gpt-of-some-kind"


def test_log_probabilities(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="bundled", messages=CHEESE, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(token.token for token in logprobs.content) == answer.choices[0].message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) >= 3 for token in logprobs.content)


def test_completions(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="bundled", prompt="How do you make cheese?", temperature=0, max_tokens=12)
    stream = client.completions.create(
        model="bundled", prompt="How do you make cheese?", temperature=0, max_tokens=12, stream=True
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert len(chunks) == 12


def test_several_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="bundled", messages=CHEESE, n=3, seed=5, max_tokens=12)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    stream = client.chat.completions.create(model="bundled", messages=CHEESE, n=3, seed=5, max_tokens=12, stream=True)
    texts = ["", "", ""]
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices]
    alone = client.chat.completions.create(model="bundled", messages=CHEESE, seed=6, max_tokens=12)
    assert alone.choices[0].message.content == texts[1]


def test_several_prompts_an_echo_and_token_ids(client: openai.OpenAI) -> None:
    prompt = "How do you make cheese?"
    answer = client.completions.create(
        model="bundled", prompt=[prompt, "What is the capital of France?"], temperature=0, max_tokens=8
    )
    scored = client.completions.create(
        model="bundled", prompt=prompt, temperature=0, max_tokens=8, echo=True, logprobs=2
    )
    assert scored.choices[0].text == prompt + answer.choices[0].text
    logprobs = scored.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    assert logprobs.token_logprobs[0] is None
    assert all(each is not None and each <= 0 for each in logprobs.token_logprobs[1:])
    ids = client.completions.create(model="bundled", prompt=[503, 367, 330], max_tokens=1, echo=True)
    assert ids.choices[0].text.startswith("How do you")
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 3


def test_a_biased_token(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="bundled", messages=CHEESE, logit_bias={"330": 100}, max_tokens=3)
    assert answer.choices[0].message.content == " you you you"


def test_a_response(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="bundled", instructions="You are a cook.", input="How do you make cheese?", temperature=0,
        metadata={"k": "v"},
    )  # fmt: skip
    assert response.status == "completed"
    assert "curd" in response.output_text
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 20
    assert response.metadata == {"k": "v"}
    with client.responses.stream(
        model="bundled", instructions="You are a cook.", input="How do you make cheese?", temperature=0
    ) as stream:
        events = list(stream)
        streamed = stream.get_final_response()
    assert streamed.output_text == response.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == response.output_text
    assert {event.type for event in events} == {
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed",
    }  # fmt: skip


def test_a_response_continues_an_earlier_one(client: openai.OpenAI) -> None:
    first = client.responses.create(model="bundled", input="How do you make cheese?", temperature=0)
    second = client.responses.create(
        model="bundled", input="What is the capital of France?", previous_response_id=first.id, temperature=0
    )
    again = client.responses.create(
        model="bundled", temperature=0,
        input=[
            {"role": "user", "content": "How do you make cheese?"},
            *first.output,
            {"role": "user", "content": "What is the capital of France?"},
        ],
    )  # fmt: skip
    assert second.output_text == again.output_text
    assert second.usage is not None
    assert again.usage is not None
    assert second.usage.input_tokens == again.usage.input_tokens
    unstored = client.responses.create(model="bundled", input="Hi", store=False, max_output_tokens=3)
    assert unstored.status == "incomplete"
    with pytest.raises(openai.BadRequestError, match="not found") as caught:
        client.responses.create(model="bundled", input="Hi", previous_response_id=unstored.id)
    assert (caught.value.param, caught.value.code) == ("previous_response_id", "previous_response_not_found")


WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


def test_a_response_that_calls_a_function(client: openai.OpenAI) -> None:
    question = "What is the weather in Paris?"
    options: dict[str, Any] = {"model": "bundled", "tools": [WEATHER], "temperature": 0}
    [call] = client.responses.create(input=question, tool_choice="required", **options).output
    assert (call.type, call.name) == ("function_call", "get_weather")
    assert json.loads(call.arguments)["city"] in ("Paris", "Rome")
    with client.responses.stream(input=question, tool_choice="required", **options) as stream:
        events = list(stream)
        streamed = stream.get_final_response()
    assert "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta") == (
        call.arguments
    )
    [streamed_call] = streamed.output
    assert (streamed_call.name, streamed_call.arguments) == (call.name, call.arguments)
    result = {"type": "function_call_output", "call_id": streamed_call.call_id, "output": "sunny"}
    answer = client.responses.create(input=[result], previous_response_id=streamed.id, **options)
    assert answer.status == "completed"
    assert client.responses.create(input=question, tool_choice="none", **options).output_text


class Shop(pydantic.BaseModel):
    name: Literal["dairy", "bakery"]
    open: bool


def test_a_response_of_a_schema(client: openai.OpenAI) -> None:
    response = client.responses.parse(model="bundled", input="Which shop?", text_format=Shop, temperature=0)
    assert isinstance(response.output_parsed, Shop)
    with client.responses.stream(model="bundled", input="Which shop?", text_format=Shop, temperature=0) as stream:
        assert stream.get_final_response().output_parsed == response.output_parsed


def test_what_responses_do_not_have_is_told(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="only functions are") as caught:
        client.responses.create(model="bundled", input="Hi", tools=[{"type": "web_search"}])
    assert caught.value.param == "tools"
    with pytest.raises(openai.UnprocessableEntityError, match="`max_output_tokens` must be strictly positive"):
        client.responses.create(model="bundled", input="Hi", max_output_tokens=0, stream=True)


def test_async_responses(backend: str) -> None:
    async def main() -> str:
        async with openai.AsyncOpenAI(base_url=f"{backend}/v1", api_key="-") as client:
            stream = await client.responses.create(
                model="bundled", input="How do you make cheese?", temperature=0, stream=True
            )
            events = [event async for event in stream]
        assert events[-1].type == "response.completed"
        return "".join(event.delta for event in events if event.type == "response.output_text.delta")

    assert "curd" in asyncio.run(main())


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["bundled"]


def test_async(backend: str) -> None:
    async def main() -> str:
        async with openai.AsyncOpenAI(base_url=f"{backend}/v1", api_key="-") as client:
            stream = await client.chat.completions.create(model="bundled", messages=CHEESE, temperature=0, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert "curd" in asyncio.run(main())


def test_a_wrong_value_is_told(client: openai.OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.UnprocessableEntityError, match="`temperature` must be strictly positive") as caught:
            client.chat.completions.create(model="bundled", messages=CHEESE, temperature=-1, stream=stream)
        assert caught.value.type == "validation"


def test_a_malformed_request_is_told(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="Failed to deserialize"):
        client.chat.completions.create(model="bundled", messages=CHEESE, max_tokens="many")  # type: ignore[arg-type]


def test_overload_is_a_rate_limit(serve: Callable[..., str]) -> None:
    url = serve("--max-concurrent-requests", "1", "--tokens-per-second", "5")
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0)
    with client.chat.completions.create(model="bundled", messages=CHEESE, stream=True) as stream:
        next(iter(stream))
        with pytest.raises(openai.RateLimitError, match="Model is overloaded") as caught:
            client.chat.completions.create(model="bundled", messages=CHEESE, stream=True)
        assert caught.value.status_code == 429
        assert caught.value.response.headers["retry-after"] == "1"
    retrying = openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=8)
    answer = retrying.chat.completions.create(model="bundled", messages=CHEESE, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"


def test_a_key_is_asked_for(guarded: str) -> None:
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{guarded}/v1", api_key="another").chat.completions.create(model="m", messages=CHEESE)
    answer = openai.OpenAI(base_url=f"{guarded}/v1", api_key=KEY).chat.completions.create(
        model="m", messages=CHEESE, max_tokens=1
    )
    assert answer.choices


def test_a_tool_that_must_be_called_is_called(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"unit": {"enum": ["C", "F"]}}, "required": ["unit"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    choice = {"type": "function", "function": {"name": "f"}}
    fields = {"model": "bundled", "messages": CHEESE, "tools": [tool], "tool_choice": choice}
    answer = client.chat.completions.create(**fields).choices[0]
    assert answer.finish_reason == "tool_calls"
    [call] = answer.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)["unit"] in ("C", "F")) == ("f", True)
    with client.chat.completions.stream(**fields) as stream:
        [call] = stream.get_final_completion().choices[0].message.tool_calls
    assert call.function.name == "f"


def test_json_by_a_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"size": {"enum": ["small", "large"]}},
        "required": ["size"],
        "additionalProperties": False,
    }
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(model="bundled", messages=CHEESE, response_format=response_format)
    assert json.loads(answer.choices[0].message.content)["size"] in ("small", "large")


def test_the_mock(mock: Callable[..., str]) -> None:
    url = mock(
        {"when": {"call": 1}, "error": "overloaded", "retry_after": 0.1},
        {"when": {"contains": "half"}, "text": "one two three", "fault": "drop", "after": 2},
        {"when": {"contains": "late"}, "text": "one two three", "error": "generation", "after": 2},
        {"when": {"role": "tool"}, "text": "Take an umbrella."},
        {"when": {"tool": "get_weather"}, "tool_calls": [{"name": "get_weather", "arguments": {"city": "Nuremberg"}}]},
        {"when": {"matches": "^json"}, "json": {"answer": 42}},
        {"when": {"contains": "cheese"}, "text": "Milk, rennet and salt."},
        api_key=KEY,
    )
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=1)
    text = "Milk, rennet and salt."
    whole = client.chat.completions.create(model="m", messages=CHEESE, logprobs=True, top_logprobs=2)  # the second try
    assert whole.choices[0].message.content == text
    assert whole.usage is not None
    assert whole._request_id == "mock-2"
    stream = client.chat.completions.create(
        model="m", messages=CHEESE, stream=True, stream_options={"include_usage": True}
    )
    *chunks, usage = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert usage.usage == whole.usage
    completions = client.completions.create(model="m", prompt="cheese", stream=True)
    assert "".join(chunk.choices[0].text for chunk in completions) == text
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    with client.chat.completions.stream(
        model="m", messages=[{"role": "user", "content": "rain?"}], tools=tools
    ) as made:
        message = made.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Nuremberg"}
    result: Any = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}
    again = client.chat.completions.create(model="m", messages=[*CHEESE, message, result], tools=tools)
    assert again.choices[0].message.content == "Take an umbrella."

    class Answer(pydantic.BaseModel):
        answer: int

    parsed = client.chat.completions.parse(
        model="m", messages=[{"role": "user", "content": "json"}], response_format=Answer
    )
    assert parsed.choices[0].message.parsed == Answer(answer=42)
    response = client.responses.create(model="m", input="cheese")
    assert response.output_text == text
    events = list(client.responses.create(model="m", input="cheese", stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text
    with pytest.raises(openai.NotFoundError, match="no rule of the mock holds for POST /v1/chat/completions"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Why?"}])
    with pytest.raises(openai.APIError, match="Request failed during generation"):
        list(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "late"}], stream=True))
    with pytest.raises(openai.APIConnectionError):
        list(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "half"}], stream=True))
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key provided"):
        openai.OpenAI(base_url=f"{url}/v1", api_key="another").chat.completions.create(model="m", messages=CHEESE)
    assert [model.id for model in client.models.list()] == ["mock"]
