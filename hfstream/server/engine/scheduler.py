"""The batch: who has which row, who waits, whose prompt is being read; one token for every speaker at each step.

A job waits, is read (on the porch, a bounded piece at each step, so that long prompts do not silence the others),
speaks (from a row of its own, row i for the i-th speaker), and ends. What raises while one prompt is read fails that
job; what raises in a step fails the speakers in it; the batch goes on with the next.

Refuses to know threads, text and stop strings; how the model is run is known in `rows`, how tokens are chosen in
`sampler`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from torch import Tensor

from .model_runner import ModelRunner
from .protocol import EngineRequest, ModelInfo, RequestFailed, TokenOutput
from .sampler import SampledToken, SamplerState, sample_tokens

MAX_PREFILL_TOKENS = 256
"""How much is read of new prompts before the speakers go on: their longest pause, in tokens."""

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Sequence:
    """A job that has a row."""

    request: EngineRequest
    state: SamplerState
    token: int = -1  # the latest
    generated: int = 0

    def append(self, sampled: SampledToken, info: ModelInfo) -> TokenOutput:
        """Go on with the token chosen."""
        self.token = sampled.token
        self.generated += 1
        self.state.update(sampled.token)
        # the last token of all needs no place in the context: nothing is read after it
        room = min(self.request.max_new_tokens, info.max_total_tokens + 1 - len(self.request.prompt))
        last = self.generated >= room or sampled.token in info.eos_ids
        return TokenOutput(self.request, sampled.token, sampled.logprob, sampled.top, last)


class Scheduler:
    """Jobs on the rows of one model."""

    def __init__(self, rows: ModelRunner, info: ModelInfo) -> None:
        self._runner, self._info = rows, info
        self._running: list[Sequence] = []
        self._prefilling: EngineRequest | None = None
        self._waiting: deque[EngineRequest] = deque()
        self._outputs: list[TokenOutput | RequestFailed] = []
        self.ended: set[EngineRequest] = set()
        """Jobs that the latest step was the last for, be they done, failed or cancelled."""

    @property
    def idle(self) -> bool:
        """Whether a step would do nothing."""
        return not (self._running or self._prefilling or self._waiting)

    def add(self, request: EngineRequest) -> None:
        """Let a job wait for its turn; first come, first served."""
        self._waiting.append(request)

    def step(self) -> list[TokenOutput | RequestFailed]:
        """One token for everyone who has a row by then."""
        self._outputs, self.ended = [], set()
        self._finish_cancelled()
        try:
            if logits := self._decode() + self._prefill():
                self._sample(logits)
        except Exception as error:
            logger.exception("a step failed, and %d answers with it", len(self._running))
            self._fail([sequence.request for sequence in self._running], error)
            self._running.clear()
            self._runner.clear()
        return self._outputs

    def _decode(self) -> list[Tensor]:
        """Logits [speakers, vocab_size] after each speaker's latest token, in a list; no entry if nobody has a row."""
        return [self._runner.decode([sequence.token for sequence in self._running])] if self._running else []

    def _prefill(self) -> list[Tensor]:
        """Read on while prompts wait and rows are free; logits [1, vocab_size] for each prompt that is now read."""
        finished: list[Tensor] = []
        budget = MAX_PREFILL_TOKENS
        while budget > 0 and (request := self._next_prefill()):
            chunk = request.prompt[self._runner.prefilled : self._runner.prefilled + budget]
            budget -= len(chunk)
            try:
                self._check(request)
                logits = self._runner.prefill(chunk)
                if self._runner.prefilled == len(request.prompt):
                    self._start_decoding(request)
                    finished.append(logits)
            except Exception as error:
                logger.exception("reading a prompt of %d tokens failed", len(request.prompt))
                self._fail([request], error)
                self._abort_prefill()
        return finished

    def _next_prefill(self) -> EngineRequest | None:
        if self._prefilling is None and self._waiting and len(self._running) < self._runner.max_rows:
            self._prefilling = self._waiting.popleft()
        return self._prefilling

    def _check(self, request: EngineRequest) -> None:
        """Refuse here what would go worse below: on a GPU, an id outside the embedding breaks the process's context."""
        if not 1 <= len(request.prompt) <= self._info.max_total_tokens:
            raise ValueError(f"a prompt has 1 to {self._info.max_total_tokens} tokens, not {len(request.prompt)}")
        if not 0 <= min(request.prompt) <= max(request.prompt) < self._info.vocab_size:
            raise ValueError(f"a prompt's ids are 0 to {self._info.vocab_size - 1}")

    def _start_decoding(self, request: EngineRequest) -> None:
        """A prompt has been read: from now on its job speaks."""
        info = self._info
        state = SamplerState(request.sampling, request.prompt, vocab_size=info.vocab_size, device=info.device)
        self._runner.commit()
        self._running.append(Sequence(request, state))
        self._prefilling = None

    def _sample(self, logits: SequenceOf[Tensor]) -> None:
        """Choose a token for every speaker from `logits` (pieces of [rows, vocab_size]); dismiss those who are done."""
        samples = sample_tokens(logits, [sequence.state for sequence in self._running])
        outputs = [
            sequence.append(sampled, self._info) for sequence, sampled in zip(self._running, samples, strict=True)
        ]
        self._finish(row for row, step in enumerate(outputs) if step.last)
        self._outputs += outputs

    def _finish_cancelled(self) -> None:
        self._finish(row for row, sequence in enumerate(self._running) if sequence.request.cancelled)
        if self._prefilling is not None and self._prefilling.cancelled:
            self.ended.add(self._prefilling)
            self._abort_prefill()
        if cancelled_requests := {request for request in self._waiting if request.cancelled}:
            self._waiting = deque(request for request in self._waiting if request not in cancelled_requests)
            self.ended |= cancelled_requests

    def _finish(self, rows: Iterable[int]) -> None:
        """Free these rows, from the highest down: what moves into a free one must not be still to be freed itself."""
        for row in sorted(rows, reverse=True):
            self.ended.add(self._running[row].request)
            self._runner.free(row)
            self._running[row] = self._running[-1]
            self._running.pop()

    def _abort_prefill(self) -> None:
        self._prefilling = None
        self._runner.reset_prefill()

    def _fail(self, requests: Iterable[EngineRequest], error: Exception) -> None:
        """The error goes out without its traceback, whose frames would keep the step's tensors alive with it."""
        for request in requests:
            self.ended.add(request)
            self._outputs.append(RequestFailed(request, error.with_traceback(None)))
