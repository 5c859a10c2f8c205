"""Steps of a response that are due at certain times. Does not depend on what they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from .response import Step

__all__ = ["TimedSteps"]


class TimedSteps:
    """The body of a `Response`: each step is sent at its time, in seconds since the start. It can be sent again.

    Each pause is computed from the clock: the errors of fixed pauses would add up.
    """

    def __init__(self, steps: Sequence[tuple[float, Step]], *, start: float = 0.0) -> None:
        """`start`: the time at which the first step is asked for."""
        self._steps = steps
        self._start = start

    def __iter__(self) -> Iterator[Step]:
        started = time.monotonic() - self._start
        for at, step in self._steps:
            if (pause := started + at - time.monotonic()) > 0:
                yield pause
            yield step
