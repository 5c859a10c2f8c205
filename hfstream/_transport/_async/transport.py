"""The asynchronous httpx transport: httpcore's pool over sockets whose read limit follows a `Deadline`.

Raises httpcore's exceptions, which `exceptions.map_exception` maps.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpcore
import httpx

from ..backends import async_backend
from ..chunked import HeadSplitter, LengthSplitter, body_length
from ..proxies import Proxy
from ..socket_info import AsyncSocketInfo
from ..sockets import DEADLINE, POOL_OPTIONS, OpenSockets, ReadLimit, current_deadline, require_socksio

__all__ = ["AsyncStream", "AsyncTransport", "make_pool"]


class AsyncStream(AsyncSocketInfo, httpcore.AsyncNetworkStream):
    """A socket whose read timeout is the remaining time of the call that uses it.

    A read ends where a head ends, so that httpcore takes no part of the body with it (`chunked`). It ends too where a
    body of known length ends: what follows makes `is_readable` true, and then httpcore does not use the connection for
    another request, whose answer it would be taken for.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self.limit: ReadLimit = ReadLimit()
        self._stream = stream
        self._splitter: HeadSplitter | LengthSplitter | None = None
        """Finds the end of the head or the body that is read."""
        self._unread = b""
        self._remember_socket()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self.limit.aborted:
            return b""
        data = self._unread
        if data:
            self._unread = b""
        else:
            data = await self._stream.read(max_bytes, self.limit.next_timeout(timeout))
        if self._splitter is not None:
            data, self._unread = self._splitter.split(data)
        return data

    def begin_body(self, length: int | None) -> None:
        """The head has been read: what follows is a body of `length` bytes, or one that says itself where it ends."""
        self._splitter = None if length is None else LengthSplitter(length)

    def unread(self, data: bytes) -> None:
        """The next read returns `data`, up to its first blank line if it has one.

        That is where the trailers of a chunked body end, as a head does.
        """
        self._unread = data + self._unread
        self._splitter = HeadSplitter()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # Each request writes before it reads: its deadline applies from here on.
        self.limit.deadline = current_deadline.get()
        self._splitter = HeadSplitter(b"H")  # the start of HTTP/1.1: what a SOCKS proxy sends is not divided
        await self._stream.write(buffer, timeout)

    def get_extra_info(self, info: str) -> Any:
        return (info == "is_readable" and bool(self._unread)) or super().get_extra_info(info)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        self._stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return self


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, sockets: OpenSockets) -> None:
        self._backend = async_backend()
        self._sockets = sockets

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        stream = AsyncStream(await self._backend.connect_tcp(*args, **kwargs))
        self._sockets.add(stream)
        return stream


def make_pool(
    proxy: Proxy | None, context: ssl.SSLContext | None, sockets: OpenSockets
) -> httpcore.AsyncConnectionPool:
    """A pool of connections, all through `proxy` if there is one; `context` is for TLS, with the server or the proxy.

    Raises:
        InferenceConnectionError: the proxy needs a package that is not installed.
    """
    options: dict[str, Any] = {"ssl_context": context, "network_backend": _AsyncBackend(sockets), **POOL_OPTIONS}
    if proxy is None:
        return httpcore.AsyncConnectionPool(**options)
    host, port = proxy.address
    options["proxy_url"] = httpcore.URL(scheme=proxy.scheme, host=host, port=port, target="/")
    options["proxy_auth"] = proxy.auth
    if proxy.scheme.startswith("socks"):
        require_socksio(proxy)
        return httpcore.AsyncSOCKSProxy(**options)
    if proxy.scheme == "https":
        options["proxy_ssl_context"] = context
    return httpcore.AsyncHTTPProxy(**options)


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)  # no generator around it: each token passes here


class AsyncTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport, with a pool of ours.

    It is httpx's class, and a request passes through its method, because that is what instrumentation (OpenTelemetry)
    and mocks (pytest-httpx) replace.
    """

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool  # not super().__init__(), which would make a pool of its own

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        token = current_deadline.set(request.extensions.get(DEADLINE))
        try:
            response = await super().handle_async_request(request)
        finally:
            current_deadline.reset(token)
        if isinstance(network_stream := response.extensions.get("network_stream"), AsyncStream):
            network_stream.begin_body(body_length(response.headers))
        # httpx has a generator around httpcore's stream, and each token passes here. A mock's stream stays as it is.
        if (stream := getattr(response.stream, "_httpcore_stream", None)) is not None:
            response.stream = _AsyncBody(stream)
        return response
