"""Four limits on time, and the one deadline that is in force.

Only content moves the deadline: keep-alive comments are no progress. This module refuses to know who waits, and how.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields

__all__ = ["Clock", "Deadline", "Timeouts"]

Clock = Callable[[], float]
"""Monotonic seconds."""


@dataclass(frozen=True)
class Timeouts:
    """How long to wait, in seconds. None is no limit.

    Each limit that runs out raises `InferenceTimeoutError`, whose `phase` is the limit's name.
    """

    connect: float | None = 10.0
    """Until there is a connection, in each attempt."""
    first_token: float | None = 120.0
    """From the request to the first content, in each attempt; for an answer in one piece, to its end."""
    between_tokens: float | None = 60.0
    """From one token to the next. Keep-alive comments do not count."""
    total: float | None = None
    """From the call to its end, all attempts and the waits between them included."""

    def __post_init__(self) -> None:
        for field in fields(self):
            seconds = getattr(self, field.name)
            if seconds == math.inf:
                object.__setattr__(self, field.name, None)
            if seconds is not None and (isinstance(seconds, bool) or not seconds > 0):
                raise ValueError(f"Timeouts.{field.name} must be a positive number of seconds or None, not {seconds!r}")

    @classmethod
    def of(cls, value: Timeouts | float | None) -> Timeouts:
        """`value` as Timeouts: a number sets the first three limits, None lifts all."""
        return value if isinstance(value, Timeouts) else cls(value, value, value)


class Deadline:
    """The moment at which the present wait is over; shared with whoever reads the socket."""

    __slots__ = ("_clock", "at")

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self.at: float = math.inf

    def remaining(self) -> float | None:
        """Seconds left, at least a millisecond, so that what has arrived already can still be read; None for ever."""
        return None if self.at == math.inf else max(0.001, self.at - self._clock())
