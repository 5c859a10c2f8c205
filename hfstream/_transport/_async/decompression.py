"""A compressed body, decompressed chunk by chunk, for async code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Self

from ..decompression import Decompressor

__all__ = ["AsyncDecompressed"]


class AsyncDecompressed(AsyncIterator[bytes]):
    """The chunks of a body, decompressed."""

    def __init__(self, chunks: AsyncIterator[bytes], encoding: str, *, lenient: bool) -> None:
        self._chunks = chunks
        self._decompressor = Decompressor(encoding, lenient=lenient)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if chunk := self._decompressor.read():
            return chunk
        self._decompressor.feed(await anext(self._chunks))
        return self._decompressor.read()  # may be empty: the reader looks at the time after each chunk
