"""The exceptions of hfstream: one tree, in `exceptions`.

`response_bodies` converts them from and to the bodies of responses, `retry_after` reads how long a server asks to wait.
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
    ToolError,
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
    "ToolError",
    "UnexpectedResponseError",
    "UnknownError",
    "ValidationError",
]
