"""A body is read in our own way or by httpx, and the answer is the same; what follows it is no answer."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hfstream import InferenceError
from hfstream.testing import token_events
from tests.helpers.variants import Clients, Variant

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = token_events("Hello", ",", " you", finish_reason="eos_token")
CHUNKS = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS)
BODY = b"".join(EVENTS)
HEAD_WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(BODY)
TEXTS = ["Hello", ",", " you"]


@contextlib.contextmanager
def wire_server(*pieces: bytes, closes: bool = False) -> Iterator[tuple[str, list[int]]]:
    """Sends `pieces`, one by one, for each request; the URL, and for each request the number of its connection."""
    connections: list[int] = []
    count = 0

    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            nonlocal count
            count += 1
            number = count
            with contextlib.suppress(OSError):
                while line := self.rfile.readline():
                    assert line
                    size = 0
                    for header in iter(self.rfile.readline, b"\r\n"):
                        name, _, value = header.partition(b":")
                        size = int(value) if name.lower() == b"content-length" else size
                    self.rfile.read(size)
                    connections.append(number)
                    for piece in pieces:
                        self.wfile.write(piece)
                    if closes:
                        self.request.shutdown(socket.SHUT_RDWR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", connections
        finally:
            server.shutdown()
            thread.join()


async def outcome(variant: Variant, client: Any) -> tuple[list[str], str]:
    """What the caller gets: the texts, and the class of the error, if there is one."""
    texts: list[str] = []
    try:
        stream = await variant.open(client)
        while (item := await variant.next(stream)) is not None:
            texts.append(item)
    except InferenceError as error:
        assert not error.partial_text or error.partial_text == "".join(texts)
        return texts, type(error).__name__
    return texts, ""


LAST = b"0\r\n\r\n"
WIRES = {
    "as usual": ([HEAD, CHUNKS, LAST], False),
    "byte by byte": ([bytes([byte]) for byte in HEAD + CHUNKS + LAST], False),
    "head and body at once": ([HEAD + CHUNKS + LAST], False),
    "1xx first": ([b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" + HEAD + CHUNKS + LAST], False),
    "lines that end with LF": ([HEAD.replace(b"\r\n", b"\n") + CHUNKS, LAST], False),
    "trailers": ([HEAD, CHUNKS, b"0\r\nA: b\r\nC: d\r\n\r\n"], False),
    "an extension": ([HEAD, b"%x;a=b\r\n%b\r\n" % (len(EVENTS[0]), EVENTS[0]), CHUNKS, LAST], False),
    "a long size": ([HEAD, b"%020x\r\n%b\r\n" % (len(EVENTS[0]), EVENTS[0]), CHUNKS, LAST], False),
    "one chunk": ([HEAD + b"%x\r\n%b\r\n" % (len(b"".join(EVENTS)), b"".join(EVENTS)) + LAST], False),
    "cut in a chunk": ([HEAD, CHUNKS[:-40]], True),
    "cut between chunks": ([HEAD, CHUNKS[: CHUNKS.index(b"\r\n", 5) + 4]], True),
    "cut before the last chunk": ([HEAD, CHUNKS], True),
    "nothing but the end": ([HEAD, LAST], True),
    "an illegal size": ([HEAD, b"%x\r\n%b\r\n" % (len(EVENTS[0]), EVENTS[0]), b"zz\r\n"], True),
    "both lengths": ([HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + CHUNKS, LAST], False),
}


@pytest.mark.parametrize("name", WIRES)
async def test_both_ways_read_the_same(variant: Variant, clients: Clients, name: str) -> None:
    pieces, closes = WIRES[name]
    with wire_server(*pieces, closes=closes) as (url, _):
        theirs: Any = httpx.Client() if variant.name == "sync" else httpx.AsyncClient()
        ours = await outcome(variant, clients(url, retry=None))
        assert ours == await outcome(variant, clients(url, retry=None, http_client=theirs))
        assert ours[0] == TEXTS or name.startswith(("cut", "nothing", "an illegal", "an extension", "a long"))
        theirs.close() if variant.name == "sync" else await theirs.aclose()


RESPONSES = [(HEAD, CHUNKS + LAST), (HEAD_WITH_LENGTH, BODY)]


@pytest.mark.parametrize(("head", "body"), [*RESPONSES, (HEAD, CHUNKS + b"0\r\nA: b\r\n\r\n")])
async def test_the_connection_is_used_again(variant: Variant, clients: Clients, head: bytes, body: bytes) -> None:
    with wire_server(head, body) as (url, connections):
        client = clients(url)
        for _ in range(3):
            assert await variant.rest(await variant.open(client)) == TEXTS
        assert connections == [1, 1, 1]


@pytest.mark.parametrize(("head", "body"), RESPONSES)
@pytest.mark.parametrize(
    "garbage",
    [
        b"x",
        b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        HEAD_WITH_LENGTH + BODY.replace(b"Hello", b"Other"),
        b"\0" * 70_000,
    ],
)
async def test_what_follows_the_end_of_a_body_never_becomes_another_answer(
    variant: Variant, clients: Clients, head: bytes, body: bytes, garbage: bytes
) -> None:
    with wire_server(head + body + garbage) as (url, connections):
        client = clients(url)
        for _ in range(3):
            assert await variant.rest(await variant.open(client)) == TEXTS
        assert connections == [1, 2, 3]


async def test_a_body_with_malformed_chunks_is_incomplete(variant: Variant, clients: Clients) -> None:
    first = EVENTS[0]
    with wire_server(HEAD, b"%x\r\n%bXX" % (len(first), first), CHUNKS) as (url, _):
        texts, error = await outcome(variant, clients(url, retry=None))
        assert (texts, error) == (["Hello"], "InferenceConnectionError")
