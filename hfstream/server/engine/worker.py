"""The engine: token ids in, token ids out, many answers at once on one thread that alone touches torch.

This module is what the rest of the server sees: the nouns, and the thread with its beginning, its inbox and its end.
Each step of its loop gives one token more to every answer in the `Scheduler`, handed over in one call of `deliver`.
Between steps it looks at what was submitted and cancelled; with nothing to do it sleeps.

Refuses to know text, stop strings and HTTP, and leaves models to `loading` and scheduling to `batch`. Those import
torch, so the thread imports them: importing this module stays cheap.
"""

from __future__ import annotations

import contextlib
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from .protocol import Deliver, EngineRequest, EngineStoppedError, Failed, Ready, RequestFailed

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
        self._jobs: set[EngineRequest] = set()
        self._stopped: EngineStoppedError | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self, *, deliver: Deliver, ready: Ready, failed: Failed) -> None:
        """Start the thread, on which all three are called.

        `deliver` once per step; `ready` once the model is loaded; `failed` if loading fails or, later, the engine
        itself does (a callback that raises is such a failure). After `failed` nothing comes.
        """
        if self._thread is not None or self._stopped is not None:
            raise RuntimeError("an engine starts once, and not after close()")
        callbacks = (deliver, ready, failed)
        self._thread = threading.Thread(target=self._run, args=callbacks, name="hfstream-engine", daemon=True)
        self._thread.start()

    def submit(self, job: EngineRequest) -> None:
        """Queue a job; first come, first served, also while the model is still loading."""
        with self._lock:
            if self._stopped is not None:
                raise EngineStoppedError(str(self._stopped)) from self._stopped.__cause__
            self._jobs.add(job)
            self._inbox.put(job)

    def cancel(self, job: EngineRequest) -> None:
        """End a job that nobody listens to: its row is free after the current step. Harmless if it has ended."""
        job.cancelled = True

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
        return len(self._jobs)

    def _run(self, deliver: Deliver, ready: Ready, failed: Failed) -> None:
        stopped, fault = EngineStoppedError("the engine was closed"), None
        try:
            self._serve(deliver, ready)
        except BaseException as error:  # noqa: BLE001  also a SystemExit in some import: who waits for this thread must hear of it
            stopped, fault = EngineStoppedError(f"the engine stopped: {error}"), error
            stopped.__cause__ = error
        orphans = [RequestFailed(job, stopped) for job in self._stop(stopped) if not job.cancelled]
        with contextlib.suppress(Exception):  # a deliver that raises may be why we are here
            if orphans:
                deliver([*orphans])
        if fault is not None:
            failed(fault)

    def _stop(self, reason: EngineStoppedError) -> set[EngineRequest]:
        """From now on `submit` refuses. Returns the jobs not finished."""
        with self._lock:
            self._stopped = reason
            orphans, self._jobs = self._jobs, set()
        return orphans

    def _serve(self, deliver: Deliver, ready: Ready) -> None:
        import torch

        from .loader import load
        from .scheduler import Scheduler

        torch.set_num_threads(self._threads)
        rows, facts = load(
            self._path,
            max_rows=self._max_batch_size,
            dtype=self._dtype,
            device=self._device,
            max_total_tokens=self._max_total_tokens,
        )
        if not self._closing:
            ready(facts)
        batch = Scheduler(rows, facts)
        with torch.inference_mode():
            while self._receive(batch):
                outputs = batch.step()
                self._forget(batch.ended)
                if heard := [output for output in outputs if not output.job.cancelled]:
                    deliver(heard)

    def _receive(self, batch: Scheduler) -> bool:
        """Take in what was submitted; sleep if there is nothing to do at all. False once the engine is to close."""
        sleepy = batch.idle
        while not self._closing and (sleepy or not self._inbox.empty()):
            if (job := self._inbox.get()) is not None:
                batch.add(job)
            sleepy = False
        return not self._closing

    def _forget(self, jobs: set[EngineRequest]) -> None:
        with self._lock:
            self._jobs -= jobs
