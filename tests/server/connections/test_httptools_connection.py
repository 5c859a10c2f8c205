"""Connections that httptools reads. It is not among the packages that tests need."""

from __future__ import annotations

import pytest

from tests.server.connections.test_guarded import HEAD, UPGRADE

pytest.importorskip("httptools")

from hfstream.server.connections.httptools_connection import without_upgrade


def test_the_upgrade_header_is_renamed_in_heads_only() -> None:
    request = HEAD + UPGRADE + b"\r\nUpgrade: body"
    for cut in range(len(request)):
        first, held = without_upgrade(b"", request[:cut])
        if b"\r\n\r\n" in request[:cut]:
            assert (first + request[cut:], held) == (request.replace(b"Upgrade: h2c", b"x-upgrade: h2c"), b"")
        else:
            second, held = without_upgrade(held, request[cut:])
            assert (first + second, held) == (request.replace(b"Upgrade: h2c", b"x-upgrade: h2c"), b"")
