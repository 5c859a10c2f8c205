"""Connections that break a limit: heads and bodies without end, readers that do not read, too many at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.server.connections.acceptor import Acceptor
from hfstream.server.connections.guarded import GuardedConnection
from tests.helpers.scripted_engine import EOS, ScriptedEngine, eventually, http, idle, post

ROOT = Path(__file__).parents[3]
BODY = json.dumps({"inputs": "Hi"}).encode()
HEAD = b"POST /generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(model), client_timeout=0.5), engine=ScriptedEngine()) as server:
        yield server.url


def connect(url: str) -> socket.socket:
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port or 80), timeout=60)


def exchange(url: str, *parts: bytes) -> bytes:
    """What the server sends until it closes the connection."""
    with connect(url) as connection:
        received = b""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
            while data := connection.recv(65_536):
                received += data
        return received


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-a:",),
        (HEAD + b"content-length: 100\r\n\r\n", b"{"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n{\r\n"),
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n", b"1"),
    ],
    ids=["head", "body", "chunked body", "body that is not read"],
)
def test_a_request_without_end_is_dropped(url: str, parts: tuple[bytes, ...]) -> None:
    exchange(url, *parts)  # would otherwise wait for a minute, and fail
    assert post(url, "/generate").status_code == 200


def test_a_head_without_end_is_refused(url: str) -> None:
    received = exchange(url, b"GET /health HTTP/1.1\r\nhost: localhost\r\n", *[b"x-a: " + b"b" * 4000 + b"\r\n"] * 60)
    assert received[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 400", b"")  # empty if the client still sends as it is closed


@pytest.mark.parametrize("size", [1, 1_000, 100_000, None], ids=["byte by byte", "parts", "body in one", "all in one"])
def test_the_limit_on_a_head_holds_however_it_comes(url: str, size: int | None) -> None:
    def answer(path_size: int, body: bytes = BODY) -> bytes:
        length = b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        head = HEAD.replace(b"/generate", b"/generate?" + b"a" * path_size) + length
        last = len(head) - 2 if size else 0  # the blank line comes in parts of this size
        rest = (head + body)[last:]
        parts = [rest[start : start + size] for start in range(0, len(rest), size)] if size else [rest]
        return exchange(url, *([head[:last]] if last else []), *parts)

    assert answer(60_000).startswith(b"HTTP/1.1 200")
    long_body = b'{"inputs":"' + b"a" * 90 + b'"' + b" " * (100 if size == 1 else 100_000) + b"}"
    assert answer(60_000, long_body).startswith(b"HTTP/1.1 200")
    assert answer(70_000)[:12] in (b"HTTP/1.1 431", b"")  # empty if the client still sends as it is closed


def test_a_body_with_two_lengths_is_refused_and_nothing_behind_it_answered(url: str) -> None:
    head = b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    hidden = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    received = exchange(url, HEAD + head + chunked + hidden)
    assert received.startswith(b"HTTP/1.1 400")
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://localhost:1/health", b"evil.example", 200),
        (b"HTTP://localhost//v1/models/", b"localhost", 200),
        (b"http://localhost", b"localhost", 200),
        (b"http://localhost?a=http://b/c", b"localhost", 200),
        (b"http://evil.example/health", b"localhost", 421),
    ],
)
def test_an_absolute_target_is_a_path_and_a_host(url: str, target: bytes, host: bytes, status: int) -> None:
    received = exchange(url, b"GET %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n" % (target, host))
    assert received.startswith(b"HTTP/1.1 %d" % status)


def test_a_broken_chunked_body_is_one_line_in_the_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    head = b"GET /health HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    with caplog.at_level(logging.WARNING):
        received = exchange(url, head + b"zz\r\n")
        assert received.startswith(b"HTTP/1.1 400")
        received = exchange(url, head, b"zz\r\n")
        assert received.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))
    assert len(caplog.records) == 2
    assert not any(record.exc_info for record in caplog.records)


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"


@pytest.mark.parametrize("size", [1, 50, 10_000], ids=["byte by byte", "parts", "one part"])
def test_a_request_that_offers_http2_is_answered_as_http1(
    url: str, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    request = HEAD + UPGRADE + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    last = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    parts = [request[start : start + size] for start in range(0, len(request), size)]
    received = exchange(url, *parts, last)
    assert received.count(b"HTTP/1.1 200") == 2
    assert received.count(b'{"generated_text":"Hello, world!"') == 2
    assert not caplog.records


def test_a_websocket_is_no_news(url: str, caplog: pytest.LogCaptureFixture) -> None:
    upgrade = (
        b"connection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-key: AA==\r\nsec-websocket-version: 13\r\n"
    )
    received = exchange(url, b"GET /ws HTTP/1.1\r\nhost: localhost\r\n" + upgrade + b"\r\n")
    assert received.startswith(b"HTTP/1.1 404")
    assert len(caplog.records) <= 1


def test_nagles_algorithm_is_off(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted: list[int] = []

    original = GuardedConnection.connection_made

    def made(self: GuardedConnection, transport: asyncio.Transport) -> None:
        connection: socket.socket = transport.get_extra_info("socket")
        accepted.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        original(self, transport)

    monkeypatch.setattr(GuardedConnection, "connection_made", made)
    with BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine()) as server:
        assert post(server.url, "/generate").status_code == 200
    assert accepted
    assert all(accepted)


@pytest.mark.slow
@pytest.mark.parametrize("prefer", ["", "resumable"], ids=["stream", "resumable stream"])
def test_a_reader_that_does_not_read_is_dropped_and_its_permit_released(
    model: Path, prefer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small_buffers(self: Acceptor, connection: socket.socket) -> Any:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return original(self, connection)

    original = Acceptor._open  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(Acceptor, "_open", small_buffers)
    settings = Settings(model=str(model), client_timeout=0.5, resume_grace=0.1, sse_keepalive=0.0001)
    engine = ScriptedEngine(lambda request: iter(lambda: None, EOS))  # silent: the buffers are filled by comments
    with BackgroundServer(settings, engine=engine) as server, socket.socket() as connection:
        address = httpx.URL(server.url)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((address.host, address.port or 80))
        head = HEAD.replace(b"/generate", b"/generate_stream") + b"prefer: %s\r\n" % prefer.encode()
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)
        assert eventually(lambda: bool(engine.submitted))
        assert eventually(lambda: idle(server.url))


@pytest.mark.slow
def test_a_server_for_all_without_a_key_says_so(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    for host in "0.0.0.0", "":
        caplog.clear()
        with BackgroundServer(Settings(model=str(model), host=host), engine=ScriptedEngine()):
            pass
        assert "every network of this computer without an API key" in caplog.text
    caplog.clear()
    for settings in Settings(host="0.0.0.0", api_key="a"), Settings(), Settings(host="::1"):
        with BackgroundServer(replace(settings, model=str(model)), engine=ScriptedEngine()):
            pass
    assert not caplog.records


FEW_FILES = """
import logging, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from hfstream.server import BackgroundServer, Settings
from tests.helpers.scripted_engine import ScriptedEngine
logging.basicConfig(level=logging.WARNING)
with BackgroundServer(Settings(model=sys.argv[1]), engine=ScriptedEngine()) as first:
    pass
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with BackgroundServer(Settings(model=sys.argv[1]), engine=ScriptedEngine()) as server:
    print(server.url, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_more_connections_than_files_are_survived(model: Path) -> None:
    pytest.importorskip("resource")
    command = [sys.executable, "-c", FEW_FILES, str(model), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            with contextlib.ExitStack() as stack:
                for _ in range(100):
                    stack.enter_context(connect(url))
                for _ in range(20):
                    assert http.get(url + "/health").status_code == 200
            assert post(url, "/generate").status_code == 200
            _, errors = process.communicate("\n", timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert len(errors.splitlines()) <= 1, errors
