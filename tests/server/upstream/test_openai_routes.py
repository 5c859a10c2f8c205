"""OpenAI's routes in front of other servers: bodies and answers are passed on."""

from __future__ import annotations

import json

import pytest

from hfstream.testing import Response, chat_event, chat_events
from tests.helpers.scripted_engine import http

from .common import CHAT, COMPLETIONS, completion_event, completion_events, data_of, front, scripted

HI = [{"role": "user", "content": "Hi"}]
KINDS = pytest.mark.parametrize("path", ["/v1", ""], ids=["openai", "tgi"])
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def as_events(*chunks: bytes) -> list[object]:
    return [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks]


@KINDS
def test_a_streamed_chat_is_passed_on_event_by_event(path: str) -> None:
    with front(scripted(Response(chat_events("Hel", "lo"))), path=path) as server:
        response = server.post(CHAT, {"model": "m", "messages": HI, "stream": True})
        assert response.headers["content-type"] == "text/event-stream"
        *events, done = data_of(response)
        assert done == "[DONE]"
        assert events == as_events(*chat_events("Hel", "lo")[:-1])


def test_fields_that_no_type_knows_are_passed_on_both_ways() -> None:
    chunk = chat_event("Hi", reasoning_content="why", mood="good", finish_reason="stop")
    with front(scripted(Response([chunk, b"data: [DONE]\n\n"]))) as server:
        body = {
            "model": "m", "messages": HI, "stream": True, "tools": [TOOL], "tool_choice": "auto", "mood": ["a"],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        }  # fmt: skip
        response = server.post(CHAT, {**body, "top_p": None})
        assert data_of(response)[0] == as_events(chunk)[0]
        assert server.sent == [body]


@KINDS
def test_a_chat_that_is_not_streamed(path: str) -> None:
    completion = {
        "id": "1", "object": "chat.completion", "created": 5, "model": "m", "kv_transfer": {"x": 1},
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            ]}, "finish_reason": "tool_calls"},
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }  # fmt: skip
    with front(scripted(Response.json(completion)), path=path) as server:
        response = server.post(CHAT, {"model": "m", "messages": HI})
        assert response.json() == completion
        assert server.sent == [{"model": "m", "messages": HI, "stream": False}]


@KINDS
def test_a_streamed_completion(path: str) -> None:
    with front(scripted(Response(completion_events("a", "b"))), path=path) as server:
        *events, done = data_of(server.post(COMPLETIONS, {"model": "m", "prompt": "Hi", "stream": True, "n": 1}))
        assert done == "[DONE]"
        assert events == as_events(*completion_events("a", "b")[:-1])
        assert server.sent == [{"model": "m", "prompt": "Hi", "stream": True, "n": 1}]


def test_two_prompts_of_one_completion() -> None:
    second = b'data: {"choices":[{"index":1,"text":"b","finish_reason":"stop"}]}\n\n'
    with front(scripted(Response([completion_event("a", "stop"), second, b"data: [DONE]\n\n"]))) as server:
        events = data_of(server.post(COMPLETIONS, {"prompt": ["Hi", "Ho"], "stream": True}))
        assert [event["choices"][0]["text"] for event in events[:-1]] == ["a", "b"]


def test_a_completion_that_is_not_streamed() -> None:
    completion = {"id": "1", "choices": [{"index": 0, "text": "a", "logprobs": {"tokens": ["a"]}}], "usage": None}
    with front(scripted(Response.json(completion))) as server:
        assert server.post(COMPLETIONS, {"prompt": "Hi", "echo": True}).json() == completion
        assert server.sent == [{"prompt": "Hi", "echo": True, "model": "small", "stream": False}]


@pytest.mark.parametrize(
    ("path", "settings", "requested", "sent"),
    [
        ("/v1", {}, "tgi", "small"),
        ("/v1", {}, None, "small"),
        ("/v1", {}, "large", "large"),
        ("/v1", {"upstream_model": "set"}, "tgi", "set"),
        ("/v1", {"served_model_name": "ours"}, "ours", "small"),
        ("", {}, None, "tgi"),
        ("", {}, "adapter", "adapter"),
    ],
)
def test_which_model_is_asked_for(path: str, settings: dict[str, str], requested: str | None, sent: str) -> None:
    with front(scripted(Response(chat_events("Hi"))), path=path, **settings) as server:
        server.post(CHAT, {"model": requested, "messages": HI, "stream": True})
        assert server.sent[0]["model"] == sent


def test_a_model_that_is_a_url_goes_nowhere_else() -> None:
    with front(scripted(Response(chat_events("Hi")))) as server, scripted(Response(chat_events("No"))) as elsewhere:
        server.post(CHAT, {"model": elsewhere.url, "messages": HI, "stream": True})
        assert server.sent[0]["model"] == elsewhere.url
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        (CHAT, {"messages": "Hi"}, "messages"),
        (COMPLETIONS, {}, "prompt"),
        (CHAT, {"messages": HI, "stream": 3}, "stream"),
    ],
)
def test_a_body_that_is_none_of_the_route_is_refused_here(path: str, body: dict[str, object], word: str) -> None:
    with front(scripted(Response())) as server:
        response = server.post(path, body)
        assert response.status_code == 422
        assert word in response.json()["error"]["message"]
        assert server.sent == []


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [(b"NaN", 400, "Failed to parse the request body as JSON"), (b"1e999", 422, "cannot be sent as JSON")],
)
def test_a_number_that_json_does_not_have_is_refused(number: bytes, status: int, words: str) -> None:
    with front(scripted(Response())) as server:
        body = b'{"messages": [], "temperature": %s}' % number
        response = http.post(server.url + CHAT, content=body, headers={"content-type": "application/json"})
        assert response.status_code == status
        assert words in response.json()["error"]["message"]


def test_the_other_servers_key_is_not_the_clients() -> None:
    with front(scripted(Response(chat_events("Hi"))), api_key="ours", upstream_api_key="theirs") as server:
        body = {"messages": HI, "stream": True}
        assert server.post(CHAT, body).status_code == 401
        assert server.post(CHAT, body, authorization="Bearer theirs").status_code == 401
        assert server.post(CHAT, body, authorization="Bearer ours").status_code == 200
        assert {each.headers["authorization"] for each in server.upstreams[0].requests} == {"Bearer theirs"}


@pytest.mark.parametrize("path", ["/chat_tokenize", "/v1/responses"])
def test_routes_that_need_a_model_here_are_refused_in_words(path: str) -> None:
    with front(scripted(Response())) as server:
        response = server.post(path, {"messages": HI})
        assert response.status_code == 404
        assert "not available at a server in front of others" in response.json()["error"]
