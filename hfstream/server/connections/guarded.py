"""HTTP connections with limits, which uvicorn's own do not have.

The limits are on the time and size of a request's head, on the time of its body, on readers that do not read, and on
the number of connections.

A connection that breaks a limit is closed, and what it held (a permit, a row in the batch) is released. There is one
check of all connections now and then, and no timer for each. Does not depend on routes or on the backend.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import os
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, cast

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    _Base = H11Protocol
else:
    _Base = object

logger: logging.Logger = logging.getLogger(__name__)

MAX_HEAD_SIZE = 65_536
"""Bytes that a request's head may have."""
_BLANK_LINE = re.compile(rb"\n\r?\n")
IDLE_SECONDS = 75
"""Seconds that an idle connection stays open for the next request. More than clients keep theirs, or a request could
arrive while the server closes the connection: uvicorn's 5 are httpx's too. TGI never closes one."""
MIN_READ_SIZE = 1_024
"""Bytes that a client must read within the time limit while more are waiting for it."""
MAX_CONNECTIONS = 10_000
RESERVED_FILES = 16
"""Files that connections leave for everything else."""


class GuardedConnection(_Base):
    """A connection of uvicorn's, and its limits. A mixin, as uvicorn has one protocol for each HTTP parser."""

    client_timeout: ClassVar[float] = 30.0
    """Seconds that a client may take for its request, or to read MIN_READ_SIZE bytes of what waits for it."""
    max_connections: ClassVar[int] = MAX_CONNECTIONS

    _reading_since: float | None = None  # when the present request began; None between requests
    _head_size: int = 0
    _head_end: bytes = b""  # its last bytes so far, which may begin the blank line
    _last_used: float = 0.0
    _unread_since: float | None = None  # start of the present time window in which something waits to be sent
    _sent_before: int = 0  # bytes sent before that

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._last_used = self.loop.time()
        super().connection_made(cast("asyncio.Transport", _CountingTransport(transport)))
        if len(self.connections) > self.max_connections:
            make_room(cast("Iterable[GuardedConnection]", self.connections), self)

    def data_received(self, data: bytes) -> None:
        reading, cycle = not self.busy, self._cycle
        self._last_used = self.loop.time()
        if reading and self._reading_since is None:
            self._reading_since = self._last_used
        in_head = reading and (cycle is None or not cycle.more_body)
        # Before the parser gets it: a head that comes all at once would be answered.
        if in_head and self._head_size + self._head_part(data) > MAX_HEAD_SIZE and not self.transport.is_closing():
            self.refuse(431, "Request header fields too large")
            return
        super().data_received(data)
        if self._cycle is not cycle:
            self._head_size, self._head_end = 0, b""
        elif in_head:
            self._head_size += len(data)
            self._head_end = (self._head_end + data)[-3:]
        if self._cycle is not None and not self._cycle.more_body and (self.busy or self._cycle is not cycle):
            self._reading_since = None

    def _head_part(self, data: bytes) -> int:
        """How many of the bytes belong to the head, of which some may have come before."""
        end = _BLANK_LINE.search(self._head_end + data)
        return len(data) if end is None else end.end() - len(self._head_end)

    @property
    def _cycle(self) -> Any:
        """The present or the last request; None before the first, which uvicorn's annotations leave out."""
        return self.cycle

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._cycle is not None and not self._cycle.response_complete

    @property
    def last_used(self) -> float:
        """When the client last sent something, in the event loop's time."""
        return self._last_used

    def check(self, now: float) -> None:
        """Closes the connection if it has broken a limit; `now` is the event loop's time."""
        since = self._reading_since
        if since is not None and now - since > self.client_timeout:
            self.drop("its request did not end in time")
        elif self._is_stalled(now):
            self.drop("it does not read the response")
        elif self._cycle is None and since is None and now - self._last_used > IDLE_SECONDS:
            self.transport.close()

    def drop(self, reason: str) -> None:
        """Closes the connection at once, without what is not sent yet."""
        logger.info("closed the connection of %s: %s", self.client, reason)
        self.transport.abort()

    def refuse(self, status: int, message: str) -> None:
        """Answers what is not a request, and closes the connection. If a response has begun, only closes it."""
        started = self.busy and self._cycle.response_started
        if self._cycle is not None:
            self._cycle.disconnected = True
            self._cycle.message_event.set()
        if not started:
            self.transport.write(
                f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(message)}\r\nconnection: close\r\n\r\n{message}".encode()
            )
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Called where uvicorn could not read the request; its own method fails if a response has begun."""
        self.refuse(400, msg)

    def shutdown(self) -> None:
        """The server stops. uvicorn's own method fails for a connection whose request could not be read."""
        if not self.transport.is_closing():
            super().shutdown()

    def _unsupported_upgrade_warning(self) -> None:
        """A request to change the protocol (h2c, websocket) may be ignored, and is: RFC 9110, section 7.8."""

    def _is_stalled(self, now: float) -> bool:
        waiting = self.transport.get_write_buffer_size()
        sent = cast("_CountingTransport", self.transport).written - waiting
        if not waiting:
            self._unread_since = None
        elif self._unread_since is None or sent - self._sent_before >= MIN_READ_SIZE:
            self._unread_since, self._sent_before = now, sent
        return self._unread_since is not None and now - self._unread_since > self.client_timeout


class _CountingTransport:
    """A transport that counts the bytes written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def make_room(connections: Iterable[GuardedConnection], newest: GuardedConnection | None = None) -> None:
    """Closes the connection without a request that was silent for longest, or else the newest one."""
    others = [other for other in connections if other is not newest and not other.transport.is_closing()]
    if newest is not None and len(others) < newest.max_connections:
        return
    idle = [other for other in others if not other.busy]
    if idle:
        min(idle, key=lambda connection: connection.last_used).transport.abort()
    elif newest is not None:
        newest.refuse(503, "Too many connections")


def available_connections() -> int:
    """How many connections the limit on open files leaves room for."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource  # noqa: PLC0415 - not on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    used = 32
    with contextlib.suppress(OSError):
        used = len(os.listdir("/dev/fd"))  # noqa: PTH208 - only their number
    return min(MAX_CONNECTIONS, max(4, limit - used - RESERVED_FILES))
