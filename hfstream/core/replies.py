"""How one answer is read: bytes in, what was said out; a refusal is also an answer, one that raises.

Every reply has the verb pair `feed` and `finish`. When `done` is true it needs no more bytes: `finish` then returns, or
raises what the server complained of. An error never overtakes what was said before it in the same piece.
This module refuses to know where bytes come from, and what happens after an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from .. import errors
from ..errors import IncompleteStreamError, InferenceError, UnexpectedResponseError
from ..types import StreamResponse
from .sse import EventTooLargeError, SSEParser

__all__ = ["Document", "Refusal", "Reply", "TokenEvents", "reply_to"]

T = TypeVar("T")

MAX_DOCUMENT_SIZE = 64 * 1024 * 1024
"""Bytes of an answer in one piece. A million tokens with their details fit."""

MAX_REFUSAL_SIZE = 64 * 1024
"""Bytes of an error that are read; what follows cannot say more."""


class Reply(Protocol[T]):
    """What every kind of reply can do."""

    @property
    def done(self) -> bool:
        """No more bytes are needed; `finish` can be called."""
        ...

    @property
    def whole(self) -> bool:
        """The answer is complete: whatever follows does not matter."""
        ...

    def feed(self, chunk: bytes) -> list[T]:
        """What `chunk` completed."""
        ...

    def finish(self) -> list[T]:
        """What the end of the body completed. Raises if the answer is not whole."""
        ...


def reply_to(status: int, headers: Mapping[str, str], expected: Callable[[], Reply[T]], *, streamed: bool) -> Reply[T]:
    """The reply that fits a response's head: the `expected` one, or a refusal, or something else altogether."""
    if not 200 <= status < 300:
        return Refusal(status, headers)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if streamed and kind not in ("text/event-stream", ""):
        return Document(_impostor(kind))
    return expected()


class TokenEvents:
    """TGI's event stream: one `StreamResponse` an event, until the one that has the whole text."""

    def __init__(self) -> None:
        self.done = False
        self._error: InferenceError | None = None
        self._failed = False
        self._parser = SSEParser()
        self._heard = 0
        self._start = b""  # the body's first bytes, until an event shows that it is an event stream

    @property
    def whole(self) -> bool:
        return self.done and not self._failed

    def feed(self, chunk: bytes) -> list[StreamResponse]:
        data = self._parser.only_data(chunk)
        if data is None:
            return self._feed_any(chunk)
        said: list[StreamResponse] = []
        self._take(data, "message", said)
        return said

    def _feed_any(self, chunk: bytes) -> list[StreamResponse]:
        said: list[StreamResponse] = []
        try:
            events = self._parser.feed(chunk)
        except EventTooLargeError as error:
            self._fail(UnexpectedResponseError(f"{error}: this is no stream of tokens"))
            return said
        for event in events:
            self._take(event.data, event.name, said)
            if self.done:
                break
        if not events and not self._heard:
            self._start = (self._start + chunk)[:MAX_REFUSAL_SIZE]
        return said

    def _take(self, data: bytes, name: str, said: list[StreamResponse]) -> None:
        try:
            response = StreamResponse.model_validate_json(data)
        except ValueError:
            self._take_other(data, name, said)
            return
        said.append(response)
        self._heard += 1
        if response.generated_text is not None or response.details is not None:
            self.done = True

    def finish(self) -> list[StreamResponse]:
        error, self._error = self._error, None  # once it is raised its traceback holds us
        if error:
            try:
                raise error
            finally:
                del error
        if self.done:
            return []
        if not self._heard and self._start.lstrip()[:1] in (b"{", b"[", b"<"):
            return _impostor("text/event-stream")(self._start)
        raise IncompleteStreamError(_ended_early(self._heard))

    def _take_other(self, data: bytes, name: str, said: list[StreamResponse]) -> None:
        """An event whose bytes are no token: an error, the end, a token with broken UTF-8, or nonsense."""
        text = _text(data)
        if text.strip() == "[DONE]":
            self._fail(IncompleteStreamError(_ended_early(self._heard)))
            return
        if not text.strip() or name not in ("message", "error"):
            return  # a heartbeat, or an event that this reader has not subscribed to
        payload = _json(text)
        error = errors.from_event({"error": text} if name == "error" and not errors.is_error(payload) else payload)
        if error is not None:
            self._fail(error)
        elif data != text.encode():  # bytes that were no UTF-8 are U+FFFD now
            self._take(text.encode(), name, said)
        else:
            self._fail(UnexpectedResponseError(f"an event of the stream is no token: {_quoted(data)}"))

    def _fail(self, error: InferenceError) -> None:
        self._error = error
        self.done = self._failed = True


class Document(Generic[T]):
    """An answer in one piece; `parse` makes of its bytes what the caller asked for, or raises ValueError."""

    done = False
    whole = False  # not before its last byte

    def __init__(self, parse: Callable[[bytes], list[T]]) -> None:
        self._parse = parse
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[T]:
        self._pieces.append(chunk)
        self._size += len(chunk)
        if self._size > MAX_DOCUMENT_SIZE:
            raise UnexpectedResponseError(f"the answer is larger than {MAX_DOCUMENT_SIZE} bytes")
        return []

    def finish(self) -> list[T]:
        body = b"".join(self._pieces)
        try:
            return self._parse(body)
        except ValueError as error:
            raise errors.from_event(_json(_text(body))) or UnexpectedResponseError(
                f"not the JSON that was expected: {_quoted(body)}", response_body=_text(body)[:_QUOTED]
            ) from error


class Refusal:
    """A status that says no: the body says why, and `finish` raises it."""

    whole = False

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.done = False
        self._status = status
        self._headers = headers
        self._body = b""

    def feed(self, chunk: bytes) -> list[Any]:
        self._body += chunk
        self.done = len(self._body) >= MAX_REFUSAL_SIZE
        return []

    def finish(self) -> list[Any]:
        raise errors.from_wire(self._status, self._headers, self._body)


_QUOTED = 200
"""How many characters of a strange body a message quotes."""


def _impostor(kind: str) -> Callable[[bytes], list[Any]]:
    """A parser for a body that should have been an event stream: raises the error it carries, or quotes it."""

    def parse(body: bytes) -> list[Any]:
        raise errors.from_event(_json(_text(body))) or UnexpectedResponseError(
            f"expected an event stream, got {kind or 'something else'}: {_quoted(body)}. Check the URL, "
            "and that the server streams there",
            response_body=_text(body)[:_QUOTED],
        )

    return parse


def _ended_early(tokens: int) -> str:
    if not tokens:
        return "the stream ended without a token"
    return f"the stream ended after {tokens} token{'s' * (tokens > 1)}, without a final event"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _quoted(body: bytes) -> str:
    text = _text(body[: 4 * _QUOTED]).strip()
    return repr(text[:_QUOTED] + "…" * (len(text) > _QUOTED)) if text else "an empty body"
