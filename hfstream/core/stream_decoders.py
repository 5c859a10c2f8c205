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

from .. import errors
from ..errors import IncompleteStreamError, InferenceError, UnexpectedResponseError
from ..types import APIModel, ChatCompletionChunk, ChatCompletionChunkChoice, StreamResponse
from .completions import CompletionChunk
from .decoders import MAX_ERROR_BODY_SIZE, decode_lossy, excerpt, try_json, unexpected_body_parser
from .sse import EventTooLargeError, SSEParser

__all__ = ["ChatStreamDecoder", "CompletionStreamDecoder", "TGIStreamDecoder"]

N = TypeVar("N", bound=APIModel)
C = TypeVar("C", ChatCompletionChunk, CompletionChunk)

MAX_PRELUDE = 1_000
"""Chunks without content that are kept until the first one that has some."""


class _EventStreamDecoder(Generic[N]):
    """What all streams have in common."""

    kind: type[N]
    done: bool
    content_count: int

    def __init__(self) -> None:
        self.done = False
        self.content_count = 0
        # The bytes go to pydantic's validator as they are; model_validate_json() would cost a third more.
        self._validate: Callable[[bytes], N] = self.kind.__pydantic_validator__.validate_json
        self._error: InferenceError | None = None
        self._failed = False
        self._parser = SSEParser()
        self._first_id = ""
        self._came_back: str | None = (
            None  # the last id that was content_count, until another connection has brought one
        )
        self._start: bytes | None = b""  # the body's first bytes, until an event shows that it is an event stream

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
        self._start = b""
        self._error = None
        self.done = self._failed = False
        self._came_back = self._parser.last_event_id

    def feed(self, chunk: bytes) -> list[N]:
        data = self._parser.only_data(chunk)
        if data is None:
            return self._feed_any(chunk)
        said: list[N] = []
        self._take(data, "message", said)
        return said

    def _feed_any(self, chunk: bytes) -> list[N]:
        said: list[N] = []
        try:
            events = self._parser.feed(chunk)
        except EventTooLargeError as error:
            self._fail(UnexpectedResponseError(f"{error}: this is no stream of tokens"))
            return said
        for event in events:
            self._note_id(event.id)
            if not self.done:
                self._take(event.data, event.name, said)
            if self.done:
                break
        if events:
            self._start = None
        elif self._start is not None:
            self._start = (self._start + chunk)[:MAX_ERROR_BODY_SIZE]
        return said

    def _note_id(self, event_id: str) -> None:
        """A server that numbers its events, and passes over Last-Event-ID, would begin anew: no token comes twice."""
        if self._came_back and event_id in (self._came_back, self._first_id):
            self._fail(IncompleteStreamError("the server began the answer anew", retryable=False))
        self._came_back = None
        self._first_id = self._first_id or event_id

    def finish(self) -> list[N]:
        error, self._error = self._error, None  # once it is raised its traceback holds us
        if error:
            try:
                raise error
            finally:
                del error
        if self.complete:
            return []
        if self._start and self._start.lstrip()[:1] in (b"{", b"[", b"<"):
            return unexpected_body_parser("text/event-stream")(self._start)
        raise IncompleteStreamError(_ended_early(self.content_count))

    def _take(self, data: bytes, name: str, said: list[N]) -> None:
        """Reads the data of one event."""
        raise NotImplementedError

    def _end(self) -> None:
        """``[DONE]`` has come."""
        raise NotImplementedError

    def _take_other(self, data: bytes, name: str, said: list[N]) -> None:
        """An event whose bytes are no noun of ours: an error, the end, a noun with broken UTF-8, or nonsense."""
        text = decode_lossy(data)
        if text.strip() == "[DONE]":
            self._end()
            return
        if not text.strip() or name not in ("message", "error"):
            return  # a heartbeat, or an event that this reader has not subscribed to
        payload = try_json(text)
        error = errors.from_event({"error": text} if name == "error" and not errors.is_error(payload) else payload)
        if error is not None:
            self._fail(error)
        elif data != (clean := _clean(text, payload)):  # bytes that were no UTF-8 are U+FFFD now
            self._take(clean, name, said)
        else:
            self._fail(UnexpectedResponseError(f"an event of the stream is no token: {excerpt(data)}"))

    def _fail(self, error: InferenceError) -> None:
        self._error = error
        self.done = self._failed = True


class TGIStreamDecoder(_EventStreamDecoder[StreamResponse]):
    """TGI's event stream: one `StreamResponse` an event, until the one that has the whole text."""

    kind = StreamResponse
    content_count: int

    def _take(self, data: bytes, name: str, said: list[StreamResponse]) -> None:
        try:
            response = self._validate(data)
        except ValueError:
            self._take_other(data, name, said)
            return
        said.append(response)
        self.content_count += 1
        if response.generated_text is not None or response.details is not None:
            self.done = True

    def _end(self) -> None:
        self._fail(IncompleteStreamError(_ended_early(self.content_count)))


class _OpenAIStreamDecoder(_EventStreamDecoder[C]):
    """OpenAI's event stream: chunks until ``[DONE]``.

    A stream that lacks it is whole once each of its answers has a finish_reason. Chunks before the first content (a
    role, a filter's verdict, nothing) are held back and handed over with it: content is what an answer begins with.
    """

    content_count: int

    def __init__(self) -> None:
        super().__init__()
        self._held: list[C] = []
        self._unfinished: set[int] = set()
        self._finished: set[int] = set()

    @property
    def complete(self) -> bool:
        return not self._failed and self.content_count > 0 and (self.done or not self._unfinished)

    def _take(self, data: bytes, name: str, said: list[C]) -> None:
        try:
            chunk = self._validate(data)
        except ValueError:
            mended = self._mended(data)
            if mended is None:
                self._take_other(data, name, said)
                return
            chunk = mended
        if (extra := chunk.__pydantic_extra__) and extra.get("error"):  # OpenRouter's come with a choice beside them
            self._fail(errors.from_event(extra) or UnexpectedResponseError(excerpt(data)))
            return
        content = False
        for choice in chunk.choices:
            if choice.finish_reason:
                self._unfinished.discard(choice.index)
                self._finished.add(choice.index)
                content = True
                continue
            if choice.index not in self._unfinished and choice.index not in self._finished:
                self._unfinished.add(choice.index)  # after its finish a usage, a filter's verdict may follow with it
            content = content or self._is_content(choice)
        if not chunk.choices:
            chunk = self._with_choice(chunk)
        if content:
            if not self.content_count:
                said += self._held
                self._held = []
            self.content_count += 1
        elif not self.content_count:
            self._hold(chunk)
            return
        said.append(chunk)

    def _hold(self, chunk: C) -> None:
        self._held.append(chunk)
        if len(self._held) > MAX_PRELUDE:
            self._fail(UnexpectedResponseError(f"{MAX_PRELUDE} chunks came without any content"))

    def _mended(self, data: bytes) -> C | None:
        """The chunk that was meant, if this is one at all."""
        with suppress(ValueError):
            return self.kind.read(data)
        payload = try_json(decode_lossy(data))
        if isinstance(payload, dict) and "usage" in payload and "choices" not in payload:
            with suppress(ValueError):
                return self.kind.read(b'{"choices":[],' + data.strip()[1:])
        return None

    def _end(self) -> None:
        if self.content_count:
            self.done = True
        else:
            self._fail(IncompleteStreamError(_ended_early(0)))

    def _is_content(self, choice: Any) -> bool:
        raise NotImplementedError

    def _with_choice(self, chunk: C) -> C:
        return chunk


class ChatStreamDecoder(_OpenAIStreamDecoder[ChatCompletionChunk]):
    """The stream of a chat."""

    kind = ChatCompletionChunk

    def _is_content(self, choice: ChatCompletionChunkChoice) -> bool:
        delta = choice.delta
        if delta.content or delta.tool_calls or delta.reasoning or delta.reasoning_content or delta.refusal:
            return True
        return any((delta.__pydantic_extra__ or {}).values())  # audio, an older form of calls

    def _with_choice(self, chunk: ChatCompletionChunk) -> ChatCompletionChunk:
        # The loop of every tutorial is `chunk.choices[0].delta.content`.
        return chunk.model_copy(update={"choices": [ChatCompletionChunkChoice()]})


class CompletionStreamDecoder(_OpenAIStreamDecoder[CompletionChunk]):
    """The stream of `/v1/completions`. Every chunk that has a choice is a token, be its text empty."""

    kind = CompletionChunk

    def _is_content(self, choice: Any) -> bool:
        return True


def _clean(text: str, payload: Any) -> bytes:
    """The data without what Unicode has not; half of a surrogate pair is what a server in JavaScript makes of it."""
    if payload is not None and _HALF_A_PAIR.search(text):
        text = json.dumps(payload, ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def _ended_early(tokens: int) -> str:
    if not tokens:
        return "the stream ended without a token"
    return f"the stream ended after {tokens} token{'s' * (tokens > 1)}, without a final event"
