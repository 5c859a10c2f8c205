"""A compressed body, decompressed chunk by chunk, for async code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Self

from ..decompression import Decompressor

__all__ = ["AsyncDecompressed"]


class AsyncDecompressed(AsyncIterator[bytes]):
    """The chunks of a body, decompressed."""

    def __init__(self, chunks: AsyncIterator[bytes], encoding: str) -> None:
        self._chunks = chunks
        self._decompressor = Decompressor(encoding)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not (chunk := self._decompressor.read()):
            self._decompressor.feed(await anext(self._chunks))
        return chunk
