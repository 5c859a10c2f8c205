"""What is recorded of each attempt of a call, and how errors are kept and told.

Does not depend on how an attempt is made, or on whether there is another one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import IncompleteStreamError, InferenceError
from ..errors.response_bodies import is_missing_route
from .urls import explain_missing_route, is_huggingface

__all__ = ["Attempt", "add_notes", "cannot_resume", "incomplete_error", "without_traceback"]


@dataclass
class Attempt:
    """One try, as it went."""

    number: int
    """Counts from 1."""
    delay: float
    """Seconds waited before it."""
    url: str
    """Scheme, host and port of the server."""
    status_code: int | None = None
    """HTTP status, once there is one."""
    error: InferenceError | None = None
    """What ended it, unless it succeeded."""


def without_traceback(error: InferenceError) -> InferenceError:
    """A copy of `error` that can be stored: the traceback of `error` refers to the stream, and would keep it alive."""
    return copy.copy(error)


def add_notes(error: BaseException, attempts: Sequence[Attempt], url: str, *, after_content: bool) -> None:
    """Notes below the message of what a call raises: how often it tried, and which route a server lacks at `url`."""
    if len(attempts) > 1 and not after_content:
        urls = list(dict.fromkeys(attempt.url for attempt in attempts))
        servers = f" ({', '.join(urls)})" if len(urls) > 1 else ""
        error.add_note(f"tried {len(attempts)} times{servers}; the client's `retry=` sets how often")
    if is_missing_route(error) and not is_huggingface(url):
        error.add_note(explain_missing_route(url))


def incomplete_error(attempts: Sequence[Attempt], text: str, *, interrupted: bool) -> IncompleteStreamError:
    """The error for an answer that ended after `text`: in an error, `interrupted`, or closed before its end."""
    cause = attempts[-1].error if attempts else None
    if cause is not None:
        reason = f"has ended in an error: {cause}"
    elif interrupted:
        reason = "has ended, because a read of it was cancelled or interrupted"
    else:
        reason = "was closed before its end"
    error = IncompleteStreamError(f"the stream {reason}", retryable=False)
    error.__cause__ = cause
    error.partial_text = text
    return error


def cannot_resume(lost: InferenceError, reason: str) -> IncompleteStreamError:
    """An error for `lost` that says why the stream was not resumed; its attributes are those of `lost`."""
    error = IncompleteStreamError(f"{lost.message}; cannot resume: {reason}")
    vars(error).update(vars(lost), retryable=False)
    error.__cause__ = without_traceback(lost)
    return error
