"""Connections that httptools reads. Imported only where httptools is installed."""

from __future__ import annotations

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .guarded import GuardedConnection


class HttpToolsConnection(GuardedConnection, HttpToolsProtocol):  # type: ignore[misc]
    """Read by httptools."""

    _in_head: bool = True
    _held_back: bytes = b""

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            data, self._held_back = without_upgrade(self._held_back, data)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()


_UPGRADE = re.compile(rb"^upgrade(?=[ \t]*:)", re.IGNORECASE | re.MULTILINE)
_PERHAPS = re.compile(rb"(\r\n\r|\r\n|\r|(?<=\n)(u|up|upg|upgr|upgra|upgrad|upgrade[ \t]*))\Z", re.IGNORECASE)
"""What the end of the head, or an Upgrade header, may begin with."""


def without_upgrade(held_back: bytes, data: bytes) -> tuple[bytes, bytes]:
    """A part of a request, its Upgrade header under another name, and what to hold back until the next part comes.

    httptools takes the bytes after such a header for another protocol's, and loses the body: Java's HTTP client sends
    it with each first request. `held_back`: what was held back of the part before.
    """
    data = held_back + data
    head, end, rest = data.partition(b"\r\n\r\n")
    held = b""
    if not end and (beginning := _PERHAPS.search(head)):
        head, held = head[: beginning.start()], beginning[0]
    return _UPGRADE.sub(b"x-upgrade", head) + end + rest, held
