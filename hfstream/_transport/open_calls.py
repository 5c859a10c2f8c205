"""The open calls and streams of a client, which end when the client is closed, and in a forked child.

Does not depend on how they wait.
"""

from __future__ import annotations

import threading
from typing import Protocol
from weakref import WeakSet

from .forking import renew_in_child

__all__ = ["OpenCalls"]


class _Closable(Protocol):
    """A call or stream that ends when its client is closed."""

    def _mark_closed(self) -> None: ...
    def _after_fork(self) -> None: ...


class OpenCalls:
    """The open calls and streams of one client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: WeakSet[_Closable] = WeakSet()
        self._closed = False
        renew_in_child(self)

    def register(self, call: _Closable) -> None:
        """Adds a call or stream that ends when the client is closed.

        Raises:
            RuntimeError: the client is closed.
        """
        with self._lock:
            self.ensure_open()
            self._calls.add(call)

    def ensure_open(self) -> None:
        """Raises RuntimeError if the client is closed."""
        if self._closed:
            raise RuntimeError("this client is closed")

    def close_all(self) -> None:
        """Ends all of them; `register` raises from now on."""
        with self._lock:
            self._closed = True
            calls = list(self._calls)
        for call in calls:
            call._mark_closed()  # pyright: ignore[reportPrivateUsage]  of a stream: not for users

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        for call in list(self._calls):
            call._after_fork()  # pyright: ignore[reportPrivateUsage]
