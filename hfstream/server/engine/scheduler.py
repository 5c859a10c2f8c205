"""Continuous batching: which requests have a row of the model, and one token for each of them at every step.

A request waits, is prefilled (a bounded number of tokens per step, so that long prompts do not stall the others),
decodes in a row of its own, and ends. An error in one prompt's prefill fails that request; an error in a step fails the
requests that decode in it; later requests are not affected.

Does not depend on threads, text or stop strings. `ModelRunner` runs the model, `sampler` samples.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from .model_runner import ModelRunner
from .protocol import EngineRequest, ModelInfo, RequestFailed, TokenOutput
from .sampler import SampledToken, SamplerState, sample_tokens

MAX_PREFILL_TOKENS = 256
"""Prompt tokens read in one step. It bounds how long running sequences wait for their next token."""

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Sequence:
    """A request that has a row. (The abstract class of that name is not used in this module.)"""

    request: EngineRequest
    state: SamplerState
    token: int = -1  # the latest
    generated: int = 0

    def append(self, sampled: SampledToken, info: ModelInfo) -> TokenOutput:
        """Append a sampled token, and return it as an output of the request."""
        self.token = sampled.token
        self.generated += 1
        self.state.update(sampled.token)
        # The + 1: a sequence's last token needs no position in the context, because nothing is generated after it.
        limit = min(self.request.max_new_tokens, info.max_total_tokens + 1 - len(self.request.prompt))
        last = self.generated >= limit or sampled.token in info.eos_ids
        return TokenOutput(self.request, sampled.token, sampled.logprob, sampled.top, last)


class Scheduler:
    """The requests of one model: a queue, at most one prompt in prefill, and the running sequences."""

    def __init__(self, runner: ModelRunner, info: ModelInfo) -> None:
        self._runner, self._info = runner, info
        self._running: list[Sequence] = []  # the i-th has row i of the runner
        self._prefilling: EngineRequest | None = None
        self._waiting: deque[EngineRequest] = deque()
        self._outputs: list[TokenOutput | RequestFailed] = []
        self.ended: set[EngineRequest] = set()
        """Requests that ended in the latest step: finished, failed or cancelled."""

    @property
    def idle(self) -> bool:
        """Whether a step would do nothing."""
        return not (self._running or self._prefilling or self._waiting)

    def add(self, request: EngineRequest) -> None:
        """Queue a request; first come, first served."""
        self._waiting.append(request)

    def step(self) -> list[TokenOutput | RequestFailed]:
        """Generate one token for every running sequence, those included whose prompts are completed in this step."""
        self._outputs, self.ended = [], set()
        self._finish_cancelled()
        try:
            # In this order: a prompt completed here gets the row after those that decode, as do its logits.
            if logits := self._decode() + self._prefill():
                self._sample(logits)
        except Exception as error:
            logger.exception("a step failed, and with it %d requests", len(self._running))
            self._fail([sequence.request for sequence in self._running], error)
            self._running.clear()
            self._runner.clear()
        return self._outputs

    def _decode(self) -> list[Tensor]:
        """Logits [rows, vocab_size] after each sequence's latest token, in a list that is empty if none is running."""
        return [self._runner.decode([sequence.token for sequence in self._running])] if self._running else []

    def _prefill(self) -> list[Tensor]:
        """Read prompts while some wait and rows are free; logits [1, vocab_size] for each prompt that is complete."""
        completed: list[Tensor] = []
        budget = MAX_PREFILL_TOKENS
        while budget > 0 and (request := self._next_prefill()):
            chunk = request.prompt[self._runner.prefilled : self._runner.prefilled + budget]
            budget -= len(chunk)
            try:
                self._check_prompt(request)
                logits = self._runner.prefill(chunk)
                if self._runner.prefilled == len(request.prompt):
                    self._start_decoding(request)
                    completed.append(logits)
            except Exception as error:
                logger.exception("reading a prompt of %d tokens failed", len(request.prompt))
                self._fail([request], error)
                self._abort_prefill()
        return completed

    def _next_prefill(self) -> EngineRequest | None:
        if self._prefilling is None and self._waiting and len(self._running) < self._runner.max_rows:
            self._prefilling = self._waiting.popleft()
        return self._prefilling

    def _check_prompt(self, request: EngineRequest) -> None:
        """Check here what would do more harm later: on a GPU, an id outside the embedding breaks the CUDA context."""
        if not 1 <= len(request.prompt) <= self._info.max_total_tokens:
            raise ValueError(f"a prompt has 1 to {self._info.max_total_tokens} tokens, not {len(request.prompt)}")
        if not 0 <= min(request.prompt) <= max(request.prompt) < self._info.vocab_size:
            raise ValueError(f"a prompt's ids are 0 to {self._info.vocab_size - 1}")

    def _start_decoding(self, request: EngineRequest) -> None:
        """Give the request whose prompt is complete a row."""
        info = self._info
        # The state comes first: if its parameters are wrong, this raises before the runner has one row more than there
        # are sequences.
        state = SamplerState(request.sampling, request.prompt, vocab_size=info.vocab_size, device=info.device)
        self._runner.commit()
        self._running.append(Sequence(request, state))
        self._prefilling = None

    def _sample(self, logits: list[Tensor]) -> None:
        """Append a token to every sequence, sampled from `logits` (parts of [rows, vocab_size]); end those complete."""
        samples = sample_tokens(logits, [sequence.state for sequence in self._running])
        outputs = [
            sequence.append(sampled, self._info) for sequence, sampled in zip(self._running, samples, strict=True)
        ]
        self._finish(row for row, output in enumerate(outputs) if output.last)
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
        """End the sequences of these rows, from the highest down.

        The last row moves into each freed one. From the highest down, the last row is never one of those still to be
        freed, so their numbers stay valid.
        """
        for row in sorted(rows, reverse=True):
            self.ended.add(self._running[row].request)
            self._runner.free(row)
            self._running[row] = self._running[-1]
            self._running.pop()

    def _abort_prefill(self) -> None:
        self._prefilling = None
        self._runner.reset_prefill()

    def _fail(self, requests: Iterable[EngineRequest], error: Exception) -> None:
        """Report the error without its traceback, whose frames would keep the step's tensors alive."""
        for request in requests:
            self.ended.add(request)
            self._outputs.append(RequestFailed(request, error.with_traceback(None)))
