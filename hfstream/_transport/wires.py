"""What the drivers hold: an httpx client that sends, and the waiting and closing that go with it.

A wire belongs to a client. The two have the same verbs and differ by `await`. They refuse to know what is sent, and
what a failure means.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

import anyio
import anyio.lowlevel
import httpx

from ..core.calls import Call
from ..core.exchange import Exchange
from ..core.timeouts import Deadline
from .lines import AsyncLine, SyncLine
from .mounts import mounts
from .redirects import redirected
from .sockets import DEADLINE, AsyncTransport, SyncTransport, ssl_context

__all__ = ["AsyncWire", "SyncWire"]

FAREWELL_SECONDS = 1.0
"""How long a server is told that nobody will come back to a stream."""


class _Live(Protocol):
    """A call or stream that ends when its client is closed."""

    def abandon(self) -> None: ...


class _Wire:
    """What is alive on a wire, and ends with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: WeakSet[_Live] = WeakSet()
        self._closed = False

    def adopt(self, live: _Live) -> None:
        """Notes a call or stream that ends when the wire is closed."""
        with self._lock:
            self._check()
            self._live.add(live)

    def _check(self) -> None:
        if self._closed:
            raise RuntimeError("this client is closed")

    def _abandon_all(self) -> None:
        with self._lock:
            self._closed = True
            alive = list(self._live)
        for live in alive:
            live.abandon()


class SyncWire(_Wire):
    """httpx for plain code: one for each client, shared by its threads, and alive as long as a stream needs it."""

    alarm = threading.Event

    def __init__(self, http_client: httpx.Client | None) -> None:
        super().__init__()
        self._given = http_client
        self._transport: SyncTransport | None = None
        self._own: httpx.Client | None = None
        self._orphans: deque[SyncLine] = deque()

    def send(self, exchange: Exchange[Any, Any]) -> SyncLine:
        """Sends what the exchange asks; returns when the response's head has come."""
        self._sweep()
        client = self._client()
        response = client.send(_request(client, exchange), stream=True)
        hops = 0  # a user's client follows redirects as it has been told
        while self._given is None and (request := redirected(response, hops)) is not None:
            response.close()
            response = client.send(request, stream=True)
            hops += 1
        return SyncLine(response, self._orphans)

    def part(self, farewell: Call[Any, Any, Any]) -> None:
        """Tells a server that nobody will come back. If that fails, it will find out by itself."""
        with contextlib.suppress(Exception):
            client = self._client()
            client.send(_farewell(client, farewell))

    def close(self) -> None:
        """Ends all calls and streams, from any thread, and the httpx client if it is ours."""
        self._abandon_all()
        self._sweep()
        with self._lock:
            own, self._own = self._own, None
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if own is not None:
            own.close()

    def _sweep(self) -> None:
        with contextlib.suppress(IndexError):  # another thread may be at it too
            while True:
                self._orphans.popleft().release()

    def __del__(self) -> None:
        # No stream is left, or it would hold us: nobody else has the pool's lock.
        if getattr(self, "_own", None) is not None:
            self.close()

    def _client(self) -> httpx.Client:
        if self._given is not None:
            return self._given
        with self._lock:
            self._check()
            if self._own is None:
                self._transport = SyncTransport()
                self._own = httpx.Client(**_options(self._transport))
            return self._own


class AsyncAlarm:
    """A wait that another task can end."""

    def __init__(self) -> None:
        self._ring: Callable[[], object] | None = None
        self._rung = False

    def set(self) -> None:
        """Ends the wait, from any task, thread or event loop."""
        self._rung = True
        if self._ring is not None:
            with contextlib.suppress(RuntimeError):  # the loop is over, and so is the wait
                self._ring()

    async def wait(self, seconds: float) -> None:
        """Waits, unless `set` has been or will be called."""
        event = anyio.Event()
        token = anyio.lowlevel.current_token()
        loop: Any = getattr(token, "native_token", token)  # asyncio's loop, or trio's token: each has its own way in
        enter = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        self._ring = functools.partial(enter, event.set)
        if not self._rung:
            with anyio.move_on_after(seconds):
                await event.wait()


class _Loop:
    """What an async wire has in one event loop."""

    def __init__(self, given: httpx.AsyncClient | None) -> None:
        self.transport = AsyncTransport() if given is None else None
        self.client = given or httpx.AsyncClient(**_options(self.transport))
        self.orphans: deque[AsyncLine] = deque()
        self.guard = _closed_with_its_loop(self.client, self.transport) if self.transport is not None else None

    async def sweep(self) -> None:
        """Lets go of what collected streams have left."""
        while self.orphans:
            await self.orphans.popleft().release()


async def _closed_with_its_loop(client: httpx.AsyncClient, transport: AsyncTransport) -> AsyncGenerator[None]:
    """Closes `client` when this is closed or collected, or its loop ends.

    A loop that ends, asyncio's or trio's, closes the async generators that are left; nothing else is told in time, and
    an idle connection would be left behind with a warning.
    """
    try:
        yield
    finally:
        try:
            await client.aclose()
        finally:
            await transport.close_sockets()  # asyncio.run() cancels a closing that it finds under way


class AsyncWire(_Wire):
    """httpx for async code, under asyncio and trio: one for each client, which may live through several event loops."""

    alarm = AsyncAlarm

    def __init__(self, http_client: httpx.AsyncClient | None) -> None:
        super().__init__()
        self._given = http_client

    async def send(self, exchange: Exchange[Any, Any]) -> AsyncLine:
        """Sends what the exchange asks; returns when the response's head has come."""
        loop = await self._loop()
        await loop.sweep()
        response = await loop.client.send(_request(loop.client, exchange), stream=True)
        hops = 0
        while self._given is None and (request := redirected(response, hops)) is not None:
            await response.aclose()
            response = await loop.client.send(request, stream=True)
            hops += 1
        return AsyncLine(response, loop.orphans)

    async def part(self, farewell: Call[Any, Any, Any]) -> None:
        """Tells a server that nobody will come back. If that fails, it will find out by itself."""
        with contextlib.suppress(Exception), anyio.move_on_after(FAREWELL_SECONDS):
            client = (await self._loop()).client
            await client.send(_farewell(client, farewell))

    async def close(self) -> None:
        """Ends all calls and streams of the running loop, and its httpx client if it is ours."""
        self._abandon_all()
        loop = _loops_here().pop(self, None)
        if loop is None:
            return
        await loop.sweep()
        if loop.transport is not None and loop.guard is not None:
            loop.transport.abort()
            await loop.guard.aclose()

    async def _loop(self) -> _Loop:
        self._check()
        loops = _loops_here()
        if self not in loops:
            loop = loops[self] = _Loop(self._given)
            if loop.guard is not None:
                await anext(loop.guard)
        return loops[self]


_loops: anyio.lowlevel.RunVar[WeakKeyDictionary[AsyncWire, _Loop]] = anyio.lowlevel.RunVar("hfstream")
"""What belongs to the running event loop: an httpx.AsyncClient cannot leave the loop that it first ran on."""


def _loops_here() -> WeakKeyDictionary[AsyncWire, _Loop]:
    try:
        return _loops.get()
    except LookupError:
        loops: WeakKeyDictionary[AsyncWire, _Loop] = WeakKeyDictionary()
        _loops.set(loops)
        return loops


def _request(client: Any, exchange: Exchange[Any, Any]) -> Any:
    call = exchange.ask()
    return client.build_request(
        call.method,
        call.url,
        content=call.body,
        headers=dict(call.headers),
        timeout=exchange.limits(),
        extensions={DEADLINE: exchange.deadline},
    )


def _farewell(client: Any, call: Call[Any, Any, Any]) -> Any:
    deadline = Deadline()
    deadline.at = time.monotonic() + FAREWELL_SECONDS
    limits: dict[str, Any] = {"timeout": FAREWELL_SECONDS, "extensions": {DEADLINE: deadline}}
    return client.build_request(call.method, call.url, headers=dict(call.headers), **limits)


def _options(transport: Any) -> dict[str, Any]:
    """How a httpx client of our own is made, of either kind."""
    return {"mounts": mounts(transport), "verify": ssl_context()}
