"""Judgement is a table: what a failure means, before the answer began and after.

    ============  ===================================================  ==============  ================
    kind          such as                                              nothing said    already speaking
    ============  ===================================================  ==============  ================
    REFUSED       validation, 401, 404, other 4xx, HTML in a 200       RAISE           RAISE
    OVERLOADED    429, 503, 529, an `overloaded` event                 RETRY           RESUME
    INTERRUPTED   no connection, reset, timeout, 408, 502, 504, empty  RETRY           RESUME
    BROKEN        424, 500                                             RAISE           RAISE
    ============  ===================================================  ==============  ================

It refuses to know how patient we are, and whether an answer can be resumed: where it cannot, RESUME is RAISE.
"""

from __future__ import annotations

from enum import Enum

from ..errors import (
    GenerationError,
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    OverloadedError,
    ValidationError,
)

__all__ = ["DECISIONS", "Decision", "FailureKind", "classify", "decide"]


class FailureKind(Enum):
    """Kinds of failure: what went wrong, seen by what can be done about it."""

    REFUSED = "refused"
    OVERLOADED = "overloaded"
    INTERRUPTED = "interrupted"
    BROKEN = "broken"


class Decision(Enum):
    """What to do about it."""

    RAISE = "raise"
    RETRY = "retry"
    RESUME = "resume"


DECISIONS: dict[FailureKind, tuple[Decision, Decision]] = {
    FailureKind.REFUSED: (Decision.RAISE, Decision.RAISE),
    FailureKind.OVERLOADED: (Decision.RETRY, Decision.RESUME),
    FailureKind.INTERRUPTED: (Decision.RETRY, Decision.RESUME),
    FailureKind.BROKEN: (Decision.RAISE, Decision.RAISE),
}
"""For each kind: the verdict while nothing has been said, and the verdict once the answer has begun."""


def decide(error: InferenceError, *, speaking: bool) -> Decision:
    """The verdict on `error`; `speaking` says whether content has reached the caller."""
    return DECISIONS[classify(error)][speaking]


def classify(error: InferenceError) -> FailureKind:
    """The row of the table that `error` belongs to."""
    if isinstance(error, OverloadedError):
        return FailureKind.OVERLOADED
    if isinstance(error, InferenceTimeoutError):
        # When the total is spent there is no time for another attempt.
        return FailureKind.REFUSED if error.phase == "total" else FailureKind.INTERRUPTED
    if isinstance(error, InferenceConnectionError | IncompleteStreamError) or (
        error.status_code in (408, 502, 504) and not isinstance(error, ValidationError | GenerationError)
    ):
        return FailureKind.INTERRUPTED if error.retryable else FailureKind.REFUSED
    return FailureKind.BROKEN if (error.status_code or 0) >= 500 or error.status_code == 424 else FailureKind.REFUSED
