"""How fast a response came: time to first token, and the gaps between tokens in a histogram of fixed size.

All times are in seconds. Does not depend on what the tokens are.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["InterTokenLatency", "Metrics"]

_FINEST = 1e-5  # seconds; shorter gaps are tokens that came in one chunk
_PER_DECADE = 40  # buckets: neighbours differ by 6 %, so a percentile is off by 3 % at most
_BOUNDS = [_FINEST * 10 ** (bucket / _PER_DECADE) for bucket in range(1, 8 * _PER_DECADE)]  # up to 1000 s
_NO_COUNTS = array("I", [0]) * (len(_BOUNDS) + 1)


@dataclass(frozen=True)
class InterTokenLatency:
    """Gaps between tokens, in seconds; percentiles are exact to 3 %. All zero while there is no gap."""

    p50: float = 0.0
    """The median."""
    p95: float = 0.0
    """95 % of the gaps are no longer than this."""
    max: float = 0.0
    """The longest."""

    def __repr__(self) -> str:
        return f"InterTokenLatency(p50={self.p50:.4f}, p95={self.p95:.4f}, max={self.max:.4f})"


class Metrics:
    """The times of one stream so far. All in seconds."""

    __slots__ = ("_counts", "_first", "_last", "_max", "_started", "continued", "resumed", "tokens")

    def __init__(self, started: float) -> None:
        self.tokens: int = 0
        """Number of tokens received."""
        self.resumed: int = 0
        """How often the connection was lost and the stream was resumed, in either way."""
        self.continued: int = 0
        """How many of these sent the prompt and the text so far as a new request (the server kept no events)."""
        self._started = started
        self._first: float | None = None
        self._last = started
        self._max = 0.0
        # Made at the first token: a response without streaming never needs it. Half as large as a list.
        self._counts = array("I")

    def _record(self, now: float, tokens: int) -> None:
        """Counts `tokens` that came at `now`, in one chunk."""
        if self._first is None:
            self._first = now
            self._counts = array("I", _NO_COUNTS)
        else:
            gap = now - self._last
            if gap > self._max:  # noqa: PLR1730  once a token: max() is a call
                self._max = gap
            self._counts[bisect(_BOUNDS, gap)] += 1
        if tokens > 1:
            self._counts[0] += tokens - 1
        self._last = now
        self.tokens += tokens

    @property
    def time_to_first_token(self) -> float | None:
        """From the call to the first token, failed attempts included; None before it."""
        return None if self._first is None else self._first - self._started

    @property
    def duration(self) -> float:
        """From the call to the last token so far."""
        return self._last - self._started

    @property
    def tokens_per_second(self) -> float:
        """Rate of generation: the tokens after the first, divided by the time that they took."""
        span = self._last - (self._first if self._first is not None else self._last)
        return (self.tokens - 1) / span if span > 0 else 0.0

    @property
    def inter_token(self) -> InterTokenLatency:
        """Median, 95th percentile and maximum of the gaps between tokens."""
        return InterTokenLatency(self._percentile(0.50), self._percentile(0.95), self._max)

    def gaps(self) -> Iterator[tuple[float, int]]:
        """The gaps between tokens as a histogram: seconds, exact to 3 %, and how many gaps are that long.

        Tokens that came in one chunk are 0 seconds apart.
        """
        for bucket, count in enumerate(self._counts):
            if count:
                yield self._seconds(bucket), count

    def _seconds(self, bucket: int) -> float:
        """The middle of a bucket."""
        return min(_FINEST * 10 ** ((bucket + 0.5) / _PER_DECADE), self._max) if bucket else 0.0

    def _percentile(self, share: float) -> float:
        wanted = math.ceil(share * sum(self._counts))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return self._seconds(bucket)
        return 0.0

    def __repr__(self) -> str:
        first = self.time_to_first_token
        return (
            f"Metrics(time_to_first_token={'None' if first is None else f'{first:.3f}'}, tokens={self.tokens}, "
            f"tokens_per_second={self.tokens_per_second:.1f}, duration={self.duration:.3f}, "
            f"inter_token={self.inter_token!r})"
        )
