"""How many requests may run at once. Does not depend on what they ask for, and never makes a request wait."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType

from hfstream.errors import OverloadedError


class ConcurrencyLimiter:
    """A number of permits: ``with limiter:`` holds one. Belongs to one event loop, not to several threads.

    Raises:
        OverloadedError: all permits are taken.
    """

    def __init__(self, permits: int) -> None:
        self._permits = permits
        self._running = 0

    @property
    def running(self) -> int:
        """Permits taken."""
        return self._running

    def __enter__(self) -> None:
        if self._running >= self._permits:
            raise OverloadedError("Model is overloaded", retry_after=1)
        self._running += 1

    @contextmanager
    def permits(self, count: int) -> Generator[None, None, None]:
        """Holds `count` permits, all or none. Raises what `with limiter` raises."""
        if count and self._running + count > self._permits:
            raise OverloadedError("Model is overloaded", retry_after=1)
        self._running += count
        try:
            yield
        finally:
            self._running -= count

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running -= 1


class ByteLimiter:
    """A number of bytes that requests may hold together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    @contextmanager
    def holding(self) -> Generator[ByteHolder, None, None]:
        """What one request holds, until the end of the block."""
        holder = ByteHolder(self)
        try:
            yield holder
        finally:
            self._held -= holder.size

    def take(self, size: int) -> None:
        """Holds `size` more bytes.

        Raises:
            OverloadedError: they are too many.
        """
        if self._held + size > self._limit:
            raise OverloadedError("Model is overloaded", retry_after=1)
        self._held += size


class ByteHolder:
    """What one request holds of a ByteLimiter's bytes."""

    def __init__(self, limiter: ByteLimiter) -> None:
        self._limiter = limiter
        self.size: int = 0

    def add(self, size: int) -> None:
        """Holds `size` more bytes. Raises what `ByteLimiter.take` raises."""
        self._limiter.take(size)
        self.size += size
