"""Which of several servers gets the next request: the one with the fewest outstanding requests that does not rest.

An endpoint that overloads or fails rests for a while, longer each time; then one request tries it, and others follow if
that is answered (a circuit breaker with a half-open state). Does not depend on how requests are sent: all times are
arguments, so a simulation can use the same code.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import InferenceError
from .retry_decisions import FailureKind, classify

__all__ = ["EndpointPool", "EndpointState"]

MIN_REST = 0.5
MAX_REST = 30.0
"""Seconds that an endpoint rests: the first time, doubled with each further failure, and at most."""


@dataclass(eq=False)
class EndpointState:
    """One endpoint, as one client sees it."""

    url: str
    outstanding: set[object] = field(default_factory=set[object])
    """The calls whose request to it is not over."""
    failures: int = 0
    """Since its last answer."""
    failed_at: float = -math.inf
    rests_until: float = -math.inf
    trial: object | None = None
    """The call that tried it after its last rest."""
    chosen: int = 0

    def is_open(self, now: float) -> bool:
        """Whether it may get a request: it does not rest, and is not being tried by another call."""
        return self.failures == 0 or (now >= self.rests_until and self.trial not in self.outstanding)

    def record_success(self) -> None:
        """A request has been answered."""
        self.failures = 0
        self.trial = None

    def record_failure(self, error: InferenceError, sent_at: float, now: float) -> None:
        """A request that was sent at `sent_at` has failed: the endpoint rests, unless the request is to blame."""
        kind = classify(error)
        if kind not in (FailureKind.OVERLOADED, FailureKind.INTERRUPTED) or sent_at < self.failed_at:
            return  # of several requests that fail together, one counts
        self.failures += 1
        self.failed_at = now
        self.trial = None
        rest = MIN_REST * 2 ** min(self.failures - 1, 10)
        self.rests_until = now + min(max(rest, error.retry_after or 0.0), MAX_REST)


_numbers = itertools.count(1)
"""Of the choices, in their order."""


class EndpointPool:
    """The endpoints that a call can go to; one endpoint may be in several pools. All times are monotonic seconds."""

    def __init__(self, endpoints: Sequence[EndpointState]) -> None:
        self.endpoints: Sequence[EndpointState] = endpoints

    def choose(self, call: object, now: float) -> EndpointState:
        """The endpoint for a request of `call`, which counts there until `leave`.

        If all rest, it is the one whose rest ends first: no call fails because of a rest.
        """
        candidates = [endpoint for endpoint in self.endpoints if endpoint.is_open(now)]
        if candidates:
            chosen = min(candidates, key=lambda endpoint: (len(endpoint.outstanding), endpoint.chosen))
        else:
            chosen = min(self.endpoints, key=lambda endpoint: endpoint.rests_until)
        self.enter(chosen, call)
        return chosen

    def enter(self, endpoint: EndpointState, call: object) -> None:
        """A request of `call` goes to `endpoint`, whatever its state."""
        endpoint.chosen = next(_numbers)
        endpoint.outstanding.add(call)
        if endpoint.failures:
            endpoint.trial = call

    def leave(self, endpoint: EndpointState, call: object) -> None:
        """The request is over."""
        endpoint.outstanding.discard(call)

    def has_open(self, now: float) -> bool:
        """Whether there is an endpoint that does not rest."""
        return any(endpoint.is_open(now) for endpoint in self.endpoints)

    def record_success(self, endpoint: EndpointState) -> None:
        """A request has been answered."""
        endpoint.record_success()

    def record_failure(self, endpoint: EndpointState, error: InferenceError, sent_at: float, now: float) -> None:
        """A request that was sent at `sent_at` has failed."""
        endpoint.record_failure(error, sent_at, now)
