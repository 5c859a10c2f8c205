"""How an answer that is streamed is read: Server-Sent Events in, nouns out.

Two kinds of stream: TGI's own, whose last event has the whole text, and OpenAI's, which ends with ``[DONE]`` or has
said why it ends. An error never overtakes what was said before it in the same piece. This module refuses to know where
bytes come from, and what happens after an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from ..errors import IncompleteStreamError, InferenceError, UnexpectedResponseError
from ..errors.response_bodies import from_event, is_error
from ..types import APIModel, ChatCompletionChunk, ChatCompletionChunkChoice, StreamResponse
from .completions import CompletionChunk
from .decoders import MAX_ERROR_BODY_SIZE, decode_lossy, excerpt, try_json, unexpected_body_parser
from .sse import EventTooLargeError, SSEParser

__all__ = ["ChatStreamDecoder", "CompletionStreamDecoder", "TGIStreamDecoder"]

EventT = TypeVar("EventT", bound=APIModel)
ChunkT = TypeVar("ChunkT", ChatCompletionChunk, CompletionChunk)

MAX_PRELUDE = 1_000
"""Chunks without content that are kept until the first one that has some."""


class _EventStreamDecoder(Generic[EventT]):
    """What all streams have in common."""

    model: type[EventT]
    done: bool
    content_count: int

    def __init__(self) -> None:
        self.done = False
        self.content_count = 0
        # The bytes go to pydantic's validator as they are; model_validate_json() would cost a third more.
        self._validate: Callable[[bytes], EventT] = self.model.__pydantic_validator__.validate_json
        self._error: InferenceError | None = None
        self._failed = False
        self._parser = SSEParser()
        self._first_id = ""
        self._resumed_from_id: str | None = None  # the last id received, until the next connection has brought one
        self._sniffed: bytes | None = b""  # the body's first bytes, until an event shows that it is an event stream

    @property
    def complete(self) -> bool:
        return self.done and not self._failed

    @property
    def last_event_id(self) -> str:
        """The id of the last event, ``""`` if the server gives none: what a lost stream can be resumed from."""
        return self._parser.last_event_id

    def resume(self) -> None:
        """Another connection goes on where the last one broke off; an event that it had begun does not count."""
        with suppress(EventTooLargeError):
            self._parser.finish()
        self._sniffed = b""
        self._error = None
        self.done = self._failed = False
        self._resumed_from_id = self._parser.last_event_id

    def feed(self, chunk: bytes) -> list[EventT]:
        data = self._parser.try_single_event(chunk)
        if data is None:
            return self._feed_any(chunk)
        items: list[EventT] = []
        self._handle_event(data, "message", items)
        return items

    def _feed_any(self, chunk: bytes) -> list[EventT]:
        items: list[EventT] = []
        try:
            events = self._parser.feed(chunk)
        except EventTooLargeError as error:
            self._fail(UnexpectedResponseError(f"{error}: this is no stream of tokens"))
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
        """A server that numbers its events, and passes over Last-Event-ID, would begin anew: no token comes twice."""
        if self._resumed_from_id and event_id in (self._resumed_from_id, self._first_id):
            self._fail(IncompleteStreamError("the server began the answer anew", retryable=False))
        self._resumed_from_id = None
        self._first_id = self._first_id or event_id

    def finish(self) -> list[EventT]:
        error, self._error = self._error, None  # once it is raised its traceback holds us
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

    def _handle_event(self, data: bytes, name: str, items: list[EventT]) -> None:
        """Reads the data of one event."""
        raise NotImplementedError

    def _on_done(self) -> None:
        """``[DONE]`` has come."""
        raise NotImplementedError

    def _handle_unparsed(self, data: bytes, name: str, items: list[EventT]) -> None:
        """An event whose bytes are no noun of ours: an error, the end, a noun with broken UTF-8, or nonsense."""
        text = decode_lossy(data)
        if text.strip() == "[DONE]":
            self._on_done()
            return
        if not text.strip() or name not in ("message", "error"):
            return  # a heartbeat, or an event that this reader has not subscribed to
        payload = try_json(text)
        error = from_event({"error": text} if name == "error" and not is_error(payload) else payload)
        if error is not None:
            self._fail(error)
        elif data != (repaired_data := _replace_surrogates(text, payload)):  # bytes that were no UTF-8 are U+FFFD now
            self._handle_event(repaired_data, name, items)
        else:
            self._fail(UnexpectedResponseError(f"an event of the stream is no token: {excerpt(data)}"))

    def _fail(self, error: InferenceError) -> None:
        self._error = error
        self.done = self._failed = True


class TGIStreamDecoder(_EventStreamDecoder[StreamResponse]):
    """TGI's event stream: one `StreamResponse` an event, until the one that has the whole text."""

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

    A stream that lacks it is whole once each of its answers has a finish_reason. Chunks before the first content (a
    role, a filter's verdict, nothing) are held back and handed over with it: content is what an answer begins with.
    """

    content_count: int

    def __init__(self) -> None:
        super().__init__()
        self._prelude: list[ChunkT] = []
        self._open_choices: set[int] = set()
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
        if (extra := chunk.__pydantic_extra__) and extra.get("error"):  # OpenRouter's come with a choice beside them
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
                self._open_choices.add(choice.index)  # after its finish a usage, a filter's verdict may follow with it
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
        """The chunk that was meant, if this is one at all."""
        with suppress(ValueError):
            return self.model.read(data)
        payload = try_json(decode_lossy(data))
        if isinstance(payload, dict) and "usage" in payload and "choices" not in payload:
            with suppress(ValueError):
                return self.model.read(b'{"choices":[],' + data.strip()[1:])
        return None

    def _on_done(self) -> None:
        if self.content_count:
            self.done = True
        else:
            self._fail(IncompleteStreamError(_ended_early(0)))

    def _is_content(self, choice: Any) -> bool:
        raise NotImplementedError

    def _ensure_choice(self, chunk: ChunkT) -> ChunkT:
        return chunk


class ChatStreamDecoder(_OpenAIStreamDecoder[ChatCompletionChunk]):
    """The stream of a chat."""

    model = ChatCompletionChunk

    def _is_content(self, choice: ChatCompletionChunkChoice) -> bool:
        delta = choice.delta
        if delta.content or delta.tool_calls or delta.reasoning or delta.reasoning_content or delta.refusal:
            return True
        return any((delta.__pydantic_extra__ or {}).values())  # audio, an older form of calls

    def _ensure_choice(self, chunk: ChatCompletionChunk) -> ChatCompletionChunk:
        # The loop of every tutorial is `chunk.choices[0].delta.content`.
        return chunk.model_copy(update={"choices": [ChatCompletionChunkChoice()]})


class CompletionStreamDecoder(_OpenAIStreamDecoder[CompletionChunk]):
    """The stream of `/v1/completions`. Every chunk that has a choice is a token, be its text empty."""

    model = CompletionChunk

    def _is_content(self, choice: Any) -> bool:
        return True


def _replace_surrogates(text: str, payload: Any) -> bytes:
    """The data without what Unicode has not; half of a surrogate pair is what a server in JavaScript makes of it."""
    if payload is not None and _LONE_SURROGATE.search(text):
        text = json.dumps(payload, ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _ended_early(tokens: int) -> str:
    if not tokens:
        return "the stream ended without a token"
    return f"the stream ended after {tokens} token{'s' * (tokens > 1)}, without a final event"
