"""hfstream: streams the tokens of a language model as the server generates them.

from hfstream import InferenceClient

client = InferenceClient("http://127.0.0.1:8080")
for token in client.text_generation("How do you make cheese?", max_new_tokens=12, stream=True):
    print(token, end="")
"""

from ._async import AsyncInferenceClient, AsyncMapResults, AsyncTokenStream
from ._stream_manager import AsyncStreamManager
from ._sync import InferenceClient, MapResults, TokenStream
from .core.attempts import Attempt
from .core.map_calls import JournalError, MapResult
from .core.metrics import InterTokenLatency, Metrics
from .core.parameters import ChatCompletionParameters, TextGenerationParameters
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
    ChatCompletion,
    ChatCompletionChoice,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionDelta,
    ChatCompletionDeltaFunction,
    ChatCompletionDeltaToolCall,
    ChatCompletionFunction,
    ChatCompletionLogprob,
    ChatCompletionLogprobs,
    ChatCompletionMessage,
    ChatCompletionToolCall,
    ChatCompletionTopLogprob,
    Details,
    FinishReason,
    InputToken,
    Model,
    SimpleToken,
    StreamDetails,
    StreamResponse,
    TextGenerationResponse,
    Token,
    Usage,
    aliases,
    inputs,
)
from .types.aliases import *  # noqa: F403
from .types.inputs import *  # noqa: F403
from .version import __version__

__all__ = [
    "AsyncInferenceClient",
    "AsyncMapResults",
    "AsyncStreamManager",
    "AsyncTokenStream",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "BestOfSequence",
    "ChatCompletion",
    "ChatCompletionChoice",
    "ChatCompletionChunk",
    "ChatCompletionChunkChoice",
    "ChatCompletionDelta",
    "ChatCompletionDeltaFunction",
    "ChatCompletionDeltaToolCall",
    "ChatCompletionFunction",
    "ChatCompletionLogprob",
    "ChatCompletionLogprobs",
    "ChatCompletionMessage",
    "ChatCompletionParameters",
    "ChatCompletionToolCall",
    "ChatCompletionTopLogprob",
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
    "InterTokenLatency",
    "JournalError",
    "MapResult",
    "MapResults",
    "Metrics",
    "Model",
    "NotFoundError",
    "OverloadedError",
    "RetryPolicy",
    "ServerError",
    "SimpleToken",
    "StreamDetails",
    "StreamResponse",
    "TextGenerationError",
    "TextGenerationParameters",
    "TextGenerationResponse",
    "Timeouts",
    "Token",
    "TokenStream",
    "UnexpectedResponseError",
    "UnknownError",
    "Usage",
    "ValidationError",
    "__version__",
]
# huggingface_hub's names for the same types, and for the parts of a request.
__all__ += aliases.__all__
__all__ += inputs.__all__

# Tracebacks, reprs and the documentation show the module that users import from.
for _public in [value for name, value in globals().items() if name in __all__ and isinstance(value, type)]:
    _public.__module__ = "hfstream"
