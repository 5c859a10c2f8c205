"""What a failure means, as a table: before any content has come, and after.

    ============  ======================================================  ==============  ================
    kind          such as                                                 before content  after content
    ============  ======================================================  ==============  ================
    REFUSED       validation, 401, 404, other 4xx, HTML, no quota left    RAISE           RAISE
    OVERLOADED    429, 503, 529, an `overloaded` event                    RETRY           RESUME
    INTERRUPTED   no connection, reset, timeout, empty, 408, 409, 502,    RETRY           RESUME
                  504, 52x, ``x-should-retry: true``
    BROKEN        424, 500                                                RAISE           RAISE
    ============  ======================================================  ==============  ================

Does not depend on how often a call may be retried, nor on whether it can be resumed: where it cannot, RESUME is RAISE.
"""

from __future__ import annotations

from enum import Enum

from ..errors import (
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    OverloadedError,
)

__all__ = ["DECISIONS", "Decision", "FailureKind", "classify", "decide", "is_overload"]


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


def is_overload(error: InferenceError) -> bool:
    """Whether the server has too much to do: it says so, or its first token does not come in time."""
    if isinstance(error, InferenceTimeoutError):
        return error.phase == "first_token"
    return classify(error) is FailureKind.OVERLOADED


def classify(error: InferenceError) -> FailureKind:
    """The row of the table that `error` belongs to.

    `retryable`, if the error itself has been given it, overrides what its class and status say: a server can ask for a
    retry (``x-should-retry: true``), or rule it out.
    """
    if isinstance(error, InferenceTimeoutError) and error.phase == "total":
        return FailureKind.REFUSED  # there is no time for another attempt
    kind = _by_class_and_status(error)
    if error.retryable:
        return kind if kind in _TEMPORARY else FailureKind.INTERRUPTED
    return FailureKind.REFUSED if kind in _TEMPORARY else kind


_TEMPORARY = (FailureKind.OVERLOADED, FailureKind.INTERRUPTED)


def _by_class_and_status(error: InferenceError) -> FailureKind:
    if isinstance(error, OverloadedError):
        return FailureKind.OVERLOADED
    if isinstance(error, InferenceTimeoutError | InferenceConnectionError | IncompleteStreamError):
        return FailureKind.INTERRUPTED
    return FailureKind.BROKEN if (error.status_code or 0) >= 500 or error.status_code == 424 else FailureKind.REFUSED
