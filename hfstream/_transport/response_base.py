"""The part of a streamed response that does no I/O: its socket, aborting it, whether its end has been reached."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import httpx

from ..core.timeouts import Deadline
from .forking import register_socket
from .redirects import Redirection
from .socket_info import AsyncSocketInfo, SyncSocketInfo
from .sockets import shutdown, socket_handle

__all__ = ["DRAIN_BYTES", "BaseStreamedResponse", "content_read_before"]

DRAIN_SECONDS = 0.05
DRAIN_BYTES = 64 * 1024
"""Limits for reading a body on after its last event, so that its connection can be used again."""


class BaseStreamedResponse:
    """One response. `pending_close` is a queue for responses whose reader was garbage-collected."""

    def __init__(
        self, response: httpx.Response, pending_close: deque[Any], redirection: Redirection | None = None
    ) -> None:
        self.redirection: Redirection | None = redirection
        self.status_code: int = response.status_code
        self.http_version: str = response.http_version
        self.headers: httpx.Headers = response.headers
        self.at_end: bool = False
        """The body has been read to its end: the connection can be used again."""
        self._response = response
        self._pending_close = pending_close
        # Our own sockets follow the deadline. Those of a user's client do not, nor do those of a proxy.
        network_stream = response.extensions.get("network_stream")
        if network_stream is not None:
            register_socket(network_stream)
        self._follows_deadline = isinstance(network_stream, SyncSocketInfo | AsyncSocketInfo)
        self._socket = _socket_of(response)

    def abort(self) -> bool:
        """Wakes the reader, from any thread or task; returns whether that was possible."""
        if self.at_end or self._socket is None:
            return False
        if self._follows_deadline:
            network_stream = self._response.extensions["network_stream"]
            network_stream.limit.aborted = True
            network_stream.abort()
        else:
            shutdown(self._socket)
        return True

    def detach(self) -> None:
        """For a finalizer: takes no lock and does not wait. The client's next `send` closes the response."""
        self.abort()
        self._pending_close.append(self)

    def _start_drain(self, deadline: Deadline) -> float:
        """Moves the deadline to the end of a drain; returns the seconds until then."""
        deadline.at = time.monotonic() + DRAIN_SECONDS
        return DRAIN_SECONDS

    def _record_read(self, chunk: bytes | None) -> int:
        """Records a chunk, or None for the end; returns its size."""
        self.at_end = chunk is None
        return len(chunk or b"")


def content_read_before(response: httpx.Response) -> bytes | None:
    """The decompressed body, if a hook of the user's client has read it, or a mock made it; its stream is over then."""
    try:
        return response.content
    except RuntimeError:  # ResponseNotRead, of httpx or httpx2
        return None


def _socket_of(response: httpx.Response) -> Any:
    """The socket of the response. A mock transport has none, and an HTTP/2 connection carries several responses."""
    network_stream = response.extensions.get("network_stream")
    if network_stream is None or not response.http_version.startswith("HTTP/1"):
        return None
    return socket_handle(network_stream.get_extra_info("socket"))
