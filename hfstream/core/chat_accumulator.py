"""The accumulator of chat completion: joins the deltas of a stream into the same `ChatCompletion` as without streaming.

The deltas of text, tool calls and unknown fields are joined in `chat_builders`, one builder for each. Does not depend
on how chunks are received, nor on how they reach the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from .chat_builders import ExtraFieldsBuilder
from .choice_deltas import begins
from .choice_states import ChoiceIndices
from .string_builder import StringBuilder
from .tool_calls import ToolCallsBuilder
from .usages import latest_usage, usage_in

__all__ = ["ChatAccumulator"]


class ChatAccumulator:
    """Accumulates a stream of `ChatCompletionChunk`. `text` and `finish_reason` are those of the first choice.

    `n` is how many choices were asked for.
    """

    def __init__(self, response_model: Any = None, *, n: int = 1) -> None:
        self._response_model = response_model
        self._first = _ChoiceBuilder()
        self._choices: dict[int, _ChoiceBuilder] = {}
        self._several = n > 1
        self._indices = ChoiceIndices(several=self._several)
        self._metadata: dict[str, Any] = {}
        self._missing_metadata: tuple[str, ...] = _METADATA  # those to look for in the next chunk
        self._extra: dict[str, Any] = {}
        self._usage: Usage | None = None

    @property
    def text(self) -> str:
        return self._first.content.text

    @property
    def finish_reason(self) -> str | None:
        return self._first.finish_reason

    @property
    def finish_reasons(self) -> Sequence[str]:
        reasons = (builder.finish_reason for _, builder in sorted(self._choices.items()))
        return [reason for reason in reasons if reason is not None]

    @property
    def usage(self) -> Usage | None:
        return latest_usage(self._first.usage, self._usage)

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self._metadata

    def add(self, items: list[ChatCompletionChunk]) -> list[ChatCompletionChunk]:
        for chunk in items:
            for name in self._missing_metadata:
                if value := getattr(chunk, name):  # Azure's first and last chunks have none
                    self._metadata[name] = value
                    self._missing_metadata = tuple(field for field in self._missing_metadata if field != name)
            if chunk.usage is not None:
                self._usage = latest_usage(self._usage, chunk.usage)
            if chunk.__pydantic_extra__:
                _merge_latest(self._extra, chunk.__pydantic_extra__)
                self._usage = latest_usage(self._usage, usage_in(chunk.__pydantic_extra__))
            for choice in chunk.choices:
                try:
                    builder = self._choices[choice.index]
                except KeyError:
                    builder = self._builder(choice, beside=len(chunk.choices) > 1)
                builder.add(choice)
        return items

    def _builder(self, choice: ChatCompletionChunkChoice, *, beside: bool) -> _ChoiceBuilder:
        """The builder of a choice whose index has not come before; `beside`: its chunk has others."""
        key = self._indices.key(choice.index, begins=begins(choice), beside=beside)
        builder = self._choices.get(key)
        if builder is None:
            is_first = key == 0 or not (self._choices or self._several)
            if key == 0 and self._first in self._choices.values():
                self._first = _ChoiceBuilder()
            builder = self._choices[key] = self._first if is_first else _ChoiceBuilder()
        return builder

    def result(self) -> ChatCompletion:
        return ChatCompletion.model_validate(
            {
                **{name: value for name, value in self._extra.items() if name not in _PADDING},
                **self._metadata,
                "choices": [
                    builder.choice(index, self._response_model)
                    for index, builder in sorted((self._choices or {0: self._first}).items())
                ],
                "usage": self.usage,
            }
        )


_METADATA = ("id", "created", "model", "system_fingerprint")
"""Fields of the result that chunks repeat; the first value of each is kept."""

_PADDING = {"obfuscation"}
"""Fields of chunks that hide how long a token is; they say nothing about the answer."""

_COMMON_FIELDS = {"role", "content"}
"""All that most deltas have. For these, one comparison of sets saves looking at each of the other fields."""


class _ChoiceBuilder:
    """Joins the deltas of one choice."""

    def __init__(self) -> None:
        self.content = StringBuilder()
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self._role: str | None = None
        self._tool_call_id: str | None = None
        self._reasoning, self._reasoning_content, self._refusal = StringBuilder(), StringBuilder(), StringBuilder()
        self._calls = ToolCallsBuilder()
        self._logprobs = _LogprobsBuilder()
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
        if choice.logprobs is not None:
            self._logprobs.add(choice.logprobs)
        if choice.__pydantic_extra__:
            _merge_latest(self._extra, choice.__pydantic_extra__)
            self.usage = latest_usage(self.usage, usage_in(choice.__pydantic_extra__))
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
                "logprobs": self._logprobs.build(),
            }
        )


class _LogprobsBuilder:
    """Joins the log probabilities of one choice."""

    def __init__(self) -> None:
        self._content: list[ChatCompletionLogprob] = []
        self._refusal: list[ChatCompletionLogprob] = []
        self._extra = ExtraFieldsBuilder()  # the older form, with parallel lists; those of the reasoning

    def add(self, logprobs: ChatCompletionLogprobs) -> None:
        if logprobs.content:
            self._content += logprobs.content
        if logprobs.refusal:
            self._refusal += logprobs.refusal
        if logprobs.__pydantic_extra__:
            self._extra.add(logprobs.__pydantic_extra__)

    def build(self) -> ChatCompletionLogprobs | None:
        fields: dict[str, Any] = {name: value for name, value in self._extra.build().items() if value is not None}
        fields |= {name: found for name, found in (("content", self._content), ("refusal", self._refusal)) if found}
        return ChatCompletionLogprobs.model_validate(fields) if fields else None


def _merge_latest(fields: dict[str, Any], update: dict[str, Any]) -> None:
    """Updates `fields`; a null replaces no value."""
    for name, value in update.items():
        if value is not None or name not in fields:
            fields[name] = value
