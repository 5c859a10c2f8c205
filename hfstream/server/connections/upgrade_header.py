"""Takes the Upgrade header out of requests. Does not depend on how they are read."""

from __future__ import annotations

import re

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
