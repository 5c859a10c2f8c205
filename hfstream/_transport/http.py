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

CANCEL_TIMEOUT = 1.0
"""How long a server is told that nobody will come back to a stream."""


class _Closable(Protocol):
    """A call or stream that ends when its client is closed."""

    def _mark_closed(self) -> None: ...


class _HTTP:
    """What is alive on a wire, and ends with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open_calls: WeakSet[_Closable] = WeakSet()
        self._closed = False

    def register(self, call: _Closable) -> None:
        """Notes a call or stream that ends when the wire is closed."""
        with self._lock:
            self._check()
            self._open_calls.add(call)

    def _check(self) -> None:
        if self._closed:
            raise RuntimeError("this client is closed")

    def _close_all(self) -> None:
        with self._lock:
            self._closed = True
            open_calls = list(self._open_calls)
        for call in open_calls:
            call._mark_closed()


class SyncHTTP(_HTTP):
    """httpx for plain code: one for each client, shared by its threads, and alive as long as a stream needs it."""

    Wakeup = threading.Event

    def __init__(self, http_client: httpx.Client | None) -> None:
        super().__init__()
        self._user_client = http_client
        self._transport: SyncTransport | None = None
        self._owned_client: httpx.Client | None = None
        self._pending_close: deque[SyncStreamedResponse] = deque()

    def send(self, request: PreparedRequest) -> SyncStreamedResponse:
        """Sends `request`; returns when the response's head has come."""
        self._close_pending()
        client = self._client()
        response = client.send(_build_request(client, request), stream=True)
        redirects = 0  # a user's client follows redirects as it has been told
        while self._user_client is None and (redirect := next_request(response, redirects)) is not None:
            response.close()
            response = client.send(redirect, stream=True)
            redirects += 1
        return SyncStreamedResponse(response, self._pending_close)

    def send_cancel(self, cancel: RequestSpec[Any, Any, Any]) -> None:
        """Tells a server that nobody will come back. If that fails, it will find out by itself."""
        with contextlib.suppress(Exception):
            client = self._client()
            client.send(_build_cancel(client, cancel))

    def close(self) -> None:
        """Ends all calls and streams, from any thread, and the httpx client if it is ours."""
        self._close_all()
        self._close_pending()
        with self._lock:
            owned_client, self._owned_client = self._owned_client, None
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if owned_client is not None:
            owned_client.close()

    def _close_pending(self) -> None:
        with contextlib.suppress(IndexError):  # another thread may be at it too
            while True:
                self._pending_close.popleft().release()

    def __del__(self) -> None:
        # No stream is left, or it would hold us: nobody else has the pool's lock.
        if getattr(self, "_owned_client", None) is not None:
            self.close()

    def _client(self) -> httpx.Client:
        if self._user_client is not None:
            return self._user_client
        with self._lock:
            self._check()
            if self._owned_client is None:
                self._transport = SyncTransport()
                self._owned_client = httpx.Client(**_client_options(self._transport))
            return self._owned_client


class ThreadsafeEvent:
    """A wait that another task can end."""

    def __init__(self) -> None:
        self._wake: Callable[[], object] | None = None
        self._is_set = False

    def set(self) -> None:
        """Ends the wait, from any task, thread or event loop."""
        self._is_set = True
        if self._wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop is over, and so is the wait
                self._wake()

    async def wait(self, seconds: float) -> None:
        """Waits, unless `set` has been or will be called."""
        event = anyio.Event()
        token = anyio.lowlevel.current_token()
        loop: Any = getattr(token, "native_token", token)  # asyncio's loop, or trio's token: each has its own way in
        enter = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        self._wake = functools.partial(enter, event.set)
        if not self._is_set:
            with anyio.move_on_after(seconds):
                await event.wait()


class _LoopState:
    """What an async wire has in one event loop."""

    def __init__(self, user_client: httpx.AsyncClient | None) -> None:
        self.transport = AsyncTransport() if user_client is None else None
        self.client = user_client or httpx.AsyncClient(**_client_options(self.transport))
        self.pending_close: deque[AsyncStreamedResponse] = deque()
        self.shutdown_hook = (
            _close_at_loop_shutdown(self.client, self.transport) if self.transport is not None else None
        )

    async def close_pending(self) -> None:
        """Lets go of what collected streams have left."""
        while self.pending_close:
            await self.pending_close.popleft().release()


async def _close_at_loop_shutdown(client: httpx.AsyncClient, transport: AsyncTransport) -> AsyncGenerator[None]:
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

    Wakeup = ThreadsafeEvent

    def __init__(self, http_client: httpx.AsyncClient | None) -> None:
        super().__init__()
        self._user_client = http_client

    async def send(self, request: PreparedRequest) -> AsyncStreamedResponse:
        """Sends `request`; returns when the response's head has come."""
        loop = await self._loop()
        await loop.close_pending()
        response = await loop.client.send(_build_request(loop.client, request), stream=True)
        redirects = 0
        while self._user_client is None and (redirect := next_request(response, redirects)) is not None:
            await response.aclose()
            response = await loop.client.send(redirect, stream=True)
            redirects += 1
        return AsyncStreamedResponse(response, loop.pending_close)

    async def send_cancel(self, cancel: RequestSpec[Any, Any, Any]) -> None:
        """Tells a server that nobody will come back. If that fails, it will find out by itself."""
        with contextlib.suppress(Exception), anyio.move_on_after(CANCEL_TIMEOUT):
            client = (await self._loop()).client
            await client.send(_build_cancel(client, cancel))

    async def close(self) -> None:
        """Ends all calls and streams of the running loop, and its httpx client if it is ours."""
        self._close_all()
        loop = _loop_states().pop(self, None)
        if loop is None:
            return
        await loop.close_pending()
        if loop.transport is not None and loop.shutdown_hook is not None:
            loop.transport.abort()
            await loop.shutdown_hook.aclose()

    async def _loop(self) -> _LoopState:
        self._check()
        loops = _loop_states()
        if self not in loops:
            loop = loops[self] = _LoopState(self._user_client)
            if loop.shutdown_hook is not None:
                await anext(loop.shutdown_hook)
        return loops[self]


_LOOP_STATES: anyio.lowlevel.RunVar[WeakKeyDictionary[AsyncHTTP, _LoopState]] = anyio.lowlevel.RunVar("hfstream")
"""What belongs to the running event loop: an httpx.AsyncClient cannot leave the loop that it first ran on."""


def _loop_states() -> WeakKeyDictionary[AsyncHTTP, _LoopState]:
    try:
        return _LOOP_STATES.get()
    except LookupError:
        loops: WeakKeyDictionary[AsyncHTTP, _LoopState] = WeakKeyDictionary()
        _LOOP_STATES.set(loops)
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


def _build_cancel(client: Any, call: RequestSpec[Any, Any, Any]) -> Any:
    deadline = Deadline()
    deadline.at = time.monotonic() + CANCEL_TIMEOUT
    limits: dict[str, Any] = {"timeout": CANCEL_TIMEOUT, "extensions": {DEADLINE: deadline}}
    return client.build_request(call.method, call.url, headers=dict(call.headers), **limits)


def _client_options(transport: Any) -> dict[str, Any]:
    """How a httpx client of our own is made, of either kind."""
    return {"mounts": proxy_mounts(transport), "verify": ssl_context()}
