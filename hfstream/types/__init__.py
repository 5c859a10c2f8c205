"""The types of requests and responses, which the client and the server share.

Fields that a server leaves out have a default, and fields that it adds are kept: they can be read by attribute or
``[]``. Objects are immutable. Does not depend on how requests and responses are sent.
"""

from typing import TYPE_CHECKING

from .._lazy_names import names_from
from . import aliases, inputs
from .inputs import *  # noqa: F403

if TYPE_CHECKING:
    from ._base import Usage
    from .aliases import *  # noqa: F403
    from .arguments import Messages, SchemaType
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
        ModelList,
    )
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
    from .tool_runs import ToolRunCompletion

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
    "Messages",
    "Model",
    "ModelList",
    "SchemaType",
    "SimpleToken",
    "StreamDetails",
    "StreamResponse",
    "TextGenerationResponse",
    "Token",
    "ToolRunCompletion",
    "Usage",
]
__all__ += aliases.__all__
__all__ += inputs.__all__

# Each imports pydantic, which takes longer than all else that a client needs to be made.
_MODULES = ("text", "chat", "_base", "arguments", "aliases", "tool_runs")

if not TYPE_CHECKING:  # a type checker would take every name for one of the module's
    __getattr__ = names_from(__name__, *(f"{__name__}.{module}" for module in _MODULES))
