"""Answers in the format of OpenAI's Responses API. Does not depend on rules, or on how an answer is sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ...core.response_events import ResponseEvents
from ...core.sse import encode
from ...types import ChatCompletion, ChatCompletionChunk
from .answers import Answer
from .model_requests import ModelRequest
from .openai_formats import ChatFormat

__all__ = ["ResponsesFormat"]


class ResponsesFormat:
    """An `AnswerFormat` for /v1/responses: a chat's answer in other events."""

    def __init__(self, request: ModelRequest, answer: Answer) -> None:
        self._chat = ChatFormat(request, answer)
        self._events = ResponseEvents(_fields(request.body, answer))

    def events(self) -> list[bytes]:
        chunks: list[dict[str, Any]] = [*self._chat.chunks(), {"choices": [], "usage": self._chat.usage()}]
        events = [_encode(event) for event in self._events.start()]
        for chunk in map(ChatCompletionChunk.model_validate, chunks):
            events += map(_encode, self._events.push(chunk))  # encoded at once: the response in it grows
        return events

    def body(self) -> object:
        self._events.complete_with(ChatCompletion.model_validate(self._chat.body()))
        return self._events.response


def _encode(event: Mapping[str, Any]) -> bytes:
    return encode(json.dumps(event, ensure_ascii=False, separators=(",", ":")), event=event["type"])


_REPEATED: Iterable[tuple[str, Any]] = (
    ("instructions", None), ("max_output_tokens", None), ("parallel_tool_calls", True), ("previous_response_id", None),
    ("store", True), ("temperature", 1.0), ("text", {"format": {"type": "text"}}), ("tool_choice", "auto"),
    ("tools", []), ("top_p", 1.0), ("user", None), ("metadata", {}),
)  # fmt: skip
"""Fields that a response repeats of its request, and OpenAI's values for those that it lacks."""


def _fields(body: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    repeated = {name: default if body.get(name) is None else body[name] for name, default in _REPEATED}
    return {
        "id": f"resp_mock_{answer.number}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": answer.model,
        "output": [],
        **repeated,
        "reasoning": {"effort": None, "summary": None},
        "truncation": "disabled",
        "usage": None,
    }
