"""The types of requests and responses, which the client and the server share.

Fields that a server leaves out have a default, and fields that it adds are kept: they can be read by attribute or
``[]``. Objects are immutable. Does not depend on how requests and responses are sent.
"""

from . import aliases, inputs
from ._base import Usage
from .aliases import *  # noqa: F403
from .chat import (
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
    Model,
)
from .inputs import *  # noqa: F403
from .text import (
    BestOfSequence,
    Details,
    FinishReason,
    InputToken,
    SimpleToken,
    StreamDetails,
    StreamResponse,
    TextGenerationResponse,
    Token,
)

__all__ = [
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
    "ChatCompletionToolCall",
    "ChatCompletionTopLogprob",
    "Details",
    "FinishReason",
    "InputToken",
    "Model",
    "SimpleToken",
    "StreamDetails",
    "StreamResponse",
    "TextGenerationResponse",
    "Token",
    "Usage",
]
__all__ += aliases.__all__
__all__ += inputs.__all__
