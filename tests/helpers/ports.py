"""Ports of this computer."""

from __future__ import annotations

import socket

__all__ = ["unused_port"]


def unused_port() -> int:
    """A port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
