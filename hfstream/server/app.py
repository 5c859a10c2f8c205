"""The ASGI application: TGI's and OpenAI's routes over one backend. Does not depend on ports, signals or threads."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route, request_response

from .application import authorized_route, make_application
from .routes.chat import CHAT
from .routes.completions import COMPLETIONS
from .routes.demo import demo
from .routes.endpoint import GenerateEndpoint
from .routes.formats import RouteFormat
from .routes.openapi import docs, openapi
from .routes.responses_api import responses_format
from .routes.status import StatusRoutes
from .routes.tgi import COMPAT, GENERATE, GENERATE_STREAM
from .routes.tokenize import TokenizeRoutes
from .service.backend import Backend


def build_app(backend: Backend, *, check_host: bool = False) -> Starlette:
    """The application of a backend. `check_host`: whether requests must name this computer as their host."""
    return make_application(backend, _routes(backend), check_host=check_host)


def _routes(backend: Backend) -> list[Route]:
    status, tokenize, key = StatusRoutes(backend), TokenizeRoutes(backend), backend.settings.api_key

    def generate(path: str, route_format: RouteFormat[Any]) -> Route:
        # DELETE ends a resumable stream.
        return authorized_route(path, GenerateEndpoint(backend, route_format), key, "POST", "DELETE")

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
        authorized_route("/tokenize", request_response(tokenize.tokenize), key, "POST"),
        authorized_route("/chat_tokenize", request_response(tokenize.chat_tokenize), key, "POST"),
    ]
