"""The worker: commands in, reports out, with a scripted scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from hfstream.server.engine import loader
from hfstream.server.engine.protocol import EngineOptions, EngineRequest, Grammar, RequestFailed, TokenOutput
from hfstream.server.engine.worker import Command, Report, _Worker, run


class EchoScheduler:
    """Generates a request's prompt, a token at each step; a negative one fails it."""

    def __init__(self) -> None:
        self.running: dict[EngineRequest, Iterator[int]] = {}
        self.ended: set[EngineRequest] = set()
        self.added: list[EngineRequest] = []

    @property
    def idle(self) -> bool:
        return not self.running

    def add(self, request: EngineRequest) -> None:
        self.added.append(request)
        self.running[request] = iter(request.prompt)

    def step(self) -> list[TokenOutput | RequestFailed]:
        self.ended = {request for request in self.running if request.cancelled}
        outputs: list[TokenOutput | RequestFailed] = []
        for request, tokens in self.running.items():
            if request.cancelled:
                continue
            token = next(tokens)
            last = token == request.prompt[-1]
            outputs.append(
                TokenOutput(request, token, -1.0, (), last) if token >= 0 else RequestFailed(request, ValueError("no"))
            )
            if last:
                self.ended.add(request)
        self.running = {request: tokens for request, tokens in self.running.items() if request not in self.ended}
        return outputs


class SlowCompiler:
    """Compiles a grammar when a test says so."""

    def compile(self, number: int, grammar: Grammar) -> None:
        """Nothing yet."""


COMPILER: Any = SlowCompiler()


def work(*commands: Command | None) -> Iterator[Report]:
    inbox: SimpleQueue[Command | None] = SimpleQueue()
    for command in commands:
        inbox.put(command)
    scheduler: Any = EchoScheduler()
    return _Worker(scheduler, COMPILER, inbox).steps()


def test_one_report_has_all_outputs_of_a_step() -> None:
    steps = work((4, EngineRequest([1, 2], 9)), (5, EngineRequest([3], 9)))
    assert next(steps) == [(4, 1, -1.0, (), False), (5, 3, -1.0, (), True)]
    assert next(steps) == [(4, 2, -1.0, (), True)]


def test_a_request_that_fails_is_reported_with_its_error() -> None:
    report: Any = next(work((4, EngineRequest([-1], 9))))
    assert [(number, type(error), str(error)) for number, error in report] == [(4, ValueError, "no")]


def test_a_cancelled_request_is_reported_once_its_row_is_free() -> None:
    inbox: SimpleQueue[Command | None] = SimpleQueue()
    scheduler: Any = EchoScheduler()
    steps = _Worker(scheduler, COMPILER, inbox).steps()
    inbox.put((4, EngineRequest([1, 2, 3], 9)))
    assert next(steps) == [(4, 1, -1.0, (), False)]
    inbox.put((4, None))
    inbox.put((5, EngineRequest([6], 9)))
    assert next(steps) == [(5, 6, -1.0, (), True), (4, None)]
    assert scheduler.added[0].cancelled


def test_none_is_the_end() -> None:
    assert list(work((4, EngineRequest([1], 9)), (7, None), None)) == []


def test_cancelling_what_has_ended_does_nothing() -> None:
    inbox: SimpleQueue[Command | None] = SimpleQueue()
    scheduler: Any = EchoScheduler()
    steps = _Worker(scheduler, COMPILER, inbox).steps()
    inbox.put((4, EngineRequest([1], 9)))
    assert next(steps) == [(4, 1, -1.0, (), True)]
    inbox.put((4, None))
    inbox.put((5, EngineRequest([6], 9)))
    assert next(steps) == [(5, 6, -1.0, (), True)]
    assert not scheduler.added[0].cancelled


@pytest.mark.parametrize(
    ("error", "reported"),
    [(ValueError("no"), ValueError("no")), (SystemExit(2), RuntimeError("SystemExit: 2"))],
    ids=["error", "exit"],
)
def test_what_ends_the_worker_is_its_last_report(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, reported: Exception
) -> None:
    def load(path: Path, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(loader, "load", load)
    [report] = run(EngineOptions("nowhere"), SimpleQueue())
    assert (type(report), str(report)) == (type(reported), str(reported))
