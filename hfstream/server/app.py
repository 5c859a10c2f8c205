"""The ASGI application: TGI's and OpenAI's routes over one backend. Does not depend on ports, signals or threads."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, request_response
from starlette.types import ASGIApp

from hfstream.errors import InferenceError

from .auth import BearerAuth
from .engine.protocol import EngineProtocol
from .request_rules import HostCheck, TidyPaths, cors
from .routes.chat import CHAT
from .routes.completions import COMPLETIONS
from .routes.demo import demo
from .routes.endpoint import GenerateEndpoint
from .routes.formats import RouteFormat
from .routes.openai_responses import invalid_request_json
from .routes.openapi import docs, openapi
from .routes.responses import error_response
from .routes.responses_api import responses_format
from .routes.status import StatusRoutes
from .routes.tgi import COMPAT, GENERATE, GENERATE_STREAM
from .routes.tokenize import TokenizeRoutes
from .service.backend import Backend
from .settings import Settings


def create_app(settings: Settings | None = None, *, engine: EngineProtocol | None = None) -> Starlette:
    """The server as an ASGI application. Its lifespan starts to load the model, and stops the engine at the end.

    `engine`: another engine in place of the one that runs the model.
    """
    return build_app(Backend(settings or Settings(), engine))


def build_app(backend: Backend, *, check_host: bool = False) -> Starlette:
    """The application of a backend. `check_host`: whether requests must name this computer as their host."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        backend.start()
        yield
        await backend.close()

    middleware = [cors(backend.settings.cors_allow_origin), Middleware(TidyPaths)]
    if check_host:
        middleware.insert(0, Middleware(HostCheck, backend.settings.allowed_hosts))
    app = Starlette(
        routes=_routes(backend),
        lifespan=lifespan,
        middleware=middleware,
        exception_handlers={
            InferenceError: _error_response,
            ClientDisconnect: _client_disconnected,
            404: _no_route,
            405: _no_route,
        },
    )
    app.router.redirect_slashes = False
    app.state.backend = backend
    return app


def _routes(backend: Backend) -> list[Route]:
    status, tokenize = StatusRoutes(backend), TokenizeRoutes(backend)

    def authorized(path: str, app: ASGIApp, *methods: str) -> Route:
        refusal = ""
        if path.startswith("/v1/"):
            message = "The API key is missing or wrong: send it as `Authorization: Bearer <key>`"
            refusal = invalid_request_json(401, message, code="invalid_api_key")
        return Route(path, BearerAuth(app, backend.settings.api_key, refusal), methods=methods)

    def generate(path: str, route_format: RouteFormat[Any]) -> Route:
        # DELETE ends a resumable stream.
        return authorized(path, GenerateEndpoint(backend, route_format), "POST", "DELETE")

    return [
        Route("/", status.root),
        Route("/health", status.health),
        Route("/ping", status.health),
        Route("/info", status.info),
        Route("/metrics", status.metrics),
        Route("/demo", demo),
        Route("/docs", docs),
        Route("/openapi.json", openapi),
        Route("/v1/models", status.models),
        Route("/v1/models/{name:path}", status.model),
        generate("/", COMPAT),
        generate("/generate", GENERATE),
        generate("/generate_stream", GENERATE_STREAM),
        generate("/v1/chat/completions", CHAT),
        generate("/v1/completions", COMPLETIONS),
        generate("/v1/responses", responses_format()),
        authorized("/tokenize", request_response(tokenize.tokenize), "POST"),
        authorized("/chat_tokenize", request_response(tokenize.chat_tokenize), "POST"),
    ]


async def _error_response(request: Request, error: Exception) -> Response:
    return error_response(cast("InferenceError", error))


async def _no_route(request: Request, error: Exception) -> Response:
    """The status alone, as TGI responds where there is no route; below /v1 an error that OpenAI's clients can show."""
    http_error = cast("HTTPException", error)
    status, headers = http_error.status_code, http_error.headers
    if not request.url.path.startswith("/v1/"):
        return Response(status_code=status, headers=headers)
    message = f"There is no {request.method} {request.url.path[:200]}"
    body = invalid_request_json(status, message, code="unknown_url")
    return Response(body, status, headers, "application/json")


async def _client_disconnected(request: Request, error: Exception) -> Response:
    """The client disconnected before the end of its request: this response is never received."""
    return Response(status_code=400)
