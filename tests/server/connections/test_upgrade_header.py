"""The Upgrade header of a request that arrives in parts."""

from __future__ import annotations

from hfstream.server.connections.upgrade_header import without_upgrade
from tests.server.connections.test_guarded import HEAD, UPGRADE


def test_the_upgrade_header_is_renamed_in_heads_only() -> None:
    request = HEAD + UPGRADE + b"\r\nUpgrade: body"
    for cut in range(len(request)):
        first, held = without_upgrade(b"", request[:cut])
        if b"\r\n\r\n" in request[:cut]:
            assert (first + request[cut:], held) == (request.replace(b"Upgrade: h2c", b"x-upgrade: h2c"), b"")
        else:
            second, held = without_upgrade(held, request[cut:])
            assert (first + second, held) == (request.replace(b"Upgrade: h2c", b"x-upgrade: h2c"), b"")
