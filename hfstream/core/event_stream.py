"""What all decoders of event streams share: events, errors, the end of the body, and resuming.

A decoder needs three things of a stream: the text that an event adds, why it ended, and errors. What else a server
sends is kept if it can be read, and passed over if not. Items decoded before an error in the same chunk are returned
first. Does not depend on the format of an event, nor on where bytes come from.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from ..errors import IncompleteStreamError, InferenceError, UnexpectedResponseError
from ..errors.error_shapes import is_notice
from ..errors.response_bodies import from_event
from ..types._base import APIModel
from .decoders import MAX_ERROR_BODY_SIZE, decode_lossy, excerpt, has_text, try_json, unexpected_body_parser
from .event_parts import error_in_lines, split_parts
from .sse import UNFRAMED, EventTooLargeError, SSEParser

__all__ = ["EventStreamDecoder", "parsed_size"]

logger: logging.Logger = logging.getLogger("hfstream")

EventT = TypeVar("EventT", bound=APIModel)

_LARGE_EVENT = 1024 * 1024
_MAX_PARSED_SIZE = 128 * 1024 * 1024
"""Bytes of an event; larger ones are parsed only if the parsed objects take no more than so many bytes, roughly."""


def parsed_size(data: bytes) -> int:
    """Roughly how many bytes the objects take that JSON stands for: a million of ``{}`` are more than two million."""
    return len(data) + 256 * (data.count(b"{") + data.count(b"[")) + 128 * data.count(b",")


class EventStreamDecoder(ABC, Generic[EventT]):
    """Decodes a stream of events that are JSON.

    One JSON event per chunk is the normal case, and a stream's cost is the cost of that case. So `feed` has a fast path
    for it: no event object is made, and the bytes of the data go to pydantic's Rust parser as they are. Everything else
    (errors, ``[DONE]``, broken UTF-8, values of an unexpected type) is found only because validation failed, and may
    cost more.
    """

    model: type[EventT]
    required_fields: frozenset[str]
    """Fields one of which an event has if it is of this stream, whatever its type is called."""
    foreign_fields: frozenset[str]
    """Fields of events of other APIs: text in them is text that this decoder cannot read."""

    done: bool
    complete: bool
    content_count: int

    def __init__(self) -> None:
        self.done = False
        self.complete = False
        self.content_count = 0
        # The validator itself, because model_validate_json() takes a third longer.
        self._validate: Callable[[bytes], EventT] = self.model.__pydantic_validator__.validate_json
        self._error: InferenceError | None = None
        self._parser = SSEParser(unframed=True)
        self._try_single_event = self._parser.try_single_event  # looked up once a token
        self._first_id = ""
        # After `resume`: the last id received before, until the first event of the new connection has been checked.
        self._resumed_from_id: str | None = None
        # The start of what came outside of events, to be quoted if nothing else comes: such as a page.
        self._unframed = b""
        # The error of an event that could not be read, after a finish reason.
        self._unread: InferenceError | None = None
        # A message that may be an error, and how much content came before it: it is one if the stream ends there.
        self._notice: tuple[InferenceError, int] | None = None

    @property
    def last_event_id(self) -> str:
        return self._parser.last_event_id

    def resume(self) -> None:
        with suppress(EventTooLargeError):
            self._parser.finish()  # drops an incomplete event: the server sends it again
        self._unframed = b""
        self._error = self._notice = self._unread = None
        self.done = False
        self._resumed_from_id = self._parser.last_event_id

    def feed(self, chunk: bytes) -> list[EventT]:
        items: list[EventT] = []
        data = self._try_single_event(chunk)
        if data is not None:
            self._handle_event(data, "message", items)
            return items
        for part in self._parser.split(chunk):
            events = self._parser.try_plain_events(part)
            if events is None:
                self._feed_any(part, items)
            else:
                self._feed_plain(events, items)
            if self.done:
                break
        return items

    def _feed_plain(self, events: list[bytes], items: list[EventT]) -> None:
        # Such an event has no id of its own that could be checked, and a decoder that is done is not fed.
        for data in events:
            self._handle_event(data, "message", items)
            if self.done:
                return

    def _feed_any(self, chunk: bytes, items: list[EventT]) -> None:
        try:
            events = self._parser.feed(chunk)
        except EventTooLargeError as error:
            self._fail(UnexpectedResponseError(f"{error}: this is not a stream of tokens"))
            return
        for event in events:
            if event.name == UNFRAMED:
                self._handle_unframed(event.data)
            else:
                self._check_event_id(event.id, event.data)
                if len(event.data) > _LARGE_EVENT and parsed_size(event.data) > _MAX_PARSED_SIZE:
                    self._fail(UnexpectedResponseError(f"an event has too many values: {excerpt(event.data)}"))
                if not self.done:
                    self._handle_event(event.data, event.name, items)
            if self.done:
                return

    def _check_event_id(self, event_id: str, data: bytes) -> None:
        """Fails if a resumed stream repeats events: a server that ignores Last-Event-ID starts from the beginning.

        An event without an id has that of the last one. It may be an error, which tells more.
        """
        if self._resumed_from_id and event_id in (self._resumed_from_id, self._first_id):
            restarted = IncompleteStreamError("the server restarted the response", retryable=False)
            self._fail(from_event(try_json(decode_lossy(data))) or restarted)
        self._resumed_from_id = None
        self._first_id = self._first_id or event_id

    def finish(self) -> list[EventT]:
        if not (self.done or self.complete):
            self._read_rest()
        # The traceback of a raised error refers to this frame. If the frame or the decoder referred to the error too,
        # that would be a cycle, which only the garbage collector can free.
        error, self._error, self._unread = self._error, None, None
        if error is None and not self.complete:
            error = self._last_notice()
        if error:
            try:
                raise error
            finally:
                del error
        if self.complete:
            return []
        if not self.content_count and self._unframed.lstrip()[:1] in (b"{", b"[", b"<"):
            return unexpected_body_parser("")(self._unframed)
        raise IncompleteStreamError(self._ended_early())

    def _ended_early(self) -> str:
        if not self.content_count:
            return "the stream ended without a token"
        plural = "s" * (self.content_count > 1)
        return f"the stream ended after {self.content_count} token{plural}, without a final event"

    def _read_rest(self) -> None:
        """Looks for ``[DONE]`` or an error in what the body's end cut off: some servers end them with no blank line."""
        with suppress(EventTooLargeError):
            for event in self._parser.finish():
                if event.name == UNFRAMED:
                    self._handle_unframed(event.data)
                elif event.data.strip() == b"[DONE]":
                    self._on_done()
                elif (error := from_event(try_json(decode_lossy(event.data)))) is not None:
                    self._fail(error)

    def _last_notice(self) -> InferenceError | None:
        """The message after which no content came."""
        notice, self._notice = self._notice, None
        return notice[0] if notice is not None and notice[1] == self.content_count else None

    @abstractmethod
    def _handle_event(self, data: bytes, name: str, items: list[EventT]) -> None:
        """Appends what the data of one event stands for to `items`, or fails."""

    @abstractmethod
    def _on_done(self) -> None:
        """Called for ``[DONE]``."""

    @abstractmethod
    def _complete_fields(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """The fields of an event that did not validate, with those that it must have; None if it has no content."""

    def _fail(self, error: InferenceError) -> None:
        self._error = error
        self.done = True
        self.complete = False

    # What is not an event as documented ---------------------------------------------------------

    def _handle_unframed(self, lines: bytes) -> None:
        """Takes lines that are not SSE: an error, if they are one; llama.cpp has sent a field ``error``."""
        self._unframed = (self._unframed + lines)[:MAX_ERROR_BODY_SIZE]
        for part in {lines: None} | dict.fromkeys(lines.splitlines()):
            field, _, value = part.partition(b":")
            text = decode_lossy(value if field == b"error" else part).strip()
            payload = try_json(text)
            if field == b"error" and text not in ("", "null"):
                error = from_event(payload) or from_event({"error": text if payload is None else payload})
            else:
                error = from_event(payload)
            if error is not None:
                self._fail(error)
                return

    def _read_unusual(self, data: bytes, name: str, items: list[EventT]) -> EventT | None:
        """The event that did not validate, as far as it can be read; None if there is nothing more to do about it.

        In this order: the end, an error, a message that may be one, content, and what is passed over.
        """
        text = decode_lossy(data)
        stripped = text.strip()
        payload = try_json(text)
        if stripped == "[DONE]":
            self._on_done()
        elif name == "error" and stripped:
            self._fail(from_event(payload) or from_event({"error": text}) or UnexpectedResponseError(excerpt(data)))
        elif name != "message" and not self._is_documented(payload):
            if self._has_foreign_text(payload):
                self._unframed = self._unframed or data[:MAX_ERROR_BODY_SIZE]  # another API's: quoted if no token comes
        elif is_notice(payload):
            self._notice = (cast("InferenceError", from_event(payload)), self.content_count)
        elif (error := from_event(payload)) is not None:
            self._fail(error)
        elif isinstance(payload, dict):
            return self._read_object(cast("dict[str, Any]", payload), data)
        elif stripped.upper() in ("DONE", "[DONE]"):
            self._on_done()
        elif (parts := split_parts(stripped, payload)) is not None:
            for part in parts:
                if not self.done:
                    self._handle_event(part.encode("utf-8", "replace"), "message", items)
        else:
            self._handle_unknown(data, text)
        return None

    def _handle_unknown(self, data: bytes, text: str) -> None:
        """Fails; after a finish reason only if the answer goes on: then this may have been a part of it."""
        unexpected = UnexpectedResponseError(f"an event of the stream is not a token: {excerpt(data)}")
        self._unread = error_in_lines(text) or unexpected
        if not self.complete:
            self._fail(self._unread)

    def _is_documented(self, payload: Any) -> bool:
        """Whether a JSON value has one of the fields that every event of this stream must have."""
        return isinstance(payload, dict) and not self.required_fields.isdisjoint(cast("dict[str, Any]", payload))

    def _has_foreign_text(self, payload: Any) -> bool:
        """Whether a JSON value has text in a field of another API."""
        if not isinstance(payload, dict):
            return False
        values = map(cast("dict[str, Any]", payload).get, self.foreign_fields)
        return any(map(has_text, values))

    def _read_object(self, payload: dict[str, Any], data: bytes) -> EventT | None:
        fields = self._complete_fields(payload)
        if fields is not None:
            with suppress(ValueError):
                return self.model.validate_lenient(fields)
        if self._has_foreign_text(payload):
            self._fail(UnexpectedResponseError(f"an event of the stream is not a token: {excerpt(data)}"))
        else:
            logger.debug("an event without content was passed over: %s", ", ".join(list(payload)[:5]))
        return None
