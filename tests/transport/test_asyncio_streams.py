"""Connections of asyncio event loops, plain and over TLS, as httpcore reads and writes them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpcore
import pytest
import trustme

from hfstream._transport.asyncio_streams import MAX_UNREAD, READ_SIZE, AsyncioBackend
from tests.helpers.ports import unused_port

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

BACKEND = AsyncioBackend()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(params=["plain", "TLS", "TLS in TLS"])
def layers(request: pytest.FixtureRequest) -> int:
    """How many times the connection is encrypted."""
    return ["plain", "TLS", "TLS in TLS"].index(request.param)


@contextlib.asynccontextmanager
async def listening(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that calls `handler` once, which closes the connection when it returns."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def connected(
    handler: Handler, layers: int, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> AsyncIterator[httpcore.AsyncNetworkStream]:
    """A stream whose peer is `handler`, encrypted `layers` times."""
    async with contextlib.AsyncExitStack() as servers:
        port = await servers.enter_async_context(listening(handler, server_context if layers else None))
        for _ in range(layers - 1):
            port = await servers.enter_async_context(listening(forward_to(port), server_context))
        stream = await BACKEND.connect_tcp("127.0.0.1", port)
        for _ in range(layers):
            stream = await stream.start_tls(client_context, "localhost", timeout=60)
        try:
            yield stream
        finally:
            await stream.aclose()


def forward_to(port: int) -> Handler:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    return forward


@pytest.fixture
def connect(layers: int, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> Any:
    return lambda handler: connected(handler, layers, server_context, client_context)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def read_all(stream: httpcore.AsyncNetworkStream, size: int = 65_536) -> bytes:
    parts: list[bytes] = []
    while data := await stream.read(size, timeout=60):
        assert len(data) <= size
        parts.append(data)
    return b"".join(parts)


async def test_what_is_written_comes_back(connect: Any) -> None:
    async with connect(echo) as stream:
        for data in (b"Hello", b"x" * 40_000):
            await stream.write(data, timeout=60)
            received = b""
            while len(received) < len(data):
                received += await stream.read(1000, timeout=60)
            assert received == data
        await stream.write(b"")
        assert not stream.get_extra_info("is_readable")


async def test_the_end_is_empty(connect: Any) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Hello")

    async with connect(greet) as stream:
        assert await read_all(stream) == b"Hello"
        assert await stream.read(10) == b""
        assert stream.get_extra_info("is_readable")


async def test_megabytes_pass_in_both_directions_in_bounded_memory(connect: Any) -> None:
    sent = bytes(range(256)) * 16_384

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await reader.readexactly(len(sent))
        writer.write(received)
        await writer.drain()

    async with connect(answer) as stream:
        await stream.write(sent, timeout=60)
        await asyncio.sleep(0.2)  # it could all have come by now
        connection = innermost(stream)._connection
        assert sum(map(len, connection.received)) <= MAX_UNREAD + READ_SIZE
        assert await read_all(stream) == sent


def innermost(stream: Any) -> Any:
    while hasattr(stream, "_stream"):
        stream = stream._stream
    return stream


async def test_a_read_that_takes_too_long_can_be_repeated(connect: Any) -> None:
    go_on = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(b"Hello")

    async with connect(wait) as stream:
        for seconds in (0.0, 0.05, 0.01):
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(10, timeout=seconds)
        reader = asyncio.create_task(stream.read(10, timeout=60))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        go_on.set()
        assert await stream.read(10) == b"Hello"


async def test_a_timer_is_not_set_for_each_read(connect: Any) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(20):
            writer.write(b"a")
            await reader.readexactly(1)

    async with connect(count) as stream:
        connection = innermost(stream)._connection
        timers: set[Any] = set()
        for _ in range(20):
            assert await stream.read(10, timeout=600.0) == b"a"
            timers.add(connection._timer)
            await stream.write(b"b")
        assert len(timers - {None}) == 1  # none if the data came first


async def test_a_write_that_is_not_read_is_given_up(connect: Any) -> None:
    done = asyncio.Event()

    async def read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()

    async with connect(read_nothing) as stream:
        for _ in range(2):
            with pytest.raises(httpcore.WriteTimeout):
                await stream.write(b"x" * 32_000_000, timeout=0.05)
        done.set()


@pytest.mark.parametrize("layers", [0, 1], ids=["plain", "TLS"])
async def test_a_reset_is_an_error_after_what_came_before_it(connect: Any) -> None:
    closed = asyncio.Event()

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Hello")
        await reader.readexactly(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        closed.set()

    async with connect(reset) as stream:
        assert await stream.read(5, timeout=60) == b"Hello"
        await stream.write(b"!")
        await closed.wait()
        with pytest.raises(httpcore.ReadError, match="reset"):
            await stream.read(10, timeout=60)
        with pytest.raises(httpcore.WriteError, match=r"reset|closed"):
            await stream.write(b"Hello")


@pytest.mark.parametrize("from_a_thread", [False, True])
async def test_abort_wakes_the_reader(connect: Any, from_a_thread: bool) -> None:
    async with connect(say_nothing) as stream:
        reader = asyncio.create_task(stream.read(10))
        await asyncio.sleep(0.01)
        if from_a_thread:
            thread = threading.Thread(target=stream.abort)
            thread.start()
        else:
            stream.abort()
        assert await reader == b""
        assert stream.get_extra_info("is_readable")
        with pytest.raises(httpcore.WriteError):
            await stream.write(b"Hello")


def test_abort_after_the_loop_is_closed_is_silent() -> None:
    async def main() -> Any:
        async with listening(say_nothing) as port:
            return await BACKEND.connect_tcp("127.0.0.1", port)

    runner = asyncio.Runner()
    stream = runner.run(main())
    runner.run(stream.aclose())
    runner.close()
    stream.abort()


async def test_what_is_known_of_a_connection(layers: int, connect: Any) -> None:
    async with connect(say_nothing) as stream:
        assert stream.get_extra_info("client_addr") == stream.get_extra_info("socket").getsockname()
        assert stream.get_extra_info("server_addr")[0] == "127.0.0.1"
        assert (stream.get_extra_info("ssl_object") is None) == (layers == 0)
        assert stream.get_extra_info("unknown") is None


async def test_options_of_a_socket_are_set() -> None:
    async with listening(say_nothing) as port:
        option = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        stream = await BACKEND.connect_tcp("127.0.0.1", port, local_address="127.0.0.1", socket_options=[option])
        assert stream.get_extra_info("socket").getsockopt(*option[:2]) == 1
        assert stream.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await stream.aclose()


async def test_a_refused_connection_has_the_systems_words() -> None:
    with pytest.raises(httpcore.ConnectError, match=r"^\[Errno \d+\] Connection refused$"):
        await BACKEND.connect_tcp("127.0.0.1", unused_port(), timeout=60)


# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_a_certificate_of_another_host_is_refused(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async with listening(say_nothing, server_context) as port:
        stream = await BACKEND.connect_tcp("127.0.0.1", port)
        with pytest.raises(httpcore.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await stream.start_tls(client_context, "example.org", timeout=60)
        assert stream.get_extra_info("is_readable")  # closed


async def test_a_peer_that_does_not_speak_tls(client_context: ssl.SSLContext) -> None:
    async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    for peer, reason in ((speak_http, "WRONG_VERSION_NUMBER|wrong version"), (hang_up, "EOF|reset|closed")):
        async with listening(peer) as port:
            stream = await BACKEND.connect_tcp("127.0.0.1", port)
            with pytest.raises(httpcore.ConnectError, match=reason):
                await stream.start_tls(client_context, "localhost", timeout=60)
    async with listening(say_nothing) as port:
        stream = await BACKEND.connect_tcp("127.0.0.1", port)
        with pytest.raises(httpcore.ConnectTimeout):
            await stream.start_tls(client_context, "localhost", timeout=0.05)


async def test_records_that_are_no_tls_end_the_stream(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        sock: Any = writer.get_extra_info("socket")
        sock._sock.send(b"not a record")

    async with connected(break_off, 1, server_context, client_context) as stream:
        await stream.write(b"!")
        with pytest.raises(httpcore.ReadError, match="SSL"):
            await read_all(stream)
