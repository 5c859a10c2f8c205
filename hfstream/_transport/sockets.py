"""Our own httpx transports: httpcore's pool over sockets whose read limit can change while a response is read.

httpcore takes the read timeout once for each response, but the wait for the first token and the waits between tokens
have limits of their own, and both fall into the body (TGI sends its headers before it has read the prompt). So a socket
of ours asks the `Deadline` of the call that is using it. It refuses to know why a deadline stands where it does.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any, cast
from weakref import WeakSet

import httpcore
import httpx

from ..core.timeouts import Deadline

__all__ = [
    "DEADLINE",
    "AsyncStream",
    "AsyncTransport",
    "SyncStream",
    "SyncTransport",
    "shutdown",
    "socket_handle",
    "ssl_context",
]

DEADLINE = "hfstream.deadline"
"""Key of the request extension that carries the call's `Deadline` to the sockets."""

_current: ContextVar[Deadline | None] = ContextVar(DEADLINE, default=None)

_POOL: dict[str, Any] = {"max_connections": None, "max_keepalive_connections": 20, "keepalive_expiry": 30.0}
"""As many connections as there are streams: a bound would make one forgotten stream block another."""


@functools.cache
def ssl_context() -> ssl.SSLContext:
    """One context for all clients: reading the certificates takes 20 ms, and nothing in it is a client's own."""
    return httpx.create_ssl_context()


def shutdown(sock: Any) -> None:
    """Wakes whoever reads the socket, in any thread; closing it would not (a blocked recv() stays blocked)."""
    with contextlib.suppress(OSError):
        if isinstance(sock, socket.socket):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's, which takes the session from the reader
        else:
            sock.shutdown(socket.SHUT_RDWR)


class _SocketHandle:
    """A socket that can be told by its number only: uvloop shows no more of its own.

    The number may long be another connection's. So what is shut down is a copy, which is first looked at.
    """

    def __init__(self, sock: Any) -> None:
        self._number: int = sock.fileno()
        self._inode = os.fstat(self._number).st_ino

    def shutdown(self, how: int) -> None:
        copy = os.dup(self._number)
        if os.fstat(copy).st_ino != self._inode:
            os.close(copy)
            return
        with socket.socket(fileno=copy) as found:
            found.shutdown(how)


def socket_handle(sock: Any) -> Any:
    """`sock`, or what stands for it where it cannot be shut down itself."""
    return _SocketHandle(sock) if type(sock).__module__.partition(".")[0] == "uvloop" else sock


def _effective_timeout(deadline: Deadline | None, timeout: float | None) -> float | None:
    return timeout if deadline is None else deadline.remaining()


class SyncStream(httpcore.NetworkStream):
    """A socket that asks the deadline of the call that uses it."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._deadline: Deadline | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _effective_timeout(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._deadline = _current.get()  # a new request on this connection, and a new call's deadline with it
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        self._stream = self._stream.start_tls(ssl_context, server_hostname, timeout)
        return self

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _OpenSockets:
    """All sockets of one transport, to be woken together. Whoever connects after that is turned away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: WeakSet[Any] = WeakSet()
        self._pid = os.getpid()
        self._aborted = False

    def add(self, stream: Any) -> None:
        with self._lock:
            self._streams.add(stream)
            if self._aborted:
                shutdown(stream.get_extra_info("socket"))

    def all(self) -> list[Any]:
        with self._lock:
            return list(self._streams)

    def abort(self) -> None:
        """Wakes every reader of every connection, those too that are just being made."""
        with self._lock:
            self._aborted = True
        if self._pid == os.getpid():  # in a forked child they are the parent's connections
            for stream in self.all():
                shutdown(stream.get_extra_info("socket"))


class _SyncBackend(httpcore.SyncBackend):
    def __init__(self) -> None:
        self.sockets = _OpenSockets()

    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        stream = SyncStream(super().connect_tcp(*args, **kwargs))
        self.sockets.add(stream)
        return stream


class _SyncBody(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def close(self) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)  # not a generator around it: this is passed for each token


class SyncTransport(httpx.BaseTransport):
    """httpx's own transport, but for the sockets. Lets httpcore's exceptions through: `map_exception` knows them."""

    def __init__(self) -> None:
        self._backend = _SyncBackend()
        self._pool = httpcore.ConnectionPool(ssl_context=ssl_context(), network_backend=self._backend, **_POOL)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        token = _current.set(request.extensions.get(DEADLINE))
        try:
            response = self._pool.handle_request(_core_request(request))
        finally:
            _current.reset(token)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_SyncBody(response.stream),
            extensions=_extensions(response),
        )

    def abort(self) -> None:
        """Wakes every reader of every connection, for good."""
        self._backend.sockets.abort()

    def close(self) -> None:
        self._pool.close()


class AsyncStream(httpcore.AsyncNetworkStream):
    """A socket that asks the deadline of the call that uses it."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._socket = socket_handle(stream.get_extra_info("socket"))  # the same also under TLS
        self._deadline: Deadline | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  httpcore's
        return await self._stream.read(max_bytes, _effective_timeout(self._deadline, timeout))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._deadline = _current.get()
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        self._stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return self

    def get_extra_info(self, info: str) -> Any:
        return self._socket if info == "socket" else self._stream.get_extra_info(info)


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._backend: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()  # type: ignore[assignment,unused-ignore]
        self.sockets = _OpenSockets()

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        stream = AsyncStream(await self._backend.connect_tcp(*args, **kwargs))
        self.sockets.add(stream)
        return stream


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)


class AsyncTransport(httpx.AsyncBaseTransport):
    """As `SyncTransport`, for one event loop."""

    def __init__(self) -> None:
        self._backend = _AsyncBackend()
        self._pool = httpcore.AsyncConnectionPool(ssl_context=ssl_context(), network_backend=self._backend, **_POOL)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        token = _current.set(request.extensions.get(DEADLINE))
        try:
            response = await self._pool.handle_async_request(_core_request(request))
        finally:
            _current.reset(token)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_AsyncBody(response.stream),
            extensions=_extensions(response),
        )

    def abort(self) -> None:
        """Wakes every reader of every connection, for good."""
        self._backend.sockets.abort()

    async def close_sockets(self) -> None:
        """Closes every socket, those too that the pool has let go of."""
        for stream in self._backend.sockets.all():
            await stream.aclose()

    async def aclose(self) -> None:
        await self._pool.aclose()


def _extensions(response: httpcore.Response) -> dict[str, Any]:
    return dict(cast("Any", response).extensions)  # half typed by httpcore


def _core_request(request: httpx.Request) -> httpcore.Request:
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        ),
        headers=request.headers.raw,
        content=request.stream,  # bytes, which are both kinds of iterable
        extensions=request.extensions,
    )
