"""Server-Sent Events, from bytes to events and back, exactly as the WHATWG text has it.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

`SSEParser` is incremental: linear in time however the wire is cut, bounded in memory. It hands out an event's data as
bytes, because whoever reads JSON wants bytes, and decodes nothing that nobody asked for. It refuses to know what events
mean, where bytes come from, and when to reconnect.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["MAX_EVENT_SIZE", "Event", "EventTooLargeError", "SSEParser", "encode"]

MAX_EVENT_SIZE = 16 * 1024 * 1024
"""Bytes that one event may hold by default. A token takes some hundred."""

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(r"\r\n|\r|\n")


class EventTooLargeError(Exception):
    """One event, or one line, outgrew the bound. The parser takes nothing more."""


class Event(NamedTuple):
    """One dispatched event."""

    data: bytes
    """The ``data`` lines joined by LF, as they came."""
    name: str = "message"
    """The ``event`` field, ``"message"`` where there is none."""
    id: str = ""
    """The last id that the stream has named, ``""`` before any."""
    retry: int | None = None
    """Reconnection time in milliseconds, if the event's own block has one."""

    @property
    def text(self) -> str:
        """The data as text: SSE is UTF-8 whatever a header says, and what is not becomes U+FFFD."""
        return _decode(self.data)


class SSEParser:
    """Bytes in, events out.

    `feed` takes any piece of the body and returns the events that it completed. `finish` says that the body is at its
    end: what no blank line has closed is discarded, as the specification demands. The parser is then ready for the next
    connection of the same stream, with `last_event_id` and `retry` kept.

    An error never overtakes the events before it: if the piece that outgrew the bound also completed events, they are
    returned, and the next call raises.
    """

    def __init__(self, max_event_size: int = MAX_EVENT_SIZE) -> None:
        self.last_event_id: str = ""
        self.retry: int | None = None
        self._max_event_size = max_event_size
        self._reset()

    def _reset(self) -> None:
        self._start: bytes | None = b""  # the body's first bytes while they may be a byte order mark, then None
        self._skip_lf = False  # the last byte was a CR; a LF that follows belongs to it
        self._line = bytearray()  # the line that is still open: it grows in place, pieces of two bytes cost two bytes
        self._id = self.last_event_id
        self._at_boundary = False  # nothing is half-read, and the first bytes are behind us
        self._overflow: EventTooLargeError | None = None
        self._clear_block()

    def _clear_block(self) -> None:
        self._data: list[bytes] = []
        self._data_size = 0
        self._name = ""
        self._block_retry: int | None = None

    def try_single_event(self, chunk: bytes) -> bytes | None:
        """The data, if `chunk` is exactly one event of nothing but one `data` line; else None: `feed` must take it.

        That is what servers write and HTTP delivers: one event, one chunk. It saves who wants only data the objects.
        """
        if self._at_boundary and chunk[:5] == b"data:" and chunk[-1] == 0x0A and len(chunk) <= self._max_event_size:
            lines = chunk.splitlines()  # bytes are split where the specification ends a line, and nowhere else
            if len(lines) == 2 and not lines[1]:
                return lines[0][6 if chunk[5] == 0x20 else 5 :]
        return None

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completed, in order.

        Raises:
            EventTooLargeError: an event, or a line, is larger than `max_event_size` bytes.
        """
        data = self.try_single_event(chunk)
        return self._feed_any(chunk) if data is None else [Event(data, id=self.last_event_id)]

    def finish(self) -> list[Event]:
        """Ends the body. Returns no event, ever: an event that no blank line has closed does not count."""
        overflow = self._overflow
        self._reset()
        if overflow:
            raise overflow
        return []

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
                raise
        self._at_boundary = not (self._line or self._data or self._name or self._skip_lf or self._overflow) and (
            self._start is None and self._block_retry is None and self._id == self.last_event_id
        )
        return events

    def _split(self, chunk: bytes) -> list[bytes]:
        """Lines of `chunk`; the last one is still open."""
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
            self._start = start  # could still become one
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
        field, _, value = line.partition(b":")  # a comment is a line whose field name is empty
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._data_size += len(value) + 1  # with its LF, so that a million empty lines count too
        elif field == b"event":
            self._name = _decode(value)
        elif field == b"id":
            if b"\0" not in value:
                self._id = _decode(value)
        elif field == b"retry" and value.isdigit():  # bytes.isdigit: ASCII digits only, at least one
            self._block_retry = self.retry = int(value.lstrip(b"0")[:19] or b"0")  # 19 digits outlast the sun

    def _dispatch(self, events: list[Event]) -> None:
        self.last_event_id = self._id  # a blank line commits the id, data or not
        if self._data:
            events.append(Event(b"\n".join(self._data), self._name or "message", self._id, self._block_retry))
        self._clear_block()


def encode(data: str, *, event: str = "", id: str = "", retry: int | None = None) -> bytes:  # noqa: A002  its name
    """One event as a server sends it. `data` may hold line ends of any kind: each becomes a line of its own.

    Raises:
        ValueError: a line end in `event` or `id`, or a NUL in `id`, would change what the client reads.
    """
    if any(character in event for character in "\r\n") or any(character in id for character in "\r\n\0"):
        raise ValueError("neither a line end in `event` or `id` nor a NUL in `id` can be sent as SSE")
    fields = [f"event: {event}\n"] * bool(event) + [f"id: {id}\n"] * bool(id)
    if retry is not None:
        if retry < 0:
            raise ValueError(f"a reconnection time is milliseconds, not {retry}")
        fields.append(f"retry: {retry}\n")
    lines = _LINE_END.split(data) if "\n" in data or "\r" in data else [data]
    return "".join([*fields, *(f"data: {line}\n" for line in lines), "\n"]).encode()


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "replace")
