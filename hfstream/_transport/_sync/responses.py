"""One synchronous response: its body chunk by chunk, and how it is closed.

Does not depend on what the bytes mean.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any, Self

import httpx

from ...core.timeouts import Deadline
from ..decompression import is_compressed
from ..redaction import redacted_logs
from ..redirects import Redirection
from ..response_base import DRAIN_BYTES, BaseStreamedResponse, content_read_before
from ..waiting import sync_exhaust, sync_time_limit
from .chunked_body import sync_body
from .decompression import SyncDecompressed

__all__ = ["SyncStreamedResponse"]


class SyncStreamedResponse(BaseStreamedResponse):
    """One response, whose `chunks` are read once."""

    def __init__(
        self, response: httpx.Response, pending_close: deque[Any], redirection: Redirection | None = None
    ) -> None:
        super().__init__(response, pending_close, redirection)
        self.chunks: Iterator[bytes]
        self._raw: Iterator[bytes]
        if (content := content_read_before(response)) is not None:
            self.at_end = True
            self.chunks = self._raw = _SyncReadBody(content)
            return
        self._raw = sync_body(response)
        if response.http_version == "HTTP/2":
            self._raw = _SyncRedacted(self._raw)
        encoding = response.headers.get("content-encoding", "")
        self.chunks = self._raw
        if is_compressed(encoding):
            self.chunks = SyncDecompressed(self._raw, encoding, lenient=not 200 <= response.status_code < 300)

    def close(self) -> None:
        """Closes the response; the connection is closed too, unless the body is at its end."""
        try:
            if self.abort():  # the body ends at once: reading it to its end does not wait
                sync_exhaust(self._raw)
        finally:
            self._response.close()

    def drain(self, deadline: Deadline) -> None:
        """Reads the little that may follow the last event, so that the connection can be used again; then closes."""
        seconds = self._start_drain(deadline)
        limit = sync_time_limit(seconds, self.abort, follows_deadline=self._follows_deadline)
        try:
            with contextlib.suppress(Exception), limit:  # the response is complete: a failure after it does not matter
                remaining = DRAIN_BYTES
                while remaining > 0 and not self.at_end:
                    remaining -= self._record_read(next(self.chunks, None))
        finally:
            self.close()


class _SyncReadBody(Iterator[bytes]):
    """A body that has been read before."""

    def __init__(self, content: bytes) -> None:
        self._chunks = [content] if content else []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if not self._chunks:
            raise StopIteration
        return self._chunks.pop()


class _SyncRedacted(Iterator[bytes]):
    """The body of an HTTP/2 response: its reader receives, and logs, the headers of others too."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        with redacted_logs():
            return next(self._chunks)
