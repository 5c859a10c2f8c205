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

PIECE = 64 * 1024
"""Bytes that are unpacked at a time."""

_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's window bits for each coding."""


def is_compressed(encoding: str) -> bool:
    """Whether a body with this Content-Encoding has to be unpacked."""
    return encoding.strip().lower() not in ("", "identity")


class _Decompressor:
    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        window = _WINDOWS.get(encoding.strip().lower())
        self._unpack = None if window is None else zlib.decompressobj(window)
        self._packed = b""
        self._full = False  # the last piece was cut at its limit: there may be more without more to unpack

    def give(self, piece: bytes) -> None:
        self._packed += piece

    def take(self) -> bytes:
        """The next piece, or nothing if there is none without more to unpack."""
        if self._unpack is None:
            raise UnexpectedResponseError(
                f"the body is encoded as {self._encoding!r}, which was not asked for: have the server, or the proxy "
                "before it, honour Accept-Encoding: identity"
            )
        if self._unpack.eof or not (self._packed or self._full):
            return b""
        try:
            piece = self._unpack.decompress(self._packed, PIECE)
        except zlib.error as error:
            raise UnexpectedResponseError(f"the body is not encoded as it says: {error}") from error
        self._packed = self._unpack.unconsumed_tail
        self._full = len(piece) == PIECE
        return piece


class SyncDecompressed(Iterator[bytes]):
    """The pieces of a body as they were meant."""

    def __init__(self, pieces: Iterator[bytes], encoding: str) -> None:
        self._pieces = pieces
        self._unpacker = _Decompressor(encoding)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while not (piece := self._unpacker.take()):
            self._unpacker.give(next(self._pieces))
        return piece


class AsyncDecompressed(AsyncIterator[bytes]):
    """The same, in async code."""

    def __init__(self, pieces: AsyncIterator[bytes], encoding: str) -> None:
        self._pieces = pieces
        self._unpacker = _Decompressor(encoding)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not (piece := self._unpacker.take()):
            self._unpacker.give(await anext(self._pieces))
        return piece
