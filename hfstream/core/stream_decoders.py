"""Decoders of streamed responses: Server-Sent Events to objects.

There are two kinds of stream: TGI's, which is complete with the event that has the complete text, and OpenAI's, which
ends with ``[DONE]`` or, at some servers, with a finish reason. Does not depend on where bytes come from, nor on what
happens after an error.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, TypeVar

from ..errors import IncompleteStreamError, InferenceError, UnexpectedResponseError
from ..errors.response_bodies import from_finish_reason
from ..types import ChatCompletionChunk, ChatCompletionChunkChoice, StreamResponse
from ..types.chat import NoChoices
from .answer_errors import error_beside
from .choice_deltas import begins, find_delta, has_text
from .choice_states import ChoiceStates
from .completion_texts import complete_text
from .completions import CompletionChunk
from .event_stream import EventStreamDecoder, parsed_size

__all__ = ["ChatStreamDecoder", "CompletionStreamDecoder", "TGIStreamDecoder"]

ChunkT = TypeVar("ChunkT", ChatCompletionChunk, CompletionChunk)

MAX_PRELUDE_SIZE = 16 * 1024 * 1024
"""Bytes of chunks without content that are kept until the first one with content, with what their objects take."""

_OBJECT_SIZE = 1024
"""Bytes that a chunk or a choice takes beside its fields, roughly."""

_TEXT_FIELDS = frozenset({"response", "content", "candidates", "completion", "outputs"})
"""Where the text is in the streams of Ollama, llama.cpp, Gemini, Cloudflare and others' own APIs."""


class TGIStreamDecoder(EventStreamDecoder[StreamResponse]):
    """TGI's event stream: each event is a `StreamResponse`, and the one with the complete text is the last."""

    model = StreamResponse
    complete: bool
    content_count: int
    required_fields: frozenset[str] = frozenset({"token", "generated_text"})
    foreign_fields: frozenset[str] = _TEXT_FIELDS | {"choices", "delta"}

    def resume(self) -> None:
        super().resume()
        self.complete = False

    def _handle_event(self, data: bytes, name: str, items: list[StreamResponse]) -> None:
        try:
            response = self._validate(data)
        except ValueError:
            unusual = self._read_unusual(data, name, items)
            if unusual is None:
                return
            response = unusual
        if response.__pydantic_extra__ and (error := error_beside(response.__pydantic_extra__)):
            self._fail(error)
            return
        items.append(response)
        self.content_count += 1
        details = response.details
        if response.generated_text is not None or details is not None:
            self._on_final(response)

    def _on_final(self, response: StreamResponse) -> None:
        reason = response.details.finish_reason if response.details else ""
        if reason and (error := from_finish_reason(reason)) is not None:
            self._fail(error)
        elif reason or response.generated_text is not None:  # else details of a token that is not the last
            self.done = self.complete = True

    def _on_done(self) -> None:
        self._fail(self._last_notice() or IncompleteStreamError(self._ended_early()))

    def _complete_fields(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        token = payload.get("token")
        if isinstance(token, str | list) or (isinstance(token, dict) and "text" in token):
            return payload
        text, details = payload.get("generated_text"), payload.get("details")
        if isinstance(text, str):
            # The whole text at once, or an end without a token of its own.
            only = self.content_count == 0
            return {**payload, "token": {"text": text if only else "", "special": not only}}
        if isinstance(details, dict) and "finish_reason" in details:
            return {**payload, "token": {"text": "", "special": True}}
        return None


class _OpenAIStreamDecoder(EventStreamDecoder[ChunkT]):
    """OpenAI's event stream: chunks until ``[DONE]``.

    A stream without it is complete once each of the `n` choices that were asked for has a finish_reason.

    Chunks before the first content (with a role, the result of a content filter, or nothing) are the prelude. They are
    kept and returned together with the first content. So the first item that a decoder returns is content, and that is
    what retries, the limit on the first token and the metrics depend on: after a prelude alone a request can still be
    sent again without the caller seeing an item twice.
    """

    complete: bool
    content_count: int
    required_fields: frozenset[str] = frozenset({"choices"})
    _has_deltas = False
    """Whether what a choice adds is in its `delta`, and not in the choice itself."""

    def __init__(self, n: int = 1) -> None:
        super().__init__()
        self._prelude: list[ChunkT] = []
        self._prelude_size = 0
        self._last_prelude = b""
        self._choices = ChoiceStates(n)
        self._open = self._choices.open  # looked up once a token

    def resume(self) -> None:
        super().resume()
        self.complete = self._choices.all_finished

    def _handle_event(self, data: bytes, name: str, items: list[ChunkT]) -> None:
        try:
            chunk = self._validate(data)
        except ValueError:
            unusual = self._read_unusual(data, name, items)
            if unusual is None:
                return
            chunk = unusual
        error = error_beside(extra) if (extra := chunk.__pydantic_extra__) else None
        content = False
        beside = len(chunk.choices) > 1
        choice: Any  # of a chat or of a completion
        for choice in chunk.choices:
            if choice.__pydantic_extra__ or (self._has_deltas and choice.delta.__pydantic_extra__):
                error = error or self._error_in(choice)
                choice = self._with_delta(chunk, choice)  # noqa: PLW2901  the same one, completed
            if choice.finish_reason and choice.finish_reason not in _NO_REASON:
                error = error or from_finish_reason(choice.finish_reason)
                has_content = self._has_text(choice)
                error = error or (self._unread if has_content else None)
                self._choices.finish(choice.index, has_content=has_content, beside=beside)
                self.complete = self._choices.all_finished
                content = True
                continue
            if choice.index not in self._open:
                has_content, starts = self._has_text(choice), self._begins(choice)
                error = error or (self._unread if has_content else None)
                self._choices.add(choice.index, has_content=has_content, begins=starts, beside=beside)
                self.complete = self._choices.all_finished
            content = content or self._is_content(choice)
        if error is not None:
            self._add_failed(chunk, error, items)
            return
        if content:
            if not self.content_count:
                items += self._prelude
                self._prelude = []
            self.content_count += 1
        if not chunk.choices:
            chunk = self._without_choices(chunk)
        if content or self.content_count:
            items.append(chunk)
        else:
            self._buffer(chunk, data)

    def _add_failed(self, chunk: ChunkT, error: Any, items: list[ChunkT]) -> None:
        """Fails, after the text that came together with the error, unless text has been lost before it."""
        if error is not self._unread and any(self._has_text(choice) for choice in chunk.choices):
            items += self._prelude
            items.append(chunk)
            self._prelude = []
            self.content_count += 1
        self._fail(error)

    def _buffer(self, chunk: ChunkT, data: bytes) -> None:
        if data == self._last_prelude:
            return  # a sign of life that adds nothing
        self._prelude.append(chunk)
        self._last_prelude = data
        self._prelude_size += parsed_size(data) + _OBJECT_SIZE * (1 + len(chunk.choices))
        if self._prelude_size > MAX_PRELUDE_SIZE:
            self._fail(UnexpectedResponseError(f"{MAX_PRELUDE_SIZE} bytes of chunks came without any content"))

    def _complete_fields(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        if "choices" in payload:
            return payload
        if self._has_foreign_text(payload):
            return None
        if isinstance(payload.get("usage"), dict) or (payload and not _CONTROL_FIELDS & payload.keys()):
            return {**payload, "choices": []}  # a usage, citations, a price: the accumulator keeps them
        return None

    def _on_done(self) -> None:
        notice = None if self.complete else self._last_notice()
        if notice is not None:
            self._fail(notice)
        elif self.content_count:
            self.done = self.complete = True
        else:
            self._fail(IncompleteStreamError(self._ended_early()))

    @abstractmethod
    def _is_content(self, choice: Any) -> bool:
        """Whether a choice without a finish_reason has content."""

    @abstractmethod
    def _has_text(self, choice: Any) -> bool:
        """Whether a choice adds something that the model generated."""

    def _begins(self, choice: Any) -> bool:
        """Whether a choice is the first of its index."""
        return False

    def _error_in(self, choice: Any) -> InferenceError | None:
        """The error in the fields of a choice that are not documented."""
        return error_beside(choice.__pydantic_extra__)

    @abstractmethod
    def _with_delta(self, chunk: Any, choice: Any) -> Any:
        """A choice with fields that are not documented, completed from them; it is replaced in the chunk."""

    def _without_choices(self, chunk: ChunkT) -> ChunkT:
        return chunk


_NO_REASON = frozenset({"null", "None"})
"""Finish reasons of chunks that are not the last: a null that has become text at a gateway."""

_CONTROL_FIELDS = frozenset({"type", "message", "event", "status", "error", "detail"})
"""An event without content that has one of these is about the connection, not about the answer."""


class ChatStreamDecoder(_OpenAIStreamDecoder[ChatCompletionChunk]):
    """The stream of a chat completion."""

    model = ChatCompletionChunk
    foreign_fields: frozenset[str] = _TEXT_FIELDS | {"token", "generated_text", "delta", "message"}
    _has_deltas = True

    def _is_content(self, choice: ChatCompletionChunkChoice) -> bool:
        delta = choice.delta
        if delta.content or has_text(delta):  # the usual case first, without another call
            return True
        return any((delta.__pydantic_extra__ or {}).values())  # audio, or `function_call`, the older form of tool calls

    def _has_text(self, choice: ChatCompletionChunkChoice) -> bool:
        return has_text(choice.delta)

    def _begins(self, choice: ChatCompletionChunkChoice) -> bool:
        return begins(choice)

    def _error_in(self, choice: ChatCompletionChunkChoice) -> InferenceError | None:
        return super()._error_in(choice) or error_beside(choice.delta.__pydantic_extra__)

    def _with_delta(self, chunk: ChatCompletionChunk, choice: ChatCompletionChunkChoice) -> ChatCompletionChunkChoice:
        fields = find_delta(choice, first=not self.content_count)
        if fields is None:
            return choice
        completed = ChatCompletionChunkChoice.validate_lenient(fields)
        chunk.choices[chunk.choices.index(choice)] = completed
        return completed

    def _without_choices(self, chunk: ChatCompletionChunk) -> ChatCompletionChunk:
        # The usual loop reads `chunk.choices[0].delta.content` without a check.
        return chunk.model_copy(update={"choices": NoChoices()})


class CompletionStreamDecoder(_OpenAIStreamDecoder[CompletionChunk]):
    """The stream of `/v1/completions`. Every chunk with a choice is a token, even if its text is empty."""

    model = CompletionChunk
    foreign_fields: frozenset[str] = _TEXT_FIELDS | {"generated_text", "delta", "message"}

    def _is_content(self, choice: Any) -> bool:
        return True

    def _has_text(self, choice: Any) -> bool:
        return bool(choice.text)

    def _with_delta(self, chunk: Any, choice: Any) -> Any:
        return complete_text(chunk, choice, first=not self.content_count)
