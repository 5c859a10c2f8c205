"""Decoders of streamed responses: Server-Sent Events to objects.

There are two kinds of stream: TGI's, which is complete with the event that has the complete text, and OpenAI's, which
ends with ``[DONE]`` or, at some servers, with a finish reason. Items decoded before an error in the same chunk are
returned first. Does not depend on where bytes come from, nor on what happens after an error.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from ..errors import IncompleteStreamError, InferenceError, UnexpectedResponseError
from ..errors.response_bodies import from_event, is_error
from ..types import ChatCompletionChunk, ChatCompletionChunkChoice, StreamResponse
from ..types._base import APIModel
from .completions import CompletionChunk
from .decoders import MAX_ERROR_BODY_SIZE, decode_lossy, excerpt, try_json, unexpected_body_parser
from .sse import EventTooLargeError, SSEParser

__all__ = ["ChatStreamDecoder", "CompletionStreamDecoder", "TGIStreamDecoder"]

EventT = TypeVar("EventT", bound=APIModel)
ChunkT = TypeVar("ChunkT", ChatCompletionChunk, CompletionChunk)

MAX_PRELUDE = 1_000
"""How many chunks without content are kept until the first one with content."""


class _EventStreamDecoder(ABC, Generic[EventT]):
    """The part that all streams share: events, errors, the end of the body, and resuming.

    One JSON event per chunk is the normal case, and a stream's cost is the cost of that case. So `feed` has a fast path
    for it: no event object is made, and the bytes of the data go to pydantic's Rust parser as they are. Everything else
    (errors, ``[DONE]``, broken UTF-8, values of an unexpected type) is found only because validation failed, and may
    cost more.
    """

    model: type[EventT]
    done: bool
    content_count: int

    def __init__(self) -> None:
        self.done = False
        self.content_count = 0
        # The validator itself, because model_validate_json() takes a third longer.
        self._validate: Callable[[bytes], EventT] = self.model.__pydantic_validator__.validate_json
        self._error: InferenceError | None = None
        self._failed = False
        self._parser = SSEParser()
        self._first_id = ""  # of the stream's first event
        # After `resume`: the last id received before, until the first event of the new connection has been checked.
        self._resumed_from_id: str | None = None
        # The body's first bytes, to be quoted if it ends without one event; None once an event has come.
        self._sniffed: bytes | None = b""

    @property
    def complete(self) -> bool:
        return self.done and not self._failed

    @property
    def last_event_id(self) -> str:
        return self._parser.last_event_id

    def resume(self) -> None:
        with suppress(EventTooLargeError):
            self._parser.finish()  # drops an incomplete event: the server sends it again
        self._sniffed = b""
        self._error = None
        self.done = self._failed = False
        self._resumed_from_id = self._parser.last_event_id

    def feed(self, chunk: bytes) -> list[EventT]:
        data = self._parser.try_single_event(chunk)
        if data is None:
            return self._feed_any(chunk)
        # An event on this path has no id of its own that could be checked, and a decoder that is done is not fed.
        items: list[EventT] = []
        self._handle_event(data, "message", items)
        return items

    def _feed_any(self, chunk: bytes) -> list[EventT]:
        items: list[EventT] = []
        try:
            events = self._parser.feed(chunk)
        except EventTooLargeError as error:
            self._fail(UnexpectedResponseError(f"{error}: this is not a stream of tokens"))
            return items
        for event in events:
            self._check_event_id(event.id)
            if not self.done:
                self._handle_event(event.data, event.name, items)
            if self.done:
                break
        if events:
            self._sniffed = None
        elif self._sniffed is not None:
            self._sniffed = (self._sniffed + chunk)[:MAX_ERROR_BODY_SIZE]
        return items

    def _check_event_id(self, event_id: str) -> None:
        """Fails if a resumed stream repeats events: a server that ignores Last-Event-ID starts from the beginning."""
        if self._resumed_from_id and event_id in (self._resumed_from_id, self._first_id):
            self._fail(IncompleteStreamError("the server restarted the response", retryable=False))
        self._resumed_from_id = None
        self._first_id = self._first_id or event_id

    def finish(self) -> list[EventT]:
        # The traceback of a raised error refers to this frame. If the frame or the decoder referred to the error too,
        # that would be a cycle, which only the garbage collector can free.
        error, self._error = self._error, None
        if error:
            try:
                raise error
            finally:
                del error
        if self.complete:
            return []
        if self._sniffed and self._sniffed.lstrip()[:1] in (b"{", b"[", b"<"):
            return unexpected_body_parser("text/event-stream")(self._sniffed)
        raise IncompleteStreamError(_ended_early(self.content_count))

    @abstractmethod
    def _handle_event(self, data: bytes, name: str, items: list[EventT]) -> None:
        """Appends what the data of one event stands for to `items`, or fails."""

    @abstractmethod
    def _on_done(self) -> None:
        """Called for ``[DONE]``."""

    def _handle_unparsed(self, data: bytes, name: str, items: list[EventT]) -> None:
        """Handles an event that did not validate: an error, the end, broken UTF-8, or something unexpected."""
        text = decode_lossy(data)
        if text.strip() == "[DONE]":
            self._on_done()
            return
        if not text.strip() or name not in ("message", "error"):
            return  # a keep-alive, or an event type that this decoder does not handle
        payload = try_json(text)
        error = from_event({"error": text} if name == "error" and not is_error(payload) else payload)
        if error is not None:
            self._fail(error)
        elif data != (repaired_data := _replace_surrogates(text, payload)):  # U+FFFD replaces what is not UTF-8
            self._handle_event(repaired_data, name, items)
        else:
            self._fail(UnexpectedResponseError(f"an event of the stream is not a token: {excerpt(data)}"))

    def _fail(self, error: InferenceError) -> None:
        self._error = error
        self.done = self._failed = True


class TGIStreamDecoder(_EventStreamDecoder[StreamResponse]):
    """TGI's event stream: each event is a `StreamResponse`, and the one with the complete text is the last."""

    model = StreamResponse
    content_count: int

    def _handle_event(self, data: bytes, name: str, items: list[StreamResponse]) -> None:
        try:
            response = self._validate(data)
        except ValueError:
            self._handle_unparsed(data, name, items)
            return
        items.append(response)
        self.content_count += 1
        if response.generated_text is not None or response.details is not None:
            self.done = True

    def _on_done(self) -> None:
        self._fail(IncompleteStreamError(_ended_early(self.content_count)))


class _OpenAIStreamDecoder(_EventStreamDecoder[ChunkT]):
    """OpenAI's event stream: chunks until ``[DONE]``.

    A stream without it is complete once each of its choices has a finish_reason.

    Chunks before the first content (with a role, the result of a content filter, or nothing) are the prelude. They are
    kept and returned together with the first content. So the first item that a decoder returns is content, and that is
    what retries, the limit on the first token and the metrics depend on: after a prelude alone a request can still be
    sent again without the caller seeing an item twice.
    """

    content_count: int

    def __init__(self) -> None:
        super().__init__()
        self._prelude: list[ChunkT] = []
        self._open_choices: set[int] = set()  # indices of choices without a finish_reason so far
        self._finished_choices: set[int] = set()

    @property
    def complete(self) -> bool:
        return not self._failed and self.content_count > 0 and (self.done or not self._open_choices)

    def _handle_event(self, data: bytes, name: str, items: list[ChunkT]) -> None:
        try:
            chunk = self._validate(data)
        except ValueError:
            repaired = self._parse_lenient(data)
            if repaired is None:
                self._handle_unparsed(data, name, items)
                return
            chunk = repaired
        if (extra := chunk.__pydantic_extra__) and extra.get("error"):  # OpenRouter sends a choice with it
            self._fail(from_event(extra) or UnexpectedResponseError(excerpt(data)))
            return
        content = False
        for choice in chunk.choices:
            if choice.finish_reason:
                self._open_choices.discard(choice.index)
                self._finished_choices.add(choice.index)
                content = True
                continue
            if choice.index not in self._open_choices and choice.index not in self._finished_choices:
                # Only if it has not finished: a usage or the result of a filter may follow with the same choice.
                self._open_choices.add(choice.index)
            content = content or self._is_content(choice)
        if not chunk.choices:
            chunk = self._ensure_choice(chunk)
        if content:
            if not self.content_count:
                items += self._prelude
                self._prelude = []
            self.content_count += 1
        elif not self.content_count:
            self._buffer(chunk)
            return
        items.append(chunk)

    def _buffer(self, chunk: ChunkT) -> None:
        self._prelude.append(chunk)
        if len(self._prelude) > MAX_PRELUDE:
            self._fail(UnexpectedResponseError(f"{MAX_PRELUDE} chunks came without any content"))

    def _parse_lenient(self, data: bytes) -> ChunkT | None:
        """The chunk, if it is one but for values of an unexpected type, or usage without `choices`; else None."""
        with suppress(ValueError):
            return self.model.parse_lenient(data)
        payload = try_json(decode_lossy(data))
        if isinstance(payload, dict) and "usage" in payload and "choices" not in payload:
            with suppress(ValueError):
                return self.model.parse_lenient(b'{"choices":[],' + data.strip()[1:])
        return None

    def _on_done(self) -> None:
        if self.content_count:
            self.done = True
        else:
            self._fail(IncompleteStreamError(_ended_early(0)))

    @abstractmethod
    def _is_content(self, choice: Any) -> bool:
        """Whether a choice without a finish_reason has content."""

    def _ensure_choice(self, chunk: ChunkT) -> ChunkT:
        """Completes a chunk without choices, if the caller's code would fail on it."""
        return chunk


class ChatStreamDecoder(_OpenAIStreamDecoder[ChatCompletionChunk]):
    """The stream of a chat completion."""

    model = ChatCompletionChunk

    def _is_content(self, choice: ChatCompletionChunkChoice) -> bool:
        delta = choice.delta
        if delta.content or delta.tool_calls or delta.reasoning or delta.reasoning_content or delta.refusal:
            return True
        return any((delta.__pydantic_extra__ or {}).values())  # audio, or `function_call`, the older form of tool calls

    def _ensure_choice(self, chunk: ChatCompletionChunk) -> ChatCompletionChunk:
        # The usual loop reads `chunk.choices[0].delta.content` without a check.
        return chunk.model_copy(update={"choices": [ChatCompletionChunkChoice()]})


class CompletionStreamDecoder(_OpenAIStreamDecoder[CompletionChunk]):
    """The stream of `/v1/completions`. Every chunk with a choice is a token, even if its text is empty."""

    model = CompletionChunk

    def _is_content(self, choice: Any) -> bool:
        return True


def _replace_surrogates(text: str, payload: Any) -> bytes:
    """The data as valid UTF-8, with U+FFFD for lone surrogates; servers written in JavaScript send these as escapes."""
    if payload is not None and _LONE_SURROGATE.search(text):
        text = json.dumps(payload, ensure_ascii=False)
    # By way of UTF-16, whose decoder replaces a surrogate that is not half of a pair.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _ended_early(tokens: int) -> str:
    if not tokens:
        return "the stream ended without a token"
    return f"the stream ended after {tokens} token{'s' * (tokens > 1)}, without a final event"
