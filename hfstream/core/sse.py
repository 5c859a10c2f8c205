"""Server-Sent Events, from bytes to events and back, as the WHATWG standard specifies.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

`SSEParser` is incremental: its time is linear in the size of the body, however the body is divided into chunks, and its
memory is bounded. An event's data stays bytes, because a JSON parser takes bytes, and decoding them would be wasted
work. Does not depend on what events mean, where bytes come from, and when to reconnect.
"""

from __future__ import annotations

import re
from operator import methodcaller
from typing import NamedTuple

__all__ = ["MAX_EVENT_SIZE", "UNFRAMED", "Event", "EventTooLargeError", "SSEParser", "encode"]

MAX_EVENT_SIZE = 16 * 1024 * 1024
"""Default limit on the size of one event, in bytes. An event with a token has a few hundred."""

UNFRAMED = "\n"
"""The name of an event made of lines that no field of SSE begins. No server can send it: a name has no line end."""

_MAX_UNFRAMED = 64 * 1024
"""Bytes of such lines that are kept; they are of interest only if they are an error."""

_BOM = b"\xef\xbb\xbf"
_IS_DATA = methodcaller("startswith", b"data:")
_LINE_END = re.compile(r"\r\n|\r|\n")


class EventTooLargeError(Exception):
    """One event, or one line, is larger than the limit. The parser accepts no more data."""


class Event(NamedTuple):
    """One complete event."""

    data: bytes
    """The ``data`` lines joined by LF, not decoded."""
    name: str = "message"
    """The ``event`` field, ``"message"`` if there is none."""
    id: str = ""
    """The last id in the stream so far, ``""`` before the first one."""
    retry: int | None = None
    """Reconnection time in milliseconds, if the event itself has a ``retry`` field."""

    @property
    def text(self) -> str:
        """The data as text. SSE is always UTF-8, whatever a header says; U+FFFD replaces invalid bytes."""
        return _decode(self.data)


class SSEParser:
    """An incremental parser: bytes in, events out.

    `feed` takes any chunk of the body and returns the events that it completed. `finish` ends the body: an event
    without its blank line is discarded, as the standard requires. The parser is then ready for the next connection of
    the same stream; `last_event_id` and `retry` are kept.

    Events before an error are returned first: if the chunk that exceeds the limit also completed events, they are
    returned, and the next call raises.

    A line can end with LF, CR or CRLF, and a chunk can end anywhere, even between the CR and the LF of a CRLF. Waiting
    for the byte after a CR would delay an event until the next one comes. So a CR ends its line at once, and the parser
    remembers to ignore one LF if that is the next byte (`_skip_lf`).

    The standard ignores a line that begins with no field of SSE. Some servers send an error so: with ``unframed=True``
    these lines of a block are an event `UNFRAMED` before the block's own, and `finish` returns what it would discard.
    """

    def __init__(self, max_event_size: int = MAX_EVENT_SIZE, *, unframed: bool = False) -> None:
        self.last_event_id: str = ""
        self.retry: int | None = None
        self._max_event_size = max_event_size
        self._keep_unframed = unframed
        self._reset()

    def _reset(self) -> None:
        self._start: bytes | None = b""  # the body's first bytes while they may be a byte order mark, then None
        self._skip_lf = False  # the last byte was a CR: a LF that follows is part of the same line end
        self._line = bytearray()  # the incomplete line; a bytearray grows in place, so small chunks do not copy it
        self._id = self.last_event_id  # the id field of the current block, which only a blank line makes the last id
        self._at_boundary = False  # whether the next chunk starts a new event: then `try_single_event` may parse it
        self._overflow: EventTooLargeError | None = None
        self._clear_block()

    def _clear_block(self) -> None:
        self._data: list[bytes] = []
        self._data_size = 0
        self._name = ""
        self._block_retry: int | None = None
        self._unframed = b""

    def try_single_event(self, chunk: bytes) -> bytes | None:
        """The data, if `chunk` is exactly one event with one `data` line and nothing else; else None.

        This is what most chunks are: servers write one event at a time, and HTTP delivers it as one chunk. They
        need neither the general parser nor an event object.
        """
        if self._at_boundary and chunk[:5] == b"data:" and chunk[-1] == 0x0A and len(chunk) <= self._max_event_size:
            lines = chunk.splitlines()  # bytes.splitlines() splits at LF, CR and CRLF only, which is what SSE has
            if len(lines) == 2 and not lines[1]:  # the data, and the blank line that completes the event
                return lines[0][6 if chunk[5] == 0x20 else 5 :]
        return None

    def split(self, chunk: bytes) -> list[bytes]:
        """`chunk` in up to three parts: the rest of an event, whole events, and the start of another one.

        That is what one read of a connection brings where the reader is slower than the server. `try_plain_events` can
        parse the second part.
        """
        start = 0 if self._at_boundary else chunk.find(b"\n\n") + 2
        end = chunk.rfind(b"\n\n") + 2
        if start == 1 or start >= end:
            return [chunk]
        return [part for part in (chunk[:start], chunk[start:end], chunk[end:]) if part]

    def try_plain_events(self, chunk: bytes) -> list[bytes] | None:
        """The data of each event, if all events of `chunk` are as in `try_single_event`; else None."""
        if self._at_boundary and chunk[:5] == b"data:" and chunk[-1] == 0x0A and len(chunk) <= self._max_event_size:
            lines = chunk.splitlines()
            if len(lines) % 2 == 0 and not any(lines[1::2]):
                events = lines[::2]
                if all(map(_IS_DATA, events)):
                    return [line[6 if line[5:6] == b" " else 5 :] for line in events]
        return None

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completed, in order.

        Raises:
            EventTooLargeError: an event, or a line, is larger than `max_event_size` bytes.
        """
        data = self.try_single_event(chunk)
        return self._feed_any(chunk) if data is None else [Event(data, id=self.last_event_id)]

    def finish(self) -> list[Event]:
        """Ends the body. Returns an empty list, unless `unframed`: an event without its blank line is discarded."""
        overflow = self._overflow
        events: list[Event] = []
        if self._keep_unframed and not overflow:
            last_event_id = self.last_event_id
            if self._line:
                self._end_line(events)
            self._dispatch(events)
            self.last_event_id = last_event_id  # the event is not complete, and so not the one to continue after
        self._reset()
        if overflow:
            raise overflow
        return events

    def _feed_any(self, chunk: bytes) -> list[Event]:
        if self._overflow:
            raise self._overflow
        events: list[Event] = []
        *lines, rest = self._split(chunk)
        try:
            for line in lines:
                self._extend_line(line)
                self._end_line(events)
            self._extend_line(rest)
        except EventTooLargeError as error:
            self._overflow, self._at_boundary = error, False
            if not events:
                raise  # otherwise the events go first, and the next call raises
        # `try_single_event` ignores all of this state, so it must be as at the start of an event. That includes an id
        # whose blank line has not come: the next event would have it.
        self._at_boundary = not (self._line or self._data or self._name or self._skip_lf or self._overflow) and (
            self._start is None and self._block_retry is None and not self._unframed and self._id == self.last_event_id
        )
        return events

    def _split(self, chunk: bytes) -> list[bytes]:
        """The lines of `chunk`; the last one is incomplete, and may be empty."""
        if self._start is not None:
            chunk = self._after_bom(self._start + chunk)
        if self._skip_lf and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_lf = False
        if b"\r" in chunk:
            self._skip_lf = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk.split(b"\n")

    def _after_bom(self, start: bytes) -> bytes:
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._start = start  # the next bytes may complete the mark
            return b""
        self._start = None
        return start.removeprefix(_BOM)

    def _extend_line(self, piece: bytes) -> None:
        if not piece:
            return
        self._line += piece
        if len(self._line) + self._data_size > self._max_event_size:
            self._line.clear()
            self._clear_block()
            raise EventTooLargeError(f"an event is larger than {self._max_event_size} bytes")

    def _end_line(self, events: list[Event]) -> None:
        line = bytes(self._line)
        self._line.clear()
        if line:
            self._set_field(line)
        else:
            self._dispatch(events)

    def _set_field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")  # a comment is a line with an empty field name
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._data_size += len(value) + 1  # with its LF, so that empty lines count too
        elif field == b"event":
            self._name = _decode(value)
        elif field == b"id":
            if b"\0" not in value:
                self._id = _decode(value)
        elif field == b"retry" and value.isdigit():  # bytes.isdigit: ASCII digits only, at least one
            # Truncated to 19 digits, because int() of a very long string takes quadratic time, or raises.
            self._block_retry = self.retry = int(value.lstrip(b"0")[:19] or b"0")
        elif self._keep_unframed and field not in (b"", b"retry"):
            self._unframed = (self._unframed + line + b"\n")[:_MAX_UNFRAMED]

    def _dispatch(self, events: list[Event]) -> None:
        self.last_event_id = self._id  # even if the block has no data
        if self._unframed:
            events.append(Event(self._unframed, UNFRAMED, self._id))
        if self._data:
            events.append(Event(b"\n".join(self._data), self._name or "message", self._id, self._block_retry))
        self._clear_block()


def encode(data: str, *, event: str = "", id: str = "", retry: int | None = None) -> bytes:  # noqa: A002  its name
    """One event as a server sends it. Each line of `data`, whatever its line end, becomes a ``data`` field.

    Raises:
        ValueError: a line end in `event` or `id`, or a NUL in `id`, which SSE cannot represent; or a negative `retry`.
    """
    if any(character in event for character in "\r\n") or any(character in id for character in "\r\n\0"):
        raise ValueError("neither a line end in `event` or `id` nor a NUL in `id` can be sent as SSE")
    fields = [f"event: {event}\n"] * bool(event) + [f"id: {id}\n"] * bool(id)
    if retry is not None:
        if retry < 0:
            raise ValueError(f"retry must be a number of milliseconds, not {retry}")
        fields.append(f"retry: {retry}\n")
    lines = _LINE_END.split(data) if "\n" in data or "\r" in data else [data]
    return "".join([*fields, *(f"data: {line}\n" for line in lines), "\n"]).encode()


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "replace")
