"""The body of OpenAI's Responses API, and the chat that it becomes. Does not depend on HTTP or on chat templates.

What OpenAI offers and this server does not is refused with the field's name. A null means "not given".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast

from hfstream.errors import ValidationError

from .openai import ChatRequest
from .serde_errors import wrong_type
from .serde_types import F32, U32, Bool, Str

ChatMessage = dict[str, Any]
"""A message as a chat request has it."""

LOGPROBS = "message.output_text.logprobs"
_WITHOUT_EFFECT = frozenset({LOGPROBS, "reasoning.encrypted_content"})
"""What `include` may name: the second one is never there, because no model here reports its reasoning."""
_NOT_OFFERED = ("background", "context_management", "conversation", "moderation", "prompt", "reasoning")
_TEXT_PARTS = frozenset({"input_text", "output_text", "text"})


def _items(value: object) -> object:
    """A text is one message of the user."""
    match value:
        case str():
            return [{"role": "user", "content": value}]
        case list():
            return cast("object", value)
        case _:
            raise wrong_type(value, "a string or a list of items")


class Item(BaseModel):
    """One item of `input`: a message, a call of a function, or its output."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    type: Str = "message"
    role: Str | None = None
    content: Any = None
    call_id: Str | None = None
    name: Str | None = None
    arguments: Str | None = None
    output: Any = None


class Tool(BaseModel):
    """One of `tools`. Only functions are offered."""

    type: Str
    name: Str | None = None
    description: Str | None = None
    parameters: dict[str, Any] | None = None
    strict: Bool | None = None


class TextOptions(BaseModel):
    """`text`. A `verbosity` has no effect."""

    format: dict[str, Any] | None = None


class ResponsesRequest(BaseModel):
    """The body of /v1/responses."""

    model: Str | None = None
    input: Annotated[list[Item], FailFast(), BeforeValidator(_items, json_schema_input_type=str | list[dict[str, Any]])]
    instructions: Str | None = None
    previous_response_id: Str | None = None
    max_output_tokens: U32 | None = None
    temperature: F32 | None = None
    top_p: F32 | None = None
    top_logprobs: U32 | None = None
    include: list[Str] | None = None
    tools: list[Tool] | None = None
    tool_choice: Any = None
    parallel_tool_calls: Bool | None = None
    text: TextOptions | None = None
    stream: Bool | None = None
    store: Bool | None = None
    metadata: dict[str, Str] | None = None
    truncation: Str | None = None
    user: Str | None = None
    background: Any = None
    context_management: Any = None
    conversation: Any = None
    moderation: Any = None
    prompt: Any = None
    reasoning: Any = None

    def field_names(self) -> dict[str, str]:
        """The fields by the names of the parameters of a chat, and of TGI's, that they become."""
        return {
            "max_new_tokens": "max_output_tokens",
            "inputs": "input",
            "messages": "input",
            "top_n_tokens": "top_logprobs",
            "response_format": "text",
            "grammar": "text",
        }

    def check(self) -> None:
        """Refuses what is not offered.

        Raises:
            ValidationError: something is not.
        """
        for name in _NOT_OFFERED:
            value = getattr(self, name)
            if any(cast("dict[str, Any]", value).values()) if isinstance(value, dict) else value:
                raise _refused(f"`{name}` is not supported")
        if self.truncation not in (None, "disabled"):
            raise _refused("`truncation` must be `disabled`: the server does not shorten the input")
        if unknown := [name for name in self.include or () if name not in _WITHOUT_EFFECT]:
            raise _refused(f"`include` must not have {unknown[0][:100]!r}: the server does not have it")
        for tool in self.tools or ():
            if tool.type != "function":
                raise _refused(f"`tools` of type {tool.type[:100]!r} are not supported, only functions are")
            if not tool.name:
                raise _refused("`tools` must have names")

    def to_chat(self, messages: Sequence[ChatMessage]) -> ChatRequest:
        """The chat that gives the response. `messages`: the conversation, without the instructions.

        Raises:
            ValidationError: it has values that a chat does not accept.
        """
        instructions = [{"role": "system", "content": self.instructions}] if self.instructions else []
        fields: dict[str, Any] = {
            "model": self.model,
            "messages": [*instructions, *messages],
            "stream": self.stream,
            "stream_options": {"include_usage": True},
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "logprobs": self.logprobs,
            "top_logprobs": self.top_logprobs,
            "tools": [_chat_tool(tool) for tool in self.tools or ()] or None,
            "tool_choice": _chat_tool_choice(self.tool_choice),
            "parallel_tool_calls": self.parallel_tool_calls,
            "response_format": _chat_format(self.text_format),
            "add_generation_prompt": True,  # a last message of the assistant is complete
        }
        return ChatRequest.model_validate({name: value for name, value in fields.items() if value is not None})

    @property
    def logprobs(self) -> bool:
        """Whether the response has log-probabilities."""
        return bool(self.top_logprobs) or LOGPROBS in (self.include or ())

    @property
    def text_format(self) -> Mapping[str, Any]:
        """`text.format`."""
        return (self.text and self.text.format) or {"type": "text"}

    def messages(self) -> list[ChatMessage]:
        """The items as messages of a chat: calls belong to the assistant's message before them.

        Raises:
            ValidationError: an item is of a type that is not offered.
        """
        messages: list[ChatMessage] = []
        for item in self.input:
            match item.type:
                case "message" if item.role:
                    messages.append({"role": item.role, "content": _text(item.content)})
                case "function_call" if item.name and item.call_id:
                    call = {"name": item.name, "arguments": item.arguments or "{}"}
                    _last_of_assistant(messages).setdefault("tool_calls", []).append(
                        {"id": item.call_id, "type": "function", "function": call}
                    )
                case "function_call_output" if item.call_id:
                    messages.append({"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)})
                case "message" | "function_call" | "function_call_output":
                    raise _refused(f"`input` has an item of type {item.type!r} that is not complete")
                case _:
                    raise _refused(f"`input` items of type {item.type[:100]!r} are not supported")
        return messages


def _last_of_assistant(messages: list[ChatMessage]) -> ChatMessage:
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    return messages[-1]


def _text(content: object) -> str:
    """The text of a content, which is a string or a list of parts."""
    match content:
        case str():
            return content
        case list():
            return "".join(map(_part_text, cast("list[object]", content)))
        case _:
            raise _refused("`input` items must have a string or a list of parts as content")


def _part_text(part: object) -> str:
    match part:
        case {"type": str(kind), "text": str(text)} if kind in _TEXT_PARTS:
            return text
        case {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": str(kind)}:
            raise _refused(f"`input` with parts of type {kind[:100]!r} is not supported, this model reads text only")
        case _:
            raise _refused("`input` parts must have a type and a text")


def _chat_tool(tool: Tool) -> dict[str, Any]:
    return {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}


def _chat_tool_choice(choice: Any) -> Any:
    match choice:
        case {"type": "function", "name": str(name)}:
            return {"type": "function", "function": {"name": name}}
        case None | "auto" | "none" | "required":
            return choice
        case _:
            raise _refused("`tool_choice` must be `auto`, `none`, `required`, or a function by its name")


def _chat_format(text_format: Mapping[str, Any]) -> dict[str, Any] | None:
    match text_format:
        case {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "json_object"}
        case {"type": "json_schema", **schema}:
            return {"type": "json_schema", "json_schema": schema}
        case _:
            raise _refused("`text` must have a format of type `text`, `json_object` or `json_schema`")


def _refused(message: str) -> ValidationError:
    return ValidationError(f"Input validation error: {message}")
