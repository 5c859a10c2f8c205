"""What the two variants of the transport do differently: waits that can be ended, and the end of a response's reader.

All else is written once, in `_async`, and generated for `_sync`.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import anyio
import anyio.lowlevel

__all__ = ["AsyncWakeup", "SyncWakeup", "async_exhaust", "async_time_limit", "sync_exhaust", "sync_time_limit"]

MAX_EXHAUSTED_CHUNKS = 1000

SyncWakeup = threading.Event
"""A wait that another thread can end."""


class AsyncWakeup:
    """A wait that another task, or another thread, can end."""

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
        loop: Any = getattr(token, "native_token", token)  # asyncio's loop, or trio's token: each has its own entry
        enter = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        self._wake = functools.partial(enter, event.set)
        if not self._is_set:
            with anyio.move_on_after(seconds):
                await event.wait()


@contextlib.contextmanager
def sync_time_limit(seconds: float, abort: Callable[[], object], *, follows_deadline: bool) -> Generator[None]:
    """Wakes the reader after `seconds` by `abort`, where its socket does not follow the deadline by itself."""
    if follows_deadline:
        yield
        return
    timer = threading.Timer(seconds, abort)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def async_time_limit(seconds: float, abort: Callable[[], object], *, follows_deadline: bool) -> Generator[None]:
    """Cancels the reader after `seconds`."""
    with anyio.move_on_after(seconds):
        yield


def sync_exhaust(chunks: Iterator[bytes]) -> None:
    """Nothing: generators of plain code are closed by the garbage collector."""


async def async_exhaust(chunks: AsyncIterator[bytes]) -> None:
    """Reads to the end of an aborted body.

    httpcore's generators would be left half-way otherwise, and trio warns when such a one is garbage-collected.
    """
    with contextlib.suppress(Exception):
        for _ in range(MAX_EXHAUSTED_CHUNKS):  # a user's socket hands over what arrives after it was shut down
            if await anext(chunks, None) is None:
                break
