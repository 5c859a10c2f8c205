"""The types of chat completion, in OpenAI's format as TGI, vLLM, llama.cpp and other servers send it.

https://platform.openai.com/docs/api-reference/chat. What servers leave out has a default, and `parse_lenient` corrects
what they send in another form (`_chat_repairs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, SupportsIndex, overload

from pydantic import SerializerFunctionWrapHandler, model_serializer

from ._base import APIModel, FieldRepair, ParsedModel, Usage
from ._chat_repairs import CHAT_REPAIRS, choices_with_messages

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
    "ModelList",
]


# Log probabilities ----------------------------------------------------------------------------------------------------


class ChatCompletionTopLogprob(APIModel):
    """One of the most likely tokens at a position."""

    token: str
    logprob: float | None = None
    """Natural logarithm of its probability."""
    bytes: list[int] | None = None
    """Its UTF-8, if the server sends it."""


class ChatCompletionLogprob(APIModel):
    """One token of the response, with its log probability."""

    token: str
    logprob: float | None = None
    """Natural logarithm of its probability."""
    bytes: list[int] | None = None
    """Its UTF-8, if the server sends it: a token may be a part of a character."""
    top_logprobs: list[ChatCompletionTopLogprob] = []
    """The most likely tokens at this position, if `top_logprobs` was set."""


class ChatCompletionLogprobs(APIModel):
    """Log probabilities of a response's tokens, if `logprobs` was set."""

    content: list[ChatCompletionLogprob] | None = None
    refusal: list[ChatCompletionLogprob] | None = None
    """Those of the tokens of a refusal."""


# A complete response --------------------------------------------------------------------------------------------------


class ChatCompletionFunction(APIModel):
    """The function that the model asks to have called."""

    name: str = ""
    arguments: str = ""
    """JSON as the model wrote it, which may be invalid."""
    description: str | None = None


class ChatCompletionToolCall(APIModel):
    """One function call that the model asks for."""

    id: str = ""
    """The message with its result must have this as `tool_call_id`."""
    type: str = "function"
    function: ChatCompletionFunction = ChatCompletionFunction()
    """Empty in a call of another `type`, such as ``"custom"``, whose fields are read as ``call["custom"]``."""

    @model_serializer(mode="wrap")
    def _leave_out_no_function(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A server would refuse a message that is sent back with a function in a call of another type.
        fields: dict[str, Any] = serialize(self)
        if self.type != "function" and "function" not in self.model_fields_set:
            fields.pop("function", None)
        return fields


class ChatCompletionMessage(ParsedModel):
    """The message that the model wrote. It can be appended to the messages of the next call as it is."""

    role: str = "assistant"
    content: str | None = None
    """None where the model wrote no text, but called tools."""
    reasoning: str | None = None
    """The model's reasoning before its answer, under the name that vLLM, Hugging Face and OpenRouter use."""
    reasoning_content: str | None = None
    """The same, under the name that DeepSeek, llama.cpp and vLLM before 0.12 use."""
    refusal: str | None = None
    tool_calls: list[ChatCompletionToolCall] | None = None
    tool_call_id: str | None = None

    @property
    def parsed(self) -> Any:
        """The content as an instance of the pydantic class that was passed as `response_format`; None if none was.

        Raises:
            UnexpectedResponseError: the content does not validate as that class.
        """
        return self.parse_as(self.content, None)


class ChatCompletionChoice(APIModel):
    """One of the `n` responses; the only one unless `n` was set."""

    index: int = 0
    message: ChatCompletionMessage
    finish_reason: str | None = None
    """``"stop"``, ``"length"``, ``"tool_calls"``, or a value of the server's own; None if it sent none."""
    logprobs: ChatCompletionLogprobs | None = None


class ChatCompletion(APIModel):
    """A complete response of chat completion."""

    _field_repairs: ClassVar[Mapping[str, FieldRepair]] = CHAT_REPAIRS

    id: str = ""
    object: str = "chat.completion"
    created: int = 0
    """Seconds since 1970."""
    model: str = ""
    choices: list[ChatCompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None

    @classmethod
    def validate_lenient(cls, payload: Any) -> Self:
        return super().validate_lenient(choices_with_messages(payload))

    @property
    def parsed(self) -> Any:
        """The response as an instance of the pydantic class that was passed as `response_format`; None if none was.

        None also where the model called a tool or refused, and so wrote no content.

        Raises:
            UnexpectedResponseError: the content does not validate as that class, for example because it was cut off at
                `max_tokens`.
        """
        if not self.choices:
            return None
        first = self.choices[0]
        return first.message.parse_as(first.message.content, first.finish_reason)


# A stream -------------------------------------------------------------------------------------------------------------


class ChatCompletionDeltaFunction(APIModel):
    """What a delta adds to the function of a tool call."""

    name: str | None = None
    arguments: str | None = None
    """The next piece of the arguments' JSON."""


class ChatCompletionDeltaToolCall(APIModel):
    """What a delta adds to one tool call."""

    index: int | None = None
    """The position of the call in the message. Some servers leave it out."""
    id: str | None = None
    type: str | None = None
    function: ChatCompletionDeltaFunction | None = None


class ChatCompletionDelta(APIModel):
    """What a chunk adds to the message."""

    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    """The next piece of the reasoning, under the name that vLLM, Hugging Face and OpenRouter use."""
    reasoning_content: str | None = None
    """The same, under the name that DeepSeek, llama.cpp and vLLM before 0.12 use."""
    refusal: str | None = None
    tool_calls: list[ChatCompletionDeltaToolCall] | None = None
    tool_call_id: str | None = None


class ChatCompletionChunkChoice(APIModel):
    """What a chunk adds to one choice."""

    _field_repairs: ClassVar[Mapping[str, FieldRepair]] = CHAT_REPAIRS

    index: int = 0
    delta: ChatCompletionDelta = ChatCompletionDelta()
    finish_reason: str | None = None
    """Why generation ended, in the last chunk: ``"stop"``, ``"length"``, ``"tool_calls"``, or a value of the
    server's own."""
    logprobs: ChatCompletionLogprobs | None = None


class NoChoices(list[ChatCompletionChunkChoice]):
    """An empty list, of which ``[0]`` is a choice with an empty delta all the same.

    The loops of most tutorials read ``chunk.choices[0].delta.content`` without a check, or check ``if chunk.choices``
    first: a chunk with the usage alone must break neither.
    """

    @overload
    def __getitem__(self, position: SupportsIndex, /) -> ChatCompletionChunkChoice: ...

    @overload
    def __getitem__(self, position: slice, /) -> list[ChatCompletionChunkChoice]: ...

    def __getitem__(
        self, position: SupportsIndex | slice, /
    ) -> ChatCompletionChunkChoice | list[ChatCompletionChunkChoice]:
        return [] if isinstance(position, slice) else ChatCompletionChunkChoice(delta=ChatCompletionDelta(content=""))


class ChatCompletionChunk(APIModel):
    """One event of a chat completion stream."""

    _field_repairs: ClassVar[Mapping[str, FieldRepair]] = CHAT_REPAIRS

    id: str = ""
    object: str = "chat.completion.chunk"
    created: int = 0
    """Seconds since 1970."""
    model: str = ""
    choices: list[ChatCompletionChunkChoice]
    """Empty in a chunk that came without any, such as the one with the usage. In a client's stream
    ``chunk.choices[0].delta.content`` works even then, and is ``""``."""
    usage: Usage | None = None
    """In the last chunk, if ``stream_options={"include_usage": True}`` was set."""
    system_fingerprint: str | None = None


# Models ---------------------------------------------------------------------------------------------------------------


class Model(APIModel):
    """One entry of a server's list of models."""

    id: str
    """The value to pass as `model`."""
    object: str = "model"
    created: int | None = None
    """Seconds since 1970."""
    owned_by: str | None = None


class ModelList(list[Model]):
    """The models of ``client.models.list()``: a list, and with `data` as openai's client returns it."""

    @property
    def data(self) -> list[Model]:
        return self
