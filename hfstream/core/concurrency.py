"""How many requests of one client may be sent at once, and which of them is next.

`AdaptiveLimit` finds the number that a server takes by trying: additive increase, multiplicative decrease, as TCP does
(https://www.rfc-editor.org/rfc/rfc5681). `RequestLimiter` keeps to it and lets the others wait in the order of their
calls. Does not depend on how a request waits, nor on threads: all times are arguments, so a simulation can use the same
code.
"""

from __future__ import annotations

import bisect
import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["AdaptiveLimit", "FixedLimit", "RequestLimiter", "RequestSlot"]

INITIAL_LIMIT = 4
MAX_LIMIT = 256
"""Of an adaptive limit. A fixed one may be larger."""

OVERLOAD_FACTOR = 0.75
"""What is left of the limit after a refusal."""
LATENCY_FACTOR = 0.75
"""What is left of the limit after a round in which the time to first token has risen."""

LATENCY_TOLERANCE = 2.0
"""A median time to first token of so many times the usual one has risen: requests wait in the server's queue."""
LATENCY_SLACK = 0.05
"""Seconds that a time to first token may vary by in any case."""
BASELINE_DRIFT = 1.02
"""How much slower in each round the usual time to first token may become. A server that got slower for good is
measured by its new times after a while, and not kept at one request for ever."""
MIN_ROUND = 8
"""A round is as many first tokens as the limit allows at once, but at least these: a median of fewer says little."""


class FixedLimit:
    """So many requests at once, whatever happens."""

    def __init__(self, value: int) -> None:
        self.value: float = value

    def record_success(self, sent_at: float, first_token_at: float | None, *, at_limit: bool) -> None:
        """Has no effect."""

    def record_overload(self, sent_at: float, now: float) -> None:
        """Has no effect."""


class AdaptiveLimit(FixedLimit):
    """As many requests at once as the server takes without refusing them, and without letting them queue."""

    value: float

    def __init__(self, initial: int = INITIAL_LIMIT, *, maximum: int = MAX_LIMIT) -> None:
        super().__init__(initial)
        self._maximum = maximum
        self._decreased_at: float | None = None
        self._first_token_times: list[float] = []
        self._round = MIN_ROUND
        self._baseline: float | None = None

    def record_success(self, sent_at: float, first_token_at: float | None, *, at_limit: bool) -> None:
        """A request has been answered.

        `sent_at` and `first_token_at` are monotonic seconds; the latter is None for a response that is not streamed.
        `at_limit` is whether as many requests ran as may: if not, a higher limit has not been tried.
        """
        if self._is_before_decrease(sent_at):
            return
        if first_token_at is not None and self._has_risen(first_token_at - sent_at):
            self._decrease(LATENCY_FACTOR, first_token_at)
        elif at_limit:
            # Doubled in each round until the first decrease, then one more in each round.
            self.value = min(self.value + (1 if self._decreased_at is None else 1 / self.value), self._maximum)

    def record_overload(self, sent_at: float, now: float) -> None:
        """The server has refused a request because of overload, or let it wait beyond its time limit."""
        if not self._is_before_decrease(sent_at):
            self._decrease(OVERLOAD_FACTOR, now)

    def _is_before_decrease(self, sent_at: float) -> bool:
        """Whether a request was sent before the last decrease: what became of it says nothing about the new limit."""
        return self._decreased_at is not None and sent_at < self._decreased_at

    def _decrease(self, factor: float, now: float) -> None:
        self.value = max(1.0, self.value * factor)
        self._decreased_at = now
        self._begin_round()

    def _begin_round(self) -> None:
        self._first_token_times.clear()
        self._round = max(MIN_ROUND, int(self.value))

    def _has_risen(self, time_to_first_token: float) -> bool:
        """Whether a round is over, and its median is clearly above the baseline: the lowest median, with its drift."""
        times = self._first_token_times
        times.append(time_to_first_token)
        if len(times) < self._round:
            return False
        median = statistics.median(times)
        self._begin_round()
        baseline = median if self._baseline is None else min(median, self._baseline * BASELINE_DRIFT)
        self._baseline = baseline
        return median > LATENCY_TOLERANCE * baseline + LATENCY_SLACK


@dataclass(eq=False, slots=True)
class RequestSlot:
    """One call's permission to send requests, one at a time: `enter` before each, `leave` after it."""

    limiter: RequestLimiter
    order: int
    """Earlier calls are served first; a call that is retried keeps its place."""
    granted: bool = False
    """Whether the request may be sent."""
    wake: Callable[[], object] | None = None
    """Called when it is granted later."""

    def enter(self, wake: Callable[[], object]) -> None:
        """Asks for permission: `granted` is set at once, or before `wake` is called."""
        self.wake = wake
        self.limiter.enter(self)

    def leave(self) -> None:
        """The request is over, or is not needed any more. Has no effect without `enter`."""
        self.limiter.leave(self)

    def record_success(self, sent_at: float, first_token_at: float | None) -> None:
        """As `AdaptiveLimit.record_success`."""
        self.limiter.record_success(sent_at, first_token_at)

    def record_overload(self, sent_at: float, now: float) -> None:
        """As `AdaptiveLimit.record_overload`."""
        self.limiter.record_overload(sent_at, now)


class RequestLimiter:
    """Grants slots up to a limit, in the order in which the calls were made."""

    def __init__(self, limit: FixedLimit) -> None:
        self._limit = limit
        self._orders = itertools.count()
        self._clear()

    def _clear(self) -> None:
        self._running: set[RequestSlot] = set()
        self._waiting: list[tuple[int, RequestSlot]] = []  # sorted; no two have the same order

    @property
    def limit(self) -> int:
        """How many requests may run at once now."""
        return int(self._limit.value)

    @property
    def running(self) -> int:
        """How many requests run."""
        return len(self._running)

    def slot(self) -> RequestSlot:
        """For a new call."""
        return RequestSlot(self, next(self._orders))

    def enter(self, slot: RequestSlot) -> None:
        """Grants `slot`, or lets it wait."""
        bisect.insort(self._waiting, (slot.order, slot))
        self._grant()

    def leave(self, slot: RequestSlot) -> None:
        """Takes `slot` back, and grants the next."""
        if slot in self._running:
            self._running.remove(slot)
        else:
            at = bisect.bisect_left(self._waiting, (slot.order,))
            if at < len(self._waiting) and self._waiting[at][1] is slot:
                del self._waiting[at]
        slot.granted = False
        slot.wake = None
        self._grant()

    def record_success(self, sent_at: float, first_token_at: float | None) -> None:
        """A request that runs has been answered; see `AdaptiveLimit.record_success`."""
        self._limit.record_success(sent_at, first_token_at, at_limit=len(self._running) >= self.limit)
        self._grant()

    def record_overload(self, sent_at: float, now: float) -> None:
        """A request was refused; see `AdaptiveLimit.record_overload`."""
        self._limit.record_overload(sent_at, now)

    def _grant(self) -> None:
        while self._waiting and len(self._running) < self.limit:
            _, slot = self._waiting.pop(0)
            self._running.add(slot)
            slot.granted = True
            if slot.wake is not None:
                slot.wake()
