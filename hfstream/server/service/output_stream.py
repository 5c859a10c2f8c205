"""One answer's life on the event loop, from the engine's steps to the last event, or to whatever ends it before.

Everything that can happen to an answer (a token, a failure, its client's leaving, a long silence, the server's end)
comes through one inbox, so there is one place that waits and nothing to race. Refuses to know HTTP and how texts are
written.
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
    """What the engine says to one question, as events. It belongs to the event loop on which it is made."""

    def __init__(self, writer: OutputBuilder, *, tokens_per_second: float | None = None) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[StreamResponse | Exception | None] = asyncio.Queue()
        self._pause = None if tokens_per_second is None else 1 / tokens_per_second
        self._due = self._loop.time()
        self._paced: deque[StreamResponse | Exception] = deque()
        self._complete = False

    @property
    def complete(self) -> bool:
        """Whether the engine's part is over: what it says from now on is not heard."""
        return self._complete

    def hear(self, result: TokenOutput | RequestFailed) -> None:
        """The engine's next word."""
        if self._complete:
            return
        try:
            item = self._read(result)
        except Exception as error:  # noqa: BLE001 - whatever the writer stumbles over, no other answer suffers for it
            item = _failure(error)
        self._complete = isinstance(item, Exception) or item.generated_text is not None
        if self._pause is None:
            self._inbox.put_nowait(item)
        else:
            # A timer paces and no reader sleeps, so a client that leaves between two tokens is noticed at once. One
            # timer for all: of several that are overdue together, uvloop would ring the last one first.
            self._paced.append(item)
            if len(self._paced) == 1:
                self._due += self._pause
                self._loop.call_at(self._due, self._let_pass, self._pause)

    def _let_pass(self, pause: float) -> None:
        self._inbox.put_nowait(self._paced.popleft())
        if self._paced:
            self._due += pause
            self._loop.call_at(self._due, self._let_pass, pause)

    def end(self, error: Exception) -> None:
        """Make an end from outside: the reader is told `error`, after what has been said already."""
        self._complete = True
        self._inbox.put_nowait(error)

    async def events(self, *, quiet: float | None = None) -> AsyncGenerator[StreamResponse | None, None]:
        """The events as they come, and None after every `quiet` seconds without one.

        Raises:
            InferenceError: the answer could not be made.
            DroppedError: see `end`.
        """
        heartbeat = None if quiet is None else _Heartbeat(self._inbox, quiet)
        try:
            while True:
                item = await self._inbox.get()
                if heartbeat:
                    heartbeat.heard()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item is not None and item.generated_text is not None:
                    return
        finally:
            if heartbeat:
                heartbeat.stop()

    def _read(self, result: TokenOutput | RequestFailed) -> StreamResponse | Exception:
        return self._writer.write(result) if isinstance(result, TokenOutput) else _failure(result.error)


class _Heartbeat:
    """Puts a None into an inbox for every so many seconds of silence. One timer for all: none is started per event."""

    def __init__(self, inbox: asyncio.Queue[StreamResponse | Exception | None], quiet: float) -> None:
        self._inbox = inbox
        self._quiet = quiet
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(quiet, self._beat)

    def heard(self) -> None:
        self._last = self._loop.time()

    def stop(self) -> None:
        self._timer.cancel()

    def _beat(self) -> None:
        silence = self._loop.time() - self._last
        if silence >= self._quiet:
            self._inbox.put_nowait(None)
            silence = 0
        self._timer = self._loop.call_later(self._quiet - silence, self._beat)


def _failure(error: Exception) -> InferenceError:
    """The engine's (or writer's) trouble, in TGI's words."""
    if isinstance(error, InferenceError):
        return error
    return GenerationError(f"Request failed during generation: Server error: {error}")
