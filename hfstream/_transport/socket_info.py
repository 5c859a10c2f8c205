"""Where a network stream's socket is found, and how its reader is woken: that differs between plain and async code."""

from __future__ import annotations

from typing import Any

from .asyncio_tls import AsyncioNetworkStream
from .sockets import shutdown, socket_handle

__all__ = ["AsyncSocketInfo", "SyncSocketInfo"]


class SyncSocketInfo:
    """Where a stream's socket is found: under TLS another object takes the first one's place."""

    _stream: Any

    def _remember_socket(self) -> None:
        pass

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def abort(self) -> None:
        """Ends the connection and wakes its reader, from any thread."""
        shutdown(self.get_extra_info("socket"))


class AsyncSocketInfo:
    """Where a stream's socket is found: it is the same one under TLS, and uvloop's is remembered by its descriptor."""

    _stream: Any

    def _remember_socket(self) -> None:
        self._socket = socket_handle(self._stream.get_extra_info("socket"))

    def get_extra_info(self, info: str) -> Any:
        return self._socket if info == "socket" else self._stream.get_extra_info(info)

    def abort(self) -> None:
        """Ends the connection and wakes its reader, from any thread."""
        if isinstance(self._stream, AsyncioNetworkStream):
            self._stream.abort()
        shutdown(self._socket)  # for the peer to notice at once, whatever the loop is busy with
