"""What is said: the nouns that both ends of the wire share.

Where a server leaves a field out or adds one of its own, the types bend and nothing is lost: unknown fields are kept
and readable by attribute or ``[]``. Objects are immutable. This package refuses to know how anything travels.
"""

from . import aliases, inputs
from ._base import APIModel, Usage
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
    "APIModel",
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
