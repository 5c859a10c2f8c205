"""Decompresses bodies that are compressed although that was not requested, in bounded memory.

The client requests `identity`, because servers that compress a stream buffer it. Some gateways compress anyway. A few
bytes can decompress to gigabytes, so output is returned in small chunks, and the size limits of the decoders apply.
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
                f"the body is encoded as {self._encoding!r}, which hfstream does not request or support: configure "
                "the server, or the proxy in front of it, to honour Accept-Encoding: identity"
            )
        if self._decompress.eof or not (self._compressed or self._more_output):
            return b""
        try:
            chunk = self._decompress.decompress(self._compressed, MAX_OUTPUT)
        except zlib.error as error:
            raise UnexpectedResponseError(
                f"the body does not match its Content-Encoding {self._encoding!r}: {error}"
            ) from error
        self._compressed = self._decompress.unconsumed_tail
        self._more_output = len(chunk) == MAX_OUTPUT
        return chunk
