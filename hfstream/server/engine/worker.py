"""The engine: token ids in, token ids out, many answers at once on one thread that alone touches torch.

This module is what the rest of the server sees: the nouns, and the thread with its beginning, its inbox and its end.
Each step of its loop gives one token more to every answer in the `Scheduler`, handed over in one call of `on_outputs`.
Between steps it looks at what was submitted and cancelled; with nothing to do it sleeps.

Refuses to know text, stop strings and HTTP, and leaves models to `loading` and scheduling to `scheduler`. Those import
torch, so the thread imports them: importing this module stays cheap.
"""

from __future__ import annotations

import contextlib
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from .protocol import EngineRequest, EngineStoppedError, OnFailure, OnOutputs, OnReady, RequestFailed

if TYPE_CHECKING:
    from os import PathLike

    from .scheduler import Scheduler


class Engine:
    """One model and the thread that runs it. `submit`, `cancel` and `close` may be called from any thread."""

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        max_batch_size: int = 32,
        dtype: str = "float32",
        device: str = "cpu",
        threads: int = 1,
        max_total_tokens: int | None = None,
    ) -> None:
        """`path`: a checkpoint directory. `max_batch_size`: answers made at once; more wait their turn.

        `dtype`: float32, bfloat16 or float16, whatever the checkpoint is stored in. `threads`: torch's intra-op threads
        (one is fastest for small models). `max_total_tokens`: a context shorter than the model's own.
        """
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size must be at least 1, not {max_batch_size}")
        self._path, self._max_batch_size, self._threads = path, max_batch_size, threads
        self._dtype, self._device, self._max_total_tokens = dtype, device, max_total_tokens
        self._inbox: SimpleQueue[EngineRequest | None] = SimpleQueue()  # None only wakes the thread
        self._lock = threading.Lock()  # guards the next two: no job may slip in behind the end
        self._requests: set[EngineRequest] = set()
        self._stopped: EngineStoppedError | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self, *, on_outputs: OnOutputs, on_ready: OnReady, on_failure: OnFailure) -> None:
        """Start the thread, on which all three are called.

        `on_outputs` once per step; `on_ready` once the model is loaded; `on_failure` if loading fails or, later, the engine
        itself does (a callback that raises is such a failure). After `on_failure` nothing comes.
        """
        if self._thread is not None or self._stopped is not None:
            raise RuntimeError("an engine starts once, and not after close()")
        callbacks = (on_outputs, on_ready, on_failure)
        self._thread = threading.Thread(target=self._run, args=callbacks, name="hfstream-engine", daemon=True)
        self._thread.start()

    def submit(self, request: EngineRequest) -> None:
        """Queue a job; first come, first served, also while the model is still loading."""
        with self._lock:
            if self._stopped is not None:
                raise EngineStoppedError(str(self._stopped)) from self._stopped.__cause__
            self._requests.add(request)
            self._inbox.put(request)

    def cancel(self, request: EngineRequest) -> None:
        """End a job that nobody listens to: its row is free after the current step. Harmless if it has ended."""
        request.cancelled = True

    def close(self, timeout: float | None = 10.0) -> None:
        """Stop after the current step and wait up to `timeout` seconds for that; the rest get a `RequestFailed`.

        Loading cannot be interrupted: it may outlast the timeout, on a daemon thread, and ends the engine then.
        """
        self._closing = True
        self._inbox.put(None)
        if self._thread is None:
            self._stop(EngineStoppedError("the engine was closed"))
        elif self._thread is not threading.current_thread():
            self._thread.join(timeout)

    @property
    def running(self) -> int:
        """Jobs that have a row or wait for one."""
        return len(self._requests)

    def _run(self, on_outputs: OnOutputs, on_ready: OnReady, on_failure: OnFailure) -> None:
        stopped, fatal_error = EngineStoppedError("the engine was closed"), None
        try:
            self._serve(on_outputs, on_ready)
        except BaseException as error:  # noqa: BLE001  also a SystemExit in some import: who waits for this thread must hear of it
            stopped, fatal_error = EngineStoppedError(f"the engine stopped: {error}"), error
            stopped.__cause__ = error
        unfinished = [RequestFailed(request, stopped) for request in self._stop(stopped) if not request.cancelled]
        with contextlib.suppress(Exception):  # a deliver that raises may be why we are here
            if unfinished:
                on_outputs([*unfinished])
        if fatal_error is not None:
            on_failure(fatal_error)

    def _stop(self, reason: EngineStoppedError) -> set[EngineRequest]:
        """From now on `submit` refuses. Returns the jobs not finished."""
        with self._lock:
            self._stopped = reason
            unfinished, self._requests = self._requests, set()
        return unfinished

    def _serve(self, on_outputs: OnOutputs, on_ready: OnReady) -> None:
        import torch

        from .loader import load
        from .scheduler import Scheduler

        torch.set_num_threads(self._threads)
        rows, info = load(
            self._path,
            max_rows=self._max_batch_size,
            dtype=self._dtype,
            device=self._device,
            max_total_tokens=self._max_total_tokens,
        )
        if not self._closing:
            on_ready(info)
        scheduler = Scheduler(rows, info)
        with torch.inference_mode():
            while self._drain_inbox(scheduler):
                outputs = scheduler.step()
                self._discard(scheduler.ended)
                if delivered := [output for output in outputs if not output.request.cancelled]:
                    on_outputs(delivered)

    def _drain_inbox(self, scheduler: Scheduler) -> bool:
        """Take in what was submitted; sleep if there is nothing to do at all. False once the engine is to close."""
        may_block = scheduler.idle
        while not self._closing and (may_block or not self._inbox.empty()):
            if (request := self._inbox.get()) is not None:
                scheduler.add(request)
            may_block = False
        return not self._closing

    def _discard(self, requests: set[EngineRequest]) -> None:
        with self._lock:
            self._requests -= requests
