"""Decoders of response bodies: `feed` takes bytes and returns items, `finish` returns the last ones or raises.

When `done` is true a decoder needs no more bytes, and `finish` can be called: it raises the error that the server sent,
if any. Items decoded before an error in the same chunk are returned first. Does not depend on where bytes come from,
nor on what happens after an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar, cast

from ..errors import UnexpectedResponseError
from ..errors.response_bodies import from_event, from_response
from ..types._lenient import load_json

__all__ = ["ErrorDecoder", "JSONBodyDecoder", "ResponseDecoder", "select_decoder"]

ItemT = TypeVar("ItemT")

MAX_JSON_BODY_SIZE = 64 * 1024 * 1024
"""Bytes of a response that is not streamed. A million tokens with their details fit."""

MAX_ERROR_BODY_SIZE = 64 * 1024
"""Bytes of an error's body that are read; an error message is far shorter."""


class ResponseDecoder(Protocol[ItemT]):
    """The interface of all decoders."""

    @property
    def done(self) -> bool:
        """Whether no more bytes are needed, so that `finish` can be called."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the response is complete, so that nothing that follows matters, a lost connection included."""
        ...

    @property
    def content_count(self) -> int:
        """Number of items with content so far."""
        ...

    @property
    def last_event_id(self) -> str:
        """The id of the last event, from which a lost stream can be resumed; ``""`` if the server sends no ids."""
        ...

    def resume(self) -> None:
        """Prepares for the body of another connection, which continues this one."""
        ...

    def feed(self, chunk: bytes) -> list[ItemT]:
        """The items that `chunk` completed."""
        ...

    def finish(self) -> list[ItemT]:
        """The items that the end of the body completed. Raises if the response is not complete."""
        ...


def select_decoder(
    status: int, headers: Mapping[str, str], expected: Callable[[], ResponseDecoder[ItemT]], *, streamed: bool
) -> ResponseDecoder[ItemT]:
    """The decoder for a response with this status and these headers: the `expected` one only if they fit it."""
    if not 200 <= status < 300:
        return ErrorDecoder(status, headers)
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if streamed and content_type not in ("text/event-stream", ""):
        return JSONBodyDecoder(unexpected_body_parser(content_type))
    return expected()


class JSONBodyDecoder(Generic[ItemT]):
    """Decodes a JSON response that is not streamed; `parse` takes the complete body, and may raise ValueError."""

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
            raise UnexpectedResponseError(f"the response is larger than {MAX_JSON_BODY_SIZE} bytes")
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
    """Decodes a response with a failing status: `finish` raises the error that the body describes."""

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
"""How many characters of an unexpected body an error message quotes."""


def unexpected_body_parser(content_type: str) -> Callable[[bytes], list[Any]]:
    """A parser for a body that is not the expected event stream: raises the error that it contains, or quotes it."""

    def parse(body: bytes) -> list[Any]:
        raise from_event(try_json(decode_lossy(body))) or UnexpectedResponseError(
            f"expected an event stream, got {content_type or 'something else'}: {excerpt(body)}. Check the URL, "
            "and that this route supports streaming",
            response_body=decode_lossy(body)[:_EXCERPT_SIZE],
        )

    return parse


def try_json(text: str) -> Any:
    """The JSON value of `text`, or None if it is not JSON."""
    try:
        return load_json(text)
    except ValueError:
        return None


def decode_lossy(body: bytes) -> str:
    """The bytes as text; U+FFFD stands for those that are not UTF-8."""
    return body.decode("utf-8", "replace")


def excerpt(body: bytes) -> str:
    """The start of `body`, quoted for an error message."""
    text = decode_lossy(body[: 4 * _EXCERPT_SIZE]).strip()
    return repr(text[:_EXCERPT_SIZE] + "…" * (len(text) > _EXCERPT_SIZE)) if text else "an empty body"


_DESCRIPTIONS = frozenset({"finish_reason", "id", "name", "object", "role", "type"})
"""Fields whose text is not the answer's, in every API."""


def has_text(value: Any, depth: int = 8) -> bool:
    """Whether there is text in a JSON value: what lies too deep counts as text."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value).items()
        return not depth or any(has_text(inner, depth - 1) for name, inner in fields if name not in _DESCRIPTIONS)
    if isinstance(value, list):
        return not depth or any(has_text(inner, depth - 1) for inner in cast("list[Any]", value))
    return isinstance(value, str) and bool(value)
