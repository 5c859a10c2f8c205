"""What Ray Serve's proxy answers without a replica, in the server's own words.

The proxy refuses with a plain text, and answers a request whose replica dies before the response begins with a plain
500. Clients get TGI's (or OpenAI's) JSON instead: 429 `overloaded`, and 502 `replica_failed`, which may be retried.
Other replies are passed on as they are, also those of other applications behind the same proxy.

Ray loads this if the environment variable RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH is `CALLBACK` in its processes from
their start. Does not depend on ray.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hfstream.errors import InferenceError, OverloadedError

from .routes import openai_responses
from .routes.responses import error_response

CALLBACK = "hfstream.server.ray_proxy.middlewares"
"""The import path of `middlewares`."""

_BACKPRESSURE = b"Request dropped due to backpressure"
"""How the proxy's text begins when its queue is full."""


def middlewares() -> list[Middleware]:
    """What Ray's proxy calls when it starts."""
    return [Middleware(ProxyReplies)]


class ProxyReplies:
    """An ASGI middleware around Ray's proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reply = _Reply(send)
        await self._app(scope, receive, reply.send)
        error: InferenceError | None = None
        if reply.refused:
            error = OverloadedError("Model is overloaded", retry_after=1)
        elif not reply.started:
            message = "The replica ended before its response began"
            error = InferenceError(message, status_code=502, error_type="replica_failed", retry_after=1)
        if error is not None:
            body = openai_responses.error_json(error) if scope["path"].startswith("/v1/") else None
            await error_response(error, body)(scope, receive, send)


class _Reply:
    """One response of the proxy: passed on, unless it is a refusal of the proxy's."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None  # of what may be a refusal: its text tells
        self.started: bool = False
        self.refused: bool = False

    async def send(self, message: Message) -> None:
        """As ASGI's `send`."""
        if message["type"] == "http.response.start":
            self.started = True
            _keep_first_request_id(message)
            if _is_plain_refusal(message):
                self._start = message
                return
        elif self._start is not None:
            start, self._start = self._start, None
            self.refused = message.get("body", b"").startswith(_BACKPRESSURE)
            if not self.refused:
                await self._send(start)
        if not self.refused:
            await self._send(message)


def _is_plain_refusal(message: Message) -> bool:
    content_type = Headers(raw=message["headers"]).get("content-type", "")
    return message["status"] in (429, 503) and content_type.startswith("text/plain")


def _keep_first_request_id(message: Message) -> None:
    """The replica's id is the one in its log; the proxy adds a second header with its own."""
    headers = MutableHeaders(raw=list(message["headers"]))
    if len(ids := headers.getlist("x-request-id")) > 1:
        headers["x-request-id"] = ids[0]
        message["headers"] = headers.raw
