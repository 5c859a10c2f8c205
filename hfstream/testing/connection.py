"""One connection of a scripted server: bounded reads, pauses that notice a client that leaves, and how it ends.

Does not depend on HTTP.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time

__all__ = ["ClosedByClientError", "Connection", "LineTooLongError"]

_READ_SIZE = 65_536
_MAX_AHEAD = 1_048_576
"""Bytes of further requests that are kept while a response is being sent."""
_LINGER_SECONDS = 2.0
_LONGEST_WAIT = 86_400.0
"""Seconds of one wait of the system, which takes no more than 24 days; a longer one is several."""


class LineTooLongError(Exception):
    """A line is longer than allowed."""


class ClosedByClientError(ConnectionError):
    """The client closed the connection, or the sending half of it, in the middle of what was being read."""


class Connection:
    """A socket with the bytes that were received and not read yet."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each step is a packet of its own, sent at once
        self._sock = sock
        self._received = bytearray()
        self._ended = False
        # select() takes no descriptor above 1023; Windows has no poll(), and there select() has no such limit.
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(sock, select.POLLIN)

    def peek(self) -> int | None:
        """The next byte; None at the end."""
        return self._received[0] if self._received or self._receive() else None

    def read_line(self, limit: int) -> bytes:
        """The next line, without its LF or CRLF.

        Raises:
            LineTooLongError: There is no line end within `limit` bytes.
            ClosedByClientError: The connection ended before the line did.
        """
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > limit:
                raise LineTooLongError
            if not self._receive():
                raise ClosedByClientError
        if end > limit:
            raise LineTooLongError
        return self.read(end + 1).removesuffix(b"\n").removesuffix(b"\r")

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes.

        Raises:
            ClosedByClientError: The connection ended before.
        """
        while len(self._received) < size:
            if not self._receive():
                raise ClosedByClientError
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def send(self, data: bytes) -> None:
        """Sends all of `data`; waits while the client does not read.

        Raises:
            OSError: The connection was closed.
        """
        self._sock.sendall(data)

    def wait_closed(self, seconds: float | None) -> bool:
        """Waits for `seconds` (None: without limit), and returns whether the client closed the connection meanwhile.

        Further requests that arrive meanwhile do not end the wait. A client that sends more than a megabyte of them
        counts as gone, because its connection cannot be watched without reading them.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._ended:
            rest = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._wait_readable(rest if rest is None else min(rest, _LONGEST_WAIT)):
                if rest is not None and rest > _LONGEST_WAIT:
                    continue
                return False
            self._receive()
            if len(self._received) > _MAX_AHEAD:
                return True
        return True

    def reset(self) -> None:
        """Closes the connection with a TCP reset (RST instead of FIN)."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def finish(self) -> None:
        """Closes the connection so that the client can still read what was sent.

        A socket that is closed with unread bytes sends a reset, which discards the response at the client.
        """
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + _LINGER_SECONDS
            while not self._ended and (rest := deadline - time.monotonic()) > 0:
                if not self._wait_readable(rest):
                    break
                self._received.clear()
                self._receive()
        self._sock.close()

    def _receive(self) -> bool:
        """Reads what is there, or waits for it; returns whether anything came before the end."""
        data = b"" if self._ended else self._sock.recv(_READ_SIZE)
        self._ended = not data
        self._received += data
        return bool(data)

    def _wait_readable(self, seconds: float | None) -> bool:
        """Waits until there is something to read; returns False if `seconds` (None: no limit) pass first."""
        if self._poll is None:
            return bool(select.select([self._sock], [], [], seconds)[0])
        return bool(self._poll.poll(None if seconds is None else seconds * 1000))
