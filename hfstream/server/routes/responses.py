"""HTTP responses in TGI's format: headers, JSON, Server-Sent Events. Does not depend on routes or on the backend."""

from __future__ import annotations

import os
import time
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Send

from hfstream.core.sse import encode
from hfstream.errors import InferenceError
from hfstream.errors.response_bodies import to_response
from hfstream.types import StreamResponse, TextGenerationResponse

_KEEP_ALIVE = b":\n\n"
"""An SSE comment, followed by the blank line that axum, which TGI uses, puts after it."""

_STREAM_HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # otherwise nginx collects tokens until its buffer is full
}


def event_json(event: StreamResponse) -> str:
    """The data of one event. TGI leaves out `top_tokens` where there are none, and no other null."""
    return event.model_dump_json(exclude={"top_tokens"} if event.top_tokens is None else None)


def response_json(response: TextGenerationResponse) -> str:
    """The body of a response that is not streamed. Its details lack `input_length`: TGI reports it in streams only."""
    if response.details is None:
        return response.model_dump_json(exclude={"details"})
    excluded: dict[str, Any] = {"input_length": True}  # and what there is none of
    if response.details.top_tokens is None:
        excluded["top_tokens"] = True
        excluded["best_of_sequences"] = {"__all__": {"top_tokens"}}
    if response.details.best_of_sequences is None:
        excluded["best_of_sequences"] = True
    return response.model_dump_json(exclude={"details": excluded})


def dump_json(value: dict[str, Any]) -> str:
    """JSON as TGI writes it: no spaces, no escapes for other alphabets, null for numbers that JSON does not have."""
    return to_json(value, inf_nan_mode="null").decode()


def error_json(error: InferenceError) -> str:
    """An error as a response's body, or as an event's data."""
    return dump_json(to_response(error)[1])


def error_response(error: InferenceError, body: str | None = None) -> Response:
    """An error as an HTTP response; `body`: its JSON, if not in TGI's format."""
    headers = {} if error.retry_after is None else {"retry-after": f"{error.retry_after:g}"}
    return Response(error_json(error) if body is None else body, to_response(error)[0], headers, "application/json")


class SSEResponse:
    """Server-Sent Events on an ASGI connection. Until `open` is called, another response can be sent instead."""

    def __init__(self, send: Send, done_event: str | None = None) -> None:
        """`done_event`: data of the event that the stream ends with, also after an error."""
        self._send = send
        self._done_event = done_event
        self.is_open: bool = False

    async def open(self, headers: dict[str, str]) -> None:
        """Send the status and the headers. Errors can only be sent as events from now on."""
        self.is_open = True
        raw = [(name.encode(), value.encode()) for name, value in {**_STREAM_HEADERS, **headers}.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def send_event(self, data: str, name: str = "") -> None:
        """Send one event."""
        await self.send_encoded(encode(data, event=name))

    async def send_encoded(self, event: bytes) -> None:
        """Send one event that is encoded already."""
        await self._send({"type": "http.response.body", "body": event, "more_body": True})

    async def send_keep_alive(self) -> None:
        """Send a comment, so that proxies do not take the connection for a dead one."""
        await self.send_encoded(_KEEP_ALIVE)

    async def finish(self) -> None:
        """Send the done event, if there is one, and end the body."""
        if self._done_event is not None:
            await self.send_event(self._done_event)
        await self.end_body()

    async def end_body(self) -> None:
        """End the body without a done event."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class RequestTimer:
    """Measures one request for TGI's timing headers."""

    def __init__(self) -> None:
        self._received = self._validated = time.perf_counter()

    def mark_validated(self) -> None:
        """The request has just been found valid."""
        self._validated = time.perf_counter()

    def headers(self, *, prompt_tokens: int, generated_tokens: int) -> dict[str, str]:
        """The time until now: `x-compute-time` in seconds, all others in whole milliseconds."""
        now = time.perf_counter()
        durations = {
            "x-total-time": now - self._received,
            "x-validation-time": self._validated - self._received,
            # The engine does not report when it starts with a prompt: queueing is part of x-inference-time.
            "x-queue-time": 0,
            "x-inference-time": now - self._validated,
            "x-time-per-token": (now - self._validated) / generated_tokens,
        }
        return {
            "x-compute-time": f"{now - self._received:.9f}",
            **{name: str(int(1000 * seconds)) for name, seconds in durations.items()},
            "x-prompt-tokens": str(prompt_tokens),
            "x-generated-tokens": str(generated_tokens),
        }


def compute_headers(inputs: str) -> dict[str, str]:
    """The headers that streams and other responses have in common; `inputs`: the prompt's text."""
    return {"x-compute-type": os.environ.get("COMPUTE_TYPE", "cpu"), "x-compute-characters": str(len(inputs))}
