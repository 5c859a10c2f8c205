"""nginx before `hfstream serve`, as Debian packages it: buffering on and off, compression on. And without nginx."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hfstream.server import BackgroundServer, Settings
from tests.helpers.ports import unused_port
from tests.helpers.shared_engine import SharedEngine

from .conftest import Diagnose

pytestmark = pytest.mark.slow

CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            {directives}
        }}
    }}
}}
"""

IGNORED = "proxy_ignore_headers X-Accel-Buffering;"
"""hfstream's server asks nginx not to buffer. This makes it like a server that does not."""


@pytest.fixture(scope="module")
def backend(shared_engine: SharedEngine) -> Iterator[str]:
    """At a pace at which buffers show, and not much slower."""
    with BackgroundServer(Settings(tokens_per_second=60), engine=shared_engine.connect()) as server:
        yield server.url


@contextmanager
def nginx(upstream: str, directives: str, folder: Path) -> Iterator[str]:
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed")
    port = unused_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(folder=folder, port=port, upstream=upstream, directives=directives), encoding="utf-8"
    )
    command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(configuration)]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "error.log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("directives", "first", "lines"),
    [
        (IGNORED, "The tokens come in lumps: ", ["proxy_buffering off;", "X-Accel-Buffering: no"]),
        (
            f"{IGNORED} proxy_buffers 8 64k; proxy_buffer_size 64k;",
            "The stream is held back: ",
            ["proxy_buffering off;", "X-Accel-Buffering: no"],
        ),
        (
            f"{IGNORED} gzip on; gzip_types text/event-stream;",
            "The tokens come in lumps: ",
            ["proxy_buffering off;", "X-Accel-Buffering: no", "gzip off;"],
        ),
        ("proxy_buffering off;", "It streams, token by token: ", []),
        ("", "It streams, token by token: ", []),  # hfstream's own X-Accel-Buffering
        ("gzip on; gzip_types text/event-stream;", "It streams, token by token: ", []),
    ],
)
def test_nginx_before_the_reference_server(
    directives: str, first: str, lines: list[str], backend: str, diagnose: Diagnose, tmp_path: Path
) -> None:
    with nginx(backend, directives, tmp_path) as url:
        diagnosis = diagnose(url)
    assert diagnosis.first.startswith(first)
    assert diagnosis.lines == lines
    assert diagnosis.code == (1 if lines else 0)
    assert diagnosis.report["server"]["kind"] == "hfstream"
    assert diagnosis.report["server"]["between"] == "nginx"
    assert "hfstream sends a comment every 15 s" in diagnosis.finding("silence")["summary"]


def test_the_reference_server(backend: str, diagnose: Diagnose) -> None:
    for url in (backend, f"{backend}/v1"):
        diagnosis = diagnose(url)
        assert diagnosis.first.startswith("It streams, token by token: ")
        assert diagnosis.code == 0
        assert set(diagnosis.report["works"].values()) == {True}
        assert diagnosis.report["works"].keys() == {"chat", "usage", "resume", "text", "tools", "json", "tokenize"}
        assert diagnosis.finding("closing")["severity"] == "ok"
        assert diagnosis.report["requests"] <= 12


def test_a_server_that_nginx_cannot_reach(diagnose: Diagnose, tmp_path: Path) -> None:
    with nginx("http://127.0.0.1:1", "", tmp_path) as url:
        diagnosis = diagnose(url)
    assert diagnosis.first.startswith("nginx answers in the server's place: HTTP 502")
