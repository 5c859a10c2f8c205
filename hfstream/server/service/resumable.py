"""Streams that outlive their connections: numbered events, kept for a while, for clients that asked for it.

A lost connection and one that was closed on purpose look the same. So a client says that it may come back
(``Prefer: resumable``, RFC 7240); its stream then has an id, its events are numbered, and when a connection ends before
the stream does, the answer waits for another one for a bounded grace. Who comes back says what it has heard last
(``Last-Event-ID``), and hears every event after that once. Refuses to know what is said, and how it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from uuid import uuid4

from hfstream.core.sse import encode
from hfstream.errors import InferenceError, NotFoundError

from .metrics import ClientDisconnectedError

MAX_BUFFERED = 4_096
"""Events that are kept behind what the client was sent last, and events that wait for it to read on."""


class GoneError(InferenceError):
    """The stream is there, but what the client wants to hear again is not kept any more."""

    status_code: int | None = 410
    error_type: str | None = "gone"


class ResumableStream:
    """One stream: what was said lately, and whoever reads it."""

    def __init__(self, *, grace: float, keepalive_interval: float, discard: Callable[[ResumableStream], None]) -> None:
        """`grace`: seconds to wait for a reader. `keepalive_interval`: a reader gets None after so many silent seconds."""
        self.id: str = uuid4().hex
        self._grace = grace
        self._keepalive_interval = keepalive_interval
        self._discard = discard
        self._events: deque[bytes] = deque()
        self._first = 1  # number of the first event that is kept
        self._sent = 0  # number of the last event that a reader took
        self._readers = 0
        self._ended = False
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._abandoned = False
        self.on_abandoned: Callable[[], None] = _do_nothing
        """Called once, when nobody wants to hear it any more."""

    async def append(self, data: str) -> None:
        """One more event, when there is room: a stream without a reader waits, and so does one far ahead of it.

        Raises:
            DroppedError: nobody wants to hear it any more.
        """
        while not self._abandoned and (not self._readers or self._last - self._sent >= MAX_BUFFERED):
            await self._change()
        if self._abandoned:
            raise ClientDisconnectedError
        self._events.append(encode(data, id=f"{self.id}:{self._last + 1}"))
        self._wake()

    def end(self) -> None:
        """That was the last event. It can still be heard again, for as long as the grace lasts."""
        self._ended = True
        self._wake()
        self._wait_for_readers()

    def abandon(self) -> None:
        """Nobody will come back."""
        if self._abandoned:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._abandoned = True
        self._wake()
        self._discard(self)
        self.on_abandoned()

    @property
    def has_reader(self) -> bool:
        """Whether somebody reads it just now."""
        return self._readers > 0

    @contextlib.contextmanager
    def reader(self) -> Generator[None]:
        """As long as this lasts, somebody reads."""
        self._readers += 1
        if self._timer is not None:
            self._timer.cancel()
        self._wake()
        try:
            yield
        finally:
            self._readers -= 1
            self._wait_for_readers()

    def ensure_buffered(self, last_event_number: int) -> None:
        """Raises GoneError unless everything after event number `last_event_number` is kept, or yet to come."""
        if not self._first - 1 <= last_event_number <= self._last:
            raise GoneError(f"This stream keeps its events from number {self._first} on, and has said {self._last}")

    async def events(self, last_event_number: int) -> AsyncGenerator[bytes | None]:
        """The events after number `last_event_number`, as bytes, and None after every so many seconds of silence."""
        sent = last_event_number
        while True:
            while sent < self._last:
                if sent < self._first - 1:
                    return  # another reader was so far ahead that the next event is not kept any more
                event = self._events[sent + 1 - self._first]
                sent += 1
                yield event
                self._acknowledge(sent)
            if self._ended or self._abandoned:
                return
            try:
                async with asyncio.timeout(self._keepalive_interval):
                    await self._change()
            except TimeoutError:
                yield None

    @property
    def _last(self) -> int:
        return self._first + len(self._events) - 1

    def _acknowledge(self, number: int) -> None:
        if number > self._sent:
            self._sent = number
            while self._first < number - MAX_BUFFERED:
                self._events.popleft()
                self._first += 1
            self._wake()

    def _wait_for_readers(self) -> None:
        if not self._readers and not self._abandoned:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(self._grace, self.abandon)

    async def _change(self) -> None:
        changed = self._changed
        await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _do_nothing() -> None:
    """What is called while there is nothing to call."""


class ResumableStreams:
    """The streams that somebody may come back to."""

    def __init__(self, *, grace: float, keepalive_interval: float) -> None:
        self._grace = grace
        self._keepalive_interval = keepalive_interval
        self._streams: dict[str, ResumableStream] = {}

    def new(self) -> ResumableStream:
        """A stream that begins."""
        stream = ResumableStream(grace=self._grace, keepalive_interval=self._keepalive_interval, discard=self._discard)
        self._streams[stream.id] = stream
        return stream

    def find(self, event_id: str) -> tuple[ResumableStream, int]:
        """The stream that an event is of, and the event's number.

        Raises:
            NotFoundError: there is no such stream; perhaps not any more.
        """
        stream, _, number = event_id.partition(":")
        if stream not in self._streams or not (number.isascii() and number.isdecimal()):
            raise NotFoundError("There is no such stream, or not any more")
        return self._streams[stream], int(number[:19])

    def abandon(self, *, unread_only: bool = False) -> None:
        """The server ends: nobody can come back."""
        for stream in list(self._streams.values()):
            if not (unread_only and stream.has_reader):
                stream.abandon()

    def _discard(self, stream: ResumableStream) -> None:
        self._streams.pop(stream.id, None)
