"""What can go wrong: one tree of errors, and both directions of it, to the wire and from the wire.

    InferenceError
    ├── TextGenerationError
    │   ├── ValidationError             422  validation              the request is wrong
    │   ├── GenerationError             424  generation              the model failed
    │   ├── OverloadedError             429  overloaded              too many at once: try again
    │   ├── IncompleteGenerationError   500  incomplete_generation   the model stopped without an end
    │   └── UnknownError                     any other error_type
    ├── BadRequestError                 400 and other 4xx
    ├── AuthenticationError             401, 403
    ├── NotFoundError                   404
    ├── ServerError                     5xx
    ├── InferenceTimeoutError           nothing came in time; also a TimeoutError
    ├── InferenceConnectionError        no connection, or a broken one; also a ConnectionError
    ├── IncompleteStreamError           the answer ended early, without a final event or an error
    └── UnexpectedResponseError         an answer that is none, such as an HTML page

Class attributes are the facts of a class (its HTTP status, TGI's `error_type`, whether asking again can help); an
instance carries what it was told instead. This module refuses to know who sends and who listens.
"""

from __future__ import annotations

from typing import Any, Literal

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "GenerationError",
    "IncompleteGenerationError",
    "IncompleteStreamError",
    "InferenceConnectionError",
    "InferenceError",
    "InferenceTimeoutError",
    "NotFoundError",
    "OverloadedError",
    "Phase",
    "ServerError",
    "TextGenerationError",
    "UnexpectedResponseError",
    "UnknownError",
    "ValidationError",
]

Phase = Literal["connect", "first_token", "between_tokens", "total"]
"""The limit that a timeout ran into."""


class InferenceError(Exception):
    """Base of every error of hfstream. ``str(error)`` is the server's own words wherever it said any."""

    status_code: int | None = None
    """HTTP status; for an error inside a 200 stream, what it would have been as a status."""
    error_type: str | None = None
    """TGI's name for it, as the server sent it."""
    retryable: bool = False
    """Whether the same request may succeed if it is sent again."""
    request_id: str | None = None
    """The server's id for the request, where it gave one."""
    retry_after: float | None = None
    """Seconds to wait before asking again, where the server said."""
    partial_text: str = ""
    """What the stream had said until then."""
    response_body: str | None = None
    """The start of the body that the error was read from."""

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int | None = None,
        error_type: str | None = None,
        retryable: bool | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        partial_text: str | None = None,
        response_body: str | None = None,
    ) -> None:
        # One positional argument: exceptions are pickled as type(*args) plus __dict__, and this keeps that true.
        super().__init__(message)
        fields = {name: value for name, value in locals().items() if name in _ATTRIBUTES and value is not None}
        self.__dict__.update(fields)

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return self.message  # not OSError's, which the timeout and connection errors would inherit


_ATTRIBUTES = frozenset(InferenceError.__annotations__)


class TextGenerationError(InferenceError):
    """Base of the errors that TGI names with an `error_type`."""


class ValidationError(TextGenerationError):
    """The server judged the request wrong; it says which value and why."""

    status_code: int | None = 422
    error_type: str | None = "validation"


class GenerationError(TextGenerationError):
    """The model failed while it generated."""

    status_code: int | None = 424
    error_type: str | None = "generation"


class OverloadedError(TextGenerationError):
    """The server has too much to do just now. The same request can succeed later."""

    status_code: int | None = 429
    error_type: str | None = "overloaded"
    retryable: bool = True


class IncompleteGenerationError(TextGenerationError):
    """The server says itself that its answer has no end."""

    status_code: int | None = 500
    error_type: str | None = "incomplete_generation"


class UnknownError(TextGenerationError):
    """An `error_type` that this version does not know."""


class BadRequestError(InferenceError):
    """The server does not take such a request."""

    status_code: int | None = 400


class AuthenticationError(InferenceError):
    """The token is missing, wrong, or not allowed to do this."""

    status_code: int | None = 401


class NotFoundError(InferenceError):
    """There is no such route or model at this address."""

    status_code: int | None = 404


class ServerError(InferenceError):
    """The server, or a proxy before it, failed."""

    status_code: int | None = 500


class InferenceTimeoutError(InferenceError, TimeoutError):
    """Nothing came in time; `phase` says which of the `Timeouts` ended the wait."""

    retryable: bool = True
    phase: Phase = "total"

    def __init__(self, message: str = "", *, phase: Phase = "total", **fields: Any) -> None:
        super().__init__(message, **fields)
        self.phase = phase


class InferenceConnectionError(InferenceError, ConnectionError):
    """The connection could not be made, or broke."""

    retryable: bool = True


class IncompleteStreamError(InferenceError):
    """The body ended with neither a final event nor an error; `partial_text` is what it had said."""

    retryable: bool = True


class UnexpectedResponseError(InferenceError):
    """A successful status, but not the answer that was asked for: the message quotes the start of the body."""
