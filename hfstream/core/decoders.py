"""How one answer is read: bytes in, what was said out; a refusal is also an answer, one that raises.

Every reply has the verb pair `feed` and `finish`. When `done` is true it needs no more bytes: `finish` then returns, or
raises what the server complained of. An error never overtakes what was said before it in the same piece.
This module refuses to know where bytes come from, and what happens after an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from ..errors import UnexpectedResponseError
from ..errors.response_bodies import from_event, from_response

__all__ = ["ErrorDecoder", "JSONBodyDecoder", "ResponseDecoder", "select_decoder"]

ItemT = TypeVar("ItemT")

MAX_JSON_BODY_SIZE = 64 * 1024 * 1024
"""Bytes of an answer in one piece. A million tokens with their details fit."""

MAX_ERROR_BODY_SIZE = 64 * 1024
"""Bytes of an error that are read; what follows cannot say more."""


class ResponseDecoder(Protocol[ItemT]):
    """What every kind of reply can do."""

    @property
    def done(self) -> bool:
        """No more bytes are needed; `finish` can be called."""
        ...

    @property
    def complete(self) -> bool:
        """The answer is complete: whatever follows, or fails to, does not matter."""
        ...

    @property
    def content_count(self) -> int:
        """How many pieces of content have come."""
        ...

    @property
    def last_event_id(self) -> str:
        """The id of the last event, ``""`` where there is none: what a lost stream can be resumed from."""
        ...

    def resume(self) -> None:
        """Another connection goes on where the last one broke off."""
        ...

    def feed(self, chunk: bytes) -> list[ItemT]:
        """What `chunk` completed."""
        ...

    def finish(self) -> list[ItemT]:
        """What the end of the body completed. Raises if the answer is not whole."""
        ...


def select_decoder(
    status: int, headers: Mapping[str, str], expected: Callable[[], ResponseDecoder[ItemT]], *, streamed: bool
) -> ResponseDecoder[ItemT]:
    """The reply that fits a response's head: the `expected` one, or a refusal, or something else altogether."""
    if not 200 <= status < 300:
        return ErrorDecoder(status, headers)
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if streamed and content_type not in ("text/event-stream", ""):
        return JSONBodyDecoder(unexpected_body_parser(content_type))
    return expected()


class JSONBodyDecoder(Generic[ItemT]):
    """An answer in one piece; `parse` makes of its bytes what the caller asked for, or raises ValueError."""

    done = False
    complete = False  # not before its last byte
    content_count = 0
    last_event_id = ""

    def __init__(self, parse: Callable[[bytes], list[ItemT]]) -> None:
        self._parse = parse
        self._chunks: list[bytes] = []
        self._size = 0

    def resume(self) -> None:
        self._chunks.clear()
        self._size = 0

    def feed(self, chunk: bytes) -> list[ItemT]:
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > MAX_JSON_BODY_SIZE:
            raise UnexpectedResponseError(f"the answer is larger than {MAX_JSON_BODY_SIZE} bytes")
        return []

    def finish(self) -> list[ItemT]:
        body = b"".join(self._chunks)
        try:
            return self._parse(body)
        except ValueError as error:
            raise from_event(try_json(decode_lossy(body))) or UnexpectedResponseError(
                f"not the JSON that was expected: {excerpt(body)}", response_body=decode_lossy(body)[:_EXCERPT_SIZE]
            ) from error


class ErrorDecoder:
    """A status that says no: the body says why, and `finish` raises it."""

    complete = False
    content_count = 0
    last_event_id = ""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.done: bool = False
        self._status = status
        self._headers = headers
        self._body = b""

    def resume(self) -> None:
        self._body = b""

    def feed(self, chunk: bytes) -> list[Any]:
        self._body += chunk
        self.done = len(self._body) >= MAX_ERROR_BODY_SIZE
        return []

    def finish(self) -> list[Any]:
        raise from_response(self._status, self._headers, self._body)


_EXCERPT_SIZE = 200
"""How many characters of a strange body a message quotes."""


def unexpected_body_parser(content_type: str) -> Callable[[bytes], list[Any]]:
    """A parser for a body that should have been an event stream: raises the error it carries, or quotes it."""

    def parse(body: bytes) -> list[Any]:
        raise from_event(try_json(decode_lossy(body))) or UnexpectedResponseError(
            f"expected an event stream, got {content_type or 'something else'}: {excerpt(body)}. Check the URL, "
            "and that the server streams there",
            response_body=decode_lossy(body)[:_EXCERPT_SIZE],
        )

    return parse


def try_json(text: str) -> Any:
    """The JSON value of `text`, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def decode_lossy(body: bytes) -> str:
    """What the bytes say, whatever they are."""
    return body.decode("utf-8", "replace")


def excerpt(body: bytes) -> str:
    """The start of `body`, for a message."""
    text = decode_lossy(body[: 4 * _EXCERPT_SIZE]).strip()
    return repr(text[:_EXCERPT_SIZE] + "…" * (len(text) > _EXCERPT_SIZE)) if text else "an empty body"
