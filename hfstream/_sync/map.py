"""The results of `map` of the asynchronous client: reads prompts, starts workers, waits for their answers.

Does not depend on which result is next (`_mapping`), or on what a prompt asks for (`core.map_calls`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .._mapping import Job, MapRun, MapState
from .._workers import MAX_WAIT, NO_PROMPT, SyncPrompts, SyncWorker
from ..core.map_results import JournalError, MapResult
from ..errors import InferenceError
from .stream import TokenStream

if TYPE_CHECKING:
    from .._transport import SyncHTTP

__all__ = ["MapResults"]

OutputT = TypeVar("OutputT")


class MapResults(Iterator[MapResult[OutputT]], Generic[OutputT]):
    """The results of ``client.map(...)``, one for each prompt: iterate over them.

    Also a context manager, which closes them. Leaving the loop and dropping them cancels what is not answered yet.
    `OutputT` is the type of an output.
    """

    def __init__(self, http: SyncHTTP, prompts: SyncPrompts, state: MapState) -> None:
        self._http = http
        self._prompts = prompts
        self._state = state
        self._read_lock = threading.Lock()  # only ever tried, never waited for

    @property
    def done(self) -> int:
        """How many results were returned so far."""
        return self._state.returned

    @property
    def failed(self) -> int:
        """How many of them are errors."""
        return self._state.failed

    @property
    def reused(self) -> int:
        """How many outputs were taken from the journal so far."""
        return self._state.reused

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> MapResult[OutputT]:
        if not self._read_lock.acquire(False):
            raise RuntimeError("these results are being read already: one loop for one map")
        try:
            return self._next()
        finally:
            self._read_lock.release()

    def _next(self) -> MapResult[OutputT]:
        state, run = self._state, self._state.run
        if run.closed:
            raise StopIteration
        try:
            while True:
                wakeup = self._http.Wakeup()
                run.wake = wakeup.set  # from now on: what is finished before is collected here
                state.collect()
                self._fill()
                if (result := state.take()) is not None:
                    return result
                run.raise_failure()
                if self._prompts.ended and state.returned == state.read:
                    break
                wakeup.wait(MAX_WAIT)
        except BaseException:
            self._abandon()
            raise
        self.close()
        if self._prompts.error is not None:
            raise self._prompts.error
        raise StopIteration

    def _fill(self) -> None:
        """Reads prompts while there is room, and starts workers for them."""
        state, run = self._state, self._state.run
        while state.has_room and (prompt := self._prompts.pull(run)) is not NO_PROMPT:
            state.add(prompt)
        for _ in range(run.missing_workers()):
            worker = SyncWorker()
            run.workers.add(worker)
            worker.start(_work, run, self._http)

    def close(self) -> None:
        """Cancels what is not answered yet. The journal keeps what is.

        Raises:
            JournalError: the journal cannot be written.
        """
        self._prompts.close()
        workers = list(self._state.run.workers)
        self._state.close()
        for worker in workers:
            worker.join()

    def _abandon(self) -> None:
        self._prompts.close()
        with contextlib.suppress(JournalError):  # another error is on its way
            self._state.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._abandon()

    def __repr__(self) -> str:
        state = "closed" if self._state.run.closed else "open"
        return f"<{type(self).__name__}: {state}, {self.done} done, {self.failed} failed>"


def _work(worker: SyncWorker, run: MapRun, http: SyncHTTP) -> None:
    """Asks one prompt after the other."""
    try:
        while (job := run.next_job()) is not None:
            _ask(job, run, http)
            run.finish(job)
    except Exception as error:  # noqa: BLE001  raised where the results are read
        run.failure = error
    finally:
        run.leave(worker)


def _ask(job: Job, run: MapRun, http: SyncHTTP) -> None:
    stream: TokenStream[Any] = TokenStream(http, run.exchange(job))
    run.add_stream(stream)
    try:
        with stream:
            job.output = stream.final()
    except InferenceError as error:
        job.error = error.with_traceback(None)  # it refers to the stream
    finally:
        run.streams.discard(stream)


MapResults.__module__ = "hfstream"  # where users import it from
