"""The ASGI application of a server in front of others. Does not depend on ports, signals or threads."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, request_response

from hfstream.errors import NotFoundError

from ..application import authorized_route, make_application
from ..routes.demo import demo
from .endpoint import CHAT, COMPAT, COMPLETIONS, GENERATE, GENERATE_STREAM, UpstreamEndpoint, UpstreamFormat
from .service import UpstreamService
from .status import UpstreamStatusRoutes


def build_upstream_app(service: UpstreamService, *, check_host: bool = False) -> Starlette:
    """The application of a service. `check_host`: whether requests must name this computer as their host."""
    status, key = UpstreamStatusRoutes(service), service.settings.api_key

    def generate(path: str, route_format: UpstreamFormat[Any]) -> Route:
        # DELETE ends a resumable stream.
        return authorized_route(path, UpstreamEndpoint(service, route_format), key, "POST", "DELETE")

    def post(path: str, function: Any) -> Route:
        return authorized_route(path, request_response(function), key, "POST")

    routes = [
        Route("/", status.root),
        Route("/health", status.health),
        Route("/ping", status.health),
        Route("/info", status.info),
        Route("/metrics", status.metrics),
        Route("/demo", demo),
        Route("/v1/models", status.models),
        Route("/v1/models/{name:path}", status.model),
        generate("/", COMPAT),
        generate("/generate", GENERATE),
        generate("/generate_stream", GENERATE_STREAM),
        generate("/v1/chat/completions", CHAT),
        generate("/v1/completions", COMPLETIONS),
        post("/tokenize", status.tokenize),
        post("/chat_tokenize", _not_here),
        post("/v1/responses", _not_here),
    ]
    return make_application(service, routes, check_host=check_host)


async def _not_here(request: Request) -> Response:
    raise NotFoundError(f"{request.url.path} is not available at a server in front of others: ask them directly")
