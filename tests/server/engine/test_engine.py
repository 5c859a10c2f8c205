"""The engine, with a worker on its thread: start and end, idle, submitting and cancelling from other threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from hfstream.server.engine.attention import Segment
from hfstream.server.engine.engine import Engine
from hfstream.server.engine.model_runner import ModelRunner
from hfstream.server.engine.protocol import (
    EngineOptions,
    EngineRequest,
    EngineStoppedError,
    Output,
)
from tests.helpers.tiny_models import RunningEngine, engine_threads, prompt_of, reference


def make_request(tokens: int = 10, seed: int = 0) -> EngineRequest:
    return EngineRequest(prompt_of(8, seed), tokens)


# Running and cancelling


def test_an_idle_engine_sleeps(engine: RunningEngine) -> None:
    engine.generate(make_request())
    # The CPU time of its own thread only: others of this process may be busy.
    [thread] = engine.threads()
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    before = time.clock_gettime(clock)
    time.sleep(0.3)
    assert time.clock_gettime(clock) - before < 0.05


def test_what_is_cancelled_during_a_step_is_not_delivered(
    engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, cancelled, other = ModelRunner.forward, make_request(tokens=99, seed=1), make_request(tokens=9, seed=2)

    def cancels(runner: ModelRunner, segments: Sequence[Segment]) -> torch.Tensor:
        if segments[0].row.length == 10:
            engine.cancel(cancelled)
        return forward(runner, segments)

    monkeypatch.setattr(ModelRunner, "forward", cancels)
    engine.submit(cancelled, other)
    assert len(engine.tokens(other)) == 9
    assert len(engine.deliveries_of(cancelled)) == 3


def test_what_is_cancelled_before_the_model_is_loaded_is_not_generated(checkpoint: Path) -> None:
    engine, request = RunningEngine(checkpoint), make_request()
    engine.submit(request)
    engine.cancel(request)
    with engine:
        engine.generate(make_request())
        assert not engine.deliveries_of(request)


def test_cancelling_a_finished_request_has_no_effect(engine: RunningEngine) -> None:
    request = make_request()
    engine.generate(request)
    engine.cancel(request)
    engine.generate(make_request())


def test_many_threads_submit_and_cancel(engine: RunningEngine, model: Any) -> None:
    expected = reference(model, prompt_of(8), 10)

    def visit() -> None:
        for _ in range(5):
            kept, dropped = make_request(), make_request(tokens=50)
            engine.submit(kept, dropped)
            engine.cancel(dropped)
            assert engine.tokens(kept) == expected
        done.append(True)

    done: list[bool] = []
    visitors = [threading.Thread(target=visit) for _ in range(8)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(120)
    assert len(done) == 8


# Start and end


def test_an_engine_starts_once(engine: RunningEngine) -> None:
    with pytest.raises(RuntimeError, match="starts once"):
        engine.start()


def test_an_engine_that_is_not_started_has_no_thread(checkpoint: Path) -> None:
    before = engine_threads()
    Engine(EngineOptions(checkpoint))
    assert not engine_threads() - before


def test_a_batch_size_of_zero_is_an_error(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="max_batch_size must be at least 1"):
        EngineOptions(checkpoint, max_batch_size=0)


def test_closing_an_idle_engine(checkpoint: Path) -> None:
    with RunningEngine(checkpoint) as engine:
        engine.close()
        assert not engine.threads()
        engine.close()
        with pytest.raises(EngineStoppedError, match="closed"):
            engine.submit(make_request())
    assert engine.failure is None


def test_closing_a_busy_engine_fails_running_and_queued_requests(checkpoint: Path) -> None:
    requests, dropped = [make_request(tokens=500, seed=i) for i in range(3)], make_request()

    def on_delivery(outputs: list[Output]) -> None:
        while len(engine.deliveries) > 3 and not engine.engine._closing.is_set():
            time.sleep(0.001)  # or a slow machine would finish the first request before it closes the engine

    with RunningEngine(checkpoint, max_batch_size=1, on_delivery=on_delivery) as engine:
        engine.submit(*requests, dropped)
        engine.wait_until(lambda: len(engine.deliveries) > 2)
        engine.cancel(dropped)
        engine.close()
        assert [type(engine.error(request)) for request in requests] == [EngineStoppedError] * 3
        assert not engine.deliveries_of(dropped)
        assert engine.running == 0


def test_closing_while_loading(checkpoint: Path) -> None:
    engine, request = RunningEngine(checkpoint), make_request()
    engine.submit(request)
    engine.start()
    engine.close()
    assert isinstance(engine.error(request), EngineStoppedError)
    assert (engine.info, engine.failure, engine.threads()) == (None, None, set())


def test_closing_before_starting(checkpoint: Path) -> None:
    engine = RunningEngine(checkpoint)
    engine.close()
    with pytest.raises(EngineStoppedError):
        engine.submit(make_request())
    with pytest.raises(RuntimeError, match="not after close"):
        engine.start()


def test_closing_from_a_callback(checkpoint: Path) -> None:
    with RunningEngine(checkpoint, on_delivery=lambda outputs: engine.close()) as engine:
        request = make_request()
        engine.submit(request)
        assert isinstance(engine.error(request), EngineStoppedError)


def test_requests_fail_if_the_model_cannot_be_loaded(tmp_path: Path) -> None:
    engine, request = RunningEngine(tmp_path), make_request()
    engine.submit(request)
    engine.start()
    error = engine.error(request)
    engine.wait_until(lambda: engine.failure is not None)
    assert isinstance(engine.failure, (OSError, ValueError))
    assert error.__cause__ is engine.failure
    with pytest.raises(EngineStoppedError, match="the engine stopped: ") as raised:
        engine.submit(make_request())
    assert raised.value.__cause__ is engine.failure
    engine.close()
    assert not engine.threads()


def test_a_callback_that_raises_stops_the_engine(checkpoint: Path) -> None:
    def on_delivery(outputs: Sequence[Output]) -> None:
        raise RuntimeError("Event loop is closed")

    with RunningEngine(checkpoint, on_delivery=on_delivery) as engine:
        engine.submit(make_request())
        engine.wait_until(lambda: engine.failure is not None)
        assert str(engine.failure) == "Event loop is closed"
        with pytest.raises(EngineStoppedError):
            engine.submit(make_request())
