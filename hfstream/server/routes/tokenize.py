"""TGI's routes that show how the model reads a prompt: /tokenize and /chat_tokenize. They generate nothing."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from ..schemas.openai import ChatRequest
from ..schemas.tgi import GenerateRequest
from ..service.backend import Backend
from ..text.tokenizer import TokenSpan
from .chat import render_chat
from .request_body import parse_request


class TokenizeRoutes:
    """Handlers of one backend; each method is one route."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def tokenize(self, request: Request) -> Response:
        """The tokens of a prompt, with the bytes of the text that each covers."""
        self._backend.ensure_ready()
        body = await parse_request(request, GenerateRequest, self._backend)
        with self._backend.tokenize_limiter:
            return _json_response(await self._backend.tokenize(body, _spans_json))

    async def chat_tokenize(self, request: Request) -> Response:
        """The prompt that the chat template renders, and its tokens."""
        self._backend.ensure_ready()
        body = await parse_request(request, ChatRequest, self._backend)
        with self._backend.tokenize_limiter:
            prompt = await render_chat(body, self._backend)
            spans = await self._backend.tokenize(prompt, _spans_json)
            return _json_response(f'{{"tokenize_response":{spans},"templated_text":{_dumps(prompt.inputs)}}}')


_dumps = json.JSONEncoder(ensure_ascii=False).encode


def _spans_json(spans: list[TokenSpan]) -> str:
    """The JSON of a list of tokens. Written token by token: `json.dumps` would keep other threads waiting."""
    tokens = (f'{{"id":{id_},"text":{_dumps(text)},"start":{start},"stop":{stop}}}' for id_, text, start, stop in spans)
    return f"[{','.join(tokens)}]"


def _json_response(body: str) -> Response:
    return Response(body, media_type="application/json")
