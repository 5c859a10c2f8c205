"""A server in front of scripted ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import httpx

from hfstream.server import BackgroundServer, Settings
from hfstream.testing import DONE, Request, Response, ScriptedServer
from tests.helpers.scripted_engine import http

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MODELS = {"object": "list", "data": [{"id": "small", "object": "model", "max_model_len": 99}]}

Script = Response | Callable[[Request], Response]


class Front(NamedTuple):
    """The server in front, and those behind it."""

    url: str
    upstreams: list[ScriptedServer]

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The bodies of the requests that generate, at all servers."""
        return [json.loads(each.body) for server in self.upstreams for each in server.requests if each.body]

    @property
    def last_path(self) -> str:
        """Where the last of them went, at the first server."""
        return [each.path for each in self.upstreams[0].requests if each.body][-1]

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        response: httpx.Response = http.post(self.url + path, json=body, headers=headers)
        return response


def scripted(*responses: Script) -> ScriptedServer:
    """One that is healthy, lists one model, and answers requests that generate as the script says."""
    script = list(responses)

    def respond(request: Request) -> Response:
        if request.method == "GET":
            return Response.json(MODELS)
        if request.method == "DELETE":
            return Response(status=204)
        response = script.pop(0) if len(script) > 1 else script[0]
        return response if isinstance(response, Response) else response(request)

    return ScriptedServer(respond)


@contextmanager
def front(
    *upstreams: ScriptedServer, path: str | tuple[str, ...] = "/v1", **settings: Any
) -> Generator[Front, None, None]:
    """`path`: the end of the URLs of the servers behind, or of each: "/v1" for OpenAI's kind, "" for TGI's."""
    paths = (path,) * len(upstreams) if isinstance(path, str) else path
    with ExitStack() as stack:
        urls = tuple(stack.enter_context(each).url + end for each, end in zip(upstreams, paths, strict=True))
        server = stack.enter_context(BackgroundServer(Settings(upstreams=urls, **settings)))
        yield Front(server.url, list(upstreams))


def completion_event(text: str, finish_reason: str | None = None, **fields: Any) -> bytes:
    chunk = {"id": "cmpl-1", "choices": [{"index": 0, "text": text, "finish_reason": finish_reason}], **fields}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def completion_events(*texts: str, finish_reason: str = "stop") -> list[bytes]:
    """A stream of /v1/completions, with the usage after the last text."""
    usage = {"prompt_tokens": 7, "completion_tokens": len(texts), "total_tokens": 7 + len(texts)}
    last = completion_event(texts[-1], finish_reason)
    end = f"data: {json.dumps({'id': 'cmpl-1', 'choices': [], 'usage': usage})}\n\n".encode()
    return [*map(completion_event, texts[:-1]), last, end, DONE]


def data_of(response: httpx.Response) -> list[Any]:
    """The events of a response; the end, "[DONE]", as that text."""
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def text_of(events: list[Any]) -> str:
    """The text of a stream, up to its error."""
    text = ""
    for event in events:
        if "token" in event and not event["token"]["special"]:
            text += event["token"]["text"]
        for choice in event.get("choices", ()) if event != "[DONE]" else ():
            text += choice["delta"].get("content") or ""
    return text


def error_of(event: Any) -> tuple[str, str]:
    """The message and the type of an error in the format of either API."""
    error = event["error"]
    return (error["message"], error["type"]) if isinstance(error, dict) else (error, event["error_type"])
