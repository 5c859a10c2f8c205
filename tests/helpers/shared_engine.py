"""One model process for many servers: it takes seconds of a processor to start, and a server milliseconds."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from hfstream.server import Settings
from hfstream.server.engine.engine import Engine
from hfstream.server.engine.protocol import (
    EngineOptions,
    EngineRequest,
    EngineStoppedError,
    ModelInfo,
    OnFailure,
    OnOutputs,
    OnReady,
    OnRestart,
    Output,
    RequestFailed,
    TokenOutput,
)
from hfstream.server.model_files import find_model


class SharedEngine:
    """Runs the bundled model as a server with default settings does. `connect` makes the engine of one more server."""

    def __init__(self) -> None:
        self._engine = Engine(EngineOptions(find_model(Settings().model)))
        self._loaded = threading.Event()
        self._tokenizer_set = False
        self._info: ModelInfo
        self._callbacks: dict[EngineRequest, OnOutputs] = {}

    def start(self) -> None:
        self._engine.start(
            on_outputs=self._dispatch, on_ready=self._on_ready, on_restart=self._on_end, on_failure=self._on_end
        )
        assert self._loaded.wait(300)

    def close(self) -> None:
        self._engine.close()

    def connect(self) -> _Connection:
        return _Connection(self)

    def set_tokenizer(self, tokenizer: str, eos_ids: frozenset[int]) -> None:
        if not self._tokenizer_set:
            self._engine.set_tokenizer(tokenizer, eos_ids)
        self._tokenizer_set = True

    def submit(self, request: EngineRequest, on_outputs: OnOutputs) -> None:
        self._callbacks[request] = on_outputs
        self._engine.submit(request)

    def cancel(self, request: EngineRequest) -> None:
        self._engine.cancel(request)
        self._callbacks.pop(request, None)

    @property
    def info(self) -> ModelInfo:
        return self._info

    def _on_ready(self, info: ModelInfo) -> None:
        self._info = info
        self._loaded.set()

    def _on_end(self, reason: BaseException) -> None:
        raise AssertionError("the model process that tests share has ended") from reason

    def _dispatch(self, outputs: Iterable[Output]) -> None:
        batches: dict[OnOutputs, list[Output]] = {}
        for output in outputs:
            if on_outputs := self._callbacks.get(output.request):
                batches.setdefault(on_outputs, []).append(output)
            if isinstance(output, RequestFailed) or (isinstance(output, TokenOutput) and output.last):
                self._callbacks.pop(output.request, None)
        for on_outputs, batch in batches.items():
            on_outputs(batch)


class _Connection:
    """The engine of one server. Closing it ends the requests of that server alone."""

    def __init__(self, shared: SharedEngine) -> None:
        self._shared = shared
        self._requests: set[EngineRequest] = set()
        self._on_outputs: OnOutputs

    def start(self, *, on_outputs: OnOutputs, on_ready: OnReady, on_restart: OnRestart, on_failure: OnFailure) -> None:
        self._on_outputs = on_outputs
        # on another thread, as an engine calls: the server's event loop does not wait for the tokenizer
        threading.Thread(target=on_ready, args=(self._shared.info,), daemon=True).start()

    def set_tokenizer(self, tokenizer: str, eos_ids: frozenset[int]) -> None:
        self._shared.set_tokenizer(tokenizer, eos_ids)

    def submit(self, request: EngineRequest) -> None:
        self._requests.add(request)
        self._shared.submit(request, self._take)

    def cancel(self, request: EngineRequest) -> None:
        self._requests.discard(request)
        self._shared.cancel(request)

    def close(self, timeout: float | None = None) -> None:
        for request in list(self._requests):
            self.cancel(request)
            self._on_outputs([RequestFailed(request, EngineStoppedError("the engine was closed"))])

    @property
    def running(self) -> int:
        return len(self._requests)

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, RequestFailed) or (isinstance(output, TokenOutput) and output.last):
                self._requests.discard(output.request)
        self._on_outputs(outputs)
