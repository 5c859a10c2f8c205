"""Which HTTP parser reads a server's connections. Does not depend on the limits that they have."""

from __future__ import annotations

import contextlib
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from .guarded import GuardedConnection


class H11Connection(GuardedConnection, H11Protocol):
    """Read by h11."""


def protocol_class(*, client_timeout: float, max_connections: int) -> Any:
    """The protocol of a server's connections, with httptools where it is installed, as uvicorn itself chooses it."""
    connection_class: Any = H11Connection
    with contextlib.suppress(ImportError):
        from .httptools_connection import HttpToolsConnection  # noqa: PLC0415 - an optional dependency

        connection_class = HttpToolsConnection
    limits = {"client_timeout": client_timeout, "max_connections": max_connections}
    return type(connection_class.__name__, (connection_class,), limits)
