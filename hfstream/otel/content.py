"""The content of a call as JSON in the shape of the conventions: messages of parts. Recorded only if it is asked for.

The schemas are gen-ai-input-messages.json and gen-ai-output-messages.json of the semantic conventions. Does not depend
on OpenTelemetry.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from ..core.observers import Call
from ..types import ChatCompletion

__all__ = ["input_messages", "output_messages"]


def input_messages(call: Call) -> str:
    """The messages of a chat, or the prompt as one of the user."""
    body = call.body
    messages: list[Any] = body.get("messages") or []
    if not messages:
        return _dump([{"role": "user", "parts": [_text(body.get("inputs", body.get("prompt")))]}])
    return _dump([_message(each) for each in messages])


def output_messages(call: Call) -> str:
    """The message of each choice; of a response that is not complete the text so far."""
    result = call.result() if call.complete else None
    if isinstance(result, ChatCompletion):
        dumped = [(choice.message.model_dump(mode="json"), choice.finish_reason) for choice in result.choices]
        return _dump([{**_message(message), "finish_reason": reason or "error"} for message, reason in dumped])
    reason = str(call.finish_reason or ("stop" if call.complete else "error"))
    return _dump([{"role": "assistant", "parts": [_text(call.text)], "finish_reason": reason}])


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    parts = list(_parts(message))
    if message.get("role") == "tool":
        parts = [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": message.get("content")}]
    return {"role": message.get("role"), "parts": parts}


def _parts(message: Mapping[str, Any]) -> Iterator[Any]:
    if reasoning := message.get("reasoning_content") or message.get("reasoning"):
        yield {"type": "reasoning", "content": reasoning}
    content = message.get("content")
    if isinstance(content, str):
        yield _text(content)
    elif content:
        for part in cast("Sequence[Mapping[str, Any]]", content):
            yield _text(part["text"]) if part.get("type") == "text" else part
    for call in message.get("tool_calls") or ():
        function: Mapping[str, Any] = call.get("function") or {}
        yield {
            "type": "tool_call",
            "id": call.get("id"),
            "name": function.get("name"),
            "arguments": function.get("arguments"),
        }


def _text(content: Any) -> dict[str, Any]:
    return {"type": "text", "content": content}


def _dump(messages: list[dict[str, Any]]) -> str:
    return json.dumps(messages, ensure_ascii=False)
