"""A TCP proxy that cuts, resets, delays, splits and stalls connections at random bytes.

    with ChaosProxy(server.url, seed=7) as proxy:
        client = InferenceClient(proxy.url, resume=True)

The faults of a connection, and the bytes at which they occur, depend only on the seed and the connection's number, so
a run can be reproduced. The proxy never changes a byte. Does not depend on HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from .arguments import check_function, check_number
from .listener import listen, url_of

__all__ = ["ChaosProxy", "FaultRates", "ProxiedConnection"]

_READ_SIZE = 65_536


@dataclass(frozen=True)
class FaultRates:
    """How often a `ChaosProxy` injects faults, and the relative weight of each kind of fault.

    Weights need not add up to 1: a kind with weight 6 occurs twice as often as one with weight 3, and one with weight
    0 never occurs. At least one weight must be positive.

    Raises:
        TypeError: A value is not a number.
        ValueError: A value is out of range, or all weights are 0.
    """

    mean_bytes_between: float = 500
    """Mean number of bytes between two faults, separately for each direction of a connection. Greater than 0."""
    split: float = 6
    """Weight: the bytes after this point are sent in a separate segment."""
    delay: float = 3
    """Weight: the bytes after this point are sent later, by up to `longest_delay` seconds."""
    cut: float = 1
    """Weight: the connection is closed on both sides."""
    reset: float = 1
    """Weight: the connection is reset on both sides."""
    stall: float = 0.2
    """Weight: no more bytes are sent in this direction; the connection stays open until one side closes it."""
    longest_delay: float = 0.02
    """Upper limit of a delay, in seconds; delays are uniformly distributed."""

    def __post_init__(self) -> None:
        check_number("mean_bytes_between", self.mean_bytes_between, positive=True)
        check_number("longest_delay", self.longest_delay)
        for kind, weight in self.weights.items():
            check_number(kind, weight)
        if not any(self.weights.values()):
            raise ValueError(f"one of the weights {', '.join(self.weights)} must be greater than 0")

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each kind of fault."""
        return {kind: getattr(self, kind) for kind in ("split", "delay", "cut", "reset", "stall")}

    def plan(self, seed: str) -> Iterator[tuple[int, str, float]]:
        """An endless sequence of faults for one direction of a connection.

        Each item has three values: the number of bytes to pass on first, the kind of fault (the name of its weight),
        and a delay in seconds, which only `delay` uses. Equal seeds give equal sequences.
        """
        rng = random.Random(seed)  # noqa: S311  not used for cryptography
        kinds, weights = [*self.weights], [*self.weights.values()]
        while True:
            gap = 1 + int(rng.expovariate(1 / self.mean_bytes_between))
            [kind] = rng.choices(kinds, weights)
            yield gap, kind, rng.uniform(0, self.longest_delay)


@dataclass
class ProxiedConnection:
    """One connection of a `ChaosProxy`, and what was done to it."""

    number: int
    """Its number, counted from 1."""
    client: str
    """The client's address and port."""
    first_line: str = ""
    """The first line that the client has sent, without a query string: of HTTP, the first request's."""
    fault_counts: Counter[str] = field(default_factory=Counter[str])
    """How many faults of each kind."""
    sent: int = 0
    """Bytes passed on to the server."""
    received: int = 0
    """Bytes passed on to the client."""
    ended_by: str | None = None
    """The fault that has ended the connection; None for the client, the server, or `ChaosProxy.close`."""

    def count(self, size: int, direction: Literal["up", "down"]) -> None:
        """Adds to the bytes that were passed on."""
        if direction == "up":
            self.sent += size
        else:
            self.received += size


class ChaosProxy:
    """A proxy in front of the server at `url` that injects network faults. Clients connect to the proxy's `url`.

    Use it as a context manager, or call `start` and `close`. It runs in a background thread.

    Args:
        url: The server's URL. Only host and port are used; the port is 80 if the URL has none.
        seed: Determines all faults, together with the order of the connections.
        rates: How often each fault occurs (default: `FaultRates()`).
        host: The address to listen at.
        port: The port; 0 takes a free one.
        on_close: Called with each connection when it has ended, in the background thread.

    Raises:
        TypeError: `url` is not a str, or `rates` are not `FaultRates`.
        ValueError: `url` is not a URL.
        OSError: The port is in use, or `host` is not an address of this machine.
    """

    def __init__(
        self,
        url: str,
        *,
        seed: int = 0,
        rates: FaultRates | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        on_close: Callable[[ProxiedConnection], None] | None = None,
    ) -> None:
        self._host, self._port = _address_of(url)
        given: Any = rates  # annotations are not checked at run time
        if given is not None and not isinstance(given, FaultRates):
            raise TypeError(f"rates must be FaultRates, such as FaultRates(cut=1), not {given!r:.50}")
        check_function("on_close", on_close)
        self.fault_counts: Counter[str] = Counter()
        """How many faults of each kind were injected so far; the keys are the names of the weights in `FaultRates`."""
        self.connections: int = 0
        """How many connections were accepted so far. Connections are numbered from 1."""
        self._seed = seed
        self._rates = rates or FaultRates()
        self._on_close = on_close
        self._listener = listen(host, port)
        self._url = url_of(self._listener)
        self._open: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._stop = asyncio.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="hfstream-chaos", daemon=True)

    @property
    def url(self) -> str:
        """The proxy's own URL, such as ``http://127.0.0.1:54321``."""
        return self._url

    def start(self) -> Self:
        """Starts to accept connections.

        Raises:
            RuntimeError: It was closed.
        """
        if self._closed:
            raise RuntimeError("the proxy is closed: make another one")
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        return self

    def close(self) -> None:
        """Closes all connections and stops the background thread. Does nothing if the proxy was never started."""
        self._closed = True
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._listen())

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._handle_connection, sock=self._listener)
        await self._stop.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes aborted transports in its next iteration

    async def _handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._open.add(task)
        self.connections += 1
        connection = ProxiedConnection(self.connections, _address(writer))
        writers = [writer]
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # only `close` cancels the task
                server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
                writers.append(server_writer)
                for each in writers:  # asyncio sets it on few kinds of socket; without it, segments wait for each other
                    sock: socket.socket = each.get_extra_info("socket")
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._pump_both(reader, server_reader, writers, connection)
        finally:
            for each in writers:
                if self._stop.is_set():
                    each.transport.abort()
                each.close()
            self._open.discard(task)
            if self._on_close is not None:
                self._on_close(connection)

    async def _pump_both(
        self,
        client_reader: asyncio.StreamReader,
        server_reader: asyncio.StreamReader,
        writers: list[asyncio.StreamWriter],
        connection: ProxiedConnection,
    ) -> None:
        """Copies both directions until the first one ends. `writers` are the client's and the server's."""
        client_writer, server_writer = writers
        directions = [
            asyncio.ensure_future(self._pump(client_reader, server_writer, "up", connection, writers)),
            asyncio.ensure_future(self._pump(server_reader, client_writer, "down", connection, writers)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        direction: Literal["up", "down"],
        connection: ProxiedConnection,
        writers: list[asyncio.StreamWriter],
    ) -> None:
        """Copies one direction until its end, or until a fault ends the connection."""
        plan = self._rates.plan(f"{self._seed}/{connection.number}/{direction}")
        gap, kind, seconds = next(plan)
        while data := await source.read(_READ_SIZE):
            if direction == "up" and not connection.first_line:
                connection.first_line = _first_line(data)
            while len(data) >= gap:
                target.write(data[:gap])
                connection.count(gap, direction)
                data = data[gap:]
                await target.drain()
                self.fault_counts[kind] += 1
                connection.fault_counts[kind] += 1
                if kind in ("cut", "reset", "stall"):
                    connection.ended_by = kind
                if not await self._inject(kind, seconds, source, writers):
                    return
                gap, kind, seconds = next(plan)
            gap -= len(data)
            target.write(data)
            connection.count(len(data), direction)
            await target.drain()

    async def _inject(
        self, kind: str, seconds: float, source: asyncio.StreamReader, writers: list[asyncio.StreamWriter]
    ) -> bool:
        """Applies one fault; returns whether the connection continues."""
        if kind == "delay":
            await asyncio.sleep(seconds)
        elif kind == "split":
            await asyncio.sleep(0)
        elif kind == "stall":
            while await source.read(_READ_SIZE):
                pass  # discarded: the target gets no more bytes, and the stall ends when one side closes the connection
        elif kind == "reset":
            for writer in writers:  # closing a socket that lingers for 0 seconds sends a RST instead of a FIN
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        return kind not in ("cut", "reset", "stall")


def _address_of(url: Any) -> tuple[str, int]:
    """The host and the port of a server's URL."""
    wrong = f"{url!r:.200} is not the URL of a server: write, for example, http://127.0.0.1:8080"
    if not isinstance(url, str):
        raise TypeError(wrong)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{wrong} ({error})") from error
    if not parts.scheme or not host or port == 0:
        raise ValueError(wrong)
    return host, port or 80


def _address(writer: asyncio.StreamWriter) -> str:
    host, port, *_ = writer.get_extra_info("peername") or ("?", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _first_line(data: bytes) -> str:
    line = data.partition(b"\r\n")[0][:200].decode("latin-1")
    return re.sub(r"\?\S*", "", line)  # a query string may have a key
