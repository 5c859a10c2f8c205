"""Which of several generations of one prompt are the best, by TGI's measure. Does not depend on how they were made."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hfstream.types import StreamResponse


def best_first(generations: Sequence[Sequence[StreamResponse]]) -> list[int]:
    """The numbers of the generations: the largest mean log-probability of the tokens first, as TGI chooses."""
    return sorted(range(len(generations)), key=lambda number: -_mean_logprob(generations[number]))


def _mean_logprob(events: Sequence[StreamResponse]) -> float:
    logprobs = [event.token.logprob for event in events]
    return math.fsum(-math.inf if each is None else each for each in logprobs) / len(logprobs)
