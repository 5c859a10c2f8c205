"""Notices a time without events in a queue. Does not depend on what the events are."""

from __future__ import annotations

import asyncio
from typing import Any


class KeepAliveTimer:
    """Puts a None into a queue after every `interval` seconds without an event.

    `reset` only notes the time: starting a timer for each event would cost more than the event. When the one timer
    fires too early, it is started again for the time that is left.
    """

    def __init__(self, queue: asyncio.Queue[Any], interval: float) -> None:
        self._queue = queue
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._last_event = self._loop.time()
        self._timer = self._loop.call_later(interval, self._fire)

    def reset(self) -> None:
        """An event has come."""
        self._last_event = self._loop.time()

    def stop(self) -> None:
        """No more of them."""
        self._timer.cancel()

    def _fire(self) -> None:
        silence = self._loop.time() - self._last_event
        if silence >= self._interval:
            self._queue.put_nowait(None)
            silence = 0
        self._timer = self._loop.call_later(self._interval - silence, self._fire)
