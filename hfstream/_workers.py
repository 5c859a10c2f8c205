"""What the two variants of `map` do differently: workers, which are threads or tasks, and how prompts are read.

All else is written once, in `_async.map`, and generated for `_sync`.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from ._transport.waiting import AsyncWakeup

__all__ = ["MAX_WAIT", "NO_PROMPT", "AsyncPrompts", "AsyncWorker", "SyncPrompts", "SyncWorker"]

MAX_WAIT = 3600.0
"""Seconds; a longer wait is several waits, because threads cannot wait for ever in one."""


class NoPrompt(Enum):
    """There is no prompt yet, or no more."""

    NO_PROMPT = "no prompt"


NO_PROMPT = NoPrompt.NO_PROMPT


# Workers -------------------------------------------------------------------------------------------------------------


class SyncWorker:
    """A thread that calls a function with itself and other arguments."""

    def start(self, function: Callable[..., None], *args: Any) -> None:
        """Starts it, in the context (contextvars) of the caller."""
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(function, self, *args), daemon=True, name="hfstream-map").start()

    def cancel(self) -> None:
        """Has no effect: a thread ends when its stream, which was closed, does."""

    def join(self) -> None:
        """Has no effect: a response whose head has not come yet cannot be interrupted, but it is not waited for."""


_tasks: set[Any] = set()  # asyncio itself holds its tasks by weak references


class AsyncWorker:
    """A task that calls a function with itself and other arguments.

    It belongs to the event loop, and to no task group: a task group around the code of a caller that iterates would end
    in another task than it began in.
    """

    def __init__(self) -> None:
        import anyio.lowlevel  # noqa: PLC0415  as httpx, it is imported for the first call

        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        token = anyio.lowlevel.current_token()
        self._loop: Any = getattr(token, "native_token", token)  # asyncio's loop, or trio's token

    def start(self, function: Callable[..., Any], *args: Any) -> None:
        """Starts it."""

        async def run() -> None:
            try:
                with self._scope:
                    await function(self, *args)
            finally:
                self._ended.set()

        if hasattr(self._loop, "create_task"):
            task = self._loop.create_task(run())
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)
        else:
            importlib.import_module("trio.lowlevel").spawn_system_task(run, name="hfstream-map")

    def cancel(self) -> None:
        """Cancels it, from any thread."""
        enter = getattr(self._loop, "call_soon_threadsafe", None) or self._loop.run_sync_soon
        with contextlib.suppress(RuntimeError):  # the loop is over, and so is the worker
            enter(self._scope.cancel)

    async def join(self) -> None:
        """Waits for its end."""
        await self._ended.wait()


# Prompts -------------------------------------------------------------------------------------------------------------


def _iterator(prompts: Any) -> Iterator[Any]:
    if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
        name = type(cast("Any", prompts)).__name__
        raise TypeError(f"map() takes a list of prompts, or another iterable of them, not a {name}")
    return iter(cast("Iterable[Any]", prompts))


class _Run(Protocol):
    wake: Callable[[], object]


class SyncPrompts:
    """Reads prompts in the caller's thread, when there is room for one more.

    Raises:
        TypeError: it is not an iterable of prompts.
    """

    def __init__(self, prompts: Iterable[Any]) -> None:
        self._iterator = _iterator(prompts)
        self.ended: bool = False
        self.error: BaseException | None = None
        """What the iterable has raised."""

    def pull(self, run: _Run) -> Any:
        """The next prompt, or NO_PROMPT, after which `ended` is True."""
        if self.ended:
            return NO_PROMPT
        try:
            return next(self._iterator)
        except StopIteration:
            self.ended = True
        except Exception as error:  # noqa: BLE001  raised when all prompts before it have their results
            self.ended, self.error = True, error
        return NO_PROMPT

    def close(self) -> None:
        """No prompt is read any more."""
        self.ended = True


class AsyncPrompts(SyncPrompts):
    """As `SyncPrompts`; an async iterable is read in a task, so that results do not wait for a prompt that is late."""

    error: BaseException | None

    def __init__(self, prompts: Iterable[Any] | AsyncIterable[Any]) -> None:
        self._source: AsyncIterator[Any] | None = None
        if isinstance(prompts, AsyncIterable):
            self._source = aiter(prompts)
            prompts = ()
        super().__init__(prompts)
        self._worker: AsyncWorker | None = None
        self._read: deque[Any] = deque()
        self._taken: AsyncWakeup | None = None

    def pull(self, run: _Run) -> Any:
        """As in `SyncPrompts`. After NO_PROMPT without `ended`, `run.wake` is called when there is one, or no more."""
        if self._source is None:
            return super().pull(run)
        if self._read:
            prompt = self._read.popleft()
            if self._taken is not None:
                self._taken.set()
            return prompt
        if self._worker is None and not self.ended:
            self._worker = AsyncWorker()
            self._worker.start(self._feed, self._source, run)
        return NO_PROMPT

    async def _feed(self, _: AsyncWorker, source: AsyncIterator[Any], run: _Run) -> None:
        from ._transport.waiting import AsyncWakeup  # noqa: PLC0415

        try:
            async for prompt in source:
                self._taken = taken = AsyncWakeup()
                self._read.append(prompt)
                run.wake()
                while self._read:
                    await taken.wait(MAX_WAIT)
        except Exception as error:  # noqa: BLE001  as above
            self.error = error
        finally:
            self.ended = True
            run.wake()

    def close(self) -> None:
        """As in `SyncPrompts`; what is waited for is cancelled."""
        super().close()
        if self._worker is not None:
            self._worker.cancel()
