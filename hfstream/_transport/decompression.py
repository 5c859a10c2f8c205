"""Decompresses bodies that are compressed although that was not requested, in bounded memory.

The client requests `identity`, because servers that compress a stream buffer it. Some gateways compress anyway. A few
bytes can decompress to gigabytes, so output is returned in small chunks, and the size limits of the decoders apply.
"""

from __future__ import annotations

import zlib
from typing import Any

from ..errors import UnexpectedResponseError

__all__ = ["Decompressor", "is_compressed"]

MAX_OUTPUT = 64 * 1024
"""Bytes that are decompressed at a time."""

MAX_CODINGS = 4
"""Codings of one body. No server applies more than one or two."""

_GZIP_WBITS, _ZLIB_WBITS, _RAW_WBITS = 31, 15, -15
_GZIP_MAGIC = b"\x1f\x8b"

_SUPPORTED = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}

_UNSUPPORTED = frozenset(
    {"br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip", "aes128gcm", "lzma", "xz", "bzip2"}
)
"""Codings that change the body and cannot be undone here (IANA's registry, and what servers send besides). Any other
name (``none``, ``UTF-8``) is not a coding, and says nothing about the body."""

_TEXT_STARTS = (b"data:", b"event:", b"retry:", b'{"', b": ", b"<!")
"""How an event stream, JSON or a page begins, and hardly any compressed body."""


def is_compressed(encoding: str) -> bool:
    """Whether a body with this Content-Encoding has to be decompressed."""
    return bool(_codings(encoding))


def _codings(encoding: str) -> list[str]:
    names = [name.partition(";")[0].strip().lower() for name in encoding.split(",")]
    return [name for name in names if name in _SUPPORTED or name in _UNSUPPORTED]


class Decompressor:
    """Compressed chunks in (`feed`), decompressed chunks out (`read`).

    With `lenient`, for an error's body, a body that is not compressed at all is returned as it is.
    """

    def __init__(self, encoding: str, *, lenient: bool = False) -> None:
        self._encoding = encoding[:80]
        self._stages: list[_Stage] = []
        codings = _codings(encoding)
        if len(codings) <= MAX_CODINGS and all(name in _SUPPORTED for name in codings):
            self._stages = [_Stage(_SUPPORTED[name], lenient) for name in reversed(codings)]  # listed as applied

    def feed(self, chunk: bytes) -> None:
        """Takes a chunk of the body.

        Raises:
            UnexpectedResponseError: the body's coding is not supported.
        """
        if not self._stages:
            raise UnexpectedResponseError(
                f"the body is encoded as {self._encoding!r}, which hfstream does not request or support: configure "
                "the server, or the proxy in front of it, to honour Accept-Encoding: identity"
            )
        self._stages[0].feed(chunk)

    def read(self) -> bytes:
        """The next chunk of output; empty if there is none without further input.

        Raises:
            UnexpectedResponseError: the body does not match its coding.
        """
        try:
            return self._read_stage(len(self._stages) - 1) if self._stages else b""
        except zlib.error as error:
            raise UnexpectedResponseError(
                f"the body does not match its Content-Encoding {self._encoding!r}: {error}"
            ) from error

    def _read_stage(self, index: int) -> bytes:
        stage = self._stages[index]
        while not (chunk := stage.read()):
            compressed = self._read_stage(index - 1) if index else b""
            if not compressed:
                return b""
            stage.feed(compressed)
        return chunk


class _Stage:
    """One coding. A body in several members, as from a gateway that compresses each event by itself, is one body."""

    def __init__(self, coding: str, lenient: bool) -> None:
        self._coding = coding
        self._lenient = lenient
        self._compressed = b""
        self._decompress: Any = None
        self._is_text = False  # the server, or a proxy that has decompressed the body, has left the header there
        self._members = 0
        self._more_output = False  # the last output was cut at its limit: there may be more without further input

    def feed(self, chunk: bytes) -> None:
        self._compressed += chunk

    def read(self) -> bytes:
        """The next chunk of output; empty if there is none without further input. Raises zlib.error."""
        while self._compressed or self._more_output:
            if self._decompress is None and not self._is_text:
                self._begin_member()
            if self._is_text:
                text, self._compressed = self._compressed, b""
                return text
            if self._decompress is None:
                return b""
            if chunk := self._inflate(self._decompress):
                return chunk
        return b""

    def _inflate(self, decompress: Any) -> bytes:
        chunk: bytes = decompress.decompress(self._compressed, MAX_OUTPUT)
        self._compressed = decompress.unconsumed_tail
        self._more_output = len(chunk) == MAX_OUTPUT
        if decompress.eof:
            self._compressed = decompress.unused_data
            self._decompress, self._more_output = None, False
        return chunk

    def _begin_member(self) -> None:
        """Makes a decompressor for what comes next, or finds that it is text, as soon as there is enough of it."""
        start = self._compressed
        if self._members:  # gzip's own tools ignore zeros after a member
            start = self._compressed = start.lstrip(b"\0")
        elif start.startswith(_TEXT_STARTS):
            self._is_text = True
            return
        elif any(text.startswith(start) for text in _TEXT_STARTS):
            return
        if len(start) < 2:
            return
        wbits = _GZIP_WBITS if self._coding == "gzip" else _deflate_wbits(start)
        if wbits == _GZIP_WBITS and not start.startswith(_GZIP_MAGIC):
            if not self._lenient or self._members:
                raise zlib.error("something else follows the data" if self._members else "incorrect header check")
            self._is_text = True  # plain words
            return
        self._decompress = zlib.decompressobj(wbits)
        self._members += 1


def _deflate_wbits(start: bytes) -> int:
    """The format of zlib, as the standard says, or bare deflate, which many servers send instead."""
    has_header = start[0] & 0x0F == 8 and (start[0] << 8 | start[1]) % 31 == 0
    return _ZLIB_WBITS if has_header else _RAW_WBITS
