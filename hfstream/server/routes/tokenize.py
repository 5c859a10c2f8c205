"""TGI's routes that show how the model reads a prompt: /tokenize and /chat_tokenize. They generate nothing."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..schemas.openai import ChatRequest
from ..schemas.tgi import GenerateRequest
from ..service.backend import Backend
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
            return JSONResponse([span._asdict() for span in await self._backend.tokenize(body)])

    async def chat_tokenize(self, request: Request) -> Response:
        """The prompt that the chat template renders, and its tokens."""
        self._backend.ensure_ready()
        body = await parse_request(request, ChatRequest, self._backend)
        with self._backend.tokenize_limiter:
            prompt = await render_chat(body, self._backend)
            spans = [span._asdict() for span in await self._backend.tokenize(prompt)]
            return JSONResponse({"tokenize_response": spans, "templated_text": prompt.inputs})
