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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from .model_runner import ModelRunner
from .protocol import EngineRequest, ModelInfo, RequestFailed, TokenOutput
from .sampler import SampledToken, SamplerState, sample_tokens

MAX_PREFILL_TOKENS = 256
"""How much is read of new prompts before the speakers go on: their longest pause, in tokens."""

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Speaker:
    """A job that has a row."""

    job: EngineRequest
    chooser: SamplerState
    token: int = -1  # the latest
    said: int = 0

    def say(self, choice: SampledToken, facts: ModelInfo) -> TokenOutput:
        """Go on with the token chosen."""
        self.token = choice.token
        self.said += 1
        self.chooser.hear(choice.token)
        # the last token of all needs no place in the context: nothing is read after it
        room = min(self.job.max_new_tokens, facts.max_total_tokens + 1 - len(self.job.prompt))
        last = self.said >= room or choice.token in facts.eos_ids
        return TokenOutput(self.job, choice.token, choice.logprob, choice.top, last)


class Scheduler:
    """Jobs on the rows of one model."""

    def __init__(self, rows: ModelRunner, facts: ModelInfo) -> None:
        self._rows, self._facts = rows, facts
        self._speakers: list[Speaker] = []
        self._reading: EngineRequest | None = None
        self._waiting: deque[EngineRequest] = deque()
        self._outbox: list[TokenOutput | RequestFailed] = []
        self.ended: set[EngineRequest] = set()
        """Jobs that the latest step was the last for, be they done, failed or cancelled."""

    @property
    def idle(self) -> bool:
        """Whether a step would do nothing."""
        return not (self._speakers or self._reading or self._waiting)

    def add(self, job: EngineRequest) -> None:
        """Let a job wait for its turn; first come, first served."""
        self._waiting.append(job)

    def step(self) -> list[TokenOutput | RequestFailed]:
        """One token for everyone who has a row by then."""
        self._outbox, self.ended = [], set()
        self._dismiss_cancelled()
        try:
            if logits := self._decode() + self._read_prompts():
                self._speak(logits)
        except Exception as error:
            logger.exception("a step failed, and %d answers with it", len(self._speakers))
            self._fail([speaker.job for speaker in self._speakers], error)
            self._speakers.clear()
            self._rows.clear()
        return self._outbox

    def _decode(self) -> list[Tensor]:
        """Logits [speakers, vocab_size] after each speaker's latest token, in a list; no entry if nobody has a row."""
        return [self._rows.decode([speaker.token for speaker in self._speakers])] if self._speakers else []

    def _read_prompts(self) -> list[Tensor]:
        """Read on while prompts wait and rows are free; logits [1, vocab_size] for each prompt that is now read."""
        finished: list[Tensor] = []
        budget = MAX_PREFILL_TOKENS
        while budget > 0 and (job := self._next_to_read()):
            chunk = job.prompt[self._rows.porch : self._rows.porch + budget]
            budget -= len(chunk)
            try:
                self._check(job)
                logits = self._rows.read(chunk)
                if self._rows.porch == len(job.prompt):
                    self._seat(job)
                    finished.append(logits)
            except Exception as error:
                logger.exception("reading a prompt of %d tokens failed", len(job.prompt))
                self._fail([job], error)
                self._leave_porch()
        return finished

    def _next_to_read(self) -> EngineRequest | None:
        if self._reading is None and self._waiting and len(self._speakers) < self._rows.max_rows:
            self._reading = self._waiting.popleft()
        return self._reading

    def _check(self, job: EngineRequest) -> None:
        """Refuse here what would go worse below: on a GPU, an id outside the embedding breaks the process's context."""
        if not 1 <= len(job.prompt) <= self._facts.max_total_tokens:
            raise ValueError(f"a prompt has 1 to {self._facts.max_total_tokens} tokens, not {len(job.prompt)}")
        if not 0 <= min(job.prompt) <= max(job.prompt) < self._facts.vocab_size:
            raise ValueError(f"a prompt's ids are 0 to {self._facts.vocab_size - 1}")

    def _seat(self, job: EngineRequest) -> None:
        """A prompt has been read: from now on its job speaks."""
        facts = self._facts
        chooser = SamplerState(job.sampling, job.prompt, vocab_size=facts.vocab_size, device=facts.device)
        self._rows.seat()
        self._speakers.append(Speaker(job, chooser))
        self._reading = None

    def _speak(self, logits: Sequence[Tensor]) -> None:
        """Choose a token for every speaker from `logits` (pieces of [rows, vocab_size]); dismiss those who are done."""
        choices = sample_tokens(logits, [speaker.chooser for speaker in self._speakers])
        steps = [speaker.say(choice, self._facts) for speaker, choice in zip(self._speakers, choices, strict=True)]
        self._dismiss(row for row, step in enumerate(steps) if step.last)
        self._outbox += steps

    def _dismiss_cancelled(self) -> None:
        self._dismiss(row for row, speaker in enumerate(self._speakers) if speaker.job.cancelled)
        if self._reading is not None and self._reading.cancelled:
            self.ended.add(self._reading)
            self._leave_porch()
        if gone := {job for job in self._waiting if job.cancelled}:
            self._waiting = deque(job for job in self._waiting if job not in gone)
            self.ended |= gone

    def _dismiss(self, rows: Iterable[int]) -> None:
        """Free these rows, from the highest down: what moves into a free one must not be still to be freed itself."""
        for row in sorted(rows, reverse=True):
            self.ended.add(self._speakers[row].job)
            self._rows.free(row)
            self._speakers[row] = self._speakers[-1]
            self._speakers.pop()

    def _leave_porch(self) -> None:
        self._reading = None
        self._rows.reset_porch()

    def _fail(self, jobs: Iterable[EngineRequest], error: Exception) -> None:
        """The error goes out without its traceback, whose frames would keep the step's tensors alive with it."""
        for job in jobs:
            self.ended.add(job)
            self._outbox.append(RequestFailed(job, error.with_traceback(None)))
