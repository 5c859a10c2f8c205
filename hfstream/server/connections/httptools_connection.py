"""Connections that httptools reads. Imported only where httptools is installed."""

from __future__ import annotations

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .guarded import GuardedConnection
from .upgrade_header import without_upgrade

_ABSOLUTE = re.compile(b"https?://([^/?]*)(.*)", re.IGNORECASE)
"""A target as for a proxy, of which uvicorn would lose the host. h11's are read by `request_rules.AbsoluteTargets`."""


class HttpToolsConnection(GuardedConnection, HttpToolsProtocol):  # type: ignore[misc]
    """Read by httptools."""

    url: bytes
    _in_head: bool = True
    _held_back: bytes = b""

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            data, self._held_back = without_upgrade(self._held_back, data)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if target := _ABSOLUTE.fullmatch(self.url):
            self.headers[:] = [(b"host", target[1]), *(header for header in self.headers if header[0] != b"host")]
            self.url = b"/" + target[2].removeprefix(b"/")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()
