"""Samples tokens for all rows of a batch at once: biases, penalties, `warpers`, the draw, log-probabilities.

Logits come in, one `SampledToken` per row goes out. Each row has its own `SamplerState`. The order of the steps and the
meaning of each parameter are those of TGI's server (`utils/logits_process.py`, `utils/tokens.py`), except that here no
row's result depends on the other rows.

Does not depend on models, caches, text or HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from .protocol import PromptLogprob, SamplingParams
from .warpers import column, warp
from .watermark import add_watermark


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The token sampled for one row. Log-probabilities are natural; `None` if not finite."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float | None], ...]
    """(id, logprob) of the `top_n_tokens` likeliest, likeliest first; more if several tie for the last place."""


class SamplerState:
    """What one sequence keeps between steps: its random generator, and which tokens occurred so far, how often."""

    __slots__ = ("allowed", "bias", "counts", "generator", "last", "length", "sampling")

    def __init__(self, sampling: SamplingParams, prompt: Sequence[int], *, vocab_size: int, device: str) -> None:
        """`prompt`: ids below `vocab_size`. `device`: where the logits will be."""
        self.sampling: SamplingParams = sampling
        self.length: int = len(prompt)
        self.last: int = prompt[-1]
        self.allowed: bytes | None = None
        """Which tokens may be sampled next: a byte for each or more, 0 if not; None: all. New before each step."""
        self.bias: tuple[Tensor, Tensor] | None = None  # ids, and what is added to their logits
        if sampling.logit_bias:
            ids, biases = zip(*sampling.logit_bias, strict=True)
            self.bias = torch.tensor(ids, device=device), torch.tensor(biases, device=device)
        self.counts: Tensor | None = None  # [vocab_size], of prompt and output; None without penalties
        self.generator: torch.Generator | None = None
        if sampling.has_penalties:
            self.counts = torch.tensor(prompt, device=device).bincount(minlength=vocab_size).float()
        if sampling.do_sample:
            if sampling.seed is None:
                raise ValueError("do_sample without a seed")
            self.generator = torch.Generator(device).manual_seed(fold_seed(sampling.seed))

    def update(self, token: int) -> None:
        """Count a token that was appended to the sequence."""
        self.length += 1
        self.last = token
        if self.counts is not None:
            self.counts[token] += 1


def fold_seed(seed: int) -> int:
    """A u64 seed as 32 bits: torch's CPU generator takes 64 and ignores the upper half.

    A seed of 32 bits stays as it is, so those all differ. A longer one is hashed, so that each of its bits counts.
    """
    if seed < 1 << 32:
        return seed
    return int.from_bytes(blake2b(seed.to_bytes(8, "little"), digest_size=4).digest(), "little")


def sample_tokens(logits: Sequence[Tensor], states: Sequence[SamplerState]) -> list[SampledToken]:
    """The next token of every row. `logits`: parts of [rows, vocab_size] in row order; `states`: one per row.

    Log-probabilities are, as TGI's, of the distribution after all changes to the logits. The states are not updated:
    the caller passes each token to `SamplerState.update`.
    """
    scores = torch.cat(list(logits)).float()  # a copy, so what follows may write into it
    _forbid(scores, states)
    for row, state in enumerate(states):
        if state.bias is not None:
            scores[row].index_add_(0, *state.bias)
        if state.sampling.watermark:
            add_watermark(scores[row], state.last)
    _apply_penalties(scores, states)
    drawn = [row for row, state in enumerate(states) if state.generator is not None]  # the others are greedy
    if drawn:
        scores[drawn] = warp(scores[drawn], [states[row].sampling for row in drawn])
    logprobs = scores.log_softmax(-1)
    tokens = scores.argmax(-1)  # of the scores: rounding in log_softmax can make equal what was not
    if drawn:
        tokens[drawn] = _gumbel_max(logprobs[drawn], [states[row] for row in drawn])
    token_logprobs = map(_finite, _to_list(logprobs.gather(1, tokens[:, None])[:, 0]))
    tops = [_top(logprobs[row], state.sampling.top_n_tokens) for row, state in enumerate(states)]
    return [SampledToken(*fields) for fields in zip(_to_list(tokens), token_logprobs, tops, strict=True)]


def score_prompt(logits: Tensor, tokens: Sequence[int], top_n_tokens: int) -> list[PromptLogprob]:
    """The log-probabilities of `tokens`, each given by its row of `logits` [tokens, vocab_size]."""
    logprobs = logits.float().log_softmax(-1)
    chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    best = logprobs.topk(min(top_n_tokens, logprobs.shape[-1]))
    tops = [
        tuple(zip(ids, map(_finite, values), strict=True))
        for ids, values in zip(_to_list(best.indices), _to_list(best.values), strict=True)
    ]
    return [PromptLogprob(_finite(each), top) for each, top in zip(_to_list(chosen), tops, strict=True)]


def _forbid(scores: Tensor, states: Sequence[SamplerState]) -> None:
    """Write -inf into `scores` for tokens that are not allowed. Biases, penalties and warpers leave it as it is."""
    rows = [row for row, state in enumerate(states) if state.allowed is not None]
    if rows:
        marks = b"".join(state.allowed for state in states if state.allowed is not None)
        allowed = torch.frombuffer(bytearray(marks), dtype=torch.uint8).view(len(rows), -1)
        forbidden = allowed[:, : scores.shape[1]].to(scores.device) == 0
        scores[rows] = scores[rows].masked_fill(forbidden, -math.inf)


def _apply_penalties(scores: Tensor, states: Sequence[SamplerState]) -> None:
    """Repetition penalty, then frequency and presence penalty, written into `scores` [rows, vocab_size].

    TGI's frequency penalty (`HeterogeneousFrequencyPenaltyLogitsProcessor`) is multiplied by a token's *share* of all
    tokens so far, prompt included. TGI divides by the length of the batch's longest row; here it is the row's own
    length, so that other rows do not matter.

    The presence penalty is subtracted once from every token that occurred. TGI's chat turns a presence penalty p into a
    repetition penalty of p + 2 instead, which is strong where p is 0 and has no effect where p is -1.
    """
    rows = [row for row, state in enumerate(states) if state.counts is not None]
    if not rows:
        return
    counts = torch.stack([state.counts for state in states if state.counts is not None])
    repetition = column(scores, [states[row].sampling.repetition_penalty for row in rows])
    frequency = column(scores, [states[row].sampling.frequency_penalty / states[row].length for row in rows])
    presence = column(scores, [states[row].sampling.presence_penalty for row in rows])
    unpenalised = scores[rows]
    penalised = torch.where(unpenalised < 0, unpenalised * repetition, unpenalised / repetition) - presence
    scores[rows] = torch.where(counts > 0, penalised, unpenalised) - frequency * counts


def _gumbel_max(logprobs: Tensor, states: Sequence[SamplerState]) -> Tensor:
    """One token per row of [rows, vocab_size], each drawn with its row's own generator.

    An exponential race (TGI's `Sampling`; Gumbel-max without its logarithms): the largest p / Exp(1) wins, which is
    each token with probability p. The result hardly depends on the other rows: another batch size moves logits by a
    rounding error, which matters only if the first two tokens of the race are that close. One uniform number looked up
    among cumulative probabilities would be sensitive at the boundary of every token.

    Exp(1) is -log of a uniform number: one logarithm for all rows takes less than half the time of torch's
    `exponential_` for each. A uniform number can be 0, but not 1, so that no token wins by a division by zero.
    """
    uniform = logprobs.new_empty(logprobs.shape)
    for row, state in zip(uniform, states, strict=True):
        row.uniform_(generator=state.generator)
    return (logprobs.exp() / uniform.log_().neg_()).argmax(-1)


def _top(logprobs: Tensor, count: int) -> tuple[tuple[int, float | None], ...]:
    """The `count` likeliest of [vocab_size], likeliest first; all that tie for the last place, none at -inf."""
    if count < 1:
        return ()
    edge = logprobs.topk(min(count, logprobs.shape[0])).values[-1]
    ids = ((logprobs >= edge) & (logprobs > -math.inf)).nonzero()[:, 0]
    order = logprobs[ids].sort(descending=True, stable=True)
    return tuple(zip(_to_list(ids[order.indices]), _to_list(order.values), strict=True))


def _to_list(column: Any) -> list[Any]:
    """The numbers of a tensor; `Any`, because torch's stubs do not say what `tolist` returns."""
    return list(column.tolist())


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
