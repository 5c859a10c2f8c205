"""What both variants of our transport share: sockets that follow a `Deadline`, and can be woken from another thread.

httpcore takes the read timeout once for each response, but the wait for the first token and the waits between tokens
have limits of their own, and both fall into the body (TGI sends its headers before it has read the prompt). So a socket
of ours asks the `Deadline` of the call that is using it. Does not depend on why a deadline stands where it does.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import socket
import struct
import threading
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

import httpcore

from ..core.timeouts import MIN_TIMEOUT, Deadline
from ..errors import InferenceConnectionError
from .forking import register_socket
from .proxies import Proxy

__all__ = [
    "DEADLINE",
    "POOL_OPTIONS",
    "PROXY",
    "OpenSockets",
    "ReadLimit",
    "current_deadline",
    "mark_proxy",
    "require_socksio",
    "shutdown",
    "socket_handle",
]

DEADLINE = "hfstream.deadline"
"""Key of the request extension that carries the call's `Deadline` to the sockets."""

PROXY = "_hfstream_proxy"
"""Attribute of an exception: the `Proxy` of the request that raised it."""

current_deadline: ContextVar[Deadline | None] = ContextVar(DEADLINE, default=None)

POOL_OPTIONS: dict[str, Any] = {
    "max_connections": None,  # as many as there are streams: a bound would make one forgotten stream block another
    "max_keepalive_connections": 20,
    "keepalive_expiry": 30.0,
}


class ReadLimit:
    """How long the next read of one socket may take.

    What has arrived by the deadline is still read. But a peer that never stops sending (``100 Continue``, without end)
    would be read for ever, so there is one such read, and then no other until the deadline has moved.
    """

    def __init__(self) -> None:
        self.deadline: Deadline | None = None
        self.aborted: bool = False
        """Whether nothing more is read: a socket that is shut down still hands over what arrives."""
        self._read_late_for: float | None = None

    def next_timeout(self, timeout: float | None) -> float | None:
        """Seconds that a read may take now; `timeout` where no deadline applies.

        Raises:
            httpcore.ReadTimeout: the deadline has passed before the last read.
        """
        deadline = self.deadline
        if deadline is None:
            return timeout
        remaining = deadline.remaining()
        if remaining is not None and remaining <= MIN_TIMEOUT:
            if self._read_late_for == deadline.at:
                raise httpcore.ReadTimeout("the peer sends, but not what is waited for")
            self._read_late_for = deadline.at
        return remaining


@contextlib.contextmanager
def mark_proxy(proxy: Proxy | None) -> Generator[None]:
    """Marks an exception with the proxy of the request, for `map_exception`."""
    try:
        yield
    except Exception as error:
        if proxy is not None:
            setattr(error, PROXY, proxy)
        raise


def require_socksio(proxy: Proxy) -> None:
    """Raises an InferenceConnectionError if the package for SOCKS is missing: httpcore finds out on its first use."""
    if importlib.util.find_spec("socksio") is None:
        raise InferenceConnectionError(
            f"the SOCKS proxy {proxy} needs a package that is not installed: pip install 'httpx[socks]'",
            retryable=False,
        )


_RESET_ON_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # struct linger: on, no time


def shutdown(sock: Any) -> None:
    """Wakes the reader of the socket, in any thread. Closing would not: a blocked recv() stays blocked.

    Its peer gets a reset once it is closed. A peer whose send buffer is full would not learn of it otherwise: what is
    read of a socket that is shut down makes no room for more.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
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
        with self._copy() as copy:
            copy.shutdown(how)

    def setsockopt(self, *option: Any) -> None:
        with self._copy() as copy:
            copy.setsockopt(*option)

    def _copy(self) -> socket.socket:
        number = os.dup(self._number)
        if os.fstat(number).st_ino != self._inode:
            os.close(number)
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return socket.socket(fileno=number)


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
                stream.abort()

    def all(self) -> list[Any]:
        with self._lock:
            return list(self._streams)

    def used_by(self, deadline: Any) -> list[Any]:
        """The sockets to which the request with this deadline was the last to write."""
        return [stream for stream in self.all() if stream.limit.deadline is deadline]

    def abort(self) -> None:
        """Wakes every reader of every connection, also of those that are just being made. For good."""
        with self._lock:
            self._aborted = True
        for stream in self.all():
            stream.abort()
