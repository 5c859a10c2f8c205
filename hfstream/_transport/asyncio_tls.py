"""TLS over a network stream of httpcore, for asyncio: also over another TLS stream, as through an HTTPS proxy.

Does not depend on asyncio's own TLS: in Python, its buffers take 256 KiB for each connection.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import ssl
from typing import Any, Self

import httpcore

__all__ = ["AsyncioNetworkStream"]

READ_SIZE = 64 * 1024
RECORD_SIZE = 16 * 1024
"""Bytes that a TLS record holds, at most: RFC 8446, section 5.1."""


class AsyncioNetworkStream(httpcore.AsyncNetworkStream):
    """A connection of an asyncio event loop."""

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return await _TLSStream.connect(self, ssl_context, server_hostname, timeout)

    @abc.abstractmethod
    def abort(self) -> None:
        """End the connection and wake its reader as soon as the loop runs; from any thread, also in a finalizer."""


class _TLSStream(AsyncioNetworkStream):
    """A stream whose bytes are encrypted on another stream."""

    def __init__(self, stream: AsyncioNetworkStream, ssl_context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = ssl_context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._ended = False

    @classmethod
    async def connect(
        cls,
        stream: AsyncioNetworkStream,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None,
        timeout: float | None,
    ) -> Self:
        """Completes the handshake, or closes `stream`.

        Raises:
            httpcore.ConnectError: a certificate is not accepted, or the peer does not speak TLS.
            httpcore.ConnectTimeout: it took more than `timeout` seconds.
        """
        self = cls(stream, ssl_context, server_hostname)
        try:
            async with asyncio.timeout(timeout):
                await self._shake_hands()
        except BaseException as error:
            await stream.aclose()
            if isinstance(error, TimeoutError):
                raise httpcore.ConnectTimeout from error
            if isinstance(error, ssl.SSLError | httpcore.NetworkError):
                raise httpcore.ConnectError(str(error)) from error
            raise
        return self

    async def _shake_hands(self) -> None:
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                await self._send(None)
                await self._receive(None)
            except ssl.SSLError:
                await self._send(None)  # the alert that says why
                raise
            else:
                return await self._send(None)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        now = asyncio.get_running_loop().time
        expires_at = None if timeout is None else now() + timeout
        while True:
            try:
                data = self._decrypt(max_bytes)
            except ssl.SSLError as error:
                raise httpcore.ReadError(str(error)) from error
            if self._outgoing.pending:  # an answer to what is no data, as a new key
                with contextlib.suppress(httpcore.WriteError):  # what has been received is returned all the same
                    await self._send(timeout)
            if data is not None:
                return data
            await self._receive(None if expires_at is None else max(0.0, expires_at - now()))

    def _decrypt(self, max_bytes: int) -> bytes | None:
        """What has been received, as far as it is complete records; None if it is none, nothing at the end."""
        records: list[bytes] = []
        room = max_bytes
        while room > 0:
            try:
                record = self._ssl.read(min(room, RECORD_SIZE))
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # also without close_notify: HTTP knows where a body ends
                record = b""
            if not record:
                self._ended = True
                return b"".join(records)
            records.append(record)
            room -= len(record)
        return b"".join(records) if records else None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            try:
                rest = rest[self._ssl.write(rest) :]
            except ssl.SSLWantReadError:
                await self._send(timeout)
                await self._receive(timeout)
            except ssl.SSLError as error:
                raise httpcore.WriteError(str(error)) from error
        await self._send(timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def abort(self) -> None:
        self._stream.abort()

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._ssl
        if info == "is_readable" and (self._ended or self._incoming.pending):
            return True
        return self._stream.get_extra_info(info)

    async def _send(self, timeout: float | None) -> None:
        if self._outgoing.pending:
            await self._stream.write(self._outgoing.read(), timeout)

    async def _receive(self, timeout: float | None) -> None:
        if data := await self._stream.read(READ_SIZE, timeout):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
