"""Repairs of single fields of chats and completions, for `validate_lenient`: what servers send in another form.

Does not depend on the types themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ._lenient import FieldRepair

__all__ = ["CHAT_REPAIRS", "COMPLETION_REPAIRS", "choices_with_messages"]


def _logprobs_from_number(value: Any) -> dict[str, Any] | None:
    """Together sends one number instead of an object; it is kept as an extra field of that object."""
    return {"logprobs": {"logprob": value}} if isinstance(value, int | float) else None


def _choices_from_odd(value: Any) -> dict[str, Any]:
    """One choice instead of a list of them; nothing else can be one."""
    return {"choices": [value] if isinstance(value, dict) else []}


def _tool_calls_from_object(value: Any) -> dict[str, Any] | None:
    """TGI before 3.1 streams one tool call instead of a list."""
    return {"tool_calls": [value]} if isinstance(value, dict) else None


def _arguments_from_value(value: Any) -> dict[str, Any] | None:
    """TGI before 3.2 sends the arguments as an object; an empty one is `{}`, which any other empty value is not."""
    return None if value is None or isinstance(value, bool) else {"arguments": json.dumps(value, ensure_ascii=False)}


def _finish_reason_from_object(value: Any) -> dict[str, Any]:
    """SGLang's own format is an object with a type, and a message if it is an error. False, 0 and {} are no reason."""
    details = cast("dict[str, Any]", value) if isinstance(value, dict) else {"type": value}
    reason, message = details.get("type"), details.get("message")
    fields: dict[str, Any] = {
        "finish_reason": None if isinstance(reason, bool | list | dict) or not reason else str(reason)
    }
    if reason == "abort" and isinstance(message, str) and message:
        fields["error"] = {"message": message, "code": details.get("status_code")}
    return fields


def _message_from_text(value: Any) -> dict[str, Any] | None:
    """A whole message that is only its text."""
    return {"message": {"content": value}} if isinstance(value, str) else None


def choices_with_messages(payload: Any) -> Any:
    """A response whose choices have a `message`: made of `delta`, as in a stream, or of `text`, as in a completion."""
    if not isinstance(payload, dict):
        return payload
    fields = cast("dict[str, Any]", payload)
    choices = fields.get("choices")
    if not isinstance(choices, list):
        return fields
    return {**fields, "choices": [_with_message(choice) for choice in cast("list[Any]", choices)]}


def _with_message(choice: Any) -> Any:
    if not isinstance(choice, dict) or cast("dict[str, Any]", choice).get("message"):
        return cast("Any", choice)
    fields = cast("dict[str, Any]", choice)
    for name in ("delta", "text"):
        value = fields.get(name)
        if value and type(value) in (dict, str):
            return {other: fields[other] for other in fields if other != name} | {"message": value}
    return fields


def _delta_from_text(value: Any) -> dict[str, Any]:
    """Only the text, or its parts; an empty list or string stands for an empty delta."""
    return {"delta": {"content": value} if value and isinstance(value, str | list) else {}}


def _content_from_parts(value: Any) -> dict[str, Any] | None:
    """A list of parts instead of a string (Mistral's reasoning models, multimodal models), or one part.

    The text parts are joined, and so is the reasoning; what is neither is kept as `content_parts`.
    """
    if not isinstance(value, list | dict):
        return None
    parts = _Parts()
    parts.add(value)
    fields = {"reasoning": parts.reasoning or None, "content_parts": parts.others or None}
    return {"content": parts.text or None} | {name: found for name, found in fields.items() if found}


def _reasoning_from_parts(name: str) -> FieldRepair:
    """As for the content: the texts are joined, the other parts are kept as `reasoning_parts`."""

    def repair(value: Any) -> dict[str, Any] | None:
        if isinstance(value, str):  # put there by the content's repair
            return {name: value}
        if not isinstance(value, list | dict):
            return None
        parts = _Parts(within_reasoning=True)
        parts.add(value)
        return {name: parts.text or None} | ({f"{name}_parts": parts.others} if parts.others else {})

    return repair


@dataclass
class _Parts:
    """The parts of a message, sorted by kind; within reasoning all text is of that kind."""

    within_reasoning: bool = False
    text: str = ""
    reasoning: str = ""
    others: list[Any] = field(default_factory=list[Any])

    def add(self, value: Any, depth: int = 6) -> None:
        """Takes a part or a list of them; within reasoning there may be a list again, and so on up to `depth`."""
        if isinstance(value, list) and depth:
            for part in cast("list[Any]", value):
                self.add(part, depth - 1)
        elif isinstance(value, str):
            self.text += value
        elif not (depth and self._add_object(value, depth - 1)) and value is not None:
            self.others.append(value)

    def _add_object(self, value: Any, depth: int) -> bool:
        match value:
            case {"type": "thinking" | "reasoning", "thinking": inner} | {
                "type": "reasoning" | "reasoning_text" | "summary_text",
                "text": inner,
            }:
                within = self if self.within_reasoning else _Parts(within_reasoning=True)
                within.add(inner, depth)
                if within is not self:
                    self.reasoning += within.text
                    self.others += within.others
            case {"type": "text" | "output_text" | "input_text", "text": str() | None as text}:
                self.text += text or ""
            case {"type": "text" | "output_text", "text": {"value": str(text)}}:
                self.text += text
            case {"text": str(text)} | {"value": str(text)} | {"content": str(text)} if len(value) == 1:
                self.text += text
            case _:
                return False
        return True


COMPLETION_REPAIRS: Mapping[str, FieldRepair] = {
    "choices": _choices_from_odd,
    "finish_reason": _finish_reason_from_object,
    "logprobs": _logprobs_from_number,
}

CHAT_REPAIRS: Mapping[str, FieldRepair] = {
    **COMPLETION_REPAIRS,
    "arguments": _arguments_from_value,
    "content": _content_from_parts,
    "delta": _delta_from_text,
    "message": _message_from_text,
    "reasoning": _reasoning_from_parts("reasoning"),
    "reasoning_content": _reasoning_from_parts("reasoning_content"),
    "tool_calls": _tool_calls_from_object,
}
