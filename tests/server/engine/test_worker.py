"""The worker: commands in, reports out, with a scripted scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import pytest

from hfstream.server.engine import loader
from hfstream.server.engine.guided import Guide
from hfstream.server.engine.protocol import EngineOptions, EngineRequest, Grammar, RequestFailed, TokenOutput
from hfstream.server.engine.worker import Command, Compiled, Report, SetTokenizer, _Worker, run


class EchoScheduler:
    """Generates a request's prompt, a token at each step; a negative one fails it."""

    def __init__(self) -> None:
        self.running: dict[EngineRequest, Iterator[int]] = {}
        self.ended: set[EngineRequest] = set()
        self.added: list[EngineRequest] = []
        self.guides: list[Guide | None] = []

    @property
    def idle(self) -> bool:
        return not self.running

    def add(self, request: EngineRequest, guide: Guide | None = None) -> None:
        self.added.append(request)
        self.guides.append(guide)
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


class WaitingCompiler:
    """Compiles a grammar when a test says so."""

    def __init__(self) -> None:
        self.compiled: list[tuple[int, Grammar]] = []
        self.tokenizer: tuple[str, frozenset[int]] | None = None

    def compile(self, number: int, grammar: Grammar) -> None:
        self.compiled.append((number, grammar))

    def set_tokenizer(self, tokenizer: str, eos_ids: frozenset[int]) -> None:
        self.tokenizer = (tokenizer, eos_ids)


COMPILER: Any = WaitingCompiler()


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


def test_a_request_with_a_grammar_runs_once_that_is_compiled_and_the_others_meanwhile() -> None:
    inbox: SimpleQueue[Command | None] = SimpleQueue()
    scheduler: Any = EchoScheduler()
    compiler: Any = WaitingCompiler()
    steps = _Worker(scheduler, compiler, inbox).steps()
    grammar, guide = Grammar("regex", "a"), cast("Any", object())
    inbox.put(SetTokenizer("{}", frozenset({2})))
    inbox.put((4, EngineRequest([1], 9, grammar=grammar)))
    inbox.put((5, EngineRequest([2, 3], 9)))
    assert next(steps) == [(5, 2, -1.0, (), False)]
    assert (compiler.tokenizer, compiler.compiled) == (("{}", frozenset({2})), [(4, grammar)])
    inbox.put(Compiled(4, guide))
    assert next(steps) == [(4,), (5, 3, -1.0, (), True), (4, 1, -1.0, (), True)]
    assert scheduler.guides == [None, guide]


def test_a_grammar_that_cannot_be_compiled_fails_its_request_and_may_come_too_late() -> None:
    inbox: SimpleQueue[Command | None] = SimpleQueue()
    scheduler: Any = EchoScheduler()
    steps = _Worker(scheduler, COMPILER, inbox).steps()
    error = ValueError("no")
    for number in (4, 5):
        inbox.put((number, EngineRequest([1], 9, grammar=Grammar("regex", "a"))))
    inbox.put((5, None))
    inbox.put(Compiled(4, error))
    inbox.put(Compiled(5, error))
    inbox.put((6, EngineRequest([1], 9)))
    assert next(steps) == [(4, error), (5, error), (6, 1, -1.0, (), True)]
    assert len(scheduler.added) == 1
