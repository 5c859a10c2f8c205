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

    def __init__(self, form: type[BaseModel] | None = None) -> None:
        self._form = form
        self._answers: dict[int, _Answer] = {0: _Answer()}
        self._imprint: dict[str, Any] = {}
        self._unsaid: tuple[str, ...] = _IMPRINT
        self._extra: dict[str, Any] = {}
        self._usage: Usage | None = None

    @property
    def text(self) -> str:
        return self._answers[0].content.text

    @property
    def finish_reason(self) -> str | None:
        return self._answers[0].finish_reason

    @property
    def usage(self) -> Usage | None:
        return self._usage

    def add(self, said: list[ChatCompletionChunk]) -> list[ChatCompletionChunk]:
        for chunk in said:
            for name in self._unsaid:
                if value := getattr(chunk, name):  # Azure's first chunk and its last have none
                    self._imprint[name] = value
                    self._unsaid = tuple(known for known in self._unsaid if known != name)
            if chunk.usage is not None:
                self._usage = chunk.usage
            if chunk.__pydantic_extra__:
                _note(self._extra, chunk.__pydantic_extra__)
            for choice in chunk.choices:
                answer = self._answers.get(choice.index)
                if answer is None:
                    answer = self._answers[choice.index] = _Answer()
                answer.add(choice)
        return said

    def result(self) -> ChatCompletion:
        return ChatCompletion.model_validate(
            {
                **self._extra,
                **self._imprint,
                "choices": [answer.choice(index, self._form) for index, answer in sorted(self._answers.items())],
                "usage": self._usage,
            }
        )


_IMPRINT = ("id", "created", "model", "system_fingerprint")
"""What every chunk says of the whole answer."""


_PLAIN = {"role", "content"}
"""Most deltas say no more than this."""


class _Text:
    """A text that comes in pieces; None until the first one."""

    def __init__(self) -> None:
        self._pieces: list[str] | None = None

    def add(self, piece: str | None) -> None:
        if piece is None:
            return
        if self._pieces is None:
            self._pieces = []
        self._pieces.append(piece)

    @property
    def text(self) -> str:
        return self.said or ""

    @property
    def said(self) -> str | None:
        if self._pieces is None:
            return None
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]


class _Answer:
    """One choice, delta by delta."""

    def __init__(self) -> None:
        self.content = _Text()
        self.finish_reason: str | None = None
        self._role: str | None = None
        self._tool_call_id: str | None = None
        self._reasoning, self._reasoning_content, self._refusal = _Text(), _Text(), _Text()
        self._calls = _ToolCallsBuilder()
        self._logprobs: list[ChatCompletionLogprob] = []
        self._extra: dict[str, Any] = {}  # of the choice
        self._lists: dict[str, list[Any]] = {}  # among these, each about the tokens of its chunk
        self._more = _Unknown()  # of its deltas

    def add(self, choice: ChatCompletionChunkChoice) -> None:
        delta = choice.delta
        self.content.add(delta.content)
        if self._role is None:
            self._role = delta.role
        if not delta.__pydantic_fields_set__ <= _PLAIN:
            self._add_more(delta)
        if choice.finish_reason is not None:
            self.finish_reason = choice.finish_reason
        if choice.logprobs is not None and choice.logprobs.content:
            self._logprobs += choice.logprobs.content
        if choice.__pydantic_extra__:
            _note(self._extra, choice.__pydantic_extra__)
            for name, value in choice.__pydantic_extra__.items():
                if isinstance(value, list):
                    self._lists.setdefault(name, []).extend(cast("list[Any]", value))

    def _add_more(self, delta: ChatCompletionDelta) -> None:
        if self._tool_call_id is None:
            self._tool_call_id = delta.tool_call_id
        self._reasoning.add(delta.reasoning)
        self._reasoning_content.add(delta.reasoning_content)
        self._refusal.add(delta.refusal)
        if delta.tool_calls:
            self._calls.add(delta.tool_calls)
        if delta.__pydantic_extra__:
            self._more.add(delta.__pydantic_extra__)

    def choice(self, index: int, form: type[BaseModel] | None) -> ChatCompletionChoice:
        calls = self._calls.whole()
        content = self.content.said
        message = ChatCompletionMessage.model_validate(
            {
                **self._more.whole(),
                "role": self._role or "assistant",
                "content": None if calls and not content else content,  # beside calls, "" is what nothing looks like
                "tool_calls": calls,
                "tool_call_id": self._tool_call_id,
                "reasoning": self._reasoning.said,
                "reasoning_content": self._reasoning_content.said,
                "refusal": self._refusal.said,
            }
        )
        return ChatCompletionChoice.model_validate(
            {
                **self._extra,
                **self._lists,
                "index": index,
                "message": message.with_response_model(form),
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
        self.arguments = _Text()
        self.extra = _Unknown()
        self.more = _Unknown()  # of the function


class _ToolCallsBuilder:
    """Tool calls, put together from deltas that name them by index, by id, or not at all."""

    def __init__(self) -> None:
        self._calls: list[_ToolCallBuilder] = []
        self._at: dict[int, _ToolCallBuilder] = {}

    def add(self, deltas: list[ChatCompletionDeltaToolCall]) -> None:
        for delta in deltas:
            call = self._called(delta)
            call.id = call.id or delta.id or ""
            call.type = delta.type or call.type
            if delta.function is not None:
                call.name = call.name or delta.function.name or ""
                call.arguments.add(delta.function.arguments)
                if delta.function.__pydantic_extra__:
                    call.more.add(delta.function.__pydantic_extra__)
            if delta.__pydantic_extra__:
                call.extra.add(delta.__pydantic_extra__)

    def _called(self, delta: ChatCompletionDeltaToolCall) -> _ToolCallBuilder:
        """The call that a delta adds to.

        A new id that begins with a name is another call, whatever its index: some servers number all of them 0. So is
        a new name where a server says neither index nor id.
        """
        call = self._at.get(delta.index) if delta.index is not None else self._calls[-1] if self._calls else None
        begins = bool(delta.function and delta.function.name)
        if call is not None and not (begins and _is_another(delta, call)):
            return call
        known = None
        if call is not None or not begins:
            known = next((call for call in self._calls if delta.id and call.id == delta.id), None)
        if known is None:
            known = _ToolCallBuilder()
            self._calls.append(known)
        if delta.index is not None:
            self._at[delta.index] = known
        return known

    def whole(self) -> list[dict[str, Any]] | None:
        calls = [
            {
                **call.extra.whole(),
                "id": call.id,
                "type": call.type,
                "function": {**call.more.whole(), "name": call.name, "arguments": call.arguments.text},
            }
            for call in self._calls
        ]
        return calls or None


def _is_another(delta: ChatCompletionDeltaToolCall, call: _ToolCallBuilder) -> bool:
    """Whether a delta that names a function begins another call than the one that it seems to go on with."""
    if delta.id:
        return bool(call.id) and delta.id != call.id
    return delta.index is None and bool(call.name)


def _note(fields: dict[str, Any], told: dict[str, Any]) -> None:
    """What was told last counts; a null tells nothing."""
    for name, value in told.items():
        if value is not None or name not in fields:
            fields[name] = value


class _Unknown:
    """Fields that are not ours to know.

    Texts are joined and lists put one behind the other, also inside of objects, as OpenAI's own client does; anything
    else is as it was said last.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Any]] = {}

    def add(self, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            self._values.setdefault(name, []).append(value)

    def whole(self) -> dict[str, Any]:
        return {name: _joined(values) for name, values in self._values.items()}


def _joined(values: list[Any]) -> Any:
    said = [value for value in values if value is not None]
    if said and all(isinstance(value, str) for value in said):
        return "".join(said)
    if said and all(isinstance(value, list) for value in said):
        return [part for value in said for part in cast("list[Any]", value)]
    if said and all(isinstance(value, dict) for value in said):
        parts = _Unknown()
        for value in said:
            parts.add(value)
        return parts.whole()
    return said[-1] if said else None
