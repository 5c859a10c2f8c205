"""What goes wrong between this server and another one, as this server's own errors. Does not depend on routes.

What the other server says about a request is passed on with its status. What is not the client's business becomes a
502 or 504: a connection that is lost, a key that is refused, a page instead of an answer.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from hfstream.errors import (
    AuthenticationError,
    IncompleteGenerationError,
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    OverloadedError,
    UnexpectedResponseError,
)


class UpstreamFailedError(InferenceError):
    """The other server cannot be reached, or does not answer as it should."""

    status_code: int | None = 502
    error_type: str | None = "upstream_failed"
    retryable: bool = True


class UpstreamTimeoutError(InferenceError):
    """The other server takes too long."""

    status_code: int | None = 504
    error_type: str | None = "upstream_timeout"
    retryable: bool = True


_CONNECTION_ERRORS = (InferenceConnectionError, IncompleteStreamError, UnexpectedResponseError, InferenceTimeoutError)


@contextmanager
def own_errors(*, after_content: bool = False) -> Generator[None, None, None]:
    """Raises what is raised in the block as this server's clients get it."""
    try:
        yield
    except InferenceError as error:
        raise own_error(error, after_content=after_content) from error


def own_error(error: InferenceError, *, after_content: bool = False) -> InferenceError:
    """`error`, of a request to another server, as this server's clients get it."""
    upstream = error.url or "unknown"
    if isinstance(error, _CONNECTION_ERRORS) and after_content:
        return IncompleteGenerationError(f"Incomplete generation: upstream {upstream}: {error.message}")
    if isinstance(error, InferenceTimeoutError):
        return UpstreamTimeoutError(f"Upstream {upstream} took too long: {error.message}")
    if isinstance(error, _CONNECTION_ERRORS):
        return UpstreamFailedError(f"Upstream {upstream} failed: {error.message}")
    if isinstance(error, AuthenticationError):
        return UpstreamFailedError(
            f"Upstream {upstream} refuses this server's key (HTTP {error.status_code}): {error.message}",
            error_type="upstream_authentication",
            retryable=False,
        )
    if isinstance(error, OverloadedError) and error.retryable:
        return OverloadedError("Model is overloaded", retry_after=error.retry_after or 1)
    return error
