"""A bad network: a proxy that cuts, resets, delays, splits and stalls its connections at random bytes.

    with ChaosProxy(server.url, seed=7) as proxy:
        client = InferenceClient(proxy.url, resume=True)

What happens to a connection, and at which of its bytes, depends on the seed and the connection's number alone: the same
run happens again. It changes no byte, and refuses to know what they mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

__all__ = ["ChaosProxy", "FaultRates"]

_LONGEST_READ = 65_536


@dataclass(frozen=True)
class FaultRates:
    """How bad a network is: what happens every so many bytes, and how often it is what."""

    every: float = 500
    """Bytes between two misfortunes of one direction, on the average."""
    split: float = 6
    """Share: what follows comes in a segment of its own."""
    delay: float = 3
    """Share: what follows comes later, by `longest_delay` seconds at most."""
    cut: float = 1
    """Share: the connection is closed, on both sides."""
    reset: float = 1
    """Share: the connection is reset, on both sides."""
    stall: float = 0.2
    """Share: nothing more comes this way, until one of the sides leaves."""
    longest_delay: float = 0.02

    def plan(self, seed: str) -> Iterator[tuple[int, str, float]]:
        """Without end: how many bytes pass, what happens then, and for how long."""
        chance = random.Random(seed)  # noqa: S311  a dice, not a secret
        kinds = ("split", "delay", "cut", "reset", "stall")
        shares = (self.split, self.delay, self.cut, self.reset, self.stall)
        while True:
            gap = 1 + int(chance.expovariate(1 / self.every))
            [kind] = chance.choices(kinds, shares)
            yield gap, kind, chance.uniform(0, self.longest_delay)


class ChaosProxy:
    """Stands before the server at `url`; clients talk to the proxy's own `url`.

    Runs on a thread of its own. `fault_counts` counts what was done to connections, by its name in `FaultRates`.
    """

    def __init__(self, url: str, *, seed: int = 0, chaos: FaultRates | None = None) -> None:
        parts = urlsplit(url)
        self.fault_counts: Counter[str] = Counter()
        self.connections: int = 0
        """How many connections have been made so far; the first has the number 1."""
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._seed = seed
        self._chaos = chaos or FaultRates()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._open: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="hfstream-chaos", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def start(self) -> Self:
        """Begins to listen."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        return self

    def close(self) -> None:
        """Ends every connection, and waits until they have ended."""
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
        server = await asyncio.start_server(self._connected, sock=self._listener)
        await self._stop.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes what was closed just now

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._open.add(task)
        self.connections += 1
        seed = f"{self._seed}/{self.connections}"
        both = [writer]
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # cancelled by `close` alone
                there_reader, there_writer = await asyncio.open_connection(self._host, self._port)
                both.append(there_writer)
                await self._carry_both(reader, there_reader, both, seed)
        finally:
            for end in both:
                if self._stop.is_set():
                    end.transport.abort()
                end.close()
            self._open.discard(task)

    async def _carry_both(
        self, here: asyncio.StreamReader, there: asyncio.StreamReader, both: list[asyncio.StreamWriter], seed: str
    ) -> None:
        ways = [
            asyncio.ensure_future(self._carry(here, both[1], f"{seed}/up", both)),
            asyncio.ensure_future(self._carry(there, both[0], f"{seed}/down", both)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, seed: str, both: list[asyncio.StreamWriter]
    ) -> None:
        """One direction, until it ends: by itself, or by misfortune."""
        plan = self._chaos.plan(seed)
        gap, kind, seconds = next(plan)
        while data := await source.read(_LONGEST_READ):
            while len(data) >= gap:
                target.write(data[:gap])
                data = data[gap:]
                await target.drain()
                self.fault_counts[kind] += 1
                if not await self._befall(kind, seconds, source, both):
                    return
                gap, kind, seconds = next(plan)
            gap -= len(data)
            target.write(data)
            await target.drain()

    async def _befall(
        self, kind: str, seconds: float, source: asyncio.StreamReader, both: list[asyncio.StreamWriter]
    ) -> bool:
        """Whether the connection outlives it."""
        if kind == "delay":
            await asyncio.sleep(seconds)
        elif kind == "split":
            await asyncio.sleep(0)
        elif kind == "stall":
            while await source.read(_LONGEST_READ):
                pass  # swallowed: the other side hears no more, and only its leaving ends this
        elif kind == "reset":
            for writer in both:
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        return kind not in ("cut", "reset", "stall")
