"""What both variants of our transport share: sockets that follow a `Deadline`, and can be woken from another thread.

httpcore takes the read timeout once for each response, but the wait for the first token and the waits between tokens
have limits of their own, and both fall into the body (TGI sends its headers before it has read the prompt). So a socket
of ours asks the `Deadline` of the call that is using it. Does not depend on why a deadline stands where it does.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
import threading
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

import httpx

from ..core.timeouts import Deadline
from .forking import register_socket

__all__ = [
    "DEADLINE",
    "POOL_OPTIONS",
    "OpenSockets",
    "current_deadline",
    "effective_timeout",
    "shutdown",
    "socket_handle",
    "ssl_context",
]

DEADLINE = "hfstream.deadline"
"""Key of the request extension that carries the call's `Deadline` to the sockets."""

current_deadline: ContextVar[Deadline | None] = ContextVar(DEADLINE, default=None)

POOL_OPTIONS: dict[str, Any] = {
    "max_connections": None,  # as many as there are streams: a bound would make one forgotten stream block another
    "max_keepalive_connections": 20,
    "keepalive_expiry": 30.0,
}


@functools.cache
def ssl_context() -> ssl.SSLContext:
    """One context for all clients: reading the certificates takes 20 ms, and nothing in it is a client's own."""
    return httpx.create_ssl_context()


def effective_timeout(deadline: Deadline | None, timeout: float | None) -> float | None:
    """Seconds that a read may take now."""
    return timeout if deadline is None else deadline.remaining()


def shutdown(sock: Any) -> None:
    """Wakes the reader of the socket, in any thread. Closing would not: a blocked recv() stays blocked."""
    with contextlib.suppress(OSError):
        if isinstance(sock, socket.socket):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's, which takes the session from the reader
        else:
            sock.shutdown(socket.SHUT_RDWR)


class _SocketHandle:
    """A socket that is known by its file descriptor only: uvloop exposes no more of its own.

    The number may since belong to another connection. So what is shut down is a copy, whose inode is compared first.
    """

    def __init__(self, sock: Any) -> None:
        self._number: int = sock.fileno()
        self._inode = os.fstat(self._number).st_ino

    def fileno(self) -> int:
        return self._number if os.fstat(self._number).st_ino == self._inode else -1

    def shutdown(self, how: int) -> None:
        copy = os.dup(self._number)
        if os.fstat(copy).st_ino != self._inode:
            os.close(copy)
            return
        with socket.socket(fileno=copy) as same:
            same.shutdown(how)


def socket_handle(sock: Any) -> Any:
    """`sock`, or what stands for it where it cannot be shut down itself."""
    return _SocketHandle(sock) if type(sock).__module__.partition(".")[0] == "uvloop" else sock


class OpenSockets:
    """All sockets of one transport, to be woken together. One that connects after that is shut down at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: WeakSet[Any] = WeakSet()
        self._aborted = False

    def add(self, stream: Any) -> None:
        with self._lock:
            self._streams.add(stream)
            register_socket(stream)
            if self._aborted:
                shutdown(stream.get_extra_info("socket"))

    def all(self) -> list[Any]:
        with self._lock:
            return list(self._streams)

    def abort(self) -> None:
        """Wakes every reader of every connection, also of those that are just being made. For good."""
        with self._lock:
            self._aborted = True
        for stream in self.all():
            shutdown(stream.get_extra_info("socket"))
