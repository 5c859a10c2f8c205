"""curl -N against the backend: what a person sees who looks at the wire."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from conftest import KEY


def curl(url: str, body: Any, *options: str) -> tuple[str, list[str]]:
    """Status and content type, and the lines of the body that are not blank."""
    command = ["curl", "-sS", "-N", "-X", "POST", url, "-H", "Content-Type: application/json", "-d", json.dumps(body)]
    command += [*options, "-w", "\n%{http_code} %{content_type}"]
    *lines, status = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\n")
    return status, [line for line in lines if line]


def test_generate_stream(backend: str) -> None:
    body = {"inputs": "How do you make cheese?", "parameters": {"max_new_tokens": 5, "details": True}}
    status, lines = curl(f"{backend}/generate_stream", body)
    assert status == "200 text/event-stream"
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [event["index"] for event in events] == [1, 2, 3, 4, 5]
    assert events[-1]["generated_text"] == "".join(event["token"]["text"] for event in events)
    assert events[-1]["details"]["finish_reason"] == "length"


def test_chat_completions(backend: str) -> None:
    messages = [{"role": "user", "content": "How do you make cheese?"}]
    body = {"model": "tgi", "messages": messages, "stream": True, "max_tokens": 5, "temperature": 0}
    status, lines = curl(f"{backend}/v1/chat/completions", body)
    assert status == "200 text/event-stream"
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_the_tokens_come_one_by_one(serve: Any) -> None:
    """Five a second: a stream that is held back somewhere would come all at once, at its end."""
    url = serve("--tokens-per-second", "5")
    body = {"inputs": "How do you make cheese?", "parameters": {"max_new_tokens": 5}}
    command = ["curl", "-sSN", f"{url}/generate_stream", "-H", "Content-Type: application/json", "-d", json.dumps(body)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert json.loads(first.removeprefix(b"data: "))["index"] == 1
        assert process.poll() is None, "the first token is here, and the answer is not at its end"
        process.stdout.read()
    assert process.returncode == 0


def test_a_refusal_has_its_status(backend: str, guarded: str) -> None:
    assert curl(f"{backend}/generate_stream", {"inputs": ""})[0] == "422 application/json"
    assert curl(f"{backend}/generate_stream", {"inputs": 1})[0] == "422 text/plain; charset=utf-8"
    assert curl(f"{backend}/v1/chat/completions", {"messages": "x"})[0] == "422 application/json"
    assert curl(f"{guarded}/generate_stream", {"inputs": "x"})[0].startswith("401")
    status, _ = curl(f"{guarded}/generate_stream", {"inputs": "x"}, "-H", f"Authorization: Bearer {KEY}")
    assert status == "200 text/event-stream"


def test_the_mock(mock: Any) -> None:
    url = mock(
        {"when": {"contains": "cheese"}, "text": "Milk, rennet and salt."}, {"error": "overloaded", "retry_after": 2}
    )
    body = {"messages": [{"role": "user", "content": "How do you make cheese?"}], "stream": True}
    status, lines = curl(f"{url}/v1/chat/completions", body)
    assert status == "200 text/event-stream"
    assert lines.pop() == "data: [DONE]"
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Milk, rennet and salt."
    status, lines = curl(f"{url}/generate_stream", {"inputs": "x"}, "-D", "-")
    assert status == "429 application/json"
    assert any(line.lower().startswith("retry-after: 2") for line in lines)
