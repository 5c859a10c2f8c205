"""The parts of a request: dictionaries with types for editors and type checkers, under huggingface_hub's names.

Each can be written as a literal or constructed, ``ChatCompletionInputMessage(role="user", content="Hi")``: either way
it is a plain `dict`. Where a JSON schema is expected, a pydantic class can be passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

__all__ = [
    "ChatCompletionInputFunctionDefinition",
    "ChatCompletionInputFunctionName",
    "ChatCompletionInputGrammarType",
    "ChatCompletionInputJSONSchema",
    "ChatCompletionInputMessage",
    "ChatCompletionInputMessageChunk",
    "ChatCompletionInputMessageChunkType",
    "ChatCompletionInputResponseFormatJSONObject",
    "ChatCompletionInputResponseFormatJSONSchema",
    "ChatCompletionInputResponseFormatText",
    "ChatCompletionInputStreamOptions",
    "ChatCompletionInputTool",
    "ChatCompletionInputToolCall",
    "ChatCompletionInputToolChoiceClass",
    "ChatCompletionInputToolChoiceEnum",
    "ChatCompletionInputURL",
    "TextGenerationInputGrammarType",
]


class ChatCompletionInputURL(TypedDict):
    """The URL of an image, which may be a ``data:`` URL."""

    url: str


ChatCompletionInputMessageChunkType = Literal["text", "image_url"]


class ChatCompletionInputMessageChunk(TypedDict):
    """A part of a message: text or an image."""

    type: ChatCompletionInputMessageChunkType
    text: NotRequired[str]
    image_url: NotRequired[ChatCompletionInputURL]


class ChatCompletionInputFunctionDefinition(TypedDict):
    """A function that the model may call."""

    name: str
    parameters: NotRequired[Any]
    """JSON schema of its arguments, or a pydantic class."""
    description: NotRequired[str | None]
    strict: NotRequired[bool | None]


class ChatCompletionInputFunctionCall(TypedDict):
    """The function call that the model made."""

    name: str
    arguments: str
    """JSON."""


class ChatCompletionInputToolCall(TypedDict):
    """A tool call that the model made, sent back to it as part of the conversation."""

    id: str
    type: str
    function: ChatCompletionInputFunctionCall | ChatCompletionInputFunctionDefinition


class ChatCompletionInputMessage(TypedDict):
    """One turn of a conversation."""

    role: str
    """``"system"``, ``"user"``, ``"assistant"`` or ``"tool"``."""
    content: NotRequired[str | Sequence[ChatCompletionInputMessageChunk | Mapping[str, Any]] | None]
    name: NotRequired[str | None]
    tool_calls: NotRequired[Sequence[ChatCompletionInputToolCall | Mapping[str, Any]] | None]
    tool_call_id: NotRequired[str | None]
    """The id of the tool call whose result this is, where `role` is ``"tool"``."""


class ChatCompletionInputTool(TypedDict):
    """A tool that the model may call."""

    type: str
    """``"function"``."""
    function: ChatCompletionInputFunctionDefinition


class ChatCompletionInputFunctionName(TypedDict):
    """A function, by its name."""

    name: str


class ChatCompletionInputToolChoiceClass(TypedDict):
    """The one tool that the model must call."""

    type: NotRequired[str]
    """``"function"``; OpenAI requires it, TGI does not."""
    function: ChatCompletionInputFunctionName


ChatCompletionInputToolChoiceEnum = Literal["auto", "none", "required"]


class ChatCompletionInputStreamOptions(TypedDict):
    """Options of a stream."""

    include_usage: NotRequired[bool | None]
    """Adds a chunk at the end with the usage of the whole request, which is also `stream.usage`."""


class ChatCompletionInputJSONSchema(TypedDict):
    """A JSON schema that the response must fit."""

    name: str
    description: NotRequired[str | None]
    schema: NotRequired[Any]
    """The schema, or a pydantic class."""
    strict: NotRequired[bool | None]


class ChatCompletionInputResponseFormatText(TypedDict):
    """Plain text, without constraints."""

    type: Literal["text"]


class ChatCompletionInputResponseFormatJSONSchema(TypedDict):
    """JSON that fits a schema, in OpenAI's format."""

    type: Literal["json_schema"]
    json_schema: ChatCompletionInputJSONSchema


class ChatCompletionInputResponseFormatJSONObject(TypedDict):
    """Any JSON object; at TGI, JSON that fits the schema in `value`."""

    type: Literal["json_object"]
    value: NotRequired[Any]
    """The schema, or a pydantic class."""


class TextGenerationInputGrammarType(TypedDict):
    """A constraint on the response in TGI's format, for text generation and for chat."""

    type: Literal["json", "regex", "json_schema"]
    value: Any
    """For ``"json"`` a JSON schema or a pydantic class; for ``"regex"`` a regular expression; for ``"json_schema"``
    ``{"name": ..., "schema": ...}``."""


ChatCompletionInputGrammarType = (
    ChatCompletionInputResponseFormatText
    | ChatCompletionInputResponseFormatJSONSchema
    | ChatCompletionInputResponseFormatJSONObject
    | TextGenerationInputGrammarType
)
