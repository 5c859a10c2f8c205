"""The nouns of chat, in OpenAI's shapes, as TGI, vLLM, llama.cpp and the rest bend them.

https://platform.openai.com/docs/api-reference/chat. What servers leave out has a default, and `APIModel.read` mends
what they send in another form: TGI before 3.2 numbered its tool calls, and sent arguments as an object.
"""

from __future__ import annotations

from typing import Any

from ._base import APIModel, ParsedModel, Usage

__all__ = [
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
    "Model",
]


class ChatCompletionTopLogprob(APIModel):
    """One of the likeliest tokens at a place."""

    token: str
    logprob: float | None = None
    """Natural logarithm of its probability."""
    bytes: list[int] | None = None
    """Its UTF-8, where the server says."""


class ChatCompletionLogprob(APIModel):
    """One token of the answer, and how likely it was."""

    token: str
    logprob: float | None = None
    """Natural logarithm of its probability."""
    bytes: list[int] | None = None
    """Its UTF-8, where the server says: a token may be less than a character."""
    top_logprobs: list[ChatCompletionTopLogprob] = []
    """The likeliest tokens at this place, if `top_logprobs` was asked for."""


class ChatCompletionLogprobs(APIModel):
    """Log probabilities of an answer's tokens, if `logprobs` was asked for."""

    content: list[ChatCompletionLogprob] | None = None


# A whole answer -------------------------------------------------------------------------------------------------------


class ChatCompletionFunction(APIModel):
    """The function that the model wants called."""

    name: str = ""
    arguments: str = ""
    """JSON, as the model wrote it: read it with care."""
    description: str | None = None


class ChatCompletionToolCall(APIModel):
    """One call that the model wants made."""

    id: str = ""
    """What the answer to it must name as its `tool_call_id`."""
    type: str = "function"
    function: ChatCompletionFunction


class ChatCompletionMessage(ParsedModel):
    """What the model said. It can be appended to the messages of the next call as it is."""

    role: str = "assistant"
    content: str | None = None
    """None where the model said nothing, but called tools."""
    reasoning: str | None = None
    """What the model thought before, where the server calls it so (vLLM, Hugging Face, OpenRouter)."""
    reasoning_content: str | None = None
    """The same, where the server calls it so (DeepSeek, llama.cpp, vLLM before 0.12)."""
    refusal: str | None = None
    tool_calls: list[ChatCompletionToolCall] | None = None
    tool_call_id: str | None = None

    @property
    def parsed(self) -> Any:
        """The content as an instance of the pydantic class that was passed as `response_format`; None if none was.

        Raises:
            UnexpectedResponseError: the content is no such thing.
        """
        return self.parse_as(self.content, None)


class ChatCompletionChoice(APIModel):
    """One answer; the only one, unless `n` asked for more."""

    index: int = 0
    message: ChatCompletionMessage
    finish_reason: str | None = None
    """``"stop"``, ``"length"``, ``"tool_calls"``, or a server's own word; None if it never said."""
    logprobs: ChatCompletionLogprobs | None = None


class ChatCompletion(APIModel):
    """A whole answer of a chat."""

    id: str = ""
    object: str = "chat.completion"
    created: int = 0
    """Seconds since 1970."""
    model: str = ""
    choices: list[ChatCompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None

    @property
    def parsed(self) -> Any:
        """The answer as an instance of the pydantic class that was passed as `response_format`; None if none was.

        None also where the model called a tool, or refused, instead of answering.

        Raises:
            UnexpectedResponseError: the content is no such thing; for one, because it was cut at `max_tokens`.
        """
        if not self.choices:
            return None
        first = self.choices[0]
        return first.message.parse_as(first.message.content, first.finish_reason)


# A stream -------------------------------------------------------------------------------------------------------------


class ChatCompletionDeltaFunction(APIModel):
    """What a delta adds to the call of a function."""

    name: str | None = None
    arguments: str | None = None
    """The next piece of the arguments' JSON."""


class ChatCompletionDeltaToolCall(APIModel):
    """What a delta adds to one of the calls that the model wants made."""

    index: int | None = None
    """Which call. Some servers leave it out."""
    id: str | None = None
    type: str | None = None
    function: ChatCompletionDeltaFunction | None = None


class ChatCompletionDelta(APIModel):
    """What a chunk adds to the message."""

    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    """The next piece of what the model thinks, where the server calls it so (vLLM, Hugging Face, OpenRouter)."""
    reasoning_content: str | None = None
    """The same, where the server calls it so (DeepSeek, llama.cpp, vLLM before 0.12)."""
    refusal: str | None = None
    tool_calls: list[ChatCompletionDeltaToolCall] | None = None
    tool_call_id: str | None = None


class ChatCompletionChunkChoice(APIModel):
    """What a chunk adds to one answer."""

    index: int = 0
    delta: ChatCompletionDelta = ChatCompletionDelta()
    finish_reason: str | None = None
    """Why the answer ended, in its last chunk: ``"stop"``, ``"length"``, ``"tool_calls"``, or a server's own word."""
    logprobs: ChatCompletionLogprobs | None = None


class ChatCompletionChunk(APIModel):
    """One event of a chat's stream."""

    id: str = ""
    object: str = "chat.completion.chunk"
    created: int = 0
    """Seconds since 1970."""
    model: str = ""
    choices: list[ChatCompletionChunkChoice]
    """From a client's stream never empty: a chunk that came with none, as the one that tells the usage does, has one
    with an empty delta there, so that ``chunk.choices[0].delta.content`` always works."""
    usage: Usage | None = None
    """In the last chunk, if ``stream_options={"include_usage": True}`` was asked for."""
    system_fingerprint: str | None = None


# Models ---------------------------------------------------------------------------------------------------------------


class Model(APIModel):
    """A model that a server offers."""

    id: str
    """What a call names as its `model`."""
    object: str = "model"
    created: int | None = None
    """Seconds since 1970."""
    owned_by: str | None = None
