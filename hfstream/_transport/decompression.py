"""Bodies that are compressed although nobody asked for it, unpacked piece by piece in bounded memory.

We ask for `identity`: a compressed stream is a buffered one. Some gateways compress all the same. A few bytes can stand
for gigabytes, so what comes out of one piece is handed on in small ones, and the reader's own bounds end it.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Self

from ..errors import UnexpectedResponseError

__all__ = ["AsyncDecompressed", "SyncDecompressed", "is_compressed"]

MAX_OUTPUT = 64 * 1024
"""Bytes that are unpacked at a time."""

_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's window bits for each coding."""


def is_compressed(encoding: str) -> bool:
    """Whether a body with this Content-Encoding has to be unpacked."""
    return encoding.strip().lower() not in ("", "identity")


class _Decompressor:
    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        wbits = _WBITS.get(encoding.strip().lower())
        self._decompress = None if wbits is None else zlib.decompressobj(wbits)
        self._compressed = b""
        self._more_output = False  # the last piece was cut at its limit: there may be more without more to unpack

    def feed(self, chunk: bytes) -> None:
        self._compressed += chunk

    def read(self) -> bytes:
        """The next piece, or nothing if there is none without more to unpack."""
        if self._decompress is None:
            raise UnexpectedResponseError(
                f"the body is encoded as {self._encoding!r}, which was not asked for: have the server, or the proxy "
                "before it, honour Accept-Encoding: identity"
            )
        if self._decompress.eof or not (self._compressed or self._more_output):
            return b""
        try:
            chunk = self._decompress.decompress(self._compressed, MAX_OUTPUT)
        except zlib.error as error:
            raise UnexpectedResponseError(f"the body is not encoded as it says: {error}") from error
        self._compressed = self._decompress.unconsumed_tail
        self._more_output = len(chunk) == MAX_OUTPUT
        return chunk


class SyncDecompressed(Iterator[bytes]):
    """The pieces of a body as they were meant."""

    def __init__(self, chunks: Iterator[bytes], encoding: str) -> None:
        self._pieces = chunks
        self._decompressor = _Decompressor(encoding)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while not (chunk := self._decompressor.read()):
            self._decompressor.feed(next(self._pieces))
        return chunk


class AsyncDecompressed(AsyncIterator[bytes]):
    """The same, in async code."""

    def __init__(self, chunks: AsyncIterator[bytes], encoding: str) -> None:
        self._pieces = chunks
        self._decompressor = _Decompressor(encoding)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not (chunk := self._decompressor.read()):
            self._decompressor.feed(await anext(self._pieces))
        return chunk
