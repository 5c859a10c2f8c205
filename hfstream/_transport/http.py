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

from ..core.request_spec import PreparedRequest, RequestSpec
from ..core.timeouts import Deadline
from .proxies import proxy_mounts
from .redirects import next_request
from .responses import AsyncStreamedResponse, SyncStreamedResponse
from .sockets import DEADLINE, AsyncTransport, SyncTransport, ssl_context

__all__ = ["AsyncHTTP", "SyncHTTP"]

FAREWELL_SECONDS = 1.0
"""How long a server is told that nobody will come back to a stream."""


class _Live(Protocol):
    """A call or stream that ends when its client is closed."""

    def abandon(self) -> None: ...


class _HTTP:
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


class SyncHTTP(_HTTP):
    """httpx for plain code: one for each client, shared by its threads, and alive as long as a stream needs it."""

    alarm = threading.Event

    def __init__(self, http_client: httpx.Client | None) -> None:
        super().__init__()
        self._given = http_client
        self._transport: SyncTransport | None = None
        self._own: httpx.Client | None = None
        self._orphans: deque[SyncStreamedResponse] = deque()

    def send(self, request: PreparedRequest) -> SyncStreamedResponse:
        """Sends `request`; returns when the response's head has come."""
        self._sweep()
        client = self._client()
        response = client.send(_build_request(client, request), stream=True)
        hops = 0  # a user's client follows redirects as it has been told
        while self._given is None and (redirect := next_request(response, hops)) is not None:
            response.close()
            response = client.send(redirect, stream=True)
            hops += 1
        return SyncStreamedResponse(response, self._orphans)

    def part(self, farewell: RequestSpec[Any, Any, Any]) -> None:
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


class ThreadsafeEvent:
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
        self.orphans: deque[AsyncStreamedResponse] = deque()
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


class AsyncHTTP(_HTTP):
    """httpx for async code, under asyncio and trio: one for each client, which may live through several event loops."""

    alarm = ThreadsafeEvent

    def __init__(self, http_client: httpx.AsyncClient | None) -> None:
        super().__init__()
        self._given = http_client

    async def send(self, request: PreparedRequest) -> AsyncStreamedResponse:
        """Sends `request`; returns when the response's head has come."""
        loop = await self._loop()
        await loop.sweep()
        response = await loop.client.send(_build_request(loop.client, request), stream=True)
        hops = 0
        while self._given is None and (redirect := next_request(response, hops)) is not None:
            await response.aclose()
            response = await loop.client.send(redirect, stream=True)
            hops += 1
        return AsyncStreamedResponse(response, loop.orphans)

    async def part(self, farewell: RequestSpec[Any, Any, Any]) -> None:
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


_loops: anyio.lowlevel.RunVar[WeakKeyDictionary[AsyncHTTP, _Loop]] = anyio.lowlevel.RunVar("hfstream")
"""What belongs to the running event loop: an httpx.AsyncClient cannot leave the loop that it first ran on."""


def _loops_here() -> WeakKeyDictionary[AsyncHTTP, _Loop]:
    try:
        return _loops.get()
    except LookupError:
        loops: WeakKeyDictionary[AsyncHTTP, _Loop] = WeakKeyDictionary()
        _loops.set(loops)
        return loops


def _build_request(client: Any, request: PreparedRequest) -> Any:
    return client.build_request(
        request.method,
        request.url,
        content=request.body,
        headers=dict(request.headers),
        timeout=request.timeout,
        extensions={DEADLINE: request.deadline},
    )


def _farewell(client: Any, call: RequestSpec[Any, Any, Any]) -> Any:
    deadline = Deadline()
    deadline.at = time.monotonic() + FAREWELL_SECONDS
    limits: dict[str, Any] = {"timeout": FAREWELL_SECONDS, "extensions": {DEADLINE: deadline}}
    return client.build_request(call.method, call.url, headers=dict(call.headers), **limits)


def _options(transport: Any) -> dict[str, Any]:
    """How a httpx client of our own is made, of either kind."""
    return {"mounts": proxy_mounts(transport), "verify": ssl_context()}
