"""An answer in the format of each route: the fields of a real server, and what the request asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from hfstream import InferenceClient
from hfstream.server import BackgroundServer
from hfstream.sse import SSEDecoder
from hfstream.testing import MockServer
from tests.helpers.shared_engine import SharedEngine

RULES = {
    "rules": [
        {"when": {"contains": "think"}, "reasoning": "Well, well", "text": "So."},
        {"when": {"contains": "count"}, "text": "a b", "usage": {"prompt_tokens": 70, "completion_tokens": 9}},
        {"when": {"contains": "json"}, "json": {"answer": [1, "é"]}},
        {"when": {"contains": "long"}, "text": "one two", "finish_reason": "length"},
        {"when": {"contains": "tokens"}, "text": ["a", "", "b c"]},
        {"when": {"contains": "nothing"}, "text": ""},
        {"text": "one two one"},
    ]
}


@pytest.fixture(scope="module")
def mock() -> Iterator[MockServer]:
    with MockServer(RULES) as server:
        yield server


def post(url: str, path: str, **body: Any) -> Any:
    return httpx.post(url + path, json=body, timeout=60).raise_for_status().json()


def stream(url: str, path: str, **body: Any) -> list[Any]:
    response = httpx.post(url + path, json=body, timeout=60).raise_for_status()
    assert response.headers["content-type"].startswith("text/event-stream")
    return [
        json.loads(event.data) if event.data != "[DONE]" else "[DONE]" for event in SSEDecoder().feed(response.content)
    ]


def test_text_generation(mock: MockServer) -> None:
    client: Any = InferenceClient(mock.url)
    streamed = list(client.text_generation("x", details=True, stream=True))
    assert [event.token.text for event in streamed] == ["one", " two", " one", "</s>"]
    assert streamed[-1].token.special
    details = streamed[-1].details
    assert details is not None
    assert (details.finish_reason, details.generated_tokens, details.input_length) == ("eos_token", 4, 1)
    whole = client.text_generation("x y", details=True, top_n_tokens=2)
    assert whole.generated_text == "one two one"
    assert [token.text for token in whole.details.tokens] == ["one", " two", " one", "</s>"]
    assert [[token.text for token in tops] for tops in whole.details.top_tokens or []] == [
        ["one", " two"], [" two", "one"], [" one", "one"], [],
    ]  # fmt: skip
    assert client.text_generation("x", return_full_text=True) == "xone two one"
    assert client.text_generation("nothing") == ""
    assert list(client.text_generation("tokens", stream=True)) == ["a", "", "b c"]
    last = list(client.text_generation("long", details=True, stream=True))[-1]
    assert (last.token.text, last.generated_text, last.details.finish_reason) == (" two", "one two", "length")


def test_without_details_there_are_none(mock: MockServer) -> None:
    assert post(mock.url, "/generate", inputs="x") == {"generated_text": "one two one"}
    assert stream(mock.url, "/generate_stream", inputs="x")[-1]["details"] is None


def test_the_compatible_route_repeats_the_prompt_in_a_list(mock: MockServer) -> None:
    assert post(mock.url, "/", inputs="x: ") == [{"generated_text": "x: one two one"}]
    parameters = {"return_full_text": False}
    assert post(mock.url, "/", inputs="x", parameters=parameters) == [{"generated_text": "one two one"}]
    assert stream(mock.url, "/", inputs="x", stream=True)[-1]["generated_text"] == "xone two one"


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_chat(mock: MockServer) -> None:
    client = InferenceClient(mock.url)
    whole = client.chat_completion(chat("json"))
    assert whole.choices[0].message.content == '{"answer": [1, "é"]}'
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert client.chat_completion(chat("long")).choices[0].finish_reason == "length"
    assert client.chat_completion(chat("nothing")).choices[0].message.content == ""
    counted = client.chat_completion(chat("count")).usage
    assert counted is not None
    assert (counted.prompt_tokens, counted.completion_tokens, counted.total_tokens) == (70, 9, 79)
    for completion in (
        client.chat_completion(chat("think")),
        client.chat_completion(chat("think"), stream=True).final(),
    ):
        message = completion.choices[0].message
        assert (message.reasoning_content, message.content) == ("Well, well", "So.")


def test_usage_and_log_probabilities_come_where_they_are_asked_for(mock: MockServer) -> None:
    plain = stream(mock.url, "/v1/chat/completions", messages=chat("x"), stream=True)
    assert not [chunk for chunk in plain[:-1] if "usage" in chunk or chunk["choices"][0]["logprobs"]]
    options = {"stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 2}
    chunks = stream(mock.url, "/v1/chat/completions", messages=chat("x"), stream=True, **options)
    *chunks, usage, done = chunks
    assert done == "[DONE]"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 3)
    assert {chunk["usage"] for chunk in chunks} == {None}
    logprobs = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [entry["content"][0]["token"] for entry in logprobs if entry] == ["one", " two", " one"]
    whole = post(mock.url, "/v1/chat/completions", messages=chat("x"), logprobs=True, top_logprobs=2)
    assert whole["choices"][0]["logprobs"]["content"] == [entry["content"][0] for entry in logprobs if entry]
    tops = whole["choices"][0]["logprobs"]["content"][1]["top_logprobs"]
    assert [(top["token"], top["logprob"]) for top in tops] == [(" two", -0.5), ("one", -1.5)]


def test_a_completion(mock: MockServer) -> None:
    whole = post(mock.url, "/v1/completions", prompt=["x"], logprobs=1)
    assert whole["choices"][0]["text"] == "one two one"
    assert whole["choices"][0]["logprobs"]["text_offset"] == [0, 3, 7]
    assert whole["usage"] == {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    *chunks, done = stream(mock.url, "/v1/completions", prompt="x", stream=True, logprobs=0)
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "one two one"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert [chunk["choices"][0]["logprobs"] is None for chunk in chunks] == [False, False, False, True]
    assert list(InferenceClient(f"{mock.url}/v1").text_generation("x", stream=True)) == ["one", " two", " one"]


def test_a_response(mock: MockServer) -> None:
    response = post(mock.url, "/v1/responses", input="x")
    assert (response["status"], response["output"][0]["content"][0]["text"]) == ("completed", "one two one")
    events = stream(mock.url, "/v1/responses", input=[{"role": "user", "content": "x"}], stream=True)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["delta"] for event in events if event["type"] == "response.output_text.delta"] == [
        "one",
        " two",
        " one",
    ]
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["usage"]["output_tokens"] == 3
    output = {"type": "function_call_output", "call_id": "c", "output": "count"}
    conversation = [{"role": "user", "content": "x"}, {"type": "function_call", "name": "f", "arguments": "{}"}, output]
    assert post(mock.url, "/v1/responses", input=conversation, instructions="Be brief")["usage"]["input_tokens"] == 70


# As the reference server ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(shared_engine: SharedEngine) -> Iterator[str]:
    with BackgroundServer(engine=shared_engine.connect()) as server:
        InferenceClient(server.url).text_generation("Hi", max_new_tokens=1)
        yield server.url


def fields(value: Any, path: str = "") -> set[str]:
    """The fields in a JSON value, such as ``choices[].delta.content``. Those that a server may leave out are not."""
    if isinstance(value, list):
        return set().union(*(fields(each, f"{path}[]") for each in value))
    if not isinstance(value, dict):
        return {path} - {""}
    inner = [fields(each, f"{path}.{name}".lstrip(".")) for name, each in value.items() if name not in OPTIONAL]
    return set().union(*inner)


OPTIONAL = ("system_fingerprint", "usage", "refusal", "prefill", "bytes", "top_logprobs", "cache_write_tokens")
DETAILS = {"max_new_tokens": 3, "details": True}
CASES: dict[str, tuple[Callable[..., Any], str, dict[str, Any]]] = {
    "generate": (post, "/generate", {"inputs": "Hi", "parameters": DETAILS}),
    "generate_stream": (stream, "/generate_stream", {"inputs": "Hi", "parameters": DETAILS}),
    "/": (post, "/", {"inputs": "Hi", "parameters": {"max_new_tokens": 3}}),
    "chat": (post, "/v1/chat/completions", {"messages": chat("Hi"), "max_tokens": 3, "logprobs": True}),
    "chat stream": (stream, "/v1/chat/completions", {"messages": chat("Hi"), "max_tokens": 3, "stream": True}),
    "completions": (post, "/v1/completions", {"prompt": "Hi", "max_tokens": 3, "logprobs": 1}),
    "completions stream": (stream, "/v1/completions", {"prompt": "Hi", "max_tokens": 3, "stream": True}),
    "responses": (post, "/v1/responses", {"input": "Hi", "max_output_tokens": 16}),
    "responses stream": (stream, "/v1/responses", {"input": "Hi", "max_output_tokens": 16, "stream": True}),
}  # fmt: skip


@pytest.mark.parametrize(("send", "path", "body"), CASES.values(), ids=CASES)
def test_the_fields_are_those_of_the_reference_server(
    send: Callable[..., Any], path: str, body: dict[str, Any], reference: str
) -> None:
    with MockServer({"rules": [{"text": "one two three", "finish_reason": "length"}]}) as server:
        assert fields(send(server.url, path, **body)) == fields(send(reference, path, **body))
