"""A chunked body, read straight from our own network stream, for plain code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import httpcore
import httpx

from ..chunked import ChunkDecoder
from .transport import SyncStream

__all__ = ["sync_body"]

_READ_SIZE = 64 * 1024


def sync_body(response: httpx.Response) -> Iterator[bytes]:
    """The body of `response` as it was sent, read in the shortest way that it allows."""
    network_stream = response.extensions.get("network_stream")
    if isinstance(network_stream, SyncStream) and _is_chunked(response):
        return _SyncChunkedBody(network_stream, response.stream)
    # Straight from the stream: iter_raw() would add a generator and a counter for each token.
    body: Any = response.stream
    return iter(body)


def _is_chunked(response: httpx.Response) -> bool:
    """Whether the body has chunks, and nothing but the body can follow the head."""
    if response.http_version != "HTTP/1.1" or response.status_code in (204, 304) or response.request.method == "HEAD":
        return False
    coding: str = response.headers.get("transfer-encoding", "")
    return coding.lower() == "chunked"


class _SyncChunkedBody(Iterator[bytes]):
    """The body in pieces: all chunks that one read has brought are one."""

    def __init__(self, network_stream: SyncStream, rest: Any) -> None:
        self._network_stream = network_stream
        self._decoder = ChunkDecoder()
        self._rest = rest
        self._chunks: Iterator[bytes] | None = None
        """The body as httpcore reads it, from where the decoder has left it."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while self._chunks is None:
            decoder = self._decoder
            if decoder.malformed:
                raise httpcore.RemoteProtocolError("malformed chunk: no line end after its data")
            if decoder.left is None and (data := self._network_stream.read(_READ_SIZE)):
                if body := decoder.feed(data):
                    return body
                continue
            # Also at the end of the connection, which comes too early: reading it again, httpcore says so.
            if decoder.left:
                self._network_stream.unread(decoder.left)
            self._chunks = iter(self._rest)
        return next(self._chunks)
