"""The exception classes of hfstream.

    InferenceError
    ├── TextGenerationError
    │   ├── ValidationError             422  validation              the request is invalid
    │   ├── GenerationError             424  generation              the model failed
    │   ├── OverloadedError             429  overloaded              too many requests: try again later
    │   ├── IncompleteGenerationError   500  incomplete_generation   generation stopped before its end
    │   └── UnknownError                     any other error_type
    ├── BadRequestError                 400 and other 4xx
    ├── AuthenticationError             401, 403
    ├── NotFoundError                   404
    ├── ServerError                     5xx
    ├── InferenceTimeoutError           a timeout; also a TimeoutError
    ├── InferenceConnectionError        no connection, or a lost one; also a ConnectionError
    ├── IncompleteStreamError           the stream ended without a final event or an error
    ├── UnexpectedResponseError         not the expected kind of response, such as an HTML page
    └── ToolError                       `run_tools` could not go on

Class attributes are the defaults of a class: its HTTP status, TGI's `error_type`, whether a retry can help. What is
passed to an instance overrides them. Does not depend on how errors are sent and received.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    "ToolError",
    "UnexpectedResponseError",
    "UnknownError",
    "ValidationError",
]

Phase = Literal["connect", "first_token", "between_tokens", "total"]
"""The timeout that was exceeded."""


class InferenceError(Exception):
    """Base class of all errors of hfstream. ``str(error)`` is the server's message, if it sent one."""

    status_code: int | None = None
    """HTTP status; for an error inside a stream with status 200, the status that this error has otherwise."""
    error_type: str | None = None
    """TGI's `error_type`, or another server's `type`, as it was sent."""
    retryable: bool = False
    """Whether the same request may succeed if it is sent again."""
    request_id: str | None = None
    """The server's id of the request, if it sent one."""
    retry_after: float | None = None
    """Seconds to wait before a retry, if the server sent it."""
    url: str | None = None
    """Scheme, host and port of the server, if a request was sent."""
    partial_text: str = ""
    """The text of the stream until the error."""
    response_body: str | None = None
    """The start of the body that contained the error."""
    _retry_after_is_estimate: bool = False
    """Whether the server only expects to be ready after `retry_after`: an earlier retry may succeed as well."""
    _is_loading: bool = False
    """Whether the server is loading the model."""

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int | None = None,
        error_type: str | None = None,
        retryable: bool | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        url: str | None = None,
        partial_text: str | None = None,
        response_body: str | None = None,
    ) -> None:
        # One positional argument: an exception is pickled as type(*args) plus __dict__, so `args` must fit `__init__`.
        super().__init__(message)
        fields = {name: value for name, value in locals().items() if name in _ATTRIBUTES and value is not None}
        self.__dict__.update(fields)

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return self.message  # not OSError's, which timeout and connection errors inherit


_ATTRIBUTES = frozenset(name for name in InferenceError.__annotations__ if not name.startswith("_"))


class TextGenerationError(InferenceError):
    """Base class of the errors that TGI sends with an `error_type`."""


class ValidationError(TextGenerationError):
    """The server rejected the request as invalid; the message says which value and why."""

    status_code: int | None = 422
    error_type: str | None = "validation"


class GenerationError(TextGenerationError):
    """The model failed during generation."""

    status_code: int | None = 424
    error_type: str | None = "generation"


class OverloadedError(TextGenerationError):
    """The server is overloaded. The same request can succeed later."""

    status_code: int | None = 429
    error_type: str | None = "overloaded"
    retryable: bool = True


class IncompleteGenerationError(TextGenerationError):
    """Generation stopped before its end, as the server itself reports."""

    status_code: int | None = 500
    error_type: str | None = "incomplete_generation"


class UnknownError(TextGenerationError):
    """An `error_type` that this version of hfstream does not know."""


class BadRequestError(InferenceError):
    """The server does not accept the request."""

    status_code: int | None = 400


class AuthenticationError(InferenceError):
    """The token is missing, invalid, or not allowed to make this request."""

    status_code: int | None = 401


class NotFoundError(InferenceError):
    """The URL has no such route or model."""

    status_code: int | None = 404


class ServerError(InferenceError):
    """The server, or a proxy in front of it, failed."""

    status_code: int | None = 500


class InferenceTimeoutError(InferenceError, TimeoutError):
    """A timeout was exceeded; `phase` is the one of the `Timeouts`."""

    retryable: bool = True
    phase: Phase = "total"

    def __init__(self, message: str = "", *, phase: Phase = "total", **fields: Any) -> None:
        super().__init__(message, **fields)
        self.phase = phase


class InferenceConnectionError(InferenceError, ConnectionError):
    """The connection could not be established, or was lost."""

    retryable: bool = True


class IncompleteStreamError(InferenceError):
    """The body ended with neither a final event nor an error; `partial_text` is the text until then."""

    retryable: bool = True


class UnexpectedResponseError(InferenceError):
    """A successful status, but not the expected kind of response: the message quotes the start of the body."""


class ToolError(InferenceError):
    """`run_tools` could not go on: a tool failed (``on_tool_error="raise"``), or `max_rounds` was not enough.

    `messages` is the whole conversation so far. Passed to `run_tools` again, it goes on with the calls in its last
    message that have no result yet.
    """

    messages: Sequence[Any] = ()
    """Dictionaries, and `ChatCompletionMessage` objects where the model wrote them."""
    tool_call: Any = None
    """The `ChatCompletionToolCall` that failed; None if it was the number of rounds. The cause is the tool's error."""

    def __init__(
        self, message: str = "", *, messages: Sequence[Any] = (), tool_call: Any = None, **fields: Any
    ) -> None:
        super().__init__(message, **fields)
        self.messages = messages
        self.tool_call = tool_call
