"""What the drivers hold: an httpx client that sends, and the reading, waiting and closing that go with it.

A wire belongs to a client, a line to one response. The two of each have the same verbs and differ by `await`. They
refuse to know what is sent, and what a failure means.
"""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.request
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

import anyio
import anyio.lowlevel
import httpx

from ..core.exchange import Exchange
from ..core.timeouts import Deadline
from .sockets import DEADLINE, AsyncTransport, SyncTransport, shutdown, ssl_context

__all__ = ["AsyncLine", "AsyncWire", "SyncLine", "SyncWire"]

DRAIN_SECONDS = 0.05
DRAIN_BYTES = 64 * 1024
"""How long and how far a body is read on after its last event, so that its connection can be used again."""


class _Live(Protocol):
    """A call or stream that ends when its client is closed."""

    def abandon(self) -> None: ...


class _Line:
    """One response. `orphans` is where it goes if whoever reads it is collected."""

    def __init__(self, response: httpx.Response, orphans: deque[Any], *, precise: bool) -> None:
        self.status_code = response.status_code
        self.headers = response.headers
        self._response = response
        self._orphans = orphans
        self._precise = precise  # the sockets are ours and ask the deadline
        self._socket = _socket_of(response)
        self.ended = False
        """The body has been read to its end: the connection can be used again."""

    def abort(self) -> bool:
        """Wakes the reader, from any thread or task; whether that was possible."""
        if self.ended or self._socket is None:
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

    def __init__(self, response: httpx.Response, orphans: deque[Any], *, precise: bool) -> None:
        super().__init__(response, orphans, precise=precise)
        # Straight from the stream: iter_raw() would add a generator and a counter for each token.
        encoded = "content-encoding" in response.headers
        self.pieces: Iterator[bytes] = response.iter_bytes() if encoded else iter(response.stream)  # type: ignore[arg-type]

    def release(self) -> None:
        """Lets go; the connection is closed unless the body is at its end."""
        self._response.close()

    def drain(self, deadline: Deadline) -> None:
        """Reads on a little after the last event, then lets go."""
        deadline.at = time.monotonic() + DRAIN_SECONDS
        # The sockets of a user's own client do not ask our deadline: a timer wakes the reader.
        timer = None if self._precise else threading.Timer(DRAIN_SECONDS, self.abort)
        if timer:
            timer.daemon = True
            timer.start()
        try:
            with contextlib.suppress(Exception):  # the answer is whole: nothing after it can fail it
                left = DRAIN_BYTES
                while left > 0 and (piece := next(self.pieces, None)) is not None:
                    left -= len(piece)
        finally:
            if timer:
                timer.cancel()
            self.release()


class AsyncLine(_Line):
    """One response in async code."""

    def __init__(self, response: httpx.Response, orphans: deque[Any], *, precise: bool) -> None:
        super().__init__(response, orphans, precise=precise)
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
        self._live: WeakSet[_Live] = WeakSet()
        self._closed = False

    def adopt(self, live: _Live) -> None:
        """Notes a call or stream that ends when the wire is closed."""
        if self._closed:
            raise RuntimeError("this client is closed")
        self._live.add(live)

    def _abandon_all(self) -> None:
        self._closed = True
        for live in list(self._live):
            live.abandon()


class SyncWire(_Wire):
    """httpx for plain code: one for each client, shared by its threads, and alive as long as a stream needs it."""

    alarm = threading.Event

    def __init__(self, http_client: httpx.Client | None, cookies: Mapping[str, str] | None) -> None:
        super().__init__()
        self._given = http_client
        self._cookies = cookies
        self._lock = threading.Lock()
        self._transport: SyncTransport | None = None
        self._own: httpx.Client | None = None
        self._orphans: deque[SyncLine] = deque()

    def send(self, exchange: Exchange[Any, Any]) -> SyncLine:
        """Sends what the exchange asks; returns when the response's head has come."""
        while self._orphans:
            self._orphans.popleft().release()
        client = self._client()
        response = client.send(_request(client, exchange), stream=True)
        return SyncLine(response, self._orphans, precise=self._given is None)

    def close(self) -> None:
        """Ends all calls and streams, from any thread, and the httpx client if it is ours."""
        self._abandon_all()
        with self._lock:
            own, self._own = self._own, None
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if own is not None:
            own.close()

    def __del__(self) -> None:
        # No stream is left, or it would hold us: nobody else has the pool's lock.
        if getattr(self, "_own", None) is not None:
            self.close()

    def _client(self) -> httpx.Client:
        if self._given is not None:
            return self._given
        with self._lock:
            if self._own is None:
                self._transport = SyncTransport()
                self._own = httpx.Client(mounts=_mounts(self._transport), **_options(self._cookies))
            return self._own


class AsyncAlarm:
    """A wait that another task can end."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None
        self._rung = False

    def set(self) -> None:
        self._rung = True
        if self._event is not None:
            self._event.set()

    async def wait(self, seconds: float) -> None:
        self._event = anyio.Event()
        if not self._rung:
            with anyio.move_on_after(seconds):
                await self._event.wait()


class _Loop:
    """What an async wire has in one event loop."""

    def __init__(self, given: httpx.AsyncClient | None, cookies: Mapping[str, str] | None) -> None:
        self.transport = AsyncTransport() if given is None else None
        self.client = given or httpx.AsyncClient(mounts=_mounts(self.transport), **_options(cookies))
        self.orphans: deque[AsyncLine] = deque()
        self.guard = _closed_with_its_loop(self.client, self.transport) if self.transport is not None else None


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

    def __init__(self, http_client: httpx.AsyncClient | None, cookies: Mapping[str, str] | None) -> None:
        super().__init__()
        self._given = http_client
        self._cookies = cookies

    async def send(self, exchange: Exchange[Any, Any]) -> AsyncLine:
        """Sends what the exchange asks; returns when the response's head has come."""
        loop = await self._loop()
        while loop.orphans:
            await loop.orphans.popleft().release()
        response = await loop.client.send(_request(loop.client, exchange), stream=True)
        return AsyncLine(response, loop.orphans, precise=self._given is None)

    async def close(self) -> None:
        """Ends all calls and streams of the running loop, and its httpx client if it is ours."""
        self._abandon_all()
        loop = _loops_here().pop(self, None)
        if loop is None:
            return
        while loop.orphans:
            await loop.orphans.popleft().release()
        if loop.transport is not None and loop.guard is not None:
            loop.transport.abort()
            await loop.guard.aclose()

    async def _loop(self) -> _Loop:
        loops = _loops_here()
        if self not in loops:
            loop = loops[self] = _Loop(self._given, self._cookies)
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


def _mounts(transport: Any) -> dict[str, Any]:
    # Below httpx's own proxies from the environment, which win because they are more specific; ALL_PROXY alone is not.
    return {} if "all" in urllib.request.getproxies() else {"all://": transport}


def _options(cookies: Mapping[str, str] | None) -> dict[str, Any]:
    return {"verify": ssl_context(), "cookies": dict(cookies or {}), "follow_redirects": True}
