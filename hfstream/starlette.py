"""Sends a stream of tokens to a browser as Server-Sent Events: a response for Starlette and FastAPI.

Needs Starlette (``pip install "hfstream[starlette]"``), which FastAPI brings. Does not depend on what is generated, or
on whether the client is the synchronous or the asynchronous one.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

try:
    from starlette.background import BackgroundTask
    from starlette.datastructures import Headers
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "hfstream.starlette needs Starlette: pip install 'hfstream[starlette]'", name=_error.name
    ) from _error

import anyio
import anyio.to_thread
from pydantic import BaseModel

from .core.sse import encode
from .errors import (
    AuthenticationError,
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    OverloadedError,
    UnexpectedResponseError,
)
from .errors.response_bodies import to_response

__all__ = ["TokenStreamResponse", "handle_inference_error"]

_logger = logging.getLogger(__name__)

_HEADERS = {
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # otherwise nginx collects tokens until its buffer is full
}

_KEEP_ALIVE = b":\n\n"

_END = object()
"""Comes after the last item of a stream."""


class _Items(Protocol):
    """The items of a stream, for one response."""

    async def next(self) -> Any:
        """The next item; `_END` after the last one, and after `interrupt`."""
        ...

    async def interrupt(self) -> None:
        """Wakes a thread that waits in `next`; a task that does is cancelled instead."""
        ...

    async def close(self) -> None:
        """Closes the stream."""
        ...


class _AsyncItems:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def next(self) -> Any:
        return await anext(self._stream, _END)

    async def interrupt(self) -> None:
        """Nothing: the task is cancelled."""

    async def close(self) -> None:
        await self._stream.aclose()


class _SyncItems:
    """Reads in threads. Not in those that the application's own routes wait for: there are only 40 of them."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._limiter: anyio.CapacityLimiter | None = None

    async def next(self) -> Any:
        return await self._in_thread(next, self._stream, _END)

    async def interrupt(self) -> None:
        await self.close()

    async def close(self) -> None:
        await self._in_thread(self._stream.close)

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(2)  # one that reads, and one that closes
        return await anyio.to_thread.run_sync(function, *args, limiter=self._limiter)


class TokenStreamResponse(Response):
    """Sends each item of a stream to the browser, as a Server-Sent Event, when it comes.

        @app.get("/ask")
        async def ask(question: str) -> TokenStreamResponse:
            return TokenStreamResponse(client.text_generation(question, stream=True))

    The events:

    - without a name, for each item: its JSON. A text is a JSON string; a `StreamResponse` or a `ChatCompletionChunk` is
      an object, without the fields that are null.
    - `done`, after the last item: ``{"finish_reason": ..., "usage": ...}``, each null if the server did not send it.
    - `error`, instead of `done`: ``{"error": message, "error_type": ...}``, if the stream fails after its first item.

    The status is sent with the first item. If the stream fails before it, the response is that error with its status,
    as `handle_inference_error` makes it: 429 with Retry-After for a server that is overloaded. If neither has come
    after `keepalive_interval`, the status is 200, and a failure is an event.

    When the browser disconnects, the stream is closed at once, and the server stops generating. An `EventSource` that
    was not closed connects again when the response has ended; it is answered with 204, which ends it, and no second
    request is made.

    Args:
        stream: what an async client's call with ``stream=True`` returns, awaited or not, or a stream of a sync client.
            A sync client's call raises before there is a response: register `handle_inference_error` for that.
        keepalive_interval: a comment is sent after this many seconds without an event, so that no proxy takes the
            connection for dead.
        headers: sent with the response, in addition to its own.
        background: a task that runs when the response has ended.

    Raises:
        TypeError: `stream` is no stream.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        stream: Any,
        *,
        keepalive_interval: float = 15.0,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        if hasattr(stream, "__aiter__"):
            # The stream itself: a call with ``stream=True`` returns an object that opens it.
            self._stream = stream.__aiter__()
            self._items: _Items = _AsyncItems(self._stream)
        elif hasattr(stream, "__next__") and hasattr(stream, "close"):
            self._stream = stream
            self._items = _SyncItems(stream)
        else:
            raise TypeError(f"a client's call with stream=True returns a stream, not {type(stream).__name__}")
        self._keepalive_interval = keepalive_interval
        self.status_code = 200
        self.background = background
        self.init_headers({**_HEADERS, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        events = _EventSender(self, send)
        failure: Exception | None = None
        try:
            if "last-event-id" in Headers(scope=scope):
                await Response(status_code=204)(scope, receive, send)
                return
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._end_on_disconnect, receive, events, tasks.cancel_scope)
                tasks.start_soon(events.keep_alive, self._keepalive_interval)
                try:
                    await self._send_events(events, scope, receive)
                except Exception as error:  # noqa: BLE001  raised below: a task group would put it into a group
                    failure = error
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._items.close()
        # A server may raise an OSError when it sends to a browser that has left.
        if failure is not None and not events.disconnected and not isinstance(failure, OSError):
            raise failure
        if self.background is not None:
            await self.background()

    async def _send_events(self, events: _EventSender, scope: Scope, receive: Receive) -> None:
        try:
            item = await self._items.next()
            while item is not _END:
                await events.send(_to_json(item))
                item = await self._items.next()
        except InferenceError as error:
            if events.disconnected:
                return
            if events.started:
                _, body = _describe(error)
                await events.send(_dump(body), name="error")
            else:
                await events.send_response(_error_response(error), scope, receive)
                return
        else:
            if events.disconnected:
                return
            await events.send(_dump(self._summary()), name="done")
        await events.finish()

    def _summary(self) -> dict[str, Any]:
        latest = getattr(self._stream, "current", self._stream)  # `run_tools` has a stream for each round
        usage = getattr(latest, "usage", None)
        finish_reason = getattr(latest, "finish_reason", None)
        return {"finish_reason": finish_reason, "usage": usage and usage.model_dump(exclude_none=True)}

    async def _end_on_disconnect(self, receive: Receive, events: _EventSender, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        events.disconnected = True
        await self._items.interrupt()
        scope.cancel()


async def handle_inference_error(request: Request, error: Exception) -> Response:
    """The response for an `InferenceError` that a route raises: its status, its message, and Retry-After.

        app.add_exception_handler(InferenceError, handle_inference_error)

    What the model server says of the request is passed on with its status, such as 422, or 429 with Retry-After. What
    is not the browser's business becomes a 502 or a 504: a lost connection, a token that is refused. The message then
    says no more than that, and the error itself is logged. The body is ``{"error": message, "error_type": ...}``.

    Raises:
        Exception: `error` itself, if it is not an InferenceError.
    """
    if not isinstance(error, InferenceError):
        raise error
    return _error_response(error)


def _to_json(item: Any) -> str:
    return item.model_dump_json(exclude_none=True) if isinstance(item, BaseModel) else _dump(item)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _error_response(error: InferenceError) -> Response:
    status, body = _describe(error)
    headers: dict[str, str] = {}
    if isinstance(error, OverloadedError) or error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after or 1))
    return Response(_dump(body), status, headers, "application/json")


_GATEWAY_ERRORS: tuple[tuple[tuple[type[InferenceError], ...], int, str, str], ...] = (
    ((InferenceTimeoutError,), 504, "the model server took too long", "upstream_timeout"),
    (
        (InferenceConnectionError, IncompleteStreamError, UnexpectedResponseError),
        502,
        "the model server failed",
        "upstream_failed",
    ),
    ((AuthenticationError,), 502, "the model server refused the request", "upstream_authentication"),
)
"""Errors whose messages may name hosts of an internal network: status, message and `error_type` for the browser."""


def _describe(error: InferenceError) -> tuple[int, dict[str, str]]:
    """The status and the body of an error, as the browser gets them."""
    for classes, status, message, error_type in _GATEWAY_ERRORS:
        if isinstance(error, classes):
            _logger.warning("%s: %s: %s", message, type(error).__name__, error)
            return status, {"error": message, "error_type": error_type}
    status, body = to_response(error)
    return (status if error.status_code is not None else 502), body


class _EventSender:
    """Sends events on an ASGI connection, and comments when there are none."""

    def __init__(self, response: Response, send: Send) -> None:
        self.started = False
        self.disconnected = False
        self._response = response
        self._send = send
        self._lock = anyio.Lock()  # a comment is sent from another task than events
        self._last_sent = anyio.current_time()
        self._id = "1"  # of the first event
        self._ended = False

    async def send(self, data: str, name: str = "") -> None:
        """Sends one event. The first has an id: an EventSource that connects again sends it."""
        async with self._lock:
            event_id, self._id = self._id, ""
            await self._send_chunk(encode(data, event=name, id=event_id))

    async def send_response(self, response: Response, scope: Scope, receive: Receive) -> None:
        """Sends another response, while nothing has been sent."""
        async with self._lock:
            self._ended = True
            await response(scope, receive, self._send)

    async def finish(self) -> None:
        """Ends the response."""
        async with self._lock:
            self._ended = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def keep_alive(self, interval: float) -> None:
        """Sends a comment after each `interval` seconds in which nothing was sent."""
        while True:
            await anyio.sleep(max(0.0, self._last_sent + interval - anyio.current_time()))
            async with self._lock:
                if not self._ended and anyio.current_time() >= self._last_sent + interval:
                    await self._send_chunk(_KEEP_ALIVE)

    async def _send_chunk(self, chunk: bytes) -> None:
        if not self.started:
            self.started = True
            head = {"status": self._response.status_code, "headers": self._response.raw_headers}
            await self._send({"type": "http.response.start", **head})
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._last_sent = anyio.current_time()
