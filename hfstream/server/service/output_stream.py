"""One response on the event loop, from the engine's outputs to the last event, or to whatever ends it before.

Everything that can happen to a response (a token, a failure, its client's disconnect, a long silence, the server's end)
comes through one queue, so there is one place that waits and nothing can race. Does not depend on HTTP, nor on how
texts are built.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from hfstream.errors import GenerationError, InferenceError
from hfstream.types import StreamResponse

from ..engine.protocol import RequestFailed, TokenOutput
from ..text.output_builder import OutputBuilder


class OutputStream:
    """The engine's outputs for one request, as events. It belongs to the event loop on which it is made."""

    def __init__(self, builder: OutputBuilder, *, tokens_per_second: float | None = None) -> None:
        self._builder = builder
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[StreamResponse | Exception | None] = asyncio.Queue()
        self._interval = None if tokens_per_second is None else 1 / tokens_per_second
        self._due = self._loop.time()
        self._paced: deque[StreamResponse | Exception] = deque()
        self._complete = False

    @property
    def complete(self) -> bool:
        """Whether the last output has come: further ones are ignored."""
        return self._complete

    def push(self, output: TokenOutput | RequestFailed) -> None:
        """Takes the engine's next output."""
        if self._complete:
            return
        try:
            item = self._build(output)
        except Exception as error:  # noqa: BLE001 - whatever fails while one text is built must not fail the others
            item = _generation_error(error)
        self._complete = isinstance(item, Exception) or item.generated_text is not None
        if self._interval is None:
            self._queue.put_nowait(item)
        else:
            # A timer paces and no reader sleeps, so a client that leaves between two tokens is noticed at once. One
            # timer for all: of several that are overdue together, uvloop would fire the last one first.
            self._paced.append(item)
            if len(self._paced) == 1:
                self._due += self._interval
                self._loop.call_at(self._due, self._release_paced, self._interval)

    def _release_paced(self, interval: float) -> None:
        self._queue.put_nowait(self._paced.popleft())
        if self._paced:
            self._due += interval
            self._loop.call_at(self._due, self._release_paced, interval)

    def fail(self, error: Exception) -> None:
        """Ends the response from outside: the reader gets `error` after the events that are queued already."""
        self._complete = True
        self._queue.put_nowait(error)

    async def events(self, *, keepalive_interval: float | None = None) -> AsyncGenerator[StreamResponse | None, None]:
        """The events as they come, and None after every `keepalive_interval` seconds without one.

        Raises:
            InferenceError: the response could not be completed.
            ClientDisconnectedError: see `fail`.
        """
        timer = None if keepalive_interval is None else _KeepAliveTimer(self._queue, keepalive_interval)
        try:
            while True:
                item = await self._queue.get()
                if timer:
                    timer.restart()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item is not None and item.generated_text is not None:
                    return
        finally:
            if timer:
                timer.stop()

    def _build(self, output: TokenOutput | RequestFailed) -> StreamResponse | Exception:
        return self._builder.append(output) if isinstance(output, TokenOutput) else _generation_error(output.error)


class _KeepAliveTimer:
    """Puts a None into a queue for every `interval` seconds of silence; one timer, which no event restarts."""

    def __init__(self, queue: asyncio.Queue[StreamResponse | Exception | None], interval: float) -> None:
        self._queue = queue
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(interval, self._on_timer)

    def restart(self) -> None:
        self._last = self._loop.time()

    def stop(self) -> None:
        self._timer.cancel()

    def _on_timer(self) -> None:
        silence = self._loop.time() - self._last
        if silence >= self._interval:
            self._queue.put_nowait(None)
            silence = 0
        self._timer = self._loop.call_later(self._interval - silence, self._on_timer)


def _generation_error(error: Exception) -> InferenceError:
    """What the engine or the output builder raised, in TGI's words."""
    if isinstance(error, InferenceError):
        return error
    return GenerationError(f"Request failed during generation: Server error: {error}")
