"""How answers and refusals look on the wire: headers, JSON, events. Refuses to know how they came about."""

from __future__ import annotations

import json
import os
import time

from starlette.responses import Response
from starlette.types import Send

from hfstream.core.sse import encode
from hfstream.errors import InferenceError
from hfstream.errors.response_bodies import to_response
from hfstream.types import StreamResponse, TextGenerationResponse

KEEP_ALIVE = b":\n\n"
"""A stream's sign of life: a comment, and the blank line that axum, under TGI, puts behind it."""

_STREAM = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # or nginx waits for a buffer full of tokens
}


def event_json(event: StreamResponse) -> str:
    """The data of one event. TGI leaves `top_tokens` out where there are none, and no other null."""
    return event.model_dump_json(exclude={"top_tokens"} if event.top_tokens is None else None)


def response_json(response: TextGenerationResponse) -> str:
    """The body of a whole answer. `input_length` is told at the end of streams only."""
    if response.details is None:
        return response.model_dump_json(exclude={"details"})
    absent = {"input_length", "best_of_sequences"}
    if response.details.top_tokens is None:
        absent.add("top_tokens")
    return response.model_dump_json(exclude={"details": absent})


def error_json(error: InferenceError) -> str:
    """The body, or the data of the event, that tells of an error."""
    return json.dumps(to_response(error)[1], ensure_ascii=False, separators=(",", ":"))


def error_response(error: InferenceError, body: str | None = None) -> Response:
    """An error as a whole HTTP response; `body`: where it is not told in TGI's shape."""
    headers = {} if error.retry_after is None else {"retry-after": f"{error.retry_after:g}"}
    return Response(error_json(error) if body is None else body, to_response(error)[0], headers, "application/json")


class SSEResponse:
    """Server-Sent Events on an ASGI connection. Until it is `opened`, the request can still be answered otherwise."""

    def __init__(self, send: Send, done_event: str | None = None) -> None:
        """`done_event`: data of an event that every stream ends with, good or bad."""
        self._send = send
        self._done_event = done_event
        self.opened: bool = False

    async def open(self, headers: dict[str, str]) -> None:
        """Send the headers: what goes wrong from now on is an event."""
        self.opened = True
        raw = [(name.encode(), value.encode()) for name, value in {**_STREAM, **headers}.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def event(self, data: str) -> None:
        """Say something."""
        await self.write(encode(data))

    async def comment(self) -> None:
        """Give a sign of life."""
        await self.write(KEEP_ALIVE)

    async def close(self) -> None:
        """Say the last words, and end the body."""
        if self._done_event is not None:
            await self.event(self._done_event)
        await self.end()

    async def write(self, chunk: bytes) -> None:
        """Say events that are bytes already."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        """End the body, whose last words have been said."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class RequestTimer:
    """Measures one request for TGI's headers."""

    def __init__(self) -> None:
        self._started = self._validated_at = time.perf_counter()

    def mark_validated(self) -> None:
        """The request was found valid, just now."""
        self._validated_at = time.perf_counter()

    def headers(self, *, prompt_tokens: int, generated_tokens: int) -> dict[str, str]:
        """How long it took until now: `x-compute-time` in seconds, the rest in whole milliseconds."""
        now = time.perf_counter()
        milliseconds = {
            "x-total-time": now - self._started,
            "x-validation-time": self._validated_at - self._started,
            # The engine does not say when it took a prompt in, so waiting for a place is part of x-inference-time.
            "x-queue-time": 0,
            "x-inference-time": now - self._validated_at,
            "x-time-per-token": (now - self._validated_at) / generated_tokens,
        }
        return {
            "x-compute-time": f"{now - self._started:.9f}",
            **{name: str(int(1000 * seconds)) for name, seconds in milliseconds.items()},
            "x-prompt-tokens": str(prompt_tokens),
            "x-generated-tokens": str(generated_tokens),
        }


def compute_headers(inputs: str) -> dict[str, str]:
    """What every answer says of the work it was, streamed or not."""
    return {"x-compute-type": os.environ.get("COMPUTE_TYPE", "cpu"), "x-compute-characters": str(len(inputs))}
