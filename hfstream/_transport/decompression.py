"""Decompresses bodies that are compressed although that was not requested, in bounded memory.

We ask for `identity`: a compressed stream is a buffered one. Some gateways compress all the same. A few bytes can stand
for gigabytes, so the output of one chunk is returned in small chunks, and the size limits of the decoders apply.
"""

from __future__ import annotations

import zlib

from ..errors import UnexpectedResponseError

__all__ = ["Decompressor", "is_compressed"]

MAX_OUTPUT = 64 * 1024
"""Bytes that are decompressed at a time."""

_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's window bits for each coding."""


def is_compressed(encoding: str) -> bool:
    """Whether a body with this Content-Encoding has to be decompressed."""
    return encoding.strip().lower() not in ("", "identity")


class Decompressor:
    """Compressed chunks in (`feed`), decompressed chunks out (`read`)."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        wbits = _WBITS.get(encoding.strip().lower())
        self._decompress = None if wbits is None else zlib.decompressobj(wbits)
        self._compressed = b""
        self._more_output = False  # the last output was cut at its limit: there may be more without further input

    def feed(self, chunk: bytes) -> None:
        self._compressed += chunk

    def read(self) -> bytes:
        """The next chunk of output; empty if there is none without further input."""
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
