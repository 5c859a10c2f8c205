"""The routes, TGI's, as a Starlette application. Refuses to know ports, signals and threads: `serving` does."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, request_response
from starlette.types import ASGIApp

from hfstream.errors import InferenceError
from hfstream.version import __version__

from .auth import BearerAuth
from .engine.protocol import EngineProtocol
from .routes.chat import CHAT, chat_prompt
from .routes.completions import COMPLETIONS
from .routes.demo import demo
from .routes.endpoint import GenerateEndpoint
from .routes.formats import RouteFormat
from .routes.responses import error_response
from .routes.tgi import COMPAT, GENERATE, GENERATE_STREAM
from .schemas.openai import ChatRequest
from .schemas.tgi import GenerateRequest, read
from .schemas.validation import MAX_STOP_SEQUENCES
from .service.backend import Backend
from .settings import Settings


def create_app(settings: Settings | None = None, *, engine: EngineProtocol | None = None) -> Starlette:
    """The backend as an ASGI application; its lifespan loads the model, and ends the engine.

    `engine`: something else that speaks, in place of the model's.
    """
    return build_app(Backend(settings or Settings(), engine))


def build_app(backend: Backend) -> Starlette:
    """The routes of a backend."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        backend.start()
        yield
        await backend.close()

    cors = Middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["content-type", "last-event-id", "prefer"],
    )
    app = Starlette(
        routes=_routes(backend),
        lifespan=lifespan,
        middleware=[cors],
        exception_handlers={
            InferenceError: _refuse,
            ClientDisconnect: _shrug,
            404: _say_nothing,
            405: _say_nothing,
        },
    )
    app.router.redirect_slashes = False
    app.state.backend = backend
    return app


def _routes(backend: Backend) -> list[Route]:
    async def health(request: Request) -> Response:
        backend.check()
        return Response()

    async def root(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("demo")  # a browser, and so a person, whom an empty page tells nothing
        return await health(request)

    async def info(request: Request) -> Response:
        return JSONResponse(_info(backend))

    async def metrics(request: Request) -> Response:
        batch, queue = backend.load
        text = backend.metrics.render(batch=batch, queue=queue, permits=backend.gate.running)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def tokenize(request: Request) -> Response:
        backend.check()
        asked = await read(request, GenerateRequest, backend.settings.payload_limit)
        return JSONResponse([span._asdict() for span in await backend.spans(asked)])

    async def chat_tokenize(request: Request) -> Response:
        backend.check()
        asked = await read(request, ChatRequest, backend.settings.payload_limit)
        prompt = await chat_prompt(asked, backend)
        spans = [span._asdict() for span in await backend.spans(prompt)]
        return JSONResponse({"tokenize_response": spans, "templated_text": prompt.inputs})

    async def models(request: Request) -> Response:
        name = backend.settings.model
        model = {"id": name, "object": "model", "created": 0, "owned_by": name}
        return JSONResponse({"object": "list", "data": [model]})

    def guarded(path: str, app: ASGIApp, *methods: str) -> Route:
        return Route(path, BearerAuth(app, backend.settings.api_key), methods=methods)

    def answers(path: str, dialect: RouteFormat[Any]) -> Route:
        return guarded(
            path, GenerateEndpoint(backend, dialect), "POST", "DELETE"
        )  # which ends a stream that can be resumed

    return [
        Route("/", root),
        Route("/health", health),
        Route("/ping", health),
        Route("/info", info),
        Route("/metrics", metrics),
        Route("/demo", demo),
        Route("/v1/models", models),
        Route("/chat_tokenize", chat_tokenize, methods=["POST"]),
        answers("/", COMPAT),
        answers("/generate", GENERATE),
        answers("/generate_stream", GENERATE_STREAM),
        answers("/v1/chat/completions", CHAT),
        answers("/v1/completions", COMPLETIONS),
        guarded("/tokenize", request_response(tokenize), "POST"),
    ]


def _info(backend: Backend) -> dict[str, str | int | None]:
    facts = backend.model.facts
    return {
        "model_id": backend.settings.model,
        "model_sha": None,
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": backend.settings.max_concurrent_requests,
        "max_best_of": 1,
        "max_stop_sequences": MAX_STOP_SEQUENCES,
        "max_input_tokens": facts.max_total_tokens - 1,
        "max_total_tokens": facts.max_total_tokens,
        "validation_workers": 1,
        "max_client_batch_size": 1,
        "router": "hfstream",
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


async def _refuse(request: Request, error: Exception) -> Response:
    return error_response(cast("InferenceError", error))


async def _say_nothing(request: Request, error: Exception) -> Response:
    refused = cast("HTTPException", error)
    return Response(status_code=refused.status_code, headers=refused.headers)


async def _shrug(request: Request, error: Exception) -> Response:
    """The client has gone in the middle of its own request: nobody will see this."""
    return Response(status_code=400)
