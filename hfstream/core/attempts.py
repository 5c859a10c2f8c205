"""What is recorded of each attempt of a call, and how errors are kept and told.

Does not depend on how an attempt is made, or on whether there is another one.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from ..errors import IncompleteStreamError, InferenceError

__all__ = ["Attempt", "cannot_resume", "without_traceback"]


@dataclass
class Attempt:
    """One try, as it went."""

    number: int
    """Counts from 1."""
    delay: float
    """Seconds waited before it."""
    status_code: int | None = None
    """HTTP status, once there is one."""
    error: InferenceError | None = None
    """What ended it, unless it succeeded."""


def without_traceback(error: InferenceError) -> InferenceError:
    """A copy of `error` that can be stored: the traceback of `error` refers to the stream, and would keep it alive."""
    return copy.copy(error)


def cannot_resume(lost: InferenceError, reason: str) -> IncompleteStreamError:
    """An error for `lost` that says why the stream was not resumed; its attributes are those of `lost`."""
    error = IncompleteStreamError(f"{lost.message}; cannot resume: {reason}")
    vars(error).update(vars(lost), retryable=False)
    error.__cause__ = without_traceback(lost)
    return error
