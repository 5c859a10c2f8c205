"""Continuous batching: which requests have a row of the KV cache, and what is computed for them at every step.

A request waits, has its prompt read (several prompts together, no more tokens in a step than running sequences can wait
for), decodes one token per step, and ends. All of a step is one forward pass. If rows need more memory than there is,
the request that came last gives its row back and waits again; what it has generated so far is read like a prompt.

An error fails only the requests whose tokens cause it. Does not depend on threads, text or stop strings.
"""

from __future__ import annotations

import logging
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain
from time import perf_counter

import torch
from torch import Tensor

from .attention import Segment
from .guided import Guide
from .kv_cache import TOKENS_PER_PIECE, Row
from .model_runner import ModelRunner
from .prefill_budget import PrefillBudget, share_out
from .prefix_cache import Entry, PrefixCache
from .protocol import EngineRequest, ModelInfo, PromptLogprob, RequestFailed, TokenOutput
from .sampler import SampledToken, SamplerState, sample_tokens, score_prompt

MAX_SCORED = 128
"""Tokens of a prompt that are read in one step if their log-probabilities are needed: each has logits of its own."""

logger: logging.Logger = logging.getLogger(__name__)


class RunningRequest:
    """A request that has been admitted."""

    __slots__ = ("finite", "generated", "guide", "prompt_logprobs", "request", "row", "state", "tokens")

    def __init__(self, request: EngineRequest, info: ModelInfo, guide: Guide | None = None) -> None:
        """Raises ValueError or TypeError if it cannot be run."""
        _check_prompt(request, info)
        self.request: EngineRequest = request
        self.guide: Guide | None = guide
        self.tokens: array[int] = array("i", request.prompt)
        """Prompt and output."""
        self.state: SamplerState = SamplerState(
            request.sampling, request.prompt, vocab_size=info.vocab_size, device=info.device
        )
        self.row: Row
        """Not there while it waits for memory."""
        self.generated: int = 0
        self.prompt_logprobs: list[PromptLogprob] = [PromptLogprob(None)] if request.prompt_logprobs else []
        """Those of the tokens that have been read so far; the first token has none."""
        self.finite: bool = True
        """Whether its logits have been numbers so far."""

    @property
    def remaining(self) -> int:
        """Tokens that have not been computed; 1 while it decodes."""
        return len(self.tokens) - self.row.length

    @property
    def decodes(self) -> bool:
        """Whether its prompt is complete."""
        return self.remaining == 1 and self.generated > 0

    @property
    def needs_prompt_logprobs(self) -> bool:
        """Whether some are still unknown."""
        return 0 < len(self.prompt_logprobs) < len(self.request.prompt)

    def segment(self, size: int) -> Segment:
        """The next `size` tokens to be computed."""
        start, end = self.row.length, self.row.length + size
        logits = int(size == self.remaining)
        if self.needs_prompt_logprobs:  # a token's log-probability is in the logits after the token before it
            logits = max(0, end - max(start, len(self.prompt_logprobs) - 1))
        return Segment(self.row, self.tokens[start:end], logits)

    def add_prompt_logprobs(self, logits: Tensor) -> None:
        """Takes in the logits [n, vocab_size] after the latest tokens that were computed."""
        if self.needs_prompt_logprobs:
            known = len(self.prompt_logprobs)
            tokens = self.request.prompt[known : known + len(logits)]
            top_n_tokens = self.request.sampling.top_n_tokens
            self.prompt_logprobs += score_prompt(logits[: len(tokens)], tokens, top_n_tokens)

    def append(self, sampled: SampledToken, info: ModelInfo) -> TokenOutput:
        """Append a sampled token, and return it as an output of the request."""
        self.tokens.append(sampled.token)
        self.generated += 1
        self.state.update(sampled.token)
        if self.guide is not None:
            self.guide.advance(sampled.token)
        self.finite = self.finite and sampled.logprob is not None
        # The + 1: a sequence's last token needs no position in the context, because nothing is generated after it.
        limit = min(self.request.max_new_tokens, info.max_total_tokens + 1 - len(self.request.prompt))
        last = self.generated >= limit or sampled.token in info.eos_ids
        prompt = tuple(self.prompt_logprobs) if self.generated == 1 else ()
        return TokenOutput(self.request, sampled.token, sampled.logprob, sampled.top, last, prompt)


class Scheduler:
    """The requests of one model."""

    def __init__(self, runner: ModelRunner, info: ModelInfo, *, max_rows: int) -> None:
        self._runner, self._info, self._max_rows = runner, info, max_rows
        self._cache = runner.cache
        self._budget = PrefillBudget()
        self._waiting: deque[EngineRequest | RunningRequest] = deque()
        self._guides: dict[EngineRequest, Guide] = {}
        """Of those that wait and have not run yet."""
        self._running: list[RunningRequest] = []
        """Those with a row, in order of their admission."""
        self.prefixes: PrefixCache = PrefixCache(runner.cache)
        self._outputs: list[TokenOutput | RequestFailed] = []
        self.ended: set[EngineRequest] = set()
        """Requests that ended in the latest step: finished, failed or cancelled."""

    @property
    def idle(self) -> bool:
        """Whether a step would do nothing."""
        return not (self._running or self._waiting)

    def add(self, request: EngineRequest, guide: Guide | None = None) -> None:
        """Queue a request; first come, first served. `guide`: says which tokens may be sampled."""
        if guide is not None:
            self._guides[request] = guide
        self._waiting.append(request)

    def release_memory(self) -> None:
        """Give back what is kept for later requests."""
        self.prefixes.clear()
        self._cache.trim()

    def step(self) -> list[TokenOutput | RequestFailed]:
        """Generate one token for every running sequence, those included whose prompts are completed in this step."""
        self._outputs, self.ended = [], set()
        self._finish_cancelled()
        self._admit()
        self._make_room()
        started = perf_counter()
        decoding = [each for each in self._running if each.decodes]
        chunks = self._chunks(decoding=bool(decoding))
        if decoding or chunks:
            self._sample(self._forward(decoding, chunks))
            tokens = sum(chunks.values())
            self._budget.record(perf_counter() - started, decoding=bool(decoding), tokens=tokens)
        return self._outputs

    # --- who has a row -----------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Give rows to those that wait, in order, while there are rows and memory."""
        while self._waiting and len(self._running) < self._max_rows:
            try:
                if not self._start(self._waiting[0]):
                    return
            except Exception as error:
                logger.exception("a request could not be started")
                self._report_failure(_request(self._waiting[0]), error)
            self._waiting.popleft()

    def _start(self, waiting: EngineRequest | RunningRequest) -> bool:
        """Give a request a row, and what is known of its tokens. False if there is no memory for it now."""
        if isinstance(waiting, EngineRequest):
            guide = self._guides.pop(waiting, None)
            waiting = self._waiting[0] = RunningRequest(waiting, self._info, guide)
        match = None  # logits are not kept: prompts whose log-probabilities are needed are read from the start
        if not waiting.needs_prompt_logprobs:
            match = self.prefixes.find(waiting.tokens, map(_known, self._running))
        if not self._reserve(len(waiting.tokens), match.taken_over if match else None):
            return False
        waiting.row = self._cache.allocate(len(waiting.tokens))
        self._running.append(waiting)
        if match:
            self.prefixes.fill(waiting.row, match)
        return True

    def _reserve(self, tokens: int, taken_over: Entry | None) -> bool:
        """Whether there is memory for one more row; what is kept for later requests makes room for it.

        Some remains for the others to grow: otherwise the new request would soon have to give its row back.
        """
        needed = self._cache.cost(tokens)
        if self._running:
            needed += self._held() + TOKENS_PER_PIECE * (len(self._running) + 1)
        return self._fits(needed, taken_over)

    def _fits(self, needed: int, taken_over: Entry | None = None) -> bool:
        self.prefixes.shrink(self._cache.budget_tokens - needed, taken_over)
        return needed <= self._cache.budget_tokens

    def _held(self) -> int:
        """Tokens that the running requests' rows count for at the end of the next step, unread prompts included."""
        return sum(self._cache.cost(len(each.tokens)) for each in self._running)

    def _make_room(self) -> None:
        """If the rows would outgrow the memory in this step, those that came last give theirs back."""
        while not self._fits(self._held()) and len(self._running) > 1:
            preempted = self._running.pop()
            self._cache.free(preempted.row)
            self._waiting.appendleft(preempted)

    # --- what is computed --------------------------------------------------------------------------------------------

    def _chunks(self, *, decoding: bool) -> dict[RunningRequest, int]:
        """Which prompts are read in this step, and how many tokens of each."""
        reading = [each for each in self._running if not each.decodes]
        wanted = [min(each.remaining, MAX_SCORED) if each.needs_prompt_logprobs else each.remaining for each in reading]
        shares = share_out(self._budget.tokens(decoding=decoding), wanted)
        return {each: share for each, share in zip(reading, shares, strict=True) if share}

    def _forward(
        self, decoding: list[RunningRequest], chunks: dict[RunningRequest, int]
    ) -> list[tuple[RunningRequest, Tensor]]:
        """Compute the next tokens of those that decode, and chunks of prompts.

        Returns those that have logits [n, vocab_size], which are those after their latest tokens. If the pass fails,
        those that decode and each prompt are tried again, each by itself: so an error fails only what causes it.
        """
        groups = [dict.fromkeys(decoding, 1)] if decoding else []
        groups += [{sequence: size} for sequence, size in chunks.items()]
        if len(groups) > 1:
            try:
                return self._pass({each: size for group in groups for each, size in group.items()})
            except Exception:
                logger.warning("a step failed; each prompt is tried by itself", exc_info=True)
        return list(chain.from_iterable(map(self._try, groups)))

    def _try(self, sizes: dict[RunningRequest, int]) -> list[tuple[RunningRequest, Tensor]]:
        try:
            return self._pass(sizes)
        except Exception as error:
            logger.exception("a step failed, and with it %d requests", len(sizes))
            self._fail(sizes, error)
            return []

    def _pass(self, sizes: dict[RunningRequest, int]) -> list[tuple[RunningRequest, Tensor]]:
        segments = {each: each.segment(size) for each, size in sizes.items()}
        counts = [segment.logits for segment in segments.values()]
        logits = torch.split(self._runner.forward(list(segments.values())), counts)
        return [(each, part) for each, part in zip(segments, logits, strict=True) if len(part)]

    def _sample(self, computed: Sequence[tuple[RunningRequest, Tensor]]) -> None:
        """Append a token to every sequence whose tokens are all computed; end those that are complete."""
        computed = [(each, logits) for each, logits in computed if self._score(each, logits) and not each.remaining]
        computed = [each for each in computed if self._guide(each[0])]
        if not computed:
            return
        sequences = [each for each, _ in computed]
        try:
            samples = sample_tokens([logits[-1:] for _, logits in computed], [each.state for each in sequences])
            outputs = [each.append(sampled, self._info) for each, sampled in zip(sequences, samples, strict=True)]
        except Exception as error:
            logger.exception("sampling failed, and with it %d requests", len(sequences))
            self._fail(sequences, error)
            return
        for each, output in zip(sequences, outputs, strict=True):
            if output.last:
                self._finish(each)
        self._outputs += outputs

    def _score(self, sequence: RunningRequest, logits: Tensor) -> bool:
        """Keep the log-probabilities of a prompt's tokens. False if that fails, and with it the request."""
        try:
            sequence.add_prompt_logprobs(logits)
        except Exception as error:
            logger.exception("the log-probabilities of a prompt could not be computed")
            self._fail([sequence], error)
            return False
        return True

    def _guide(self, sequence: RunningRequest) -> bool:
        """Set the tokens that may be sampled next. False if the request has failed by that."""
        if sequence.guide is not None:
            try:
                sequence.state.allowed = sequence.guide.allowed()
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this request alone
                self._fail([sequence], error)
                return False
        return True

    # --- ends --------------------------------------------------------------------------------------------------------

    def _finish_cancelled(self) -> None:
        for each in [each for each in self._running if each.request.cancelled]:
            self._finish(each)
        if cancelled := {_request(each) for each in self._waiting if _request(each).cancelled}:
            self._waiting = deque(each for each in self._waiting if _request(each) not in cancelled)
            for request in cancelled:
                self._guides.pop(request, None)
            self.ended |= cancelled

    def _finish(self, sequence: RunningRequest) -> None:
        """End a request. Its keys and values are kept for others that begin alike."""
        self.ended.add(sequence.request)
        self._running.remove(sequence)
        if sequence.finite:
            self.prefixes.keep(sequence.tokens, sequence.row)
        else:
            self._cache.free(sequence.row)

    def _fail(self, sequences: Iterable[RunningRequest], error: Exception) -> None:
        for sequence in sequences:
            self._running.remove(sequence)
            self._cache.free(sequence.row)
            self._report_failure(sequence.request, error)

    def _report_failure(self, request: EngineRequest, error: Exception) -> None:
        """Report the error without its traceback, whose frames would keep the step's tensors alive."""
        self.ended.add(request)
        self._outputs.append(RequestFailed(request, error.with_traceback(None)))


def _request(waiting: EngineRequest | RunningRequest) -> EngineRequest:
    return waiting if isinstance(waiting, EngineRequest) else waiting.request


def _known(sequence: RunningRequest) -> Entry:
    return Entry(sequence.tokens, sequence.row)


def _check_prompt(request: EngineRequest, info: ModelInfo) -> None:
    """Check here what would do more harm later: on a GPU, an id outside the embedding breaks the CUDA context."""
    if not 1 <= len(request.prompt) <= info.max_total_tokens:
        raise ValueError(f"a prompt has 1 to {info.max_total_tokens} tokens, not {len(request.prompt)}")
    if not 0 <= min(request.prompt) <= max(request.prompt) < info.vocab_size:
        raise ValueError(f"a prompt's ids are 0 to {info.vocab_size - 1}")
