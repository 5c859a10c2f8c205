"""LangChain's messages as a request has them, and a completion's message as LangChain has it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    InvalidToolCall,
    ToolCall,
    UsageMetadata,
    convert_to_openai_messages,
)
from langchain_core.messages.tool import invalid_tool_call, tool_call

from ..types import ChatCompletion, ChatCompletionChoice, ChatCompletionToolCall, Usage

__all__ = ["extra_fields", "from_choice", "to_request_messages", "usage_metadata"]


def to_request_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """The messages of a request, in OpenAI's format."""
    return [converted for message in messages for converted in _convert(message)]


def _convert(message: BaseMessage) -> Iterator[dict[str, Any]]:
    if not isinstance(message, AIMessage):
        yield from convert_to_openai_messages([message])  # a message with results of tools becomes several
        return
    # Text and calls only: what else a model has written, such as its reasoning, is not sent back.
    converted: dict[str, Any] = {"role": "assistant", "content": message.text}
    if message.name:
        converted["name"] = message.name
    calls = [
        _call(call["id"], call["name"], json.dumps(call["args"], ensure_ascii=False)) for call in message.tool_calls
    ]
    calls.extend(_call(call["id"], call["name"], call["args"]) for call in message.invalid_tool_calls)
    if calls:
        converted["tool_calls"] = calls
    yield converted


def _call(call_id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    return {"id": call_id or "", "type": "function", "function": {"name": name or "", "arguments": arguments or ""}}


def from_choice(completion: ChatCompletion, choice: ChatCompletionChoice, content: str) -> AIMessage:
    """The message of one choice, with `content` as its text."""
    calls = [_read_call(call) for call in choice.message.tool_calls or ()]
    metadata: dict[str, Any] = {"model_name": completion.model, "finish_reason": choice.finish_reason}
    if choice.logprobs is not None:
        metadata["logprobs"] = choice.logprobs.model_dump()
    return AIMessage(
        content=content,
        tool_calls=[call for call in calls if call["type"] == "tool_call"],
        invalid_tool_calls=[call for call in calls if call["type"] == "invalid_tool_call"],
        additional_kwargs=extra_fields(choice.message),
        usage_metadata=usage_metadata(completion.usage),
        response_metadata=metadata,
    )


def _read_call(call: ChatCompletionToolCall) -> ToolCall | InvalidToolCall:
    arguments = call.function.arguments
    try:
        args = json.loads(arguments or "{}")
    except ValueError as error:
        return invalid_tool_call(name=call.function.name, args=arguments, id=call.id, error=str(error))
    if not isinstance(args, dict):
        return invalid_tool_call(name=call.function.name, args=arguments, id=call.id, error="not a JSON object")
    return tool_call(name=call.function.name, args=args, id=call.id)


def extra_fields(message: Any) -> dict[str, Any]:
    """Reasoning and refusal of a message or a delta, under the names that LangChain reads."""
    fields = {"reasoning_content": message.reasoning_content or message.reasoning, "refusal": message.refusal}
    return {name: value for name, value in fields.items() if value}


def usage_metadata(usage: Usage | None) -> UsageMetadata | None:
    """The token counts, with what the server says of cached and reasoning tokens."""
    if usage is None:
        return None
    counts = UsageMetadata(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
    )
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    if cached is not None:
        counts["input_token_details"] = {"cache_read": cached}
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    if reasoning is not None:
        counts["output_token_details"] = {"reasoning": reasoning}
    return counts
