"""Which rule answers, what is refused, and what is shown of it."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream import (
    AuthenticationError,
    InferenceClient,
    InferenceError,
    NotFoundError,
    OverloadedError,
    ValidationError,
)
from hfstream.testing import MockedRequest, MockServer

Start = Callable[..., MockServer]

TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def chat(server: MockServer, text: str, **options: Any) -> Any:
    return InferenceClient(server.url, retry=None).chat_completion(user(text), **options)


def said(server: MockServer, text: str, **options: Any) -> str | None:
    content: str | None = chat(server, text, **options).choices[0].message.content
    return content


# What it is made of ---------------------------------------------------------------------------------------------------

ANSWER = {"rules": [{"text": "a"}]}


@pytest.mark.parametrize("rules", ["rules.yaml", ["a"], None], ids=repr)
def test_what_are_no_rules_is_refused(rules: Any) -> None:
    with pytest.raises(TypeError, match=r"MockServer\.from_file\(path\)"):
        MockServer(rules)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"speed": 0}, ValueError, "speed must be greater than 0, not 0"),
        ({"speed": -1}, ValueError, "speed must be greater than 0"),
        ({"speed": float("nan")}, ValueError, "speed must be greater than 0"),
        ({"speed": "10"}, TypeError, "speed must be a number, not '10'"),
        ({"speed": None}, TypeError, "speed must be a number"),
        ({"on_request": 5}, TypeError, "on_request must be a function, not 5"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_at_once(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(ANSWER), "utf-8")
    with pytest.raises(error, match=message):
        MockServer(ANSWER, **options)
    with pytest.raises(error, match=message):
        MockServer.from_file(path, **options)


def test_what_is_compared_is_one_of_two(tmp_path: Path) -> None:
    wrong: Any = "paht"
    with pytest.raises(ValueError, match='match must be "body" or "path"'):
        MockServer.from_file(tmp_path / "rules.json", match=wrong)


# Which rule ----------------------------------------------------------------------------------------------------------


def test_the_first_rule_that_holds_answers(mock_server: Start) -> None:
    server = mock_server(
        {
            "rules": [
                {"when": {"contains": ["Cheese", "make"]}, "text": "both"},
                {"when": {"contains": "cheese"}, "text": "one"},
                {"when": {"matches": r"^\d+$"}, "text": "a number"},
                {"when": {"model": "gpt-*"}, "text": "a model"},
                {"when": {"stream": True}, "text": "a stream"},
                {"when": {"path": "/v1/chat/completions"}, "text": "a path"},
                {"text": "the rest"},
            ]
        }
    )
    assert said(server, "How do you make cheese?") == "both"
    assert said(server, "cheese") == "one"
    assert said(server, "123") == "a number"
    assert said(server, "x", model="gpt-9") == "a model"
    assert said(server, "x") == "a path"
    assert chat(server, "x", stream=True).final().choices[0].message.content == "a stream"
    assert InferenceClient(server.url).text_generation("x") == "the rest"
    assert [each.source for each in server.requests] == [f"rule {number}" for number in (1, 2, 3, 4, 6, 5, 7)]
    assert server.unused == []


def test_calls_are_counted_for_each_rule(mock_server: Start) -> None:
    server = mock_server(
        {
            "rules": [
                {"when": {"contains": "a", "call": 1}, "text": "first"},
                {"when": {"contains": "a", "call": [2, 4]}, "text": "second or fourth"},
                {"text": "other"},
            ]
        }
    )
    assert [said(server, text) for text in "abaaaa"] == [
        "first", "other", "second or fourth", "other", "second or fourth", "other",
    ]  # fmt: skip


def test_a_conversation_with_a_tool(mock_server: Start) -> None:
    arguments = {"city": "Nuremberg", "days": [1, 2]}
    server = mock_server(
        {
            "rules": [
                {"when": {"role": "tool", "contains": "rain"}, "text": "Take an umbrella."},
                {
                    "when": {"tool": "get_weather"},
                    "text": "I look.",
                    "tool_calls": [{"name": "get_weather", "arguments": arguments}, {"name": "now", "id": "call_9"}],
                },
            ]
        }
    )
    whole = chat(server, "The weather?", tools=TOOLS)
    streamed = chat(server, "The weather?", tools=TOOLS, stream=True).final()
    for completion in (whole, streamed):
        [choice] = completion.choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "I look."
        first, second = choice.message.tool_calls or []
        assert (first.function.name, json.loads(first.function.arguments)) == ("get_weather", arguments)
        assert (second.id, second.function.name, second.function.arguments) == ("call_9", "now", "{}")
    assert whole.usage is not None
    messages = [*user("The weather?"), whole.choices[0].message, {"role": "tool", "content": "It will rain."}]
    answer = InferenceClient(server.url).chat_completion(messages, tools=TOOLS)
    assert answer.choices[0].message.content == "Take an umbrella."


def test_calls_of_tools_answer_only_where_they_can_be_sent(mock_server: Start) -> None:
    server = mock_server({"rules": [{"tool_calls": [{"name": "f"}]}, {"text": "text"}]})
    assert InferenceClient(server.url).text_generation("x") == "text"
    assert chat(server, "x").choices[0].message.tool_calls is not None


def test_parts_of_a_message_are_its_text(mock_server: Start) -> None:
    server = mock_server({"rules": [{"when": {"matches": "^ab$"}, "text": "yes"}]})
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "b"},
    ]
    messages: Any = [{"role": "user", "content": parts}]
    assert InferenceClient(server.url).chat_completion(messages).choices[0].message.content == "yes"


# Requests that are not answered --------------------------------------------------------------------------------------


def test_what_no_rule_answers_is_named_in_the_error_and_kept(mock_server: Start) -> None:
    seen: list[MockedRequest] = []
    server = mock_server({"rules": [{"when": {"contains": "x"}, "text": "a"}]}, on_request=seen.append)
    with pytest.raises(NotFoundError) as caught:
        chat(server, "Why\nis the sky blue?", tools=TOOLS, model="big")
    asked = 'user "Why is the sky blue?", model big, tools get_weather, not streamed'
    assert caught.value.message == f"no rule of the mock holds for POST /v1/chat/completions: {asked}"
    assert caught.value.request_id == "mock-1"
    with pytest.raises(NotFoundError, match=r'no rule of the mock holds for POST /generate: user "Hi"'):
        InferenceClient(server.url).text_generation("Hi")
    [first, second] = server.unmatched
    assert (first.source, first.asked, first.status) == (None, asked, 404)
    assert [first, second] == [*server.requests] == seen
    assert (server.count, server.unmatched_count, server.unused) == (2, 2, ["rule 1"])


def test_a_path_that_is_no_route_is_named(mock_server: Start) -> None:
    server = mock_server({"rules": [{"text": "a"}]})
    response = httpx.post(f"{server.url}/v1/embeddings?key=secret", json={})
    assert response.status_code == 404
    assert response.json() == {"error": "the mock has no route POST /v1/embeddings, and no rule with this `path`"}
    assert len(server.unmatched) == 1


def test_only_the_last_requests_are_kept_if_that_is_wanted(mock_server: Start) -> None:
    server = mock_server({"rules": [{"text": "a"}]}, keep=2)
    for _ in range(3):
        said(server, "x")
    assert [each.number for each in server.requests] == [2, 3]
    assert server.count == 3


INVALID = {
    "no JSON": ("/generate", "{", 400),
    "no object": ("/generate", "[]", 422),
    "no inputs": ("/generate", "{}", 422),
    "empty inputs": ("/generate", '{"inputs": ""}', 422),
    "no messages": ("/v1/chat/completions", "{}", 422),
    "empty messages": ("/v1/chat/completions", '{"messages": []}', 422),
    "no message": ("/v1/chat/completions", '{"messages": ["x"]}', 422),
    "no stream": ("/v1/chat/completions", '{"messages": [{}], "stream": "yes"}', 422),
    "two choices": ("/v1/chat/completions", '{"messages": [{}], "n": 2}', 422),
    "no prompt": ("/v1/completions", '{"prompt": 5}', 422),
    "two prompts": ("/v1/completions", '{"prompt": ["a", "b"]}', 422),
    "no parameters": ("/generate", '{"inputs": "x", "parameters": []}', 422),
    "no number of tokens": ("/generate", '{"inputs": "x", "parameters": {"top_n_tokens": -1}}', 422),
    "no number of likeliest": (
        "/v1/chat/completions",
        '{"messages": [{}], "logprobs": true, "top_logprobs": "1"}',
        422,
    ),
    "no log probabilities": ("/v1/completions", '{"prompt": "x", "logprobs": []}', 422),
    "no input": ("/v1/responses", '{"input": []}', 422),
}


@pytest.mark.parametrize(("path", "body", "status"), INVALID.values(), ids=INVALID)
def test_what_a_server_would_refuse_is_refused(path: str, body: str, status: int, mock_server: Start) -> None:
    server = mock_server({"rules": [{"text": "a"}]})
    response = httpx.post(server.url + path, content=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["message"] if path.startswith("/v1") else error) in (server.requests[0].source or "")
    assert server.unmatched == []


ODD: list[Any] = [
    None, 1, -1, 1.5, True, "", "x", [], {}, [None], [{}], [[]], {"a": 1}, "\0", 10**30,
    [{"role": 5, "content": [5, {"text": 7}]}], [{"role": "user", "content": None}], [{"content": "x", "name": 5}],
]  # fmt: skip
FIELDS = {
    "/generate_stream": ("parameters",),
    "/": ("parameters", "stream"),
    "/v1/chat/completions": ("model", "stream", "tools", "logprobs", "top_logprobs", "stream_options", "n"),
    "/v1/completions": ("model", "stream", "logprobs", "stream_options", "n"),
    "/v1/responses": ("model", "stream", "tools", "instructions", "text", "metadata"),
}
PARAMETERS = ("details", "top_n_tokens", "return_full_text", "decoder_input_details")


@pytest.mark.parametrize(("path", "names"), FIELDS.items(), ids=FIELDS)
def test_whatever_a_request_has_it_is_answered(path: str, names: tuple[str, ...], mock_server: Start) -> None:
    """With an answer or with a refusal. What fails otherwise is raised when the server closes."""
    rng = random.Random(5)
    server = mock_server(
        {"rules": [{"when": {"matches": "no"}, "text": "a"}, {"reasoning": "r", "text": "a b"}, {"json": 1}]}
    )
    statuses: set[int] = set()
    with httpx.Client(base_url=server.url) as client:
        for _ in range(60):
            body: dict[str, Any] = {"inputs": "x", "messages": user("x"), "prompt": "x", "input": "x"}
            body |= {name: rng.choice(ODD) for name in names if rng.random() < 0.3}
            if rng.random() < 0.3:
                body |= {name: rng.choice(ODD) for name in ("inputs", "messages", "prompt", "input")}
            if isinstance(body.get("parameters"), dict):
                body["parameters"] = {name: rng.choice(ODD) for name in PARAMETERS}
            statuses.add(client.post(path, json=body).status_code)
    assert statuses == {200, 422}


def test_a_key_is_asked_for(mock_server: Start) -> None:
    server = mock_server({"api_key": "secret", "rules": [{"text": "a"}]})
    with pytest.raises(AuthenticationError):
        said(server, "x")
    with pytest.raises(AuthenticationError):
        InferenceClient(server.url, token="wrong").text_generation("x")
    assert InferenceClient(server.url, token="secret").text_generation("x") == "a"
    response = httpx.post(f"{server.url}/v1/completions", json={"prompt": "x"}, headers={"api-key": "secret"})
    assert response.json()["choices"][0]["text"] == "a"


# Errors --------------------------------------------------------------------------------------------------------------


def test_errors_have_the_format_of_their_route(mock_server: Start) -> None:
    server = mock_server(
        {
            "rules": [
                {"when": {"contains": "busy"}, "error": "overloaded", "retry_after": 3},
                {"when": {"contains": "key"}, "error": "unauthorized"},
                {"when": {"contains": "bad"}, "error": "validation"},
                {"when": {"contains": "down"}, "error": 503},
                {"when": {"contains": "odd"}, "error": {"status": 500, "message": "boo", "type": "x"}},
                {"when": {"contains": "half"}, "text": "one two", "error": "generation", "after": 2},
                {"when": {"contains": "late"}, "error": "overloaded", "after": 0},
            ]
        }
    )
    client: Any = InferenceClient(server.url, retry=None)
    text: Any = client.text_generation
    for ask in (text, lambda prompt, **options: client.chat_completion(user(prompt), **options)):
        for stream in (False, True):
            with pytest.raises(OverloadedError, match="Model is overloaded") as caught:
                ask("busy", stream=stream)
            assert (caught.value.status_code, caught.value.retry_after) == (429, 3)
            with pytest.raises(AuthenticationError):
                ask("key", stream=stream)
            with pytest.raises(ValidationError, match="Input validation error"):
                ask("bad", stream=stream)
            with pytest.raises(OverloadedError) as caught:
                ask("down", stream=stream)
            assert caught.value.status_code == 503
            with pytest.raises(InferenceError, match="boo"):
                ask("odd", stream=stream)
            with pytest.raises(OverloadedError):
                ask("late", stream=stream)
        broken = ask("half", stream=True)
        with pytest.raises(Exception, match="Request failed during generation") as failed:
            broken.final()
        assert getattr(failed.value, "partial_text", None) == ("one two" if ask is text else "one")
    body = httpx.post(f"{server.url}/v1/chat/completions", json={"messages": user("key")}).json()
    assert body["error"]["code"] == "invalid_api_key"
    assert httpx.post(f"{server.url}/generate", json={"inputs": "key"}).content == b""


def test_a_response_of_ones_own(mock_server: Start) -> None:
    server = mock_server(
        {
            "rules": [
                {"when": {"path": "/v1/embeddings", "contains": "Hi"}, "response": {"json": {"data": []}}},
                {"when": {"path": "/health", "call": 1}, "error": "unavailable"},
                {"when": {"path": "/x"}, "response": {"status": 201, "headers": {"X-A": "1"}, "body": "é"}},
                {"when": {"path": "/generate"}, "response": {"body": "not JSON"}},
                {"when": {"path": "/"}, "response": {"headers": {"X-Request-ID": "mine"}, "body": "the root"}},
            ]
        }
    )
    assert httpx.post(f"{server.url}/v1/embeddings", json={"input": "Hi"}).json() == {"data": []}
    assert httpx.post(f"{server.url}/v1/embeddings", json={"input": "Ho"}).status_code == 404
    response = httpx.get(f"{server.url}/x")
    assert (response.status_code, response.headers["x-a"], response.text) == (201, "1", "é")
    assert [httpx.get(f"{server.url}/health").status_code for _ in range(2)] == [503, 200]
    assert httpx.post(f"{server.url}/generate", json={"inputs": "a"}).text == "not JSON"
    root = httpx.post(server.url, json={"inputs": "a"})
    assert (root.text, root.headers["x-request-id"]) == ("the root", "mine")
    assert httpx.post(f"{server.url}/generate_stream", json={"inputs": "a"}).status_code == 404


# What every server has -----------------------------------------------------------------------------------------------


def test_routes_that_report_on_the_server(mock_server: Start) -> None:
    server = mock_server({"model": "org/mine", "rules": [{"text": "a"}]})
    client = InferenceClient(server.url)
    assert client.health_check()
    assert client.get_endpoint_info()["model_id"] == "org/mine"
    assert [model.id for model in client.list_models()] == ["org/mine"]
    assert httpx.get(f"{server.url}/v1/models/org/mine").json()["id"] == "org/mine"
    assert httpx.get(f"{server.url}/v1/models/other").status_code == 404
    assert httpx.get(server.url).status_code == 200
    assert chat(server, "x", model="asked").model == "asked"
    completion = httpx.post(f"{server.url}/v1/chat/completions", json={"messages": user("x")}).json()
    assert completion["model"] == "org/mine"
    assert server.unmatched == [server.requests[4]]


def test_programs_in_a_browser_may_ask(mock_server: Start) -> None:
    server = mock_server({"rules": [{"text": "a"}]})
    preflight = httpx.options(f"{server.url}/v1/chat/completions", headers={"origin": "http://x"})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert httpx.post(f"{server.url}/generate", json={}).headers["access-control-allow-origin"] == "*"


def test_a_file_of_rules_in_a_test(mock_server: Start, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n  - when: {contains: cheese}\n    text: Milk, rennet and salt.\n")
    server = mock_server(path)
    assert said(server, "cheese?") == "Milk, rennet and salt."
    assert server.requests[0].source == "rule 1 (line 2)"


def test_curl_reads_an_answer(mock_server: Start) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl")
    server = mock_server({"rules": [{"text": "one two"}]})
    body = json.dumps({"messages": user("x"), "stream": True})
    command = [curl, "-sSN", f"{server.url}/v1/chat/completions", "-d", body, "-w", "%{http_code} %{content_type}"]
    *lines, status = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\n\n")
    assert status == "200 text/event-stream"
    assert lines.pop() == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "one", " two", None]
