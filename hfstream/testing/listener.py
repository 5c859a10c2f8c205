"""The listening socket of a test server, and its URL. Does not depend on what is served."""

from __future__ import annotations

import socket

__all__ = ["listen", "url_of"]

_BACKLOG = 1024
"""Connections that may wait to be accepted: a program under test opens hundreds at once."""
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared, not bound


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at `host` and `port` (0: a free one).

    Raises:
        OSError: The host has no address of this machine, or the port is in use.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket, for a client on the same machine."""
    address: str
    address, port, *_ = listener.getsockname()
    address = _ANY_ADDRESS.get(address, address)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
