"""The output of one request on the event loop, from the engine's first token to the last event or an error.

Everything that can happen to a request (a token, a failure, a disconnect, a long silence, the server's shutdown) is put
into one queue. So there is one place that waits, and there are no races between several.

Does not depend on HTTP, or on how text is made of tokens.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from hfstream.errors import GenerationError, InferenceError
from hfstream.types import StreamResponse

from ..engine.protocol import RequestFailed, TokenOutput
from ..text.output_builder import OutputBuilder
from .request_record import RequestRecord

_Queue = asyncio.Queue[StreamResponse | Exception | None]
"""Events, the error that ends them, and None for a time without events."""


class OutputStream:
    """The engine's outputs for one request, as events. Belongs to the event loop that it is created on."""

    def __init__(
        self, builder: OutputBuilder, *, tokens_per_second: float | None = None, record: RequestRecord | None = None
    ) -> None:
        self._builder = builder
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._queue: _Queue = asyncio.Queue()
        self._interval = None if tokens_per_second is None else 1 / tokens_per_second
        self._next_release = self._loop.time()
        self._paced: deque[StreamResponse | Exception] = deque()
        self._complete = False

    @property
    def complete(self) -> bool:
        """Whether the engine has nothing more to add: further outputs are ignored."""
        return self._complete

    def push(self, output: TokenOutput | RequestFailed) -> None:
        """Adds the engine's next output."""
        if self._complete:
            return
        try:
            item = self._to_item(output)
        except Exception as error:  # noqa: BLE001 - an error in making the text must not reach other requests
            item = _to_inference_error(error)
        if self._record and isinstance(item, StreamResponse):
            self._record.mark_token(self._builder.finish_reason)
        self._complete = isinstance(item, Exception) or item.generated_text is not None
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

    def fail(self, error: Exception) -> None:
        """Ends the stream from outside: the reader gets `error`, after the events that are queued already."""
        self._complete = True
        self._queue.put_nowait(error)

    async def events(self, *, keepalive_interval: float | None = None) -> AsyncGenerator[StreamResponse | None, None]:
        """The events as they come, and None after every `keepalive_interval` seconds without one.

        Raises:
            InferenceError: generation failed.
            ClientDisconnectedError: see `fail`.
        """
        keepalive = None if keepalive_interval is None else _KeepAliveTimer(self._queue, keepalive_interval)
        try:
            while True:
                item = await self._queue.get()
                if keepalive:
                    keepalive.reset()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item is not None and item.generated_text is not None:
                    return
        finally:
            if keepalive:
                keepalive.stop()

    def _to_item(self, output: TokenOutput | RequestFailed) -> StreamResponse | Exception:
        return self._builder.append(output) if isinstance(output, TokenOutput) else _to_inference_error(output.error)

    def _release_paced(self, interval: float) -> None:
        self._queue.put_nowait(self._paced.popleft())
        if self._paced:
            # From the time it was due, not from now: a late timer does not slow down the rest.
            self._next_release += interval
            self._loop.call_at(self._next_release, self._release_paced, interval)


class _KeepAliveTimer:
    """Puts a None into a queue after every `interval` seconds without an event.

    `reset` only notes the time: starting a timer for each event would cost more than the event. When the one timer
    fires too early, it is started again for the time that is left.
    """

    def __init__(self, queue: _Queue, interval: float) -> None:
        self._queue = queue
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._last_event = self._loop.time()
        self._timer = self._loop.call_later(interval, self._fire)

    def reset(self) -> None:
        self._last_event = self._loop.time()

    def stop(self) -> None:
        self._timer.cancel()

    def _fire(self) -> None:
        silence = self._loop.time() - self._last_event
        if silence >= self._interval:
            self._queue.put_nowait(None)
            silence = 0
        self._timer = self._loop.call_later(self._interval - silence, self._fire)


def _to_inference_error(error: Exception) -> InferenceError:
    """An error of the engine or the text builder, with TGI's message."""
    if isinstance(error, InferenceError):
        return error
    return GenerationError(f"Request failed during generation: Server error: {error}")
