"""What each token adds to a chat's message: text, or parts of tool calls. Does not depend on HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hfstream.types import (
    ChatCompletionDelta,
    ChatCompletionDeltaFunction,
    ChatCompletionDeltaToolCall,
    ChatCompletionFunction,
    ChatCompletionMessage,
    ChatCompletionToolCall,
    StreamResponse,
)

from ..schemas.tools import ToolUse
from ..text.tool_call_parser import ArgumentsPart, CallStart, TextPart, ToolCallParser
from ..text.tool_formats import ToolCallFormat
from .openai_responses import StopStringFilter, finish_reason


class MessageDeltas:
    """One message."""

    def __init__(self, stop: Sequence[str], use: ToolUse | None, call_format: ToolCallFormat) -> None:
        """`use`: the tools that the model may call; None: all that it writes is text."""
        self._stop_filter = StopStringFilter(stop)
        self._format = call_format
        self._parser: ToolCallParser | None = None
        if use is not None:
            max_calls = None if use.parallel else 1
            self._parser = ToolCallParser(call_format, use.functions, max_calls=max_calls, required=use.required)
        self._calls = 0
        self._role_sent = False

    def push(self, event: StreamResponse) -> list[ChatCompletionDelta]:
        """What one more token adds; nothing while it may become part of a call."""
        text = self._stop_filter.push(event)
        if self._parser is None:
            fields: list[dict[str, Any]] = [{"content": text}]
        else:
            if event.token.special and event.token.text in self._parser.markers:
                text += event.token.text
            parts = self._parser.push(text, last=event.details is not None)
            fields = [self._fields(part) for part in parts]
        return [self._delta(each) for each in fields]

    def empty(self) -> ChatCompletionDelta:
        """A delta that adds nothing, but perhaps the role."""
        return self._delta({})

    def whole(self, events: Sequence[StreamResponse]) -> ChatCompletionMessage:
        """The message of all its tokens."""
        if self._parser is None:
            text = self._stop_filter.strip(events[-1].generated_text or "")
            return ChatCompletionMessage(role="assistant", content=text)
        deltas = [delta for event in events for delta in self.push(event)]
        text = "".join(delta.content or "" for delta in deltas)
        calls: list[dict[str, str]] = []
        for call in (call for delta in deltas for call in delta.tool_calls or ()):
            function = call.function or ChatCompletionDeltaFunction()
            if call.id:
                calls.append({"id": call.id, "name": function.name or "", "arguments": ""})
            calls[-1]["arguments"] += function.arguments or ""
        if not calls:
            return ChatCompletionMessage(role="assistant", content=text)
        tool_calls = [
            ChatCompletionToolCall(
                id=call["id"],
                type="function",
                function=ChatCompletionFunction(name=call["name"], arguments=call["arguments"]),
            )
            for call in calls
        ]
        return ChatCompletionMessage(role="assistant", content=text or None, tool_calls=tool_calls)

    def finish_reason(self, event: StreamResponse) -> str | None:
        """OpenAI's finish reason; None before the last event. Calls are one only if they are complete."""
        reason = finish_reason(event)
        called = self._calls and self._parser is not None and self._parser.all_complete
        return "tool_calls" if reason == "stop" and called else reason

    def _delta(self, fields: dict[str, Any]) -> ChatCompletionDelta:
        # The role is sent once. TGI repeats it, and clients that add up deltas get "assistantassistant".
        if not self._role_sent:
            fields = {"role": "assistant", "content": None, **fields}
            self._role_sent = True
        return ChatCompletionDelta(**fields)

    def _fields(self, part: TextPart | CallStart | ArgumentsPart) -> dict[str, Any]:
        match part:
            case TextPart(text):
                return {"content": text}
            case CallStart(name):
                self._calls += 1
                call = ChatCompletionDeltaToolCall(
                    index=self._calls - 1,
                    id=self._format.new_id(),
                    type="function",
                    function=ChatCompletionDeltaFunction(name=name, arguments=""),
                )
            case ArgumentsPart(text):
                call = ChatCompletionDeltaToolCall(
                    index=self._calls - 1, function=ChatCompletionDeltaFunction(arguments=text)
                )
        return {"tool_calls": [call]}
