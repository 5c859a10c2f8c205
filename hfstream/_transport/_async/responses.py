"""One asynchronous response: its body chunk by chunk, and how it is closed.

Does not depend on what the bytes mean.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Self

import httpx

from ...core.timeouts import Deadline
from ..decompression import is_compressed
from ..redaction import redacted_logs
from ..redirects import Redirection
from ..response_base import DRAIN_BYTES, BaseStreamedResponse, content_read_before
from ..waiting import async_exhaust, async_time_limit
from .chunked_body import async_body
from .decompression import AsyncDecompressed

__all__ = ["AsyncStreamedResponse"]


class AsyncStreamedResponse(BaseStreamedResponse):
    """One response, whose `chunks` are read once."""

    def __init__(
        self, response: httpx.Response, pending_close: deque[Any], redirection: Redirection | None = None
    ) -> None:
        super().__init__(response, pending_close, redirection)
        self.chunks: AsyncIterator[bytes]
        self._raw: AsyncIterator[bytes]
        if (content := content_read_before(response)) is not None:
            self.at_end = True
            self.chunks = self._raw = _AsyncReadBody(content)
            return
        self._raw = async_body(response)
        if response.http_version == "HTTP/2":
            self._raw = _AsyncRedacted(self._raw)
        encoding = response.headers.get("content-encoding", "")
        self.chunks = self._raw
        if is_compressed(encoding):
            self.chunks = AsyncDecompressed(self._raw, encoding, lenient=not 200 <= response.status_code < 300)

    async def aclose(self) -> None:
        """Closes the response; the connection is closed too, unless the body is at its end."""
        try:
            if self.abort():  # the body ends at once: reading it to its end does not wait
                await async_exhaust(self._raw)
        finally:
            await self._response.aclose()

    async def drain(self, deadline: Deadline) -> None:
        """Reads the little that may follow the last event, so that the connection can be used again; then closes."""
        seconds = self._start_drain(deadline)
        limit = async_time_limit(seconds, self.abort, follows_deadline=self._follows_deadline)
        try:
            with contextlib.suppress(Exception), limit:  # the response is complete: a failure after it does not matter
                remaining = DRAIN_BYTES
                while remaining > 0 and not self.at_end:
                    remaining -= self._record_read(await anext(self.chunks, None))
        finally:
            await self.aclose()


class _AsyncReadBody(AsyncIterator[bytes]):
    """A body that has been read before."""

    def __init__(self, content: bytes) -> None:
        self._chunks = [content] if content else []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop()


class _AsyncRedacted(AsyncIterator[bytes]):
    """The body of an HTTP/2 response: its reader receives, and logs, the headers of others too."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with redacted_logs():
            return await anext(self._chunks)
