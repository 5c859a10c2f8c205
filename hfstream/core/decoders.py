"""Decoders of response bodies: `feed` takes bytes and returns items, `finish` returns the last ones or raises.

When `done` is true a decoder needs no more bytes, and `finish` can be called: it raises the error that the server sent,
if any. Items decoded before an error in the same chunk are returned first. Does not depend on where bytes come from,
nor on what happens after an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar, cast

from ..errors import InferenceError, UnexpectedResponseError
from ..errors.response_bodies import from_event, from_response
from ..types._lenient import load_json

__all__ = [
    "ERROR_BODY_TIMEOUT",
    "ErrorDecoder",
    "JSONBodyDecoder",
    "ResponseDecoder",
    "SniffingDecoder",
    "select_decoder",
    "status_first",
]

ItemT = TypeVar("ItemT")

MAX_JSON_BODY_SIZE = 64 * 1024 * 1024
"""Bytes of a response that is not streamed. A million tokens with their details fit."""

ERROR_BODY_TIMEOUT = 5.0
"""Seconds for the body of a response whose status is an error. Without it the error still has its class."""

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
    # Sent twice, or by a gateway that adds its own to the server's, the header has several values.
    content_types = [part.partition(";")[0].strip().lower() for part in headers.get("content-type", "").split(",")]
    if streamed and "text/event-stream" not in content_types and any(content_types):
        return SniffingDecoder(expected(), content_types[0])
    return expected()


_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""What the first line of an event stream begins with."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

MAX_SNIFFED_SIZE = 1024
"""Bytes of blank lines after which nothing more is expected to be an event stream."""


def starts_event_stream(body: bytes) -> bool | None:
    """Whether a body that begins so is an event stream; None if that cannot be said yet."""
    start = body.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if start.startswith(_FIELDS):
        return True
    undecided = _BYTE_ORDER_MARK.startswith(body) or any(field.startswith(start) for field in _FIELDS)
    return None if undecided and len(body) < MAX_SNIFFED_SIZE else False


class SniffingDecoder(Generic[ItemT]):
    """Decodes a body whose Content-Type is not that of an event stream, by its first bytes.

    Servers behind a framework's default (``text/plain``, ``application/octet-stream``, ``text/html``) send good streams
    under a wrong name. Everything else is an error that quotes the body.
    """

    def __init__(self, expected: ResponseDecoder[ItemT], content_type: str) -> None:
        self._decoder: ResponseDecoder[ItemT] = expected
        self._content_type = content_type
        self._start = b""
        self._decided = False

    @property
    def done(self) -> bool:
        return self._decoder.done

    @property
    def complete(self) -> bool:
        return self._decoder.complete

    @property
    def content_count(self) -> int:
        return self._decoder.content_count

    @property
    def last_event_id(self) -> str:
        return self._decoder.last_event_id

    def resume(self) -> None:
        self._decoder.resume()

    def feed(self, chunk: bytes) -> list[ItemT]:
        if self._decided:
            return self._decoder.feed(chunk)
        self._start += chunk
        is_event_stream = starts_event_stream(self._start)
        return [] if is_event_stream is None else self._decide(is_event_stream)

    def finish(self) -> list[ItemT]:
        if not self._decided:
            self._decide(False)
        return self._decoder.finish()

    def _decide(self, is_event_stream: bool) -> list[ItemT]:
        self._decided = True
        if not is_event_stream:
            self._decoder = JSONBodyDecoder(unexpected_body_parser(self._content_type))
        start, self._start = self._start, b""
        return self._decoder.feed(start)


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
        self.done = True
        raise self.error()

    def error(self) -> InferenceError:
        """The error that the status and the body so far describe."""
        return from_response(self._status, self._headers, self._body)


def status_first(decoder: ResponseDecoder[Any] | None, error: InferenceError) -> InferenceError:
    """The error that a failing status says, if `error` is that its body cannot be read; else `error`."""
    if not isinstance(decoder, ErrorDecoder) or decoder.done:
        return error
    error_of_status = decoder.error()
    error_of_status.__cause__ = error
    return error_of_status


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
