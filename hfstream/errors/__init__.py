"""What can go wrong: one tree of errors.

`exceptions` has the classes, `response_bodies` how servers write them, `retry_after` how long they ask to wait.
"""

from .exceptions import (
    AuthenticationError,
    BadRequestError,
    GenerationError,
    IncompleteGenerationError,
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    NotFoundError,
    OverloadedError,
    Phase,
    ServerError,
    TextGenerationError,
    UnexpectedResponseError,
    UnknownError,
    ValidationError,
)

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
