"""The engine: starts a worker, passes requests to it and outputs back, and starts another one if it ends.

Does not depend on torch, text, stop strings or HTTP, nor on where the worker runs.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator, Iterable
from itertools import count
from logging import LogRecord
from typing import Any, NamedTuple, Protocol

from .process import ModelProcess
from .protocol import (
    EngineOptions,
    EngineRequest,
    EngineStoppedError,
    ModelInfo,
    ModelProcessError,
    OnFailure,
    OnOutputs,
    OnReady,
    OnRestart,
    Output,
    RequestAccepted,
    RequestFailed,
    TokenOutput,
)
from .worker import Command, Report, SetTokenizer, StepReport

MAX_FAILED_LOADS = 3
"""Workers in a row that end before their model is loaded; then the engine gives up."""

MAX_RESTART_DELAY = 30.0
"""Seconds before another worker is started, at most."""


class WorkerHandle(Protocol):
    """A worker, wherever it runs: see `ModelProcess`."""

    def send(self, command: Command) -> None: ...

    def reports(self) -> Generator[Report]: ...

    def kill(self) -> None: ...

    def close(self) -> None: ...


class _Callbacks(NamedTuple):
    on_outputs: OnOutputs
    on_ready: OnReady
    on_restart: OnRestart
    on_failure: OnFailure


class Engine:
    """One model, run by one worker at a time. `submit`, `cancel` and `close` may be called from any thread."""

    def __init__(
        self, options: EngineOptions, *, launch: Callable[[EngineOptions], WorkerHandle] = ModelProcess
    ) -> None:
        """`launch` starts a worker."""
        self._options, self._launch = options, launch
        self._lock = threading.Lock()  # guards the next four: no request gets lost between two workers or at the end
        self._requests: dict[int, EngineRequest] = {}
        self._numbers: dict[EngineRequest, int] = {}
        self._worker: WorkerHandle | None = None
        self._stopped: EngineStoppedError | None = None
        self._next_number = count()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._loaded = False  # whether the current worker has loaded its model
        self._productive = False  # whether it has completed a request

    def start(self, *, on_outputs: OnOutputs, on_ready: OnReady, on_restart: OnRestart, on_failure: OnFailure) -> None:
        """Start a worker and a thread that reads its reports. The thread makes all four calls.

        `on_ready` comes once the model is loaded, `on_outputs` once per step that has outputs. If the worker ends by
        itself, `on_restart` comes with the reason, then its requests fail, and `on_ready` comes again later.
        `on_failure` comes if the model cannot be loaded, or if a callback raises. Nothing comes after it.
        """
        if self._thread is not None or self._stopped is not None:
            raise RuntimeError("an engine starts once, and not after close()")
        callbacks = _Callbacks(on_outputs, on_ready, on_restart, on_failure)
        self._thread = threading.Thread(target=self._run, args=(callbacks,), name="hfstream-engine", daemon=True)
        self._thread.start()

    def set_tokenizer(self, tokenizer: str, eos_ids: frozenset[int]) -> None:
        """What the present worker compiles grammars with; requests that have one wait for it."""
        with self._lock:
            if self._worker is not None:
                self._worker.send(SetTokenizer(tokenizer, eos_ids))

    def submit(self, request: EngineRequest) -> None:
        """Queue a request; first come, first served, also while the model is being loaded.

        Raises:
            EngineStoppedError: the engine was closed, or has failed.
        """
        with self._lock:
            if self._stopped is not None:
                raise EngineStoppedError(str(self._stopped)) from self._stopped.__cause__
            number = next(self._next_number)
            self._requests[number] = request
            self._numbers[request] = number
            if self._worker is not None:
                self._worker.send((number, request))

    def cancel(self, request: EngineRequest) -> None:
        """End a request without a further output. Its row is free after the current step. No effect if it has ended."""
        with self._lock:
            number = self._numbers.get(request)
            if self._worker is not None and number is not None and not request.cancelled:
                self._worker.send((number, None))
            request.cancelled = True

    def close(self, timeout: float | None = 10.0) -> None:
        """Stop now, also while the model is being loaded. Waits up to `timeout` seconds. Unfinished requests fail."""
        self._closing.set()
        with self._lock:
            if self._worker is not None:
                self._worker.kill()
        if self._thread is None:
            self._stop(EngineStoppedError("the engine was closed"))
        elif self._thread is not threading.current_thread():
            self._thread.join(timeout)

    @property
    def running(self) -> int:
        """Number of requests that have a row or wait for one."""
        return len(self._requests)

    # --- on the engine's thread --------------------------------------------------------------------------------------

    def _run(self, callbacks: _Callbacks) -> None:
        try:
            fatal_error = self._run_workers(callbacks)
        except BaseException as error:  # noqa: BLE001 - whatever a callback raises: waiting requests must fail too
            fatal_error = error
        stopped = EngineStoppedError("the engine was closed")
        if fatal_error is not None:
            stopped = EngineStoppedError(f"the engine stopped: {fatal_error}")
            stopped.__cause__ = fatal_error
        with contextlib.suppress(Exception):  # an on_outputs that raises may be what stopped the engine
            self._fail(self._stop(stopped), stopped, callbacks)
        if fatal_error is not None:
            callbacks.on_failure(fatal_error)

    def _run_workers(self, callbacks: _Callbacks) -> BaseException | None:
        """Run one worker after the other. Returns why no more are started; None if the engine was closed."""
        failed_loads, delay, ever_loaded = 0, 0.0, False
        while True:
            self._loaded = self._productive = False
            error = self._run_worker(callbacks)
            if error is None or self._closing.is_set():
                return None
            ever_loaded = ever_loaded or self._loaded
            failed_loads = 0 if self._loaded else failed_loads + 1
            # What the first worker reports (no such file, an unsupported model) the next one would report too.
            if failed_loads == MAX_FAILED_LOADS or not (ever_loaded or isinstance(error, ModelProcessError)):
                return error
            unfinished = self._detach()
            callbacks.on_restart(error)  # first: a client that has got the error must not find the server ready
            self._fail(unfinished, error, callbacks)
            delay = 0.0 if self._productive else min(MAX_RESTART_DELAY, max(1.0, 2 * delay))
            if self._closing.wait(delay):
                return None

    def _run_worker(self, callbacks: _Callbacks) -> Exception | None:
        """Run one worker to its end. Returns why it ended."""
        error: Exception | None = None
        try:
            worker = self._launch(self._options)
        except OSError as launch_error:
            return launch_error
        with contextlib.closing(worker), contextlib.closing(worker.reports()) as reports:
            self._attach(worker)
            for report in reports:
                if isinstance(report, Exception):
                    error = report
                elif not self._closing.is_set():
                    self._handle(report, callbacks)
        return error

    def _handle(self, report: ModelInfo | StepReport | LogRecord, callbacks: _Callbacks) -> None:
        if isinstance(report, ModelInfo):
            callbacks.on_ready(report)
            self._loaded = True
        elif isinstance(report, LogRecord):
            logger = logging.getLogger(report.name)
            if logger.isEnabledFor(report.levelno):
                logger.handle(report)
        elif outputs := self._take_outputs(report):
            callbacks.on_outputs(outputs)

    def _take_outputs(self, report: StepReport) -> list[Output]:
        outputs: list[Output] = []
        with self._lock:
            for number, *fields in report:
                if (request := self._requests.get(number)) is None:
                    continue
                output = _make_output(request, fields)
                if _is_end(output):
                    del self._requests[number], self._numbers[request]
                    self._productive = self._productive or not isinstance(output, RequestFailed)
                if output is not None and not request.cancelled:
                    outputs.append(output)
        return outputs

    def _attach(self, worker: WorkerHandle) -> None:
        """Make `worker` the current one, and give it all requests that came while there was none."""
        with self._lock:
            self._worker = worker
            for command in self._requests.items():
                worker.send(command)
            if self._closing.is_set():  # `close` has not seen this worker
                worker.kill()

    def _detach(self) -> list[EngineRequest]:
        """Leave the current worker. Returns the requests that it had; those that come later are for the next one."""
        with self._lock:
            self._worker = None
            unfinished = list(self._requests.values())
            self._requests.clear()
            self._numbers.clear()
        return unfinished

    def _stop(self, reason: EngineStoppedError) -> list[EngineRequest]:
        """Make `submit` raise from now on. Returns the unfinished requests."""
        with self._lock:
            self._stopped = reason
        return self._detach()

    def _fail(self, requests: Iterable[EngineRequest], error: Exception, callbacks: _Callbacks) -> None:
        failed = [RequestFailed(request, error) for request in requests if not request.cancelled]
        if failed:
            callbacks.on_outputs([*failed])


def _is_end(output: Output | None) -> bool:
    return not (isinstance(output, RequestAccepted) or (isinstance(output, TokenOutput) and not output.last))


def _make_output(request: EngineRequest, fields: list[Any]) -> Output | None:
    """The output that the fields of a report's tuple stand for; None for the end of a cancelled request."""
    if not fields:
        return RequestAccepted(request)
    if len(fields) > 1:
        return TokenOutput(request, *fields)
    [error] = fields
    return None if error is None else RequestFailed(request, error)
