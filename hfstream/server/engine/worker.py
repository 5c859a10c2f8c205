"""The worker: loads the model, and runs it step by step for the requests that come in.

At each step the `Scheduler` generates one token for every running request, and one report has them all. Between steps
the worker takes in new commands; with nothing to do it sleeps, and after a while gives memory back.

Does not depend on where it runs: the server gives it a process of its own (`child`), tests of the engine run it on a
thread. The loader and the scheduler import torch, which takes seconds, so they are imported by `run` only.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from logging import LogRecord
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from .protocol import EngineOptions, EngineRequest, ModelInfo, PromptLogprob, RequestFailed, TokenOutput

if TYPE_CHECKING:
    from .guided import GrammarCompiler, Guide
    from .scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class SetTokenizer:
    """What grammars are compiled with (`EngineProtocol.set_tokenizer`)."""

    tokenizer: str
    eos_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Compiled:
    """From the worker's own compiler: the grammar of the request with this number has been compiled, or cannot be."""

    number: int
    result: Guide | Exception


Command: TypeAlias = tuple[int, EngineRequest | None] | SetTokenizer | Compiled
"""A number and the new request that has it from now on, or None to cancel the request of that number.

Numbers, because a worker in another process has a copy of the request.
"""

TokenTuple: TypeAlias = tuple[int, int, float | None, tuple[tuple[int, float | None], ...], bool]
"""The number of a request, and the other fields of its `TokenOutput`. A tuple: one is pickled for every token."""

FirstTokenTuple: TypeAlias = tuple[*TokenTuple, tuple[PromptLogprob, ...]]
"""The same with the log-probabilities of the prompt."""

EndTuple: TypeAlias = tuple[int, Exception | None]
"""The number of a request that has failed, or (None) that was cancelled and is out of the batch."""

AcceptedTuple: TypeAlias = tuple[int]
"""The number of a request whose grammar has been compiled."""

StepReport: TypeAlias = list[TokenTuple | FirstTokenTuple | EndTuple | AcceptedTuple]

Report: TypeAlias = ModelInfo | StepReport | Exception | LogRecord
"""The model is loaded; all outputs of one step; why the worker ends; something to log."""


KEPT_SECONDS = 60.0
"""How long an idle worker keeps keys and values for requests that begin as earlier ones did."""


def run(options: EngineOptions, inbox: SimpleQueue[Command | None]) -> Generator[Report]:
    """Run a model until `inbox` has a None, or until an error, which is the last report. Raises nothing itself.

    The first report is the `ModelInfo`, once the model is loaded. Commands may be put into `inbox` before that.
    """
    try:
        yield from _serve(options, inbox)
    except GeneratorExit:
        raise
    except Exception as error:  # noqa: BLE001 - every error is reported
        yield error
    except BaseException as error:  # noqa: BLE001 - a SystemExit in some import
        yield RuntimeError(f"{type(error).__name__}: {error}")


def _serve(options: EngineOptions, inbox: SimpleQueue[Command | None]) -> Generator[Report]:
    import torch

    from .guided import GrammarCompiler
    from .loader import load
    from .scheduler import Scheduler

    torch.set_num_threads(options.threads)
    runner, info = load(
        options.path,
        max_rows=options.max_batch_size,
        dtype=options.dtype,
        device=options.device,
        max_total_tokens=options.max_total_tokens,
        kv_cache_memory=options.kv_cache_memory,
    )
    yield info
    compiler = GrammarCompiler(lambda number, result: inbox.put(Compiled(number, result)), vocab_size=info.vocab_size)
    with torch.inference_mode(), closing(compiler):
        yield from _Worker(Scheduler(runner, info, max_rows=options.max_batch_size), compiler, inbox).steps()


class _Worker:
    """A scheduler, and the numbers of its requests."""

    def __init__(self, scheduler: Scheduler, compiler: GrammarCompiler, inbox: SimpleQueue[Command | None]) -> None:
        self._scheduler, self._compiler, self._inbox = scheduler, compiler, inbox
        self._compiled: StepReport = []
        """What came of grammars since the last report."""
        self._requests: dict[int, EngineRequest] = {}
        self._numbers: dict[EngineRequest, int] = {}

    def steps(self) -> Generator[StepReport]:
        while self._drain_inbox():
            if report := self._report(self._scheduler.step()):
                yield report

    def _drain_inbox(self) -> bool:
        """Take in commands; sleep while there is nothing to do. False at the end of the commands."""
        may_block = self._scheduler.idle
        while may_block or not self._inbox.empty():
            command = self._next_command()
            match command:
                case None:
                    return False
                case SetTokenizer():
                    self._compiler.set_tokenizer(command.tokenizer, command.eos_ids)
                case Compiled():
                    self._start_guided(command.number, command.result)
                case (number, request):
                    self._execute(number, request)
            may_block = False
        return True

    def _next_command(self) -> Command | None:
        """Wait for the next command. After a while without one, memory is given back."""
        try:
            return self._inbox.get(timeout=KEPT_SECONDS)
        except Empty:
            self._scheduler.release_memory()
            return self._inbox.get()

    def _execute(self, number: int, request: EngineRequest | None) -> None:
        if request is not None:
            self._requests[number] = request
            self._numbers[request] = number
            if request.grammar is None:
                self._scheduler.add(request)
            else:
                self._compiler.compile(number, request.grammar)
        elif cancelled := self._requests.get(number):  # otherwise it has ended in the meantime
            cancelled.cancelled = True

    def _start_guided(self, number: int, result: Guide | Exception) -> None:
        request = self._requests[number]
        if isinstance(result, Exception):
            del self._requests[number], self._numbers[request]
            self._compiled.append((number, result))
        else:
            self._scheduler.add(request, result)
            self._compiled.append((number,))

    def _report(self, outputs: list[TokenOutput | RequestFailed]) -> StepReport:
        report, self._compiled = self._compiled, []
        for output in outputs:
            number = self._numbers[output.request]
            if isinstance(output, RequestFailed):
                report.append((number, output.error))
            elif not output.request.cancelled:
                fields = number, output.token, output.logprob, output.top, output.last
                report.append((*fields, output.prompt) if output.prompt else fields)
        for request in self._scheduler.ended:
            number = self._numbers.pop(request)
            del self._requests[number]
            if request.cancelled:
                report.append((number, None))
        return report
