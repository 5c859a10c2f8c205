"""What requests need of a server, wherever their answers come from: limits, metrics, streams that can be resumed.

`Backend` runs a model of its own; a service of `upstream` has the answers of other servers. Does not depend on HTTP, or
on models.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from hfstream.errors import IncompleteGenerationError

from ..settings import Settings
from .admission import ByteLimiter, ConcurrencyLimiter
from .metrics import Metrics
from .resumable import ResumableStreams
from .text_work import TextWork

MAX_BODY_BYTES = 64_000_000
"""Bytes of all request bodies together that are being read or parsed."""


class Output(Protocol):
    """What comes for one request, from a model or from another server."""

    def fail(self, error: Exception) -> None:
        """Ends it from outside: its reader gets `error`."""


class RequestService(ABC):
    """What all requests need and share. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.limiter: ConcurrencyLimiter = ConcurrencyLimiter(settings.max_concurrent_requests)
        self.body_limiter: ByteLimiter = ByteLimiter(MAX_BODY_BYTES)
        self.text_work: TextWork = TextWork()
        self.metrics: Metrics = Metrics()
        self.resumable_streams: ResumableStreams = ResumableStreams(
            grace=settings.resume_grace, keepalive_interval=settings.sse_keepalive
        )
        self.ready: asyncio.Event = asyncio.Event()
        """Set once requests can be answered, or it is known that they never can be."""
        self.stopping: bool = False
        """Set once the server is told to stop."""
        self._fatal_error: BaseException | None = None
        self._streams: set[Output] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop

    @abstractmethod
    def start(self) -> None:
        """Starts to get ready, and returns at once."""

    async def close(self) -> None:
        """Ends all requests."""
        self.abort_all()
        self.resumable_streams.abandon_all()
        await asyncio.gather(*self._tasks)

    def abort_all(self) -> None:
        """Ends all requests with an IncompleteGenerationError."""
        for output in list(self._streams):
            output.fail(IncompleteGenerationError("Incomplete generation: the server is stopping"))
        # A resumable stream with a reader stays until that error is sent; one without would wait for its grace period.
        self.resumable_streams.abandon_all(unread_only=True)

    def abort_all_threadsafe(self) -> None:
        """`abort_all`, from another thread or a signal handler."""
        self._call_on_loop(self.abort_all)

    def _call_on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs `work` in a task that `close` waits for: it may outlive the request that starts it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def fatal_error(self) -> BaseException | None:
        """Why no request can be answered any more, if so."""
        return self._fatal_error

    @abstractmethod
    def ensure_ready(self) -> None:
        """Raises an InferenceError while no request can be answered."""
