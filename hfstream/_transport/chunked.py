"""The parts of HTTP/1.1 that stand between a socket and a token: where heads and bodies end, and chunked coding.

h11 makes an event for each chunk, and passes it through three generators of httpcore and httpx: for a stream of tokens
that costs more than the tokens. So heads are left to h11, and chunks as they usually are (a size, CRLF, data, CRLF) are
decoded here, one read at a time. Anything else, the last chunk included, is handed back to h11 from the start of that
chunk, which then reads the rest: whatever h11 accepts, refuses or says about the end of a body stays as it is.

Does not depend on where bytes come from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["ChunkDecoder", "HeadSplitter", "LengthSplitter", "body_length"]

_BLANK_LINE = re.compile(rb"\n\r?\n")  # as h11 has it: lines of a head may end with LF only
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,7})\r\n")
_INCOMPLETE_SIZE = re.compile(rb"[0-9A-Fa-f]{1,7}\r?")


class HeadSplitter:
    """Finds the blank line that ends a head, however the head is divided into reads.

    `first` is what a head must begin with: other data is no head, and is not divided.
    """

    def __init__(self, first: bytes = b"") -> None:
        self._first = first
        self._at_start = True
        self._tail = b""  # the last bytes, where they may be the start of a blank line

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """`data` up to the end of the head, and the rest; the rest is empty if the end has not come."""
        if self._at_start and not data.startswith(self._first):
            return data, b""
        known = len(self._tail)
        joined = self._tail + data
        blank_line = _BLANK_LINE.search(joined)
        if blank_line is None:
            self._tail = joined[-2:]
            self._at_start = False
            return data, b""
        self._tail, self._at_start = b"", True  # of the next head: that of the response, after one with a status of 1xx
        end = blank_line.end() - known
        return data[:end], data[end:]


class LengthSplitter:
    """Finds the end of a body of `length` bytes."""

    def __init__(self, length: int) -> None:
        self._missing = length

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """`data` up to the end of the body, and what follows it."""
        body, rest = data[: self._missing], data[self._missing :]
        self._missing -= len(body)
        return body, rest


def body_length(headers: Mapping[str, str]) -> int | None:
    """The length of the body after a head that h11 has accepted; None if the body itself says where it ends."""
    length = headers.get("content-length")
    return None if length is None or "transfer-encoding" in headers else int(length)


class ChunkDecoder:
    """Chunked transfer coding in, the body out: chunks of one read are joined.

    `left` is what is not decoded here: from the start of a chunk that is not as usual, to the end of the read. It is
    None until then; after it, `feed` must not be called.
    """

    def __init__(self) -> None:
        self.left: bytes | None = None
        self.malformed: bool = False
        """The data of a chunk is not followed by a line end: the body cannot be read on."""
        self._size_start = b""  # a chunk's size whose line end has not come
        self._missing = 0  # bytes of the current chunk that have not come, its line end included

    def feed(self, data: bytes) -> bytes:
        """The part of the body that `data` has brought."""
        pieces: list[bytes] = []
        data = self._size_start + data
        self._size_start = b""
        position = self._continue_chunk(data, pieces) if self._missing else 0
        while position < len(data) and not self.malformed:
            header = _CHUNK_SIZE.match(data, position)
            size = int(header[1], 16) if header else 0
            if header is None or not size:
                self._stop(data[position:])
                break
            start = header.end()
            end = start + size
            pieces.append(data[start:end])
            position = end + 2
            if data[end:position] != b"\r\n":
                self._missing = position - len(data)
                self._check_line_end(data[end:])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _continue_chunk(self, data: bytes, pieces: list[bytes]) -> int:
        """Takes what `data` has of a chunk that began in an earlier read; returns where the next one begins."""
        position = self._missing
        end = max(position - 2, 0)
        if end:
            pieces.append(data[:end])
        self._missing = max(position - len(data), 0)
        # Of the line end, the first byte may have come before.
        if len(data) > end and not b"\r\n"[end + 2 - position :].startswith(data[end:position]):
            self.malformed = True
        return position

    def _check_line_end(self, start: bytes) -> None:
        if not b"\r\n".startswith(start[:2]):
            self.malformed = True

    def _stop(self, rest: bytes) -> None:
        if _INCOMPLETE_SIZE.fullmatch(rest):
            self._size_start = rest
        else:
            self.left = rest
