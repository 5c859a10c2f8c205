"""hfstream: streams the tokens of a language model as the server generates them.

from hfstream import InferenceClient

client = InferenceClient("http://127.0.0.1:8080")
for token in client.text_generation("How do you make cheese?", max_new_tokens=12, stream=True):
    print(token, end="")
"""

from typing import TYPE_CHECKING

from ._async import AsyncInferenceClient
from ._lazy_names import names_from as _names_from
from ._stream_manager import AsyncStreamManager
from ._sync import InferenceClient
from .core.attempts import Attempt
from .core.map_results import JournalError, MapResult
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
    ToolError,
    UnexpectedResponseError,
    UnknownError,
    ValidationError,
)
from .types import aliases, inputs
from .types.inputs import *  # noqa: F403
from .version import __version__

if TYPE_CHECKING:
    from ._async.map import AsyncMapResults
    from ._async.stream import AsyncTokenStream
    from ._async.tool_stream import AsyncToolRunStream
    from ._sync.map import MapResults
    from ._sync.stream import TokenStream
    from ._sync.tool_stream import ToolRunStream
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
        ModelList,
        SimpleToken,
        StreamDetails,
        StreamResponse,
        TextGenerationResponse,
        Token,
        ToolRunCompletion,
        Usage,
    )
    from .types.aliases import *  # noqa: F403

__all__ = [
    "AsyncInferenceClient",
    "AsyncMapResults",
    "AsyncStreamManager",
    "AsyncTokenStream",
    "AsyncToolRunStream",
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
    "ModelList",
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
    "ToolError",
    "ToolRunCompletion",
    "ToolRunStream",
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

if not TYPE_CHECKING:  # a type checker would take every name for one of the module's
    __getattr__ = _names_from(
        __name__,
        "hfstream.types",
        "hfstream._async.stream",
        "hfstream._sync.stream",
        "hfstream._async.map",
        "hfstream._sync.map",
        "hfstream._async.tool_stream",
        "hfstream._sync.tool_stream",
    )
