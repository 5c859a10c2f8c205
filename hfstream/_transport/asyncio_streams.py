"""Sockets for asyncio: httpcore's network backend on asyncio's own protocols. trio's sockets are anyio's, by httpcore.

A token wakes its reader by one future, without a cancel scope or a timer of its own, which cost more than the rest of a
token together. Does not depend on what is sent, or on when a read's time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import threading
from collections.abc import Generator, Iterable
from typing import Any, cast

import httpcore

from .asyncio_connecting import connect
from .asyncio_tls import AsyncioNetworkStream

__all__ = ["AsyncioBackend"]

READ_SIZE = 64 * 1024
"""Bytes that one read takes from the system, at most."""

MAX_UNREAD = 256 * 1024
"""Bytes that are received before they are read; then the peer waits."""


class _ReadBuffer(threading.local):
    """Where a thread's event loop reads into. What has come is copied at once, so all connections use the same one.

    For a `Protocol` asyncio would allocate 256 KiB for each read, and give them back: more work than all else that a
    token needs.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_SIZE))


_read_buffer = _ReadBuffer()


class _Connection(asyncio.BufferedProtocol):
    """What one socket has received, and the task that waits for more."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.received: list[bytes] = []
        self.ended = False
        """Nothing more will be received."""
        self.error: Exception | None = None
        self.loop = asyncio.get_running_loop()
        self._unread = 0
        self._paused = False
        self._reader: asyncio.Future[bool] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._write_paused = False
        self._closed: asyncio.Future[None] = self.loop.create_future()
        # The timer is not the reader's own: it is set again when it goes off, if the reader's time is not over by then.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._expires_at = math.inf

    # --- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(0)  # `write` returns when the system has taken all of it

    def get_buffer(self, sizehint: int) -> memoryview:
        return _read_buffer.view

    def buffer_updated(self, nbytes: int) -> None:
        self.received.append(bytes(_read_buffer.view[:nbytes]))
        self._unread += nbytes
        if self._unread > MAX_UNREAD and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        self.ended = True
        self._wake_reader()
        return True  # the peer may have sent its response before it has read the request

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.error = exc
        self._wake_reader()
        self.resume_writing()
        if not self._closed.done():
            self._closed.set_result(None)
        self._cancel_timer()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    # --- called by the stream ----------------------------------------------------------------------------------------

    def wait_readable(self, timeout: float | None) -> asyncio.Future[bool]:
        """Until more is received, or the end: True. False if that takes longer than `timeout` seconds.

        Raises:
            RuntimeError: called in another event loop.
        """
        if not self.in_its_loop():
            raise RuntimeError(
                "a stream belongs to the event loop in which its call was made: read it there, or make the call in "
                "this loop"
            )
        self._reader = self.loop.create_future()
        self._expires_at = math.inf if timeout is None else self.loop.time() + timeout
        if self._expires_at < self._timer_at:
            self._start_timer()
        return self._reader

    async def wait_written(self) -> None:
        """Waits until the system has taken all that was written, or the connection is lost."""
        if self._write_paused:
            self._writer = self.loop.create_future()
            await self._writer

    def abort(self) -> None:
        self.ended = True
        self._wake_reader()
        self.transport.abort()

    async def wait_closed(self) -> None:
        await self._closed

    def take(self, max_bytes: int) -> bytes:
        """Up to `max_bytes` of what has been received; nothing at the end."""
        received = self.received
        if not received:
            return b""
        data = received.pop() if len(received) == 1 else b"".join(received)
        received.clear()
        if len(data) > max_bytes:
            received.append(data[max_bytes:])
            data = data[:max_bytes]
        self._unread -= len(data)
        if self._paused and not self._unread:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
        return data

    @property
    def is_readable(self) -> bool:
        return bool(self.received) or self.ended or self.transport.is_closing()

    def in_its_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:  # trio's
            return False

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(True)

    def _start_timer(self) -> None:
        self._cancel_timer()
        self._timer_at = self._expires_at
        self._timer = self.loop.call_at(self._timer_at, self._on_timer)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self._reader is None or self._reader.done() or self._expires_at == math.inf:
            return
        if self.loop.time() < self._expires_at:
            self._start_timer()
        else:
            self._reader.set_result(False)


class _AsyncioStream(AsyncioNetworkStream):
    """One connection, as httpcore reads and writes it."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        connection = self._connection
        if not (connection.received or connection.ended) and not await connection.wait_readable(timeout):
            raise httpcore.ReadTimeout
        data = connection.take(max_bytes)
        if not data and connection.error is not None:
            raise httpcore.ReadError(str(connection.error)) from connection.error
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        connection = self._connection
        if not buffer:
            return
        if not connection.transport.is_closing():
            connection.transport.write(buffer)
            with _mapped(httpcore.WriteTimeout, httpcore.WriteError):
                async with asyncio.timeout(timeout):
                    await connection.wait_written()
        if connection.transport.is_closing():
            error = connection.error or BrokenPipeError("the connection is closed")
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        if not self._connection.in_its_loop():
            self.abort()
            return
        self._connection.transport.abort()  # close() would wait until all is sent that was written
        await self._connection.wait_closed()

    def abort(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._connection.loop.call_soon_threadsafe(self._connection.abort)

    def get_extra_info(self, info: str) -> Any:
        transport = self._connection.transport
        if info == "is_readable":
            return self._connection.is_readable or _is_readable(transport.get_extra_info("socket"))
        return transport.get_extra_info({"client_addr": "sockname", "server_addr": "peername"}.get(info, info))


class AsyncioBackend(httpcore.AsyncNetworkBackend):
    """Connects, on any event loop of asyncio's interface."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        with _mapped(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                connection = await connect(_Connection, host, port, local_address)
        return _configured(connection, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _configured(connection: _Connection, options: Iterable[Any] | None) -> _AsyncioStream:
    for option in options or ():
        connection.transport.get_extra_info("socket").setsockopt(*option)
    return _AsyncioStream(connection)


@contextlib.contextmanager
def _mapped(timeout_error: type[Exception], network_error: type[Exception]) -> Generator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timeout_error from error
    except OSError as error:
        raise network_error(str(error)) from error


def _is_readable(sock: Any) -> bool:
    """Whether the system has something for the socket that the event loop has not fetched yet."""
    if (number := sock.fileno()) < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([number], [], [], 0)[0])
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))
