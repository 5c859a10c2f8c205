"""What the drivers hold: an httpx client that sends, and the reading, waiting and closing that go with it.

A wire belongs to a client, a line to one response. The two of each have the same verbs and differ by `await`. They
refuse to know what is sent, and what a failure means.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import threading
import time
import urllib.request
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

import anyio
import anyio.lowlevel
import httpx

from ..core.exchange import Exchange
from ..core.timeouts import Deadline
from .sockets import DEADLINE, AsyncStream, AsyncTransport, SyncStream, SyncTransport, shutdown, ssl_context

__all__ = ["AsyncLine", "AsyncWire", "SyncLine", "SyncWire"]

DRAIN_SECONDS = 0.05
DRAIN_BYTES = 64 * 1024
"""How long and how far a body is read on after its last event, so that its connection can be used again."""


class _Live(Protocol):
    """A call or stream that ends when its client is closed."""

    def abandon(self) -> None: ...


class _Line:
    """One response. `orphans` is where it goes if whoever reads it is collected."""

    def __init__(self, response: httpx.Response, orphans: deque[Any]) -> None:
        self.status_code = response.status_code
        self.headers = response.headers
        self._response = response
        self._orphans = orphans
        # Our own sockets ask the deadline. A user's client has others, and so has a proxy from the environment.
        self._precise = isinstance(response.extensions.get("network_stream"), SyncStream | AsyncStream)
        self._pid = os.getpid()
        self._socket = _socket_of(response)
        self.ended = False
        """The body has been read to its end: the connection can be used again."""

    def abort(self) -> bool:
        """Wakes the reader, from any thread or task; whether that was possible."""
        if self.ended or self._socket is None or self._pid != os.getpid():  # a forked child's is the parent's too
            return False
        shutdown(self._socket)
        return True

    def orphan(self) -> None:
        """For a finalizer: takes no lock and waits for nothing. The wire's next `send` lets go of the response."""
        self.abort()
        self._orphans.append(self)


def _socket_of(response: httpx.Response) -> Any:
    """The response's own socket. A test's transport has none, and an HTTP/2 connection's belongs to others too."""
    network_stream = response.extensions.get("network_stream")
    if network_stream is None or not response.http_version.startswith("HTTP/1"):
        return None
    return network_stream.get_extra_info("socket")


class SyncLine(_Line):
    """One response in plain code."""

    def __init__(self, response: httpx.Response, orphans: deque[Any]) -> None:
        super().__init__(response, orphans)
        # Straight from the stream: iter_raw() would add a generator and a counter for each token.
        encoded = "content-encoding" in response.headers
        self.pieces: Iterator[bytes] = response.iter_bytes() if encoded else iter(response.stream)  # type: ignore[arg-type]

    def release(self) -> None:
        """Lets go; the connection is closed unless the body is at its end."""
        self._response.close()

    def drain(self, deadline: Deadline) -> None:
        """Reads on a little after the last event, then lets go."""
        deadline.at = time.monotonic() + DRAIN_SECONDS
        # Sockets that are not ours do not ask the deadline: a timer wakes the reader.
        timer = None if self._precise else threading.Timer(DRAIN_SECONDS, self.abort)
        if timer:
            timer.daemon = True
            timer.start()
        try:
            with contextlib.suppress(Exception):  # the answer is whole: nothing after it can fail it
                left = DRAIN_BYTES
                while left > 0 and not self.ended:
                    piece = next(self.pieces, None)
                    self.ended = piece is None
                    left -= len(piece or b"")
        finally:
            if timer:
                timer.cancel()
            self.release()


class AsyncLine(_Line):
    """One response in async code."""

    def __init__(self, response: httpx.Response, orphans: deque[Any]) -> None:
        super().__init__(response, orphans)
        encoded = "content-encoding" in response.headers
        self.pieces: AsyncIterator[bytes] = response.aiter_bytes() if encoded else aiter(response.stream)  # type: ignore[arg-type]

    async def release(self) -> None:
        """Lets go; the connection is closed unless the body is at its end."""
        # httpcore's generators would be left half-way, and trio warns when such a one is collected. An aborted read has
        # an end, and takes them with it.
        try:
            if self.abort():
                with contextlib.suppress(Exception):
                    while await anext(self.pieces, None) is not None:
                        pass
        finally:
            await self._response.aclose()

    async def drain(self, deadline: Deadline) -> None:
        """Reads on a little after the last event, then lets go."""
        deadline.at = time.monotonic() + DRAIN_SECONDS
        try:
            with contextlib.suppress(Exception), anyio.move_on_after(DRAIN_SECONDS):
                left = DRAIN_BYTES
                while left > 0 and not self.ended:
                    piece = await anext(self.pieces, None)
                    self.ended = piece is None
                    left -= len(piece or b"")
        finally:
            await self.release()


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
        return SyncLine(response, self._orphans)

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
        return AsyncLine(response, loop.orphans)

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


def _options(transport: Any) -> dict[str, Any]:
    """How a httpx client of our own is made, of either kind."""
    return {"mounts": _mounts(transport), "verify": ssl_context(), "follow_redirects": True}


def _mounts(transport: Any) -> dict[str, Any]:
    """Our transport, wherever httpx would put its own: for all URLs, and for the hosts that NO_PROXY names.

    Proxies from the environment stay httpx's: they win because they are more specific. ALL_PROXY alone is not.
    """
    proxies = urllib.request.getproxies()
    mounts = {} if "all" in proxies else {"all://": transport}
    for host in map(str.strip, proxies.get("no", "").split(",")):
        if host == "*":
            return {"all://": transport}
        if host:
            mounts[_pattern(host)] = transport
    return mounts


def _pattern(host: str) -> str:
    """What httpx makes of an entry of NO_PROXY: a name stands for its subdomains too, an address for itself."""
    if "://" in host:
        return host
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return f"all://{host}" if host.lower() == "localhost" else f"all://*{host}"
    return f"all://{host}" if version == 4 else f"all://[{host}]"
