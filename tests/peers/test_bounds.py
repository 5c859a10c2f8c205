"""Events, bodies and heads without an end."""

from __future__ import annotations

import contextlib
import functools
import gzip
import itertools
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest

from hfstream import (
    BadRequestError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    Timeouts,
    UnexpectedResponseError,
)
from hfstream.testing import (
    Response,
    ScriptedServer,
)
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import SOON, Task

BOUNDS = row(
    "Streams",
    "an event or a header that never ends, a gzip body that expands to a thousand times its size",
    "read until memory runs out",
    "a typed error, and bounded memory",
)
MIB = 2**20


@contextlib.contextmanager
def at_most(mebibytes: int) -> Iterator[None]:
    """Fails if what runs within it takes more memory at its peak."""
    tracemalloc.start(1)
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mebibytes * MIB, f"{peak / MIB:.0f} MiB"


@BOUNDS
@pytest.mark.parametrize("start", [b"data: ", b": "], ids=["data", "a comment"])
@pytest.mark.slow
async def test_an_event_without_an_end_is_refused(variant: Variant, clients: Clients, task: Task, start: bytes) -> None:
    # One that reads it all is told by its memory, not by a machine that stands still.
    body = itertools.chain([task.event("Hello"), start], itertools.repeat(b"x" * 65536, 80 * MIB // 65536))
    with ScriptedServer(Response(body)) as server:
        stream = await task.open(variant, clients(server.url))
        assert task.texts([await variant.next(stream)]) == ["Hello"]
        with (
            at_most(40),
            pytest.raises(UnexpectedResponseError, match="larger than 16777216 bytes") as caught,
        ):
            await variant.rest(stream)
        assert caught.value.partial_text == "Hello"


SIDE_DATA = {
    "roles": b'{"id":"%d","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}',
    "no choices": b'{"id":"%d","choices":[]}',
    "usages": b'{"id":"%d","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0,"total_tokens":1}}',
    "many choices": b'{"id":"%d","choices":[' + b"{}," * 300 + b"{}]}",
    "nested lists": b'{"id":"%d","choices":[],"x":[' + b"[]," * 300 + b"[]]}",
    "names": b'{"id":"%d","choices":[],' + b",".join(b'"n%d":1' % at for at in range(300)) + b"}",
}


@pytest.mark.slow
@BOUNDS.only(task="chat")
@pytest.mark.parametrize("data", SIDE_DATA.values(), ids=SIDE_DATA)
async def test_chunks_without_content_for_ever_are_refused(variant: Variant, clients: Clients, data: bytes) -> None:
    # Chunks before the first content are kept for it: it must not come later than memory lasts.
    chunks = (b"data: " + (data % number) + b"\n\n" for number in itertools.count())
    body = (b"".join(itertools.islice(chunks, 20)) for _ in itertools.count())
    with ScriptedServer(Response(body)) as server:
        client = clients(server.url, retry=None, timeout=Timeouts(first_token=SOON))
        with at_most(40), pytest.raises(UnexpectedResponseError, match="without any content"):
            await variant.open_chat(client)


NOTHING = {
    "comments": b": still here\n\n",
    "ids": b"id: %d\n\n",
    "the same chunk": b'data: {"id":"1","choices":[]}\n\n',
    "progress": b'event: progress\ndata: {"progress":%d}\n\n',
    "untyped progress": b'data: {"type":"progress","progress":%d}\n\n',
    "notices": b'data: {"message":"wait %d"}\n\n',
    "lines": b"waiting %d\n\n",
}


@BOUNDS
@pytest.mark.parametrize("data", NOTHING.values(), ids=NOTHING)
async def test_what_adds_nothing_for_ever_ends_at_the_first_token_limit(
    variant: Variant, clients: Clients, task: Task, data: bytes
) -> None:
    events = b"".join(data % number if b"%d" in data else data for number in range(100))
    with ScriptedServer(Response(itertools.repeat(events))) as server:
        client = clients(server.url, retry=None, timeout=Timeouts(first_token=0.2))
        with at_most(12), pytest.raises(InferenceTimeoutError) as caught:
            await task.open(variant, client)
        assert caught.value.phase == "first_token"


@BOUNDS.only(task="chat")
async def test_an_event_of_a_million_values_is_refused(variant: Variant, clients: Clients) -> None:
    event = b'data: {"choices":[' + b"{}," * 2**20 + b"{}]}\n\n"
    with ScriptedServer(Response([event])) as server:
        client = clients(server.url, retry=None)
        with at_most(40), pytest.raises(UnexpectedResponseError, match="too many values"):
            await variant.open_chat(client)


@functools.cache
def bomb(size: int) -> bytes:
    """Zeros, compressed: a thousandth of `size` bytes."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(size // MIB)), packer.flush()])


@BOUNDS
@pytest.mark.parametrize(
    ("status", "expected"), [(200, UnexpectedResponseError), (400, BadRequestError)], ids=["stream", "refusal"]
)
@pytest.mark.slow
async def test_a_body_that_decompresses_to_too_much_is_refused(
    variant: Variant, clients: Clients, task: Task, status: int, expected: type[InferenceError]
) -> None:
    with ScriptedServer(Response([bomb(448 * MIB)], status, headers={"Content-Encoding": "gzip"})) as server:
        client = clients(server.url, retry=None)
        with at_most(60), pytest.raises(expected):
            await task.open(variant, client)


@BOUNDS.only(task="text")
@pytest.mark.slow
async def test_a_body_that_is_compressed_twice_is_refused(variant: Variant, clients: Clients) -> None:
    packed = gzip.compress(bomb(448 * MIB))
    with ScriptedServer(Response([packed], headers={"Content-Encoding": "gzip, gzip"})) as server:
        client = clients(server.url, retry=None)
        with at_most(40), pytest.raises(UnexpectedResponseError, match="larger than"):
            await variant.open(client)


@contextlib.contextmanager
def endless_head() -> Iterator[str]:
    """A server whose answer's head has no end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Long: ")
                for _ in range(64 * 16):
                    sock.sendall(b"x" * 65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(SOON)


@BOUNDS
async def test_a_head_without_an_end_is_refused(variant: Variant, clients: Clients, task: Task) -> None:
    with endless_head() as url, at_most(8), pytest.raises(InferenceConnectionError, match="was lost"):
        await task.open(variant, clients(url, retry=None))
