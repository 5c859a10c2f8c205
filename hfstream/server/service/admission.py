"""How many may be answered at once. Refuses to know what they ask, and never lets anyone wait."""

from __future__ import annotations

from types import TracebackType

from hfstream.errors import OverloadedError


class ConcurrencyLimiter:
    """A number of permits: ``with gate:`` holds one, or raises OverloadedError at once if all are taken.

    Not for several threads: it belongs to the event loop.
    """

    def __init__(self, permits: int) -> None:
        self._permits = permits
        self._taken = 0

    @property
    def taken(self) -> int:
        """Permits taken."""
        return self._taken

    def __enter__(self) -> None:
        if self._taken >= self._permits:
            raise OverloadedError("Model is overloaded", retry_after=1)
        self._taken += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._taken -= 1
