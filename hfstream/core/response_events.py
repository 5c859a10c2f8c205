"""The events of OpenAI's Responses API, made of the chunks of a chat: each opens an item, adds to it, or closes it.

Does not depend on HTTP, or on how a chat's chunks are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from ..errors import InferenceError
from ..types import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionDelta,
    ChatCompletionDeltaFunction,
    ChatCompletionDeltaToolCall,
    ChatCompletionLogprobs,
    Usage,
)

__all__ = ["ResponseEvents"]

Event = dict[str, Any]


class ResponseEvents:
    """One response while it grows: `response` is its JSON object so far."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        """`fields`: those of the response that are known before its first token, in OpenAI's order."""
        self.response: dict[str, Any] = {**fields, "status": "in_progress", "output": []}
        self._sequence_number = 0
        self._item: dict[str, Any] = {}  # the last of the output, while it is open
        self._call_index: int | None = None
        self._logprobs: list[Any] = []  # of tokens whose text has not come yet
        self._finish_reason: str | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing more is added."""
        return bool(self.response["status"] != "in_progress")

    def start(self) -> Iterable[Event]:
        """What every stream begins with."""
        yield self._event("response.created", response=self.response)
        yield self._event("response.in_progress", response=self.response)

    def push(self, chunk: ChatCompletionChunk) -> Iterable[Event]:
        """What a chunk adds. The one with the usage completes the response."""
        for choice in chunk.choices:
            self._finish_reason = choice.finish_reason or self._finish_reason
            yield from self._add_text(choice.delta.content or "", choice.logprobs)
            for call in choice.delta.tool_calls or ():
                yield from self._add_to_call(call)
        if chunk.usage is not None:
            yield from self._finish(chunk.usage)

    def complete_with(self, completion: ChatCompletion) -> None:
        """Makes it the response of a chat that was not streamed."""
        choice = completion.choices[0]
        calls = [
            ChatCompletionDeltaToolCall(
                index=index,
                id=call.id,
                function=ChatCompletionDeltaFunction(name=call.function.name, arguments=call.function.arguments),
            )
            for index, call in enumerate(choice.message.tool_calls or ())
        ]
        whole = ChatCompletionChunkChoice(
            delta=ChatCompletionDelta(content=choice.message.content, tool_calls=calls),
            finish_reason=choice.finish_reason,
            logprobs=choice.logprobs,
        )
        for _ in self.push(ChatCompletionChunk(choices=[whole], usage=completion.usage)):
            pass

    def fail(self, error: InferenceError) -> Iterable[Event]:
        """What a stream ends with if it fails."""
        code = "rate_limit_exceeded" if error.error_type == "overloaded" else "server_error"
        self.response |= {"status": "failed", "error": {"code": code, "message": error.message}}
        yield self._event("error", code=error.error_type, message=error.message, param=None)
        yield self._event("response.failed", response=self.response)

    def message(self) -> dict[str, Any]:
        """The output as a message of a chat."""
        texts = [item["content"][0]["text"] for item in self.response["output"] if item["type"] == "message"]
        calls = [
            {
                "id": item["call_id"],
                "type": "function",
                "function": {"name": item["name"], "arguments": item["arguments"]},
            }
            for item in self.response["output"]
            if item["type"] == "function_call"
        ]
        return {"role": "assistant", "content": "".join(texts), **({"tool_calls": calls} if calls else {})}

    # --- items -------------------------------------------------------------------------------------------------------

    def _add_text(self, text: str, logprobs: ChatCompletionLogprobs | None) -> Iterable[Event]:
        if logprobs is not None:
            self._logprobs += [each.model_dump() for each in logprobs.content or ()]
        if not text:
            return
        if self._item.get("type") != "message":
            yield from self._open_message()
        part = self._item["content"][0]
        part["text"] += text
        part["logprobs"] += self._logprobs
        yield self._event("response.output_text.delta", **self._place(part=True), delta=text, logprobs=self._logprobs)
        self._logprobs = []

    def _add_to_call(self, call: ChatCompletionDeltaToolCall) -> Iterable[Event]:
        function = call.function or ChatCompletionDeltaFunction()
        if self._item.get("type") != "function_call" or call.index != self._call_index:
            self._call_index = call.index
            yield from self._open(
                {
                    "id": f"fc_{uuid4().hex}",
                    "type": "function_call",
                    "status": "in_progress",
                    "call_id": call.id or f"call_{uuid4().hex}",
                    "name": function.name or "",
                    "arguments": "",
                }
            )
        if function.arguments:
            self._item["arguments"] += function.arguments
            yield self._event("response.function_call_arguments.delta", **self._place(), delta=function.arguments)

    def _open_message(self) -> Iterable[Event]:
        item = {"id": f"msg_{uuid4().hex}", "type": "message", "status": "in_progress", "role": "assistant"}
        yield from self._open({**item, "content": []})
        part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield self._event("response.content_part.added", **self._place(part=True), part=part)
        self._item["content"] = [part]

    def _open(self, item: dict[str, Any]) -> Iterable[Event]:
        yield from self._close()
        self._item = item
        self.response["output"].append(item)
        yield self._event("response.output_item.added", output_index=self._output_index, item=item)

    def _close(self, status: str = "completed") -> Iterable[Event]:
        if not self._item:
            return
        item = self._item
        item["status"] = status
        if item["type"] == "message":
            place, [part] = self._place(part=True), item["content"]
            yield self._event("response.output_text.done", **place, text=part["text"], logprobs=part["logprobs"])
            yield self._event("response.content_part.done", **place, part=part)
        else:
            yield self._event(
                "response.function_call_arguments.done",
                **self._place(),
                name=item["name"],
                arguments=item["arguments"],
            )
        yield self._event("response.output_item.done", output_index=self._output_index, item=item)
        self._item = {}

    def _finish(self, usage: Usage) -> Iterable[Event]:
        status = "incomplete" if self._finish_reason == "length" else "completed"
        if not self.response["output"]:
            yield from self._open_message()
        yield from self._close(status)
        self.response["status"] = status
        if status == "incomplete":
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        self.response["usage"] = {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.total_tokens,
        }
        yield self._event(f"response.{status}", response=self.response)

    # --- events ------------------------------------------------------------------------------------------------------

    @property
    def _output_index(self) -> int:
        return len(self.response["output"]) - 1

    def _place(self, *, part: bool = False) -> dict[str, Any]:
        """Which item an event belongs to; `part`: and which part of its content."""
        place = {"item_id": self._item["id"], "output_index": self._output_index}
        return {**place, "content_index": 0} if part else place

    def _event(self, kind: str, **fields: Any) -> Event:
        event = {"type": kind, "sequence_number": self._sequence_number, **fields}
        self._sequence_number += 1
        return event
