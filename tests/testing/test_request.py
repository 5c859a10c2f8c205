"""Tests of `ScriptedServer` with clients of every kind: each request is answered, however it is written."""

from __future__ import annotations

import contextlib
import socket
import time

import httpx
import pytest

from hfstream.testing import Request, Response, ScriptedServer, Step
from hfstream.testing import request as request_module

TIMEOUT = 60


def exchange(server: ScriptedServer, data: bytes, *, half_close: bool = False) -> bytes:
    """Sends `data` on a new connection, and returns all that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), TIMEOUT) as sock:
        sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def echo(request: Request) -> Response:
    return Response(b"%s %s" % (request.method.encode(), request.body), content_type="text/plain")


CLOSE = b"Host: x\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"transfer-encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n03 \r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked", "extensions and trailers", "length twice", "length and chunked"],
)
def test_bodies_are_read_in_every_framing(body: bytes) -> None:
    with ScriptedServer(echo) as server:
        answer = exchange(server, b"POST /a?b=c HTTP/1.1\r\n" + CLOSE + body)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"POST hello" in answer
        assert (server.requests[0].path, server.requests[0].body) == ("/a?b=c", b"hello")


def test_a_chunked_body_of_a_client_library_is_read() -> None:
    with ScriptedServer(echo) as server:
        assert httpx.post(server.url, content=iter([b"hel", b"lo"])).text == "POST hello"
        assert server.requests[0].headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_client_that_waits_for_100_continue_gets_it_before_it_sends_the_body(framing: bytes) -> None:
    with (
        ScriptedServer(echo) as server,
        socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), TIMEOUT) as sock,
    ):
        sock.sendall(b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\n" + CLOSE + framing + b"\r\n")
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello" if b"Length" in framing else b"5\r\nhello\r\n0\r\n\r\n")
        assert b"POST hello" in b"".join(iter(lambda: sock.recv(65536), b""))


def test_http_1_0_gets_an_unframed_body_and_a_closed_connection() -> None:
    steps: list[Step] = [b"one ", 0.01, b"two"]
    with ScriptedServer(Response(steps, content_type=None)) as server:
        answer = exchange(server, b"GET / HTTP/1.0\r\n\r\n")
        assert answer == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\none two"
        assert server.requests[0].http_version == "1.0"


def test_http_1_0_keeps_its_connection_if_it_asks_for_that_and_the_length_is_known() -> None:
    first = b"GET /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
    with ScriptedServer(Response([b"one ", b"two"], content_type=None), Response([b"x", 0.01])) as server:
        answer = exchange(server, first + first)
        assert answer.startswith(
            b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\none twoHTTP/1.1 200 OK\r\n"
        )
        assert answer.endswith(b"Connection: close\r\n\r\nx")  # a body with pauses ends with its connection
        assert server.connections == 1


def test_connection_close_is_honoured_and_announced() -> None:
    with ScriptedServer(Response("a")) as server:
        assert b"Connection: close\r\n" in exchange(server, b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
    with ScriptedServer(Response("a", headers={"connection": "close"})) as server:
        assert exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").count(b"onnection: close") == 1


def test_pipelined_requests_are_answered_in_order_and_do_not_shorten_pauses() -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with ScriptedServer(*[Response([b"a", 0.2, b"b"], delay=0.2)] * 2, Response("c")) as server:
        answer = exchange(server, request * 2 + b"\r\n\r\nGET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
        assert [answer.count(text) for text in (b"\r\na\r\n", b"\r\nb\r\n", b"\r\nc\r\n")] == [2, 2, 1]
        assert len(server.requests) == 3


def test_a_client_that_only_closes_its_sending_half_is_answered() -> None:
    with ScriptedServer(echo) as server:
        assert b"GET " in exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", half_close=True)


def test_head_and_204_have_no_body() -> None:
    with ScriptedServer(Response("a")) as server:
        assert exchange(server, b"HEAD / HTTP/1.1\r\n" + CLOSE + b"\r\n").endswith(b"\r\n\r\n")
    with ScriptedServer(Response("a", 204)) as server:
        answer = exchange(server, b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
        assert answer.endswith(b"\r\n\r\n")
        assert b"chunked" not in answer


@pytest.mark.parametrize(
    ("request_bytes", "status", "message"),
    [
        (b"GET /\r\n", 400, b"not a request line"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, b"use HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, b"use http://"),
        (b"\x00\x01", 400, b"not HTTP"),
        (b"\r\n" * 200, 400, b"empty lines"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, b"not a header"),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, b"not a header"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n", 400, b"Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, b"Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413, b"longer than"),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n", 413, b"longer than"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", 413, b"longer than"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, b"size of a chunk"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400, b"longer than its size"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, b"use chunked"),
        (b"POST / HTTP/1.1\r\nExpect: the unexpected\r\n\r\n", 417, b"expectation"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", 431, b"longer than 65536"),
        (b"GET / HTTP/1.1\r\n" + b"A: x\r\n" * 20_000 + b"\r\n", 431, b"longer than 65536"),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else None,
)
def test_a_request_that_cannot_be_read_is_answered(request_bytes: bytes, status: int, message: bytes) -> None:
    with ScriptedServer(echo) as server:
        answer = exchange(server, request_bytes)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert message in answer
        assert server.requests == []


@pytest.mark.parametrize(
    "part", [b"GET / HT", b"GET / HTTP/1.1\r\nHos", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nab"]
)
def test_an_incomplete_request_is_answered(part: bytes) -> None:
    with ScriptedServer(echo) as server:
        assert b"in the middle of the request" in exchange(server, part, half_close=True)
        assert server.requests == []


def test_a_response_to_a_body_that_is_too_large_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_module, "MAX_BODY_SIZE", 10)
    with ScriptedServer(echo) as server:  # the client has sent all of it, and reads then
        answer = exchange(server, b"POST / HTTP/1.1\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000)
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_headers_are_joined_and_unfolded() -> None:
    with ScriptedServer(echo) as server:
        exchange(server, b"GET / HTTP/1.1\r\n" + CLOSE + b"A: 1\r\na: 2\r\nB: 3\r\n  4\r\nC:\r\n\r\n")
        headers = server.requests[0].headers
        assert (headers["a"], headers["b"], headers["c"]) == ("1, 2", "3 4", "")


def test_closing_the_server_ends_requests_that_never_end() -> None:
    for data in (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nab", b"GET / HTTP", b""):
        with ScriptedServer(echo) as server:
            sock = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), TIMEOUT)
            sock.sendall(data)
            while not server.connections:
                time.sleep(0.001)
        with sock, contextlib.suppress(ConnectionError):
            while sock.recv(1000):
                pass  # until the server's end of the connection is closed
