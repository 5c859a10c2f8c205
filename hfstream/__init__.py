"""hfstream: the answer of a language model, token by token.

from hfstream import InferenceClient

client = InferenceClient("http://127.0.0.1:8080")
for token in client.text_generation("How do you make cheese?", max_new_tokens=12, stream=True):
    print(token, end="")
"""

from ._async import AsyncInferenceClient, AsyncTokenStream
from ._sync import InferenceClient, TokenStream
from .core.calls import TextGenerationParameters
from .core.exchange import Attempt
from .core.metrics import InterToken, Metrics
from .core.retry import RetryPolicy
from .core.timeouts import Timeouts
from .errors import (
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
    ServerError,
    TextGenerationError,
    UnexpectedResponseError,
    UnknownError,
    ValidationError,
)
from .types import (
    BestOfSequence,
    Details,
    FinishReason,
    InputToken,
    StreamDetails,
    StreamResponse,
    TextGenerationOutput,
    TextGenerationResponse,
    TextGenerationStreamOutput,
    TextGenerationStreamResponse,
    Token,
    Usage,
)
from .version import __version__

__all__ = [
    "AsyncInferenceClient",
    "AsyncTokenStream",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "BestOfSequence",
    "Details",
    "FinishReason",
    "GenerationError",
    "IncompleteGenerationError",
    "IncompleteStreamError",
    "InferenceClient",
    "InferenceConnectionError",
    "InferenceError",
    "InferenceTimeoutError",
    "InputToken",
    "InterToken",
    "Metrics",
    "NotFoundError",
    "OverloadedError",
    "RetryPolicy",
    "ServerError",
    "StreamDetails",
    "StreamResponse",
    "TextGenerationError",
    "TextGenerationOutput",
    "TextGenerationParameters",
    "TextGenerationResponse",
    "TextGenerationStreamOutput",
    "TextGenerationStreamResponse",
    "Timeouts",
    "Token",
    "TokenStream",
    "UnexpectedResponseError",
    "UnknownError",
    "Usage",
    "ValidationError",
    "__version__",
]

# What users see in a traceback, a repr and the documentation is where they import it from, not where we keep it.
for _public in [value for name, value in globals().items() if name in __all__ and hasattr(value, "__module__")]:
    _public.__module__ = "hfstream"
