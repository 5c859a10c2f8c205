"""How long a call waits for a server that is loading its model.

Such a server says 503 at once, to every attempt, and often how long it expects to take: far longer than a few attempts
last. So the waits for it do not count as attempts until that time is over. A Retry-After is no such estimate: it only
says when to ask again. Does not depend on how attempts are counted.
"""

from __future__ import annotations

import math
import random

from ..errors import InferenceError

__all__ = ["LoadingWait"]

DEFAULT_ESTIMATE = 60.0
"""Seconds, where a server says that it is loading, and not how long that takes (llama.cpp, the reference server)."""

MAX_ESTIMATE = 600.0
"""Seconds. A server that expects to take longer is not waited for."""

MIN_DELAY = 0.1
"""Seconds between two attempts at least."""


class LoadingWait:
    """The waits of one call for a model that is being loaded. `max_delay` is the longest single wait, in seconds."""

    def __init__(self, max_delay: float) -> None:
        self.delay: float | None = None
        """Seconds until the next attempt, which does not count; None if the last failure is not about loading."""
        self.count: int = 0
        """Attempts that do not count."""
        self._max_delay = max_delay
        self._estimate = 0.0
        self._waited = 0.0

    def observe(self, error: BaseException) -> None:
        """Takes what the last attempt has brought."""
        self.delay = None
        if not isinstance(error, InferenceError) or not error._is_loading:  # pyright: ignore[reportPrivateUsage]
            return
        seconds = DEFAULT_ESTIMATE if error.retry_after is None else error.retry_after
        ask_again = math.inf
        if not error._retry_after_is_estimate:  # pyright: ignore[reportPrivateUsage]
            ask_again, seconds = seconds, max(seconds, DEFAULT_ESTIMATE)
        if seconds > MAX_ESTIMATE or self._max_delay < MIN_DELAY:
            return
        # Some servers repeat their first estimate, others say how much of it is left: the longest one holds.
        self._estimate = max(self._estimate, seconds)
        remaining = self._estimate - self._waited
        if remaining <= 0:
            return
        # At random, as for all retries: not all clients at once. At least four fifths of this are waited for.
        longest = min(max(min(remaining, 1.25 * ask_again), MIN_DELAY), self._max_delay)
        self.delay = random.uniform(0.8, 1.0) * longest  # noqa: S311
        self._waited += self.delay
        self.count += 1
