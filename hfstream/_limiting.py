"""A client's `RequestLimiter` and `EndpointPool`, for calls in several threads, and in a forked child.

Does not depend on how many requests may run, nor on which endpoint gets them; `core` decides both.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Generator, Sequence
from typing import Literal

from ._transport.forking import renew_in_child
from .core.concurrency import AdaptiveLimit, FixedLimit, RequestLimiter, RequestSlot
from .core.endpoints import EndpointPool, EndpointState
from .errors import InferenceError

__all__ = [
    "MaxConcurrency",
    "ThreadSafeEndpointPool",
    "ThreadSafeRequestLimiter",
    "make_limiter",
    "validate_max_concurrency",
]

MaxConcurrency = int | Literal["adaptive"] | None


class ThreadSafeRequestLimiter(RequestLimiter):
    """A `RequestLimiter` that calls in several threads can share."""

    def __init__(self, limit: FixedLimit) -> None:
        super().__init__(limit)
        self._lock = threading.Lock()
        self._left: deque[RequestSlot] = deque()
        renew_in_child(self)

    def _after_fork(self) -> None:
        # Of the requests that run or wait, none is the child's: their slots, when they leave, are unknown here.
        self._clear()
        self._left.clear()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        with self._lock:
            yield
        self._take_back()

    def enter(self, slot: RequestSlot) -> None:
        with self._locked():
            self._take_back_now()  # this slot may be among them
            super().enter(slot)

    def leave(self, slot: RequestSlot) -> None:
        # A stream that is garbage-collected leaves wherever the collector runs, even in this thread while it holds the
        # lock. So leaving never waits: if the lock is taken, the thread that has it takes the slot back.
        self._left.append(slot)
        self._take_back()

    def _take_back(self) -> None:
        while self._left and self._lock.acquire(blocking=False):
            try:
                self._take_back_now()
            finally:
                self._lock.release()

    def _take_back_now(self) -> None:
        """With the lock."""
        while self._left:
            super().leave(self._left.popleft())

    def record_success(self, sent_at: float, first_token_at: float | None) -> None:
        with self._locked():
            super().record_success(sent_at, first_token_at)

    def record_overload(self, sent_at: float, now: float) -> None:
        with self._locked():
            super().record_overload(sent_at, now)


class ThreadSafeEndpointPool(EndpointPool):
    """An `EndpointPool` that calls in several threads can share. To leave is one step, and needs no lock."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__([EndpointState(url) for url in urls])
        self._lock = threading.Lock()
        renew_in_child(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        for endpoint in self.endpoints:
            endpoint.outstanding = set()

    def choose(self, call: object, now: float) -> EndpointState:
        with self._lock:
            return super().choose(call, now)

    def record_success(self, endpoint: EndpointState) -> None:
        with self._lock:
            super().record_success(endpoint)

    def record_failure(self, endpoint: EndpointState, error: InferenceError, sent_at: float, now: float) -> None:
        with self._lock:
            super().record_failure(endpoint, error, sent_at, now)


def validate_max_concurrency(value: MaxConcurrency) -> MaxConcurrency:
    """`value`, if it is a positive int, "adaptive" or None.

    Raises:
        ValueError: it is not.
    """
    if value is None or value == "adaptive" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f'max_concurrency must be a number of requests, at least 1, "adaptive" or None, not {value!r}')


def make_limiter(max_concurrency: MaxConcurrency) -> RequestLimiter | None:
    """The limiter for a client's setting; None for no limit."""
    if max_concurrency is None:
        return None
    limit = AdaptiveLimit() if max_concurrency == "adaptive" else FixedLimit(int(max_concurrency))
    return ThreadSafeRequestLimiter(limit)
