"""What is asked, in parts: dictionaries, typed for editors and type checkers, under huggingface_hub's names.

Each can be written as a literal or made by its name, ``ChatCompletionInputMessage(role="user", content="Hi")``: either
way it is a plain `dict`. A pydantic class may stand wherever a JSON schema goes.
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
    """Where an image is: a URL, ``data:`` included."""

    url: str


ChatCompletionInputMessageChunkType = Literal["text", "image_url"]


class ChatCompletionInputMessageChunk(TypedDict):
    """A part of a message: text, or an image."""

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
    """A call that the model made."""

    name: str
    arguments: str
    """JSON."""


class ChatCompletionInputToolCall(TypedDict):
    """A call that the model made, told back to it."""

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
    """Which call this is the answer to, where `role` is ``"tool"``."""


class ChatCompletionInputTool(TypedDict):
    """A tool that the model may use."""

    type: str
    """``"function"``."""
    function: ChatCompletionInputFunctionDefinition


class ChatCompletionInputFunctionName(TypedDict):
    """A function, by its name."""

    name: str


class ChatCompletionInputToolChoiceClass(TypedDict):
    """The one tool that the model must use."""

    type: NotRequired[str]
    """``"function"``; OpenAI wants it said, TGI does not."""
    function: ChatCompletionInputFunctionName


ChatCompletionInputToolChoiceEnum = Literal["auto", "none", "required"]


class ChatCompletionInputStreamOptions(TypedDict):
    """What a stream tells besides."""

    include_usage: NotRequired[bool | None]
    """One more chunk at the end, with the usage of the whole request. It is `stream.usage`, too."""


class ChatCompletionInputJSONSchema(TypedDict):
    """A JSON schema that the answer must fit."""

    name: str
    description: NotRequired[str | None]
    schema: NotRequired[Any]
    """The schema, or a pydantic class."""
    strict: NotRequired[bool | None]


class ChatCompletionInputResponseFormatText(TypedDict):
    """Anything goes."""

    type: Literal["text"]


class ChatCompletionInputResponseFormatJSONSchema(TypedDict):
    """JSON that fits a schema, as OpenAI says it."""

    type: Literal["json_schema"]
    json_schema: ChatCompletionInputJSONSchema


class ChatCompletionInputResponseFormatJSONObject(TypedDict):
    """JSON of any kind; or, as TGI says it, JSON that fits the schema in `value`."""

    type: Literal["json_object"]
    value: NotRequired[Any]
    """The schema, or a pydantic class."""


class TextGenerationInputGrammarType(TypedDict):
    """What the answer must fit, as TGI says it, for text generation and for chat."""

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
