"""The accumulator of chat completion: joins the deltas of a stream into the same `ChatCompletion` as without streaming.

The deltas of text, tool calls and unknown fields are joined in `chat_builders`, one builder for each. Does not depend
on how chunks are received, nor on how they reach the caller.
"""

from __future__ import annotations

from typing import Any, cast

from ..types import (
    ChatCompletion,
    ChatCompletionChoice,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionDelta,
    ChatCompletionLogprob,
    ChatCompletionLogprobs,
    ChatCompletionMessage,
    Usage,
)
from .chat_builders import ExtraFieldsBuilder, StringBuilder, ToolCallsBuilder

__all__ = ["ChatAccumulator"]


class ChatAccumulator:
    """Accumulates a stream of `ChatCompletionChunk`. `text` and `finish_reason` are those of the first choice."""

    def __init__(self, response_model: Any = None) -> None:
        self._response_model = response_model
        self._choices: dict[int, _ChoiceBuilder] = {0: _ChoiceBuilder()}
        self._metadata: dict[str, Any] = {}
        self._missing_metadata: tuple[str, ...] = _METADATA  # those to look for in the next chunk
        self._extra: dict[str, Any] = {}
        self._usage: Usage | None = None

    @property
    def text(self) -> str:
        return self._choices[0].content.text

    @property
    def finish_reason(self) -> str | None:
        return self._choices[0].finish_reason

    @property
    def usage(self) -> Usage | None:
        return self._usage

    def add(self, items: list[ChatCompletionChunk]) -> list[ChatCompletionChunk]:
        for chunk in items:
            for name in self._missing_metadata:
                if value := getattr(chunk, name):  # Azure's first and last chunks have none
                    self._metadata[name] = value
                    self._missing_metadata = tuple(field for field in self._missing_metadata if field != name)
            if chunk.usage is not None:
                self._usage = chunk.usage
            if chunk.__pydantic_extra__:
                _merge_latest(self._extra, chunk.__pydantic_extra__)
            for choice in chunk.choices:
                builder = self._choices.get(choice.index)
                if builder is None:
                    builder = self._choices[choice.index] = _ChoiceBuilder()
                builder.add(choice)
        return items

    def result(self) -> ChatCompletion:
        return ChatCompletion.model_validate(
            {
                **self._extra,
                **self._metadata,
                "choices": [
                    builder.choice(index, self._response_model) for index, builder in sorted(self._choices.items())
                ],
                "usage": self._usage,
            }
        )


_METADATA = ("id", "created", "model", "system_fingerprint")
"""Fields of the result that chunks repeat; the first value of each is kept."""

_COMMON_FIELDS = {"role", "content"}
"""All that most deltas have. For these, one comparison of sets saves looking at each of the other fields."""


class _ChoiceBuilder:
    """Joins the deltas of one choice."""

    def __init__(self) -> None:
        self.content = StringBuilder()
        self.finish_reason: str | None = None
        self._role: str | None = None
        self._tool_call_id: str | None = None
        self._reasoning, self._reasoning_content, self._refusal = StringBuilder(), StringBuilder(), StringBuilder()
        self._calls = ToolCallsBuilder()
        self._logprobs: list[ChatCompletionLogprob] = []
        self._extra: dict[str, Any] = {}  # of the choice itself
        self._lists: dict[
            str, list[Any]
        ] = {}  # those of `_extra` that are lists: each has entries for a chunk's tokens
        self._delta_extra = ExtraFieldsBuilder()

    def add(self, choice: ChatCompletionChunkChoice) -> None:
        delta = choice.delta
        self.content.add(delta.content)
        if self._role is None:
            self._role = delta.role
        if not delta.__pydantic_fields_set__ <= _COMMON_FIELDS:
            self._add_rare_fields(delta)
        if choice.finish_reason is not None:
            self.finish_reason = choice.finish_reason
        if choice.logprobs is not None and choice.logprobs.content:
            self._logprobs += choice.logprobs.content
        if choice.__pydantic_extra__:
            _merge_latest(self._extra, choice.__pydantic_extra__)
            for name, value in choice.__pydantic_extra__.items():
                if isinstance(value, list):
                    self._lists.setdefault(name, []).extend(cast("list[Any]", value))

    def _add_rare_fields(self, delta: ChatCompletionDelta) -> None:
        if self._tool_call_id is None:
            self._tool_call_id = delta.tool_call_id
        self._reasoning.add(delta.reasoning)
        self._reasoning_content.add(delta.reasoning_content)
        self._refusal.add(delta.refusal)
        if delta.tool_calls:
            self._calls.add(delta.tool_calls)
        if delta.__pydantic_extra__:
            self._delta_extra.add(delta.__pydantic_extra__)

    def choice(self, index: int, response_model: Any) -> ChatCompletionChoice:
        calls = self._calls.build()
        content = self.content.value
        message = ChatCompletionMessage.model_validate(
            {
                **self._delta_extra.build(),
                "role": self._role or "assistant",
                "content": None if calls and not content else content,  # with tool calls, "" means none
                "tool_calls": calls,
                "tool_call_id": self._tool_call_id,
                "reasoning": self._reasoning.value,
                "reasoning_content": self._reasoning_content.value,
                "refusal": self._refusal.value,
            }
        )
        return ChatCompletionChoice.model_validate(
            {
                **self._extra,
                **self._lists,
                "index": index,
                "message": message.with_response_model(response_model),
                "finish_reason": self.finish_reason,
                "logprobs": ChatCompletionLogprobs(content=self._logprobs) if self._logprobs else None,
            }
        )


def _merge_latest(fields: dict[str, Any], update: dict[str, Any]) -> None:
    """Updates `fields`; a null replaces no value."""
    for name, value in update.items():
        if value is not None or name not in fields:
            fields[name] = value
