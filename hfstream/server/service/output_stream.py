"""The output of one request on the event loop, from the engine's first token to the last event or an error.

A request has one generation, or several: for several prompts, or for one prompt several times. Everything that can
happen to them (a token, a failure, a disconnect, a long silence, the server's shutdown) is put into one queue. So there
is one place that waits, and there are no races between several.

Does not depend on HTTP, or on how text is made of tokens.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple, TypeAlias

from hfstream.errors import GenerationError, InferenceError
from hfstream.types import StreamResponse

from ..engine.protocol import InvalidGrammarError, Output, RequestAccepted, RequestFailed, TokenOutput
from ..text.output_builder import OutputBuilder, PromptTokens
from .keep_alive import KeepAliveTimer
from .request_record import RequestRecord


class OutputEvent(NamedTuple):
    """One more token of a generation."""

    generation: int
    """Its number within the request, from 0."""
    event: StreamResponse
    prompt: PromptTokens | None = None
    """With the first token: the prompt's tokens with their log-probabilities, if requested."""


class CompleteOutput(NamedTuple):
    """All tokens of a generation."""

    events: list[StreamResponse]
    prompt: PromptTokens | None
    """The prompt's tokens with their log-probabilities, if requested."""


_Item: TypeAlias = OutputEvent | Exception
_Queue: TypeAlias = asyncio.Queue[_Item | None]
"""Events, the error that ends them, and None for a time without events."""


class OutputStream:
    """The engine's outputs for one request, as events. Belongs to the event loop that it is created on."""

    def __init__(
        self,
        builders: Sequence[OutputBuilder],
        *,
        tokens_per_second: float | None = None,
        record: RequestRecord | None = None,
    ) -> None:
        """`builders`: one for each generation. `tokens_per_second`: the pace of each."""
        self._queue: _Queue = asyncio.Queue()
        interval = None if tokens_per_second is None else 1 / tokens_per_second
        self.generations: list[Generation] = [
            Generation(number, builder, self._queue, interval, record) for number, builder in enumerate(builders)
        ]
        self._failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        """Ends the stream from outside: the reader gets `error`, after the events that are queued already."""
        for generation in self.generations:
            generation.complete = True
        self._queue.put_nowait(error)
        if not self._failed.done():
            self._failed.set_result(error)

    async def wait_accepted(self, seconds: float) -> None:
        """Waits until the engine has accepted all generations: those with a grammar, once that is compiled.

        Raises:
            TimeoutError: that takes longer than `seconds`.
            InvalidGrammarError: there is no such text, or it cannot be followed here.
            Exception: a generation failed, or see `fail`.
        """
        pending: set[asyncio.Future[Any]] = {self._failed, *(generation.accepted for generation in self.generations)}
        async with asyncio.timeout(seconds):
            while len(pending) > 1:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    if error := each.result():
                        raise error

    async def events(self, *, keepalive_interval: float | None = None) -> AsyncGenerator[OutputEvent | None, None]:
        """The events as they come, and None after every `keepalive_interval` seconds without one.

        Raises:
            InferenceError: a generation failed.
            ClientDisconnectedError: see `fail`.
        """
        keepalive = None if keepalive_interval is None else KeepAliveTimer(self._queue, keepalive_interval)
        unfinished = len(self.generations)
        try:
            while unfinished:
                item = await self._queue.get()
                if keepalive:
                    keepalive.reset()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item is not None and item.event.generated_text is not None:
                    unfinished -= 1
        finally:
            if keepalive:
                keepalive.stop()

    async def collect(self) -> list[CompleteOutput]:
        """All generations, once they are complete. Raises what `events` raises."""
        outputs: list[list[OutputEvent]] = [[] for _ in self.generations]
        async for output in self.events():
            if output is not None:
                outputs[output.generation].append(output)
        return [CompleteOutput([output.event for output in each], each[0].prompt) for each in outputs]


class Generation:
    """One of a request's generations: makes events of the engine's outputs, and keeps their pace."""

    def __init__(
        self,
        number: int,
        builder: OutputBuilder,
        queue: _Queue,
        interval: float | None,
        record: RequestRecord | None,
    ) -> None:
        """`interval`: seconds between two tokens, at least."""
        self._number = number
        self._builder = builder
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._queue = queue
        self._interval = interval
        self._next_release = self._loop.time()
        self._paced: deque[_Item] = deque()
        self.complete: bool = False
        """Whether the engine has nothing more to add: further outputs are ignored."""
        self.accepted: asyncio.Future[Exception | None] = self._loop.create_future()
        """Done once the engine has accepted the request, or with the error if it fails before that."""

    def push(self, output: Output) -> None:
        """Adds the engine's next output."""
        if self.complete:
            return
        if not self.accepted.done():
            self.accepted.set_result(_error_before_tokens(output))
        if isinstance(output, RequestAccepted):
            return
        try:
            item = self._to_item(output)
        except Exception as error:  # noqa: BLE001 - an error in making the text must not reach other requests
            item = _to_inference_error(error)
        if isinstance(item, Exception):
            self.complete = True
        else:
            self.complete = item.event.generated_text is not None
            if self._record:
                self._record.mark_token(self._builder.finish_reason, self._number)
        if self._interval is None:
            self._queue.put_nowait(item)
            return
        # A timer keeps the pace, and not a reader that sleeps: so a disconnect between two tokens is noticed at once.
        # There is one timer for all waiting items, and not one for each: of several timers that are overdue together,
        # uvloop fires the last one first.
        self._paced.append(item)
        if len(self._paced) == 1:
            self._next_release += self._interval
            self._loop.call_at(self._next_release, self._release_paced, self._interval)

    def _to_item(self, output: TokenOutput | RequestFailed) -> _Item:
        if isinstance(output, TokenOutput):
            event = self._builder.append(output)
            return OutputEvent(self._number, event, self._builder.prompt if event.index == 1 else None)
        return _to_inference_error(output.error)

    def _release_paced(self, interval: float) -> None:
        self._queue.put_nowait(self._paced.popleft())
        if self._paced:
            # From the time it was due, not from now: a late timer does not slow down the rest.
            self._next_release += interval
            self._loop.call_at(self._next_release, self._release_paced, interval)


def _error_before_tokens(output: Output) -> Exception | None:
    if not isinstance(output, RequestFailed):
        return None
    error = output.error
    return error if isinstance(error, InvalidGrammarError) else _to_inference_error(error)


def _to_inference_error(error: Exception) -> InferenceError:
    """An error of the engine or the text builder, with TGI's message."""
    if isinstance(error, InferenceError):
        return error
    return GenerationError(f"Request failed during generation: Server error: {error}")
