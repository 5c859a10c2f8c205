"""A compressed body, decompressed chunk by chunk, for plain code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from ..decompression import Decompressor

__all__ = ["SyncDecompressed"]


class SyncDecompressed(Iterator[bytes]):
    """The chunks of a body, decompressed."""

    def __init__(self, chunks: Iterator[bytes], encoding: str, *, lenient: bool) -> None:
        self._chunks = chunks
        self._decompressor = Decompressor(encoding, lenient=lenient)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if chunk := self._decompressor.read():
            return chunk
        self._decompressor.feed(next(self._chunks))
        return self._decompressor.read()  # may be empty: the reader looks at the time after each chunk
