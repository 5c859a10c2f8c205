"""How many requests may run at once. Does not depend on what they ask for, and never makes a request wait."""

from __future__ import annotations

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running -= 1
