"""What has been said so far in a chat: deltas, put together again as the message that they are the parts of.

It refuses to know who is listening, and how the deltas came.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic import BaseModel

from ..types import (
    ChatCompletion,
    ChatCompletionChoice,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionDelta,
    ChatCompletionDeltaToolCall,
    ChatCompletionLogprob,
    ChatCompletionLogprobs,
    ChatCompletionMessage,
    Usage,
)

__all__ = ["ChatAccumulator"]


class ChatAccumulator:
    """Of a stream of `ChatCompletionChunk`. The text so far, finish reason and usage are those of the first choice."""

    def __init__(self, response_model: type[BaseModel] | None = None) -> None:
        self._response_model = response_model
        self._choices: dict[int, _ChoiceBuilder] = {0: _ChoiceBuilder()}
        self._metadata: dict[str, Any] = {}
        self._missing_metadata: tuple[str, ...] = _METADATA
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
                if value := getattr(chunk, name):  # Azure's first chunk and its last have none
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
"""What every chunk says of the whole answer."""


_COMMON_FIELDS = {"role", "content"}
"""Most deltas say no more than this."""


class _StringBuilder:
    """A text that comes in pieces; None until the first one."""

    def __init__(self) -> None:
        self._fragments: list[str] | None = None

    def add(self, fragment: str | None) -> None:
        if fragment is None:
            return
        if self._fragments is None:
            self._fragments = []
        self._fragments.append(fragment)

    @property
    def text(self) -> str:
        return self.value or ""

    @property
    def value(self) -> str | None:
        if self._fragments is None:
            return None
        self._fragments = ["".join(self._fragments)]
        return self._fragments[0]


class _ChoiceBuilder:
    """One choice, delta by delta."""

    def __init__(self) -> None:
        self.content = _StringBuilder()
        self.finish_reason: str | None = None
        self._role: str | None = None
        self._tool_call_id: str | None = None
        self._reasoning, self._reasoning_content, self._refusal = _StringBuilder(), _StringBuilder(), _StringBuilder()
        self._calls = _ToolCallsBuilder()
        self._logprobs: list[ChatCompletionLogprob] = []
        self._extra: dict[str, Any] = {}  # of the choice
        self._lists: dict[str, list[Any]] = {}  # among these, each about the tokens of its chunk
        self._delta_extra = _ExtraFields()  # of its deltas

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

    def choice(self, index: int, response_model: type[BaseModel] | None) -> ChatCompletionChoice:
        calls = self._calls.build()
        content = self.content.value
        message = ChatCompletionMessage.model_validate(
            {
                **self._delta_extra.build(),
                "role": self._role or "assistant",
                "content": None if calls and not content else content,  # beside calls, "" is what nothing looks like
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


class _ToolCallBuilder:
    """One tool call, delta by delta."""

    def __init__(self) -> None:
        self.id = ""
        self.type = "function"
        self.name = ""
        self.arguments = _StringBuilder()
        self.extra = _ExtraFields()
        self.function_extra = _ExtraFields()  # of the function


class _ToolCallsBuilder:
    """Tool calls, put together from deltas that name them by index, by id, or not at all."""

    def __init__(self) -> None:
        self._calls: list[_ToolCallBuilder] = []
        self._by_index: dict[int, _ToolCallBuilder] = {}

    def add(self, deltas: list[ChatCompletionDeltaToolCall]) -> None:
        for delta in deltas:
            call = self._find_call(delta)
            call.id = call.id or delta.id or ""
            call.type = delta.type or call.type
            if delta.function is not None:
                call.name = call.name or delta.function.name or ""
                call.arguments.add(delta.function.arguments)
                if delta.function.__pydantic_extra__:
                    call.function_extra.add(delta.function.__pydantic_extra__)
            if delta.__pydantic_extra__:
                call.extra.add(delta.__pydantic_extra__)

    def _find_call(self, delta: ChatCompletionDeltaToolCall) -> _ToolCallBuilder:
        """The call that a delta adds to.

        A new id that begins with a name is another call, whatever its index: some servers number all of them 0. So is
        a new name where a server says neither index nor id.
        """
        call = self._by_index.get(delta.index) if delta.index is not None else self._calls[-1] if self._calls else None
        has_name = bool(delta.function and delta.function.name)
        if call is not None and not (has_name and _is_another(delta, call)):
            return call
        found = None
        if call is not None or not has_name:
            found = next((call for call in self._calls if delta.id and call.id == delta.id), None)
        if found is None:
            found = _ToolCallBuilder()
            self._calls.append(found)
        if delta.index is not None:
            self._by_index[delta.index] = found
        return found

    def build(self) -> list[dict[str, Any]] | None:
        calls = [
            {
                **call.extra.build(),
                "id": call.id,
                "type": call.type,
                "function": {**call.function_extra.build(), "name": call.name, "arguments": call.arguments.text},
            }
            for call in self._calls
        ]
        return calls or None


def _is_another(delta: ChatCompletionDeltaToolCall, call: _ToolCallBuilder) -> bool:
    """Whether a delta that names a function begins another call than the one that it seems to go on with."""
    if delta.id:
        return bool(call.id) and delta.id != call.id
    return delta.index is None and bool(call.name)


def _merge_latest(fields: dict[str, Any], update: dict[str, Any]) -> None:
    """The latest value counts; a null never replaces one."""
    for name, value in update.items():
        if value is not None or name not in fields:
            fields[name] = value


class _ExtraFields:
    """Fields that are not ours to know.

    Texts are joined and lists put one behind the other, also inside of objects, as OpenAI's own client does; anything
    else is as it was said last.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Any]] = {}

    def add(self, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            self._values.setdefault(name, []).append(value)

    def build(self) -> dict[str, Any]:
        return {name: _merge_values(values) for name, values in self._values.items()}


def _merge_values(values: list[Any]) -> Any:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, str) for value in present):
        return "".join(present)
    if present and all(isinstance(value, list) for value in present):
        return [part for value in present for part in cast("list[Any]", value)]
    if present and all(isinstance(value, dict) for value in present):
        merged = _ExtraFields()
        for value in present:
            merged.add(value)
        return merged.build()
    return present[-1] if present else None
