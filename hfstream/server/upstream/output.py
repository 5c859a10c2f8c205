"""One answer of another server, read by a task of its own.

So a client that leaves and a long silence are noticed whatever the task waits for. Does not depend on HTTP, or on the
format of the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeAlias

from hfstream.errors import InferenceError

from ..service.errors import ClientDisconnectedError
from ..service.keep_alive import KeepAliveTimer

logger: logging.Logger = logging.getLogger(__name__)

MAX_WAITING = 64
"""Events that wait for a client that does not read. Then the other server's answer is not read either."""

Put: TypeAlias = Callable[[list[str]], Awaitable[None]]
"""Adds the data of events, once there is room for them."""
Work: TypeAlias = Callable[[Put], Awaitable[None]]
"""Reads an answer, and puts its events."""


class UpstreamOutput:
    """The events of one answer. Belongs to the event loop that it is created on."""

    def __init__(self, work: Work, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        """`spawn`: runs `work` in a task."""
        self._queue: asyncio.Queue[list[str] | Exception | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._begun: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._task = spawn(self._run(work))

    def fail(self, error: Exception) -> None:
        """Ends the answer from outside: its connection is closed, and the reader gets `error`."""
        self._end(error)
        self._task.cancel()

    def close(self) -> None:
        """Closes the connection, if the answer has not ended."""
        self._task.cancel()

    async def wait_begun(self, seconds: float) -> None:
        """Waits for the first event or the end, for at most `seconds`.

        Raises:
            InferenceError: the answer has failed before its first event.
            ClientDisconnectedError: the client has left.
        """
        done, _ = await asyncio.wait([self._begun], timeout=seconds)
        for each in done:
            if error := each.result():
                raise error

    async def events(self, *, keepalive_interval: float | None = None) -> AsyncGenerator[Iterable[str] | None, None]:
        """The data of events as they come, and None after every `keepalive_interval` seconds without one.

        Raises:
            InferenceError: the answer has failed.
            ClientDisconnectedError: the client has left.
        """
        keepalive = None if keepalive_interval is None else KeepAliveTimer(self._queue, keepalive_interval)
        try:
            while True:
                item = await self._queue.get()
                if self._queue.qsize() < MAX_WAITING // 2:
                    self._room.set()
                if keepalive:
                    keepalive.reset()
                if isinstance(item, _End):
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            if keepalive:
                keepalive.stop()

    async def _put(self, data: list[str]) -> None:
        if not self._begun.done():
            self._begun.set_result(None)
        self._queue.put_nowait(data)
        if self._queue.qsize() >= MAX_WAITING:
            self._room.clear()
            await self._room.wait()

    def _end(self, error: Exception) -> None:
        if not self._begun.done():
            self._begun.set_result(error)
        self._queue.put_nowait(error)

    async def _run(self, work: Work) -> None:
        try:
            await work(self._put)
        except InferenceError as error:
            self._end(error)
        except asyncio.CancelledError:  # by `fail` or `close`: nothing follows this task
            self._end(ClientDisconnectedError())
        except Exception as error:  # a fault of ours, which must end no other request
            logger.exception("an answer could not be passed on")
            self._end(InferenceError(f"Internal error: {type(error).__name__}", error_type="internal"))
        else:
            self._end(_End())


class _End(Exception):  # noqa: N818 - not an error
    """Marks the end in the queue. Never raised."""
