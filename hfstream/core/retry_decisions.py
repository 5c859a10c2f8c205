"""What a failure means, as a table: before any content has come, and after.

    ============  ===================================================  ==============  ================
    kind          such as                                              before content  after content
    ============  ===================================================  ==============  ================
    REFUSED       validation, 401, 404, other 4xx, HTML in a 200       RAISE           RAISE
    OVERLOADED    429, 503, 529, an `overloaded` event                 RETRY           RESUME
    INTERRUPTED   no connection, reset, timeout, 408, 502, 504, empty  RETRY           RESUME
    BROKEN        424, 500                                             RAISE           RAISE
    ============  ===================================================  ==============  ================

Does not depend on how often a call may be retried, nor on whether it can be resumed: where it cannot, RESUME is RAISE.
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
    """What went wrong, by what can be done about it."""

    REFUSED = "refused"
    OVERLOADED = "overloaded"
    INTERRUPTED = "interrupted"
    BROKEN = "broken"


class Decision(Enum):
    """What to do about it."""

    RAISE = "raise"
    RETRY = "retry"
    RESUME = "resume"
    CONTINUE = "continue"
    """Only for a reconnect in vain, which is not a failure to be retried: continue from the text so far, at once."""


DECISIONS: dict[FailureKind, tuple[Decision, Decision]] = {
    FailureKind.REFUSED: (Decision.RAISE, Decision.RAISE),
    FailureKind.OVERLOADED: (Decision.RETRY, Decision.RESUME),
    FailureKind.INTERRUPTED: (Decision.RETRY, Decision.RESUME),
    FailureKind.BROKEN: (Decision.RAISE, Decision.RAISE),
}
"""For each kind: the decision before any content has come, and the decision after."""


def decide(error: InferenceError, *, after_content: bool) -> Decision:
    """What to do about `error`; `after_content` says whether content has been received, in any attempt."""
    return DECISIONS[classify(error)][after_content]


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
