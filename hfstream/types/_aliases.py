"""The definitions of `aliases`, which imports them when they are used."""

from __future__ import annotations

from typing import Literal

from ._base import Usage
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
)
from .text import BestOfSequence, Details, InputToken, StreamDetails, StreamResponse, TextGenerationResponse, Token

__all__ = [
    "ChatCompletionOutput",
    "ChatCompletionOutputComplete",
    "ChatCompletionOutputFunctionDefinition",
    "ChatCompletionOutputLogprob",
    "ChatCompletionOutputLogprobs",
    "ChatCompletionOutputMessage",
    "ChatCompletionOutputToolCall",
    "ChatCompletionOutputTopLogprob",
    "ChatCompletionOutputUsage",
    "ChatCompletionStreamOutput",
    "ChatCompletionStreamOutputChoice",
    "ChatCompletionStreamOutputDelta",
    "ChatCompletionStreamOutputDeltaToolCall",
    "ChatCompletionStreamOutputFunction",
    "ChatCompletionStreamOutputLogprob",
    "ChatCompletionStreamOutputLogprobs",
    "ChatCompletionStreamOutputTopLogprob",
    "ChatCompletionStreamOutputUsage",
    "TextGenerationOutput",
    "TextGenerationOutputBestOfSequence",
    "TextGenerationOutputDetails",
    "TextGenerationOutputFinishReason",
    "TextGenerationOutputPrefillToken",
    "TextGenerationOutputToken",
    "TextGenerationStreamOutput",
    "TextGenerationStreamOutputStreamDetails",
    "TextGenerationStreamOutputToken",
    "TextGenerationStreamResponse",
]

ChatCompletionOutput = ChatCompletion
ChatCompletionOutputComplete = ChatCompletionChoice
ChatCompletionOutputFunctionDefinition = ChatCompletionFunction
ChatCompletionOutputLogprob = ChatCompletionLogprob
ChatCompletionOutputLogprobs = ChatCompletionLogprobs
ChatCompletionOutputMessage = ChatCompletionMessage
ChatCompletionOutputToolCall = ChatCompletionToolCall
ChatCompletionOutputTopLogprob = ChatCompletionTopLogprob
ChatCompletionOutputUsage = Usage

ChatCompletionStreamOutput = ChatCompletionChunk
ChatCompletionStreamOutputChoice = ChatCompletionChunkChoice
ChatCompletionStreamOutputDelta = ChatCompletionDelta
ChatCompletionStreamOutputDeltaToolCall = ChatCompletionDeltaToolCall
ChatCompletionStreamOutputFunction = ChatCompletionDeltaFunction
ChatCompletionStreamOutputLogprob = ChatCompletionLogprob
ChatCompletionStreamOutputLogprobs = ChatCompletionLogprobs
ChatCompletionStreamOutputTopLogprob = ChatCompletionTopLogprob
ChatCompletionStreamOutputUsage = Usage

TextGenerationOutput = TextGenerationResponse
TextGenerationOutputBestOfSequence = BestOfSequence
TextGenerationOutputDetails = Details
TextGenerationOutputFinishReason = Literal["length", "eos_token", "stop_sequence"]
TextGenerationOutputPrefillToken = InputToken
TextGenerationOutputToken = Token

TextGenerationStreamOutput = StreamResponse
TextGenerationStreamOutputStreamDetails = StreamDetails
TextGenerationStreamOutputToken = Token
TextGenerationStreamResponse = StreamResponse
