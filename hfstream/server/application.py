"""The parts of an ASGI application that do not depend on its routes: middleware, keys, errors, start and end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from hfstream.errors import InferenceError

from .auth import BearerAuth
from .request_rules import AbsoluteTargets, HostCheck, LengthCheck, TidyPaths, cors
from .routes.openai_responses import invalid_request_json
from .routes.responses import error_response
from .service.errors import UnexpectedError
from .service.request_service import RequestService


def make_application(service: RequestService, routes: Sequence[Route], *, check_host: bool) -> Starlette:
    """The application with these routes. `check_host`: whether requests must name this computer as their host."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        service.start()
        yield
        await service.close()

    middleware = [Middleware(LengthCheck), Middleware(AbsoluteTargets)]
    if check_host:
        middleware.append(Middleware(HostCheck, service.settings.allowed_hosts))
    middleware += [cors(service.settings.cors_allow_origin), Middleware(TidyPaths)]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=middleware,
        exception_handlers={
            InferenceError: _error_response,
            ClientDisconnect: _client_disconnected,
            Exception: _unexpected_error,
            404: _no_route,
            405: _no_route,
        },
    )
    app.router.redirect_slashes = False
    app.state.backend = service
    return app


def authorized_route(path: str, app: ASGIApp, api_key: str | None, *methods: str) -> Route:
    """A route that asks for the API key, if there is one."""
    refusal = ""
    if path.startswith("/v1/"):
        message = "The API key is missing or wrong: send it as `Authorization: Bearer <key>`"
        refusal = invalid_request_json(401, message, code="invalid_api_key")
    return Route(path, BearerAuth(app, api_key, refusal), methods=methods)


async def _error_response(request: Request, error: Exception) -> Response:
    return error_response(cast("InferenceError", error))


async def _unexpected_error(request: Request, error: Exception) -> Response:
    """Of routes that do not generate; starlette raises the error again, so that it is logged."""
    return error_response(UnexpectedError())


async def _no_route(request: Request, error: Exception) -> Response:
    """The status alone, as TGI responds where there is no route; below /v1 an error that OpenAI's clients can show."""
    http_error = cast("HTTPException", error)
    status, headers = http_error.status_code, http_error.headers
    if status == 405:  # a path can have several routes, each with methods of its own
        routes = cast("list[Route]", request.app.routes)
        matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
        headers = {"Allow": ", ".join(sorted({method for route in matching for method in route.methods or ()}))}
    if not request.url.path.startswith("/v1/"):
        return Response(status_code=status, headers=headers)
    message = f"There is no {request.method} {request.url.path[:200]}"
    body = invalid_request_json(status, message, code="unknown_url")
    return Response(body, status, headers, "application/json")


async def _client_disconnected(request: Request, error: Exception) -> Response:
    """The client disconnected before the end of its request: this response is never received."""
    return Response(status_code=400)
