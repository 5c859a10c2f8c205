"""The doctor, run in this process, and a scripted model server for it to look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from hfstream.cli import main
from hfstream.cli.doctor import features
from hfstream.testing import Request, Response, Step, chat_events

Diagnose = Callable[..., "Diagnosis"]


@dataclass
class Diagnosis:
    """What `hfstream doctor --json` has printed."""

    code: int
    report: dict[str, Any]
    stderr: str

    @property
    def first(self) -> str:
        """The diagnosis."""
        text: str = self.report["diagnosis"]
        return text

    @property
    def lines(self) -> list[str]:
        """The lines that mend it."""
        return [mend["line"] for mend in self.report["findings"][0]["mend"]]

    @property
    def evidence(self) -> str:
        return "\n".join(self.report["findings"][0]["evidence"])

    def finding(self, check: str) -> dict[str, Any]:
        """The first finding of a check."""
        found: dict[str, Any] = next(each for each in self.report["findings"] if each["check"] == check)
        return found

    @property
    def checks(self) -> list[str]:
        return [finding["check"] for finding in self.report["findings"]]


@pytest.fixture
def diagnose(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Diagnose:
    monkeypatch.setattr(features, "SETTLE_SECONDS", 0.0)
    monkeypatch.delenv("HFSTREAM_API_KEY", raising=False)

    def run(url: str, *options: str) -> Diagnosis:
        code = main(["doctor", url, "--json", *options])
        output = capsys.readouterr()
        return Diagnosis(code, json.loads(output.out), output.err)

    return run


JSON_ANSWER = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": '{"name": "Brie"}'}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
}

CALL = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
TOOL_ANSWER = {
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [CALL]}, "finish_reason": "stop"}
    ]
}


@dataclass
class ModelServer:
    """A scripted server with OpenAI's routes, as vLLM has them: `ScriptedServer(ModelServer())`.

    A streamed chat has as many tokens as it asks for, at most `tokens`, and what `respond` makes of their events.
    """

    respond: Callable[[list[bytes], Request], Response] = lambda events, request: paced(events)
    tokens: int = 12
    key: str = ""
    running: int | None = 0
    """What /metrics says; None for a server without it."""
    tools: bool = True
    checks_values: bool = True
    requests: list[str] = field(default_factory=list[str])

    def __call__(self, request: Request) -> Response:
        path = urlsplit(request.path).path  # a whole URL where this is a proxy
        self.requests.append(path)
        if path == "/v1/models":
            return Response.json({"data": [{"id": "opt-125m", "object": "model", "owned_by": "vllm"}]})
        if path == "/metrics" and self.running is not None:
            return Response(f'vllm:num_requests_running{{model="m"}} {self.running}.0\n', content_type="text/plain")
        if path == "/tokenize":
            return Response.json([{"id": 1, "text": "How", "start": 0, "stop": 3}])
        if path == "/v1/chat/completions":
            return self._chat(request)
        return Response.error(404, "Not Found")

    def _chat(self, request: Request) -> Response:
        if request.method != "POST":
            return Response.error(405, "Method Not Allowed")
        body = json.loads(request.body)
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return Response.error(401, f"wrong key: {request.headers.get('authorization')}, but it is {self.key}")
        if self.checks_values and isinstance(body.get("temperature"), str):
            return Response.error(422, "temperature: not a number", "validation")
        if body.get("tools"):
            return Response.json(TOOL_ANSWER) if self.tools else Response.error(400, "tools are not supported")
        if not body.get("stream"):
            return Response.json(JSON_ANSWER)
        return self.respond(events(min(self.tokens, body["max_tokens"])), request)


def events(tokens: int) -> list[bytes]:
    return chat_events(*(f" w{number}" for number in range(tokens)))


def paced(chunks: list[bytes], seconds: float = 0.01, **response: Any) -> Response:
    """The chunks, with a pause before each."""
    steps: list[Step] = [step for chunk in chunks for step in (seconds, chunk)]
    return Response(steps, **response)
