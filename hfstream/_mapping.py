"""The part of `client.map` that does not wait: what its results share with its workers, and which result is next.

Does not depend on how workers run, or on how a prompt is asked.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ._limiting import make_limiter, validate_max_concurrency
from ._progress import ProgressBar
from ._request_factory import RequestFactory
from .core.concurrency import RequestLimiter
from .core.exchange import Exchange
from .core.map_calls import MapCall
from .core.map_results import JournalError, MapResult
from .core.request_spec import RequestSpec
from .core.timeouts import Timeouts
from .errors import InferenceError, ValidationError

if TYPE_CHECKING:
    from ._journal import Journal

__all__ = ["Job", "MapRun", "MapState"]

WINDOW = 4
"""So many times the number of requests at once are prompts that were read and whose result was not returned yet."""


@dataclass(eq=False, slots=True)
class Job:
    """One prompt on its way to its result."""

    index: int
    prompt: Any
    call: MapCall | None = None
    spec: RequestSpec[Any, Any, Any] | None = None
    output: Any = None
    error: InferenceError | None = None


class _Stream(Protocol):
    def _mark_closed(self) -> None: ...


class MapRun:
    """What the workers of one run share with its results. Used from several threads: each step is atomic.

    It does not refer to the results, so that results which are dropped end the run.
    """

    def __init__(self, requests: RequestFactory, max_concurrency: int | Literal["adaptive"]) -> None:
        adaptive = validate_max_concurrency(max_concurrency) in ("adaptive", None)
        self.requests = requests
        self.limiter: RequestLimiter | None = requests.limiter or (make_limiter("adaptive") if adaptive else None)
        self.pending: deque[Job] = deque()
        self.finished: deque[Job] = deque()
        self.workers: set[Any] = set()
        self.streams: set[_Stream] = set()
        self.closed: bool = False
        self.failure: Exception | None = None
        """What is not a failure of one prompt: it ends the run."""
        self.wake: Callable[[], object] = lambda: None
        """Called when a job is finished, and when a worker ends."""
        self._max_workers = math.inf if adaptive else int(max_concurrency)

    @property
    def concurrency(self) -> int:
        """How many prompts may be asked at once now."""
        limit = math.inf if self.limiter is None else self.limiter.limit
        return int(min(limit, self._max_workers))

    def missing_workers(self) -> int:
        """How many workers to start."""
        return min(len(self.pending), self.concurrency - len(self.workers))

    def next_job(self) -> Job | None:
        """For a worker; None if it is not needed any more."""
        if self.closed or self.failure is not None or len(self.workers) > self.concurrency:
            return None
        try:
            return self.pending.popleft()
        except IndexError:
            return None

    def exchange(self, job: Job) -> Exchange[Any, Any]:
        """For a worker: the call that asks."""
        assert job.call is not None  # noqa: S101  a job without one has its error already
        assert job.spec is not None  # noqa: S101
        return self.requests.exchange(job.spec, job.call.options.get("timeout"), limiter=self.limiter)

    def add_stream(self, stream: _Stream) -> None:
        """A worker begins to read `stream`, which `close` ends."""
        self.streams.add(stream)
        if self.closed:
            stream._mark_closed()  # pyright: ignore[reportPrivateUsage]  not for users

    def finish(self, job: Job) -> None:
        """A worker has asked, and `job` has an output or an error."""
        self.finished.append(job)
        self.wake()

    def raise_failure(self) -> None:
        """Raises what has ended a worker, if anything has."""
        if self.failure is not None:
            raise self.failure

    def leave(self, worker: object) -> None:
        """A worker ends."""
        self.workers.discard(worker)
        self.wake()

    def close(self) -> None:
        """Ends all workers, from any thread."""
        self.closed = True
        self.pending.clear()
        for stream in list(self.streams):
            stream._mark_closed()  # pyright: ignore[reportPrivateUsage]
        for worker in list(self.workers):
            worker.cancel()


class MapState:
    """The results of one run: those that are ready, and the journal."""

    def __init__(
        self,
        requests: RequestFactory,
        options: Mapping[str, Any],
        *,
        max_concurrency: int | Literal["adaptive"],
        details: bool,
        stream: bool,
        ordered: bool,
        journal: str | os.PathLike[str] | None,
        progress: bool,
        total: int | None,
    ) -> None:
        self.run: MapRun = MapRun(requests, max_concurrency)
        self._options = options
        self._details = details
        self._stream = stream
        self._ordered = ordered
        self._ready: dict[int, Job] = {}
        self._journal = None if journal is None else _open_journal(journal)
        self._progress = ProgressBar(total) if progress else None
        self.read: int = 0
        """Prompts that were read."""
        self.returned: int = 0
        """Results that were returned."""
        self.failed: int = 0
        """How many of them are errors."""
        self.reused: int = 0
        """Outputs that were in the journal."""

    @property
    def has_room(self) -> bool:
        """Whether one more prompt may be read."""
        return self.read - self.returned < WINDOW * self.run.concurrency

    def add(self, prompt: Any) -> None:
        """Takes a prompt that was read.

        Raises:
            TypeError, ValueError: the options that all prompts have in common are invalid.
            JournalError: the journal is of another run, or cannot be written.
        """
        job = Job(self.read, prompt)
        self.read += 1
        try:
            job.call = MapCall.of(prompt, self._options, details=self._details)
            job.spec = self._make_spec(job.call)
        except (TypeError, ValueError) as error:
            chat = job.call is not None and job.call.chat
            self._make_spec(MapCall([] if chat else "", chat, self._options, self._details))  # raises for all of them
            job.error = ValidationError(str(error))
            self._ready[job.index] = job
            return
        output = None if self._journal is None else self._journal.find(job.index, job.call.digest(job.spec))
        if output is None:
            self.run.pending.append(job)
        else:
            job.output = _load(job, job.call, output)
            self.reused += 1
            self._ready[job.index] = job

    def _make_spec(self, call: MapCall) -> RequestSpec[Any, Any, Any]:
        requests = self.run.requests
        options: Any = call.options  # whatever the prompt has: the names are checked
        Timeouts.of(options.get("timeout"))  # raises for one that is none
        if not call.chat:
            return requests.text_generation_spec(call.value, stream=self._stream, details=call.details, options=options)
        if self._stream and "stream_options" not in options:  # the response without streaming has the usage
            options = {**options, "stream_options": {"include_usage": True}}
        return requests.chat_completion_spec(call.value, stream=self._stream, options=options)

    def collect(self) -> None:
        """Takes what the workers have finished. Answers are in the journal before any of them is returned.

        Raises:
            JournalError: the journal cannot be written.
        """
        finished = self.run.finished
        while finished:
            job = finished.popleft()
            self._ready[job.index] = job
            if self._journal is not None and job.error is None and job.call is not None:
                self._journal.add(job.index, job.call.dump(job.output))
        if self._journal is not None:
            self._journal.commit()

    def take(self) -> MapResult[Any] | None:
        """The next result; None if it is not ready."""
        index = self.returned if self._ordered else next(iter(self._ready), None)
        job = None if index is None else self._ready.pop(index, None)
        if job is None:
            return None
        self.returned += 1
        self.failed += job.error is not None
        if self._progress is not None:
            self._progress.update(self.returned, self.failed)
        return MapResult(job.index, job.prompt, job.output, job.error)

    def close(self) -> None:
        """Ends the run; the answers that have come are kept in the journal. Again, it has no effect.

        Raises:
            JournalError: the journal cannot be written.
        """
        self.run.close()
        if self._progress is not None:
            self._progress.close()
        try:
            self.collect()
        finally:
            if self._journal is not None:
                self._journal.close()
            self._journal = None


def _load(job: Job, call: MapCall, output: str) -> Any:
    try:
        return call.load(output)
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(
            f"the journal's answer to prompt number {job.index} (counted from 0) cannot be read: {error}. "
            "Choose another file"
        ) from error


def _open_journal(path: str | os.PathLike[str]) -> Journal:
    from ._journal import Journal  # noqa: PLC0415  sqlite3 is imported for those who use it

    return Journal(path)
