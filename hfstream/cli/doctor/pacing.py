"""Whether tokens came one by one or in lumps, from the times at which they arrived. Does not depend on the network.

A lump alone proves nothing: a fast server's tokens come together too. What tells them apart is how long the tokens took
to make, and how much of that time lies between the arrival of the first and that of the last.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

__all__ = ["Pace", "Pacing", "judge_pacing"]

MIN_TOKENS = 4
"""With fewer tokens nothing can be said."""

MIN_LUMP = 4
"""Tokens that come together, on average, from which on they are called lumps."""

SHORTEST_PAUSE = 0.0005
"""Seconds between two tokens below which they came together: what was sent at once may take several reads."""

PERCEPTIBLE = 0.05
"""Seconds between two lumps from which on a reader sees them."""

HELD_SHARE = 0.2
"""Of tokens that were held back, all arrive within this share of the time that they took to make."""

CERTAIN = 0.1
"""Seconds that the tokens must have taken to make, so that a lump at the end proves that they were held back."""


class Pace(Enum):
    """How the tokens came."""

    ONE_BY_ONE = "one by one"
    SEVERAL = "several at a time, with pauses too short to see"
    LUMPS = "in lumps"
    HELD_BACK = "all at once, long after the first was made"
    AT_ONCE = "all at once, and it is not known why"
    TOO_FEW = "too few to say"


@dataclass(frozen=True)
class Pacing:
    """How the tokens of one stream came. Times are in seconds."""

    pace: Pace
    tokens: int
    lumps: int
    """How many groups of tokens came, with a pause before each."""
    first: float
    """From the request to the first token."""
    last: float
    """From the request to the last token."""
    median_gap: float
    """Between two tokens; of tokens that came together it is zero."""
    longest_gap: float


def judge_pacing(arrivals: Sequence[float], baseline: float | None = None) -> Pacing:
    """How tokens came that arrived at these times, in seconds since the request.

    `baseline` is how long a request for one token took; None if there was none. Without it the cause of tokens that all
    come at once is not known: they may have been held back, or made in no time.
    """
    first, last = (arrivals[0], arrivals[-1]) if arrivals else (0.0, 0.0)
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]
    pause = max((last - first) / max(1, len(gaps)) / 4, SHORTEST_PAUSE)
    lumps = 1 + sum(gap > pause for gap in gaps) if arrivals else 0
    return Pacing(
        _judge(len(arrivals), lumps, first, last, baseline), len(arrivals), lumps, first, last,
        median(gaps) if gaps else 0.0, max(gaps, default=0.0),
    )  # fmt: skip


def _judge(tokens: int, lumps: int, first: float, last: float, baseline: float | None) -> Pace:
    if tokens < MIN_TOKENS:
        return Pace.TOO_FEW
    if tokens < MIN_LUMP * lumps:
        return Pace.ONE_BY_ONE
    spread = last - first
    made_in = last if baseline is None else last - baseline
    if lumps > 1 and spread >= HELD_SHARE * made_in:
        return Pace.LUMPS if spread / (lumps - 1) >= PERCEPTIBLE else Pace.SEVERAL
    if baseline is None or made_in < max(CERTAIN, baseline / 2):
        return Pace.AT_ONCE
    return Pace.HELD_BACK
