"""The httpx clients behind `SyncHTTP` and `AsyncHTTP`: one for all threads, or one for each event loop.

The two variants differ in more than `async`, so both are written by hand. Does not depend on what is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any
from weakref import WeakKeyDictionary

import anyio.lowlevel
import httpx

from ._async.routing import AsyncRouter
from ._sync.routing import SyncRouter
from .cookies import BoundedCookieJar
from .forking import keep_forever, renew_in_child

__all__ = ["AsyncClientStates", "SyncClientStates"]


def _client_options(transport: Any) -> dict[str, Any]:
    """Arguments of an `httpx.Client` or `httpx.AsyncClient` that uses `transport`."""
    return {"transport": transport, "cookies": BoundedCookieJar(), "trust_env": False}


class SyncClientState:
    """One httpx client, and the responses of garbage-collected streams, which the next call closes."""

    def __init__(self, user_client: httpx.Client | None) -> None:
        self.transport = SyncRouter() if user_client is None else None
        self.client: httpx.Client = user_client or httpx.Client(**_client_options(self.transport))
        self.pending_close: deque[Any] = deque()

    def close_pending(self) -> None:
        """Closes the responses of streams that were garbage-collected."""
        with contextlib.suppress(IndexError):  # another thread may close them at the same time
            while True:
                self.pending_close.popleft().close()

    def close(self) -> None:
        """Closes our own httpx client; a user's stays open."""
        self.close_pending()
        if self.transport is not None:
            _close_connections(self.transport, self.client)


def _close_connections(transport: SyncRouter, client: httpx.Client) -> None:
    """Wakes all readers, and closes all connections."""
    transport.sockets.abort()
    client.close()


class SyncClientStates:
    """The one state of a `SyncHTTP`, shared by its threads and made on the first call."""

    def __init__(self, user_client: httpx.Client | None) -> None:
        self._user_client = user_client
        self._lock = threading.Lock()
        self._state: SyncClientState | None = None
        self._finalizer: weakref.finalize[[SyncRouter, httpx.Client], SyncClientStates] | None = None
        self._closed = False
        renew_in_child(self)

    def current(self) -> SyncClientState:
        """The state for a new call.

        Raises:
            RuntimeError: another thread has closed the client.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("this client is closed")
            if self._state is None:
                self._state = state = SyncClientState(self._user_client)
                if state.transport is not None:
                    # __del__ may come too late where a client is collected as part of a cycle: Python finalizes the
                    # objects of a cycle in any order, and warns of a socket that is finalized while it is open. The
                    # finalizer refers to the connections, so they are not in the cycle. At exit __del__ closes them.
                    self._finalizer = weakref.finalize(self, _close_connections, state.transport, state.client)
                    self._finalizer.atexit = False
            return self._state

    def close(self) -> None:
        """Closes the state, from any thread."""
        with self._lock:
            state, self._state = self._state, None
            finalizer, self._finalizer = self._finalizer, None
            self._closed = True
        if finalizer is not None:
            finalizer.detach()
        if state is not None:
            state.close()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        if self._finalizer is not None:
            self._finalizer.detach()
        keep_forever(self._state)
        self._state = self._finalizer = None

    def __del__(self) -> None:
        # This cannot wait for the lock of httpx's pool: only calls and streams take it, and none is left, because they
        # refer to this object through their SyncHTTP.
        if getattr(self, "_state", None) is not None:
            self.close()


class AsyncClientState:
    """The httpx client of an `AsyncHTTP` in one event loop, and responses as in `SyncClientState`."""

    def __init__(self, user_client: httpx.AsyncClient | None) -> None:
        self.transport = AsyncRouter() if user_client is None else None
        self.client: httpx.AsyncClient = user_client or httpx.AsyncClient(**_client_options(self.transport))
        self.pending_close: deque[Any] = deque()
        self.shutdown_hook: AsyncGenerator[None] | None = None
        if self.transport is not None and sys.get_asyncgen_hooks().finalizer is not None:
            self.shutdown_hook = _close_at_loop_shutdown(self.client, self.transport)
        elif self.transport is not None:  # a loop of nest_asyncio's: a generator that is collected is not awaited there
            finalizer = weakref.finalize(self, _close_in_loop, asyncio.get_running_loop(), self.client)
            finalizer.atexit = False
        renew_in_child(self)

    def _after_fork(self) -> None:
        keep_forever(self)  # closed here, its sockets would be taken out of the loop that the parent runs

    async def close_pending(self) -> None:
        """Closes the responses of streams that were garbage-collected."""
        while self.pending_close:
            await self.pending_close.popleft().aclose()

    async def close(self) -> None:
        """Closes our own httpx client, after waking all readers; a user's stays open."""
        await self.close_pending()
        if self.transport is not None:
            self.transport.sockets.abort()
            closing = self.client.aclose() if self.shutdown_hook is None else self.shutdown_hook.aclose()
            await closing


def _close_in_loop(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(lambda: loop.create_task(client.aclose()))


async def _close_at_loop_shutdown(client: httpx.AsyncClient, transport: AsyncRouter) -> AsyncGenerator[None]:
    """Closes `client` when this is closed or garbage-collected, or its loop ends.

    A loop that ends, asyncio's or trio's, closes the async generators that are left; there is no other callback in
    time, and an idle connection would be left behind with a warning.
    """
    try:
        yield
    finally:
        try:
            await client.aclose()
        finally:  # asyncio.run() cancels an aclose() that is under way; the sockets are closed even then
            for stream in transport.sockets.all():
                await stream.aclose()


class _LoopStates:
    """The states of each event loop: an httpx.AsyncClient works only in the loop in which it was first used."""

    def __init__(self) -> None:
        self._after_fork()
        renew_in_child(self)

    def _after_fork(self) -> None:
        # A loop of the parent's may be used in the child as well: a variable of its own has nothing of the parent's.
        self._variable: anyio.lowlevel.RunVar[WeakKeyDictionary[AsyncClientStates, AsyncClientState]] = (
            anyio.lowlevel.RunVar(f"hfstream of process {os.getpid()}")
        )

    def of_running_loop(self) -> WeakKeyDictionary[AsyncClientStates, AsyncClientState]:
        try:
            return self._variable.get()
        except LookupError:
            states: WeakKeyDictionary[AsyncClientStates, AsyncClientState] = WeakKeyDictionary()
            self._variable.set(states)
            return states


_LOOP_STATES = _LoopStates()


class AsyncClientStates:
    """The states of an `AsyncHTTP`, one for each event loop in which it is used."""

    def __init__(self, user_client: httpx.AsyncClient | None) -> None:
        self._user_client = user_client

    async def current(self) -> AsyncClientState:
        """The state of the running event loop."""
        states = _LOOP_STATES.of_running_loop()
        if self not in states:
            state = states[self] = AsyncClientState(self._user_client)
            if state.shutdown_hook is not None:
                await anext(state.shutdown_hook)  # a loop closes only generators that have been started
        return states[self]

    async def close(self) -> None:
        """Closes the state of the running event loop."""
        state = _LOOP_STATES.of_running_loop().pop(self, None)
        if state is not None:
            await state.close()
