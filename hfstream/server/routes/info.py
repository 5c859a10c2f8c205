"""The routes that generate nothing: health, facts about the server, metrics, models, tokenization.

Does not depend on the routes that generate, but for the prompt of a chat.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from hfstream.version import __version__

from ..schemas.openai import ChatRequest
from ..schemas.tgi import GenerateRequest
from ..schemas.validation import MAX_STOP_SEQUENCES
from ..service.backend import Backend
from .chat import chat_prompt
from .request_body import parse_request


class InfoRoutes:
    """The handlers, each from a request to a response; what they raise is answered by the application."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def health(self, request: Request) -> Response:
        self._backend.ensure_ready()
        return Response()

    async def root(self, request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("demo")  # a browser, and so a person, to whom an empty page tells nothing
        return await self.health(request)

    async def info(self, request: Request) -> Response:
        settings, info = self._backend.settings, self._backend.model.info
        return JSONResponse(
            {
                "model_id": settings.model,
                "model_sha": None,
                "model_pipeline_tag": "text-generation",
                "max_concurrent_requests": settings.max_concurrent_requests,
                "max_best_of": 1,
                "max_stop_sequences": MAX_STOP_SEQUENCES,
                "max_input_tokens": info.max_total_tokens - 1,
                "max_total_tokens": info.max_total_tokens,
                "validation_workers": 1,
                "max_client_batch_size": 1,
                "router": "hfstream",
                "version": __version__,
                "sha": None,
                "docker_label": None,
            }
        )

    async def metrics(self, request: Request) -> Response:
        batch, queue = self._backend.queue_depths
        text = self._backend.metrics.render(batch=batch, queue=queue, permits=self._backend.limiter.taken)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def models(self, request: Request) -> Response:
        name = self._backend.settings.model
        model = {"id": name, "object": "model", "created": 0, "owned_by": name}
        return JSONResponse({"object": "list", "data": [model]})

    async def tokenize(self, request: Request) -> Response:
        self._backend.ensure_ready()
        body = await parse_request(request, GenerateRequest, self._backend.settings.payload_limit)
        return JSONResponse([span._asdict() for span in await self._backend.tokenize(body)])

    async def chat_tokenize(self, request: Request) -> Response:
        self._backend.ensure_ready()
        body = await parse_request(request, ChatRequest, self._backend.settings.payload_limit)
        prompt = await chat_prompt(body, self._backend)
        spans = [span._asdict() for span in await self._backend.tokenize(prompt)]
        return JSONResponse({"tokenize_response": spans, "templated_text": prompt.inputs})
