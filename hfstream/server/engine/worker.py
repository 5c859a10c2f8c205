"""The engine: one model, and the thread that loads and runs it. Only that thread uses torch.

At each step of its loop, the `Scheduler` generates one token for every running request, and one call of `on_outputs`
delivers them all. Between steps the thread takes in what was submitted; with nothing to do it sleeps.

Does not depend on text, stop strings or HTTP. The loader and the scheduler import torch, which takes seconds, so the
thread imports them: importing this module is cheap.
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
        """`path`: a checkpoint directory. `max_batch_size`: requests that run at once; more wait for their turn.

        `dtype`: float32, bfloat16 or float16, whatever the checkpoint is stored in. `threads`: torch's intra-op threads
        (one is fastest for small models). `max_total_tokens`: a context shorter than the model's own.
        """
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size must be at least 1, not {max_batch_size}")
        self._path, self._max_batch_size, self._threads = path, max_batch_size, threads
        self._dtype, self._device, self._max_total_tokens = dtype, device, max_total_tokens
        self._inbox: SimpleQueue[EngineRequest | None] = SimpleQueue()  # None only wakes the thread
        self._lock = threading.Lock()  # guards the next two: no request may be added after the last ones were failed
        self._requests: set[EngineRequest] = set()
        self._stopped: EngineStoppedError | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self, *, on_outputs: OnOutputs, on_ready: OnReady, on_failure: OnFailure) -> None:
        """Start the thread, which makes all three calls.

        `on_ready` comes once the model is loaded, `on_outputs` once per step that has outputs, and `on_failure` if
        loading fails, or later the engine itself (also by a callback that raises). Nothing comes after `on_failure`.
        """
        if self._thread is not None or self._stopped is not None:
            raise RuntimeError("an engine starts once, and not after close()")
        callbacks = (on_outputs, on_ready, on_failure)
        self._thread = threading.Thread(target=self._run, args=callbacks, name="hfstream-engine", daemon=True)
        self._thread.start()

    def submit(self, request: EngineRequest) -> None:
        """Queue a request; first come, first served, also while the model is still loading.

        Raises:
            EngineStoppedError: the engine was closed, or has failed.
        """
        with self._lock:
            if self._stopped is not None:
                raise EngineStoppedError(str(self._stopped)) from self._stopped.__cause__
            self._requests.add(request)
            self._inbox.put(request)

    def cancel(self, request: EngineRequest) -> None:
        """End a request without a further output. Its row is free after the current step. No effect if it has ended."""
        request.cancelled = True

    def close(self, timeout: float | None = 10.0) -> None:
        """Stop after the current step, and wait up to `timeout` seconds for that. Unfinished requests fail.

        Loading cannot be interrupted: it may outlast the timeout, on a daemon thread that ends after it.
        """
        self._closing = True
        self._inbox.put(None)
        if self._thread is None:
            self._stop(EngineStoppedError("the engine was closed"))
        elif self._thread is not threading.current_thread():
            self._thread.join(timeout)

    @property
    def running(self) -> int:
        """Number of requests that have a row or wait for one."""
        return len(self._requests)

    def _run(self, on_outputs: OnOutputs, on_ready: OnReady, on_failure: OnFailure) -> None:
        stopped, fatal_error = EngineStoppedError("the engine was closed"), None
        try:
            self._serve(on_outputs, on_ready)
        except BaseException as error:  # noqa: BLE001 - also a SystemExit in some import: waiting requests must fail too
            stopped, fatal_error = EngineStoppedError(f"the engine stopped: {error}"), error
            stopped.__cause__ = error
        unfinished = [RequestFailed(request, stopped) for request in self._stop(stopped) if not request.cancelled]
        with contextlib.suppress(Exception):  # an on_outputs that raises may be what stopped the engine
            if unfinished:
                on_outputs([*unfinished])
        if fatal_error is not None:
            on_failure(fatal_error)

    def _stop(self, reason: EngineStoppedError) -> set[EngineRequest]:
        """Make `submit` raise from now on. Returns the unfinished requests."""
        with self._lock:
            self._stopped = reason
            unfinished, self._requests = self._requests, set()
        return unfinished

    def _serve(self, on_outputs: OnOutputs, on_ready: OnReady) -> None:
        import torch

        from .loader import load
        from .scheduler import Scheduler

        torch.set_num_threads(self._threads)
        runner, info = load(
            self._path,
            max_rows=self._max_batch_size,
            dtype=self._dtype,
            device=self._device,
            max_total_tokens=self._max_total_tokens,
        )
        if not self._closing:
            on_ready(info)
        scheduler = Scheduler(runner, info)
        with torch.inference_mode():
            while self._drain_inbox(scheduler):
                outputs = scheduler.step()
                self._discard(scheduler.ended)
                if current := [output for output in outputs if not output.request.cancelled]:
                    on_outputs(current)

    def _drain_inbox(self, scheduler: Scheduler) -> bool:
        """Pass submitted requests on to the scheduler; sleep while there is nothing to do. False once it closes."""
        may_block = scheduler.idle
        while not self._closing and (may_block or not self._inbox.empty()):
            if (request := self._inbox.get()) is not None:
                scheduler.add(request)
            may_block = False
        return not self._closing

    def _discard(self, requests: set[EngineRequest]) -> None:
        with self._lock:
            self._requests -= requests
