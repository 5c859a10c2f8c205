"""Streams that outlive their connections, for clients that asked for it: numbered events in a bounded buffer.

The server cannot tell a lost connection from one that was closed on purpose. So a client that may reconnect says so
(``Prefer: resumable``, RFC 7240). Its stream has an id, its events are numbered, and when a connection ends before the
stream does, the stream waits for another one for a bounded time, the grace period. A client that reconnects sends the
id of the last event that it received (``Last-Event-ID``), and gets every event after that one exactly once.

How long a stream lives: events are appended only while a connection reads it, so a request without a reader stops in
`append` and keeps its permit (`admission`). After the grace period the stream is abandoned, `append` raises, and the
permit is free. A stream that has finished holds no permit; its buffer can be read for another grace period.

Does not depend on HTTP, or on what the events are and how they are made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from uuid import uuid4

from hfstream.core.sse import encode
from hfstream.errors import NotFoundError

from .errors import ClientDisconnectedError, StreamGoneError

MAX_BUFFERED_BYTES = 1_000_000
"""How many bytes of them, in the same two senses; one event may be larger."""
MAX_TOTAL_BYTES = 64_000_000
"""Bytes of all streams' buffers. Beyond them, finished streams that are not being read are dropped, oldest first."""
MAX_BUFFERED = 4_096
"""How many events that were sent already are buffered, and how many more may wait to be sent."""


class ResumableStream:
    """The buffered events of one stream. One task appends them, any number of connections read them."""

    def __init__(self, *, grace: float, keepalive_interval: float, discard: Callable[[ResumableStream], None]) -> None:
        """`grace`: seconds to wait for a reader; `keepalive_interval`: seconds without an event until readers get None.

        `discard` is called when the stream is abandoned: it removes the stream from those that can be found by id.
        """
        self.id: str = uuid4().hex
        self._grace = grace
        self._keepalive_interval = keepalive_interval
        self._discard = discard
        self._buffer: deque[bytes] = deque()
        self._first_number = 1  # of the first event in the buffer
        self._unsent_size = 0  # bytes in the buffer that no reader has sent
        self._sent_size = 0  # and those that some reader has sent
        self._last_sent = 0  # number of the last event that any reader has sent
        self._readers = 0
        self._finished = False
        self._abandoned = False
        self._changed = asyncio.Event()
        self._grace_timer: asyncio.TimerHandle | None = None
        self.on_abandoned: Callable[[], None] = _do_nothing
        """Called once, when the stream is abandoned: the request that produces its events stops."""

    async def append(self, data: str, name: str = "") -> None:
        """Adds an event once there is a reader, and room: fewer than MAX_BUFFERED events wait to be sent.

        Raises:
            ClientDisconnectedError: the stream is abandoned.
        """
        while not self._abandoned and (not self._readers or self._is_full()):
            await self._wait_for_change()
        if self._abandoned:
            raise ClientDisconnectedError
        event = encode(data, event=name, id=f"{self.id}:{self._last_number + 1}")
        self._buffer.append(event)
        self._unsent_size += len(event)
        self._notify()

    def finish(self) -> None:
        """No event follows. The stream can still be read again for the grace period."""
        self._finished = True
        self._notify()
        self._start_grace_timer()

    def abandon(self) -> None:
        """Ends the stream: no client will reconnect. Harmless if it is abandoned already."""
        if self._abandoned:
            return
        if self._grace_timer is not None:
            self._grace_timer.cancel()
        self._abandoned = True
        self._notify()
        self._discard(self)
        self.on_abandoned()

    @property
    def size(self) -> int:
        """Bytes in the buffer."""
        return self._sent_size + self._unsent_size

    @property
    def finished(self) -> bool:
        """Whether no event follows."""
        return self._finished

    def _is_full(self) -> bool:
        return self._last_number - self._last_sent >= MAX_BUFFERED or self._unsent_size >= MAX_BUFFERED_BYTES

    @property
    def has_reader(self) -> bool:
        """Whether a connection reads the stream at this time."""
        return self._readers > 0

    @contextlib.contextmanager
    def reader(self) -> Generator[None]:
        """Counts one reader for the time of the block. The grace period starts when the last one leaves."""
        self._readers += 1
        if self._grace_timer is not None:
            self._grace_timer.cancel()
        self._notify()
        try:
            yield
        finally:
            self._readers -= 1
            self._start_grace_timer()

    def ensure_buffered(self, last_event_number: int) -> None:
        """Checks that all events after `last_event_number` are buffered or still to come.

        Raises:
            StreamGoneError: they are not, or the number is that of an event that does not exist yet.
        """
        if not self._first_number - 1 <= last_event_number <= self._last_number:
            raise StreamGoneError(
                f"This stream keeps its events from number {self._first_number} to {self._last_number}"
            )

    async def events(self, last_event_number: int) -> AsyncGenerator[bytes | None]:
        """The events after `last_event_number`, encoded, and None after every `keepalive_interval` without one."""
        number = last_event_number
        while True:
            while number < self._last_number:
                if number < self._first_number - 1:
                    return  # another reader is so far ahead that this one's next event is not buffered any more
                event = self._buffer[number + 1 - self._first_number]
                number += 1
                yield event
                # Only now: a reader that asks for the next event has sent this one.
                self._mark_sent(number)
            if self._finished or self._abandoned:
                return
            try:
                async with asyncio.timeout(self._keepalive_interval):
                    await self._wait_for_change()
            except TimeoutError:
                yield None

    @property
    def _last_number(self) -> int:
        return self._first_number + len(self._buffer) - 1

    def _mark_sent(self, number: int) -> None:
        """Event `number` was sent: makes room for `append`, and drops events that are MAX_BUFFERED behind it.

        Sent does not mean received: a client asks again for the events that were in flight when its connection broke.
        So the latest MAX_BUFFERED sent events stay in the buffer.
        """
        if number > self._last_sent:
            for sent in range(self._last_sent + 1, number + 1):
                size = len(self._buffer[sent - self._first_number])
                self._unsent_size -= size
                self._sent_size += size
            self._last_sent = number
            while self._first_number < number and (
                self._first_number < number - MAX_BUFFERED or self._sent_size > MAX_BUFFERED_BYTES
            ):
                self._sent_size -= len(self._buffer.popleft())
                self._first_number += 1
            self._notify()

    def _start_grace_timer(self) -> None:
        if not self._readers and not self._abandoned:
            if self._grace_timer is not None:
                self._grace_timer.cancel()
            self._grace_timer = asyncio.get_running_loop().call_later(self._grace, self.abandon)

    async def _wait_for_change(self) -> None:
        # Each change has its own Event, set once. A single Event would have to be cleared by one of the tasks that it
        # wakes, and the others might miss the next change.
        changed = self._changed
        await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _do_nothing() -> None:
    """The default of `on_abandoned`."""


class ResumableStreams:
    """The streams that clients may reconnect to, by their ids."""

    def __init__(self, *, grace: float, keepalive_interval: float) -> None:
        self._grace = grace
        self._keepalive_interval = keepalive_interval
        self._streams: dict[str, ResumableStream] = {}
        self._routes: dict[str, str] = {}

    def create(self, route: str) -> ResumableStream:
        """A new stream. `route`: the path that it is in the format of."""
        self._make_room()
        stream = ResumableStream(grace=self._grace, keepalive_interval=self._keepalive_interval, discard=self._discard)
        self._streams[stream.id] = stream
        self._routes[stream.id] = route
        return stream

    def find(self, event_id: str, route: str) -> tuple[ResumableStream, int]:
        """The stream that an event belongs to, and the event's number.

        Raises:
            NotFoundError: there is no such stream at this route, or it was abandoned.
        """
        stream_id, _, number = event_id.partition(":")
        if self._routes.get(stream_id) != route or not (number.isascii() and number.isdecimal()):
            raise NotFoundError("This route has no such stream, or not any more", error_type="not_found")
        # 19 digits are more than any stream has events, and cheap to convert however many the client sends.
        return self._streams[stream_id], int(number[:19])

    def abandon_all(self, *, unread_only: bool = False) -> None:
        """The server stops: abandons all streams, or those without a reader."""
        for stream in list(self._streams.values()):
            if not (unread_only and stream.has_reader):
                stream.abandon()

    def _make_room(self) -> None:
        total = sum(stream.size for stream in self._streams.values())
        for stream in list(self._streams.values()):
            if total <= MAX_TOTAL_BYTES:
                return
            if stream.finished and not stream.has_reader:
                total -= stream.size
                stream.abandon()

    def _discard(self, stream: ResumableStream) -> None:
        self._streams.pop(stream.id, None)
        self._routes.pop(stream.id, None)
