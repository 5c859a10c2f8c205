"""One response that is read: pieces of its body, and the letting go of it.

The two lines have the same verbs and differ by `await`. They refuse to know what the bytes mean.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import anyio
import httpx

from ..core.timeouts import Deadline
from .decompression import AsyncDecompressed, SyncDecompressed, is_compressed
from .sockets import AsyncStream, SyncStream, shutdown, socket_handle

__all__ = ["AsyncStreamedResponse", "SyncStreamedResponse"]

DRAIN_SECONDS = 0.05
DRAIN_BYTES = 64 * 1024
"""How long and how far a body is read on after its last event, so that its connection can be used again."""


class _StreamedResponse:
    """One response. `pending_close` is where it goes if whoever reads it is collected."""

    def __init__(self, response: httpx.Response, pending_close: deque[Any]) -> None:
        self.status_code: int = response.status_code
        self.headers: httpx.Headers = response.headers
        self._response = response
        self._pending_close = pending_close
        # Our own sockets ask the deadline. A user's client has others, and so has a proxy from the environment.
        self._uses_deadline = isinstance(response.extensions.get("network_stream"), SyncStream | AsyncStream)
        self._pid = os.getpid()
        self._socket = _socket_of(response)
        self.at_end: bool = False
        """The body has been read to its end: the connection can be used again."""

    def abort(self) -> bool:
        """Wakes the reader, from any thread or task; whether that was possible."""
        if self.at_end or self._socket is None or self._pid != os.getpid():  # a forked child's is the parent's too
            return False
        shutdown(self._socket)
        return True

    def _record_read(self, chunk: bytes | None) -> int:
        """Notes what was read; its size."""
        self.at_end = chunk is None
        return len(chunk or b"")

    def detach(self) -> None:
        """For a finalizer: takes no lock and waits for nothing. The wire's next `send` lets go of the response."""
        self.abort()
        self._pending_close.append(self)


def _socket_of(response: httpx.Response) -> Any:
    """The response's own socket. A test's transport has none, and an HTTP/2 connection's belongs to others too."""
    network_stream = response.extensions.get("network_stream")
    if network_stream is None or not response.http_version.startswith("HTTP/1"):
        return None
    return socket_handle(network_stream.get_extra_info("socket"))


class SyncStreamedResponse(_StreamedResponse):
    """One response in plain code."""

    def __init__(self, response: httpx.Response, pending_close: deque[Any]) -> None:
        super().__init__(response, pending_close)
        # Straight from the stream: iter_raw() would add a generator and a counter for each token.
        chunks = cast("Iterator[bytes]", iter(cast("Any", response.stream)))
        encoding = response.headers.get("content-encoding", "")
        self.chunks: Iterator[bytes] = SyncDecompressed(chunks, encoding) if is_compressed(encoding) else chunks

    def release(self) -> None:
        """Lets go; the connection is closed unless the body is at its end."""
        self._response.close()

    def drain(self, deadline: Deadline) -> None:
        """Reads on a little after the last event, then lets go."""
        deadline.at = time.monotonic() + DRAIN_SECONDS
        # Sockets that are not ours do not ask the deadline: a timer wakes the reader.
        timer = None if self._uses_deadline else threading.Timer(DRAIN_SECONDS, self.abort)
        if timer:
            timer.daemon = True
            timer.start()
        try:
            with contextlib.suppress(Exception):  # the answer is whole: nothing after it can fail it
                remaining = DRAIN_BYTES
                while remaining > 0 and not self.at_end:
                    remaining -= self._record_read(next(self.chunks, None))
        finally:
            if timer:
                timer.cancel()
            self.release()


class AsyncStreamedResponse(_StreamedResponse):
    """One response in async code."""

    def __init__(self, response: httpx.Response, pending_close: deque[Any]) -> None:
        super().__init__(response, pending_close)
        self._raw: AsyncIterator[bytes] = aiter(cast("Any", response.stream))
        encoding = response.headers.get("content-encoding", "")
        self.chunks: AsyncIterator[bytes] = (
            AsyncDecompressed(self._raw, encoding) if is_compressed(encoding) else self._raw
        )

    async def release(self) -> None:
        """Lets go; the connection is closed unless the body is at its end."""
        # httpcore's generators would be left half-way, and trio warns when such a one is collected. An aborted read has
        # an end, and takes them with it.
        try:
            if self.abort():
                with contextlib.suppress(Exception):
                    while await anext(self._raw, None) is not None:
                        pass
        finally:
            await self._response.aclose()

    async def drain(self, deadline: Deadline) -> None:
        """Reads on a little after the last event, then lets go."""
        deadline.at = time.monotonic() + DRAIN_SECONDS
        try:
            with contextlib.suppress(Exception), anyio.move_on_after(DRAIN_SECONDS):
                remaining = DRAIN_BYTES
                while remaining > 0 and not self.at_end:
                    remaining -= self._record_read(await anext(self.chunks, None))
        finally:
            await self.release()
