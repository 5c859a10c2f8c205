"""Choosing tokens: penalties, temperature, top-k, top-p, noise and log-probabilities, for all rows of a batch at once.

Logits come in, one `SampledToken` per row goes out. A row has `SamplingParams` and a `SamplerState`. The order
of the steps and the meaning of each parameter are TGI's (`utils/logits_process.py`, `utils/tokens.py` of its server),
whose numbers depend on no other row here. Refuses to know models, caches, text and HTTP.

torch is imported where tensors are made and not at the top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from .protocol import SamplingParams

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The token chosen for one row. Log-probabilities are natural logs, `None` where there is no finite one."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float | None], ...]
    """(id, logprob) of the `top_n_tokens` likeliest, likeliest first; more where the last place is tied."""


class SamplerState:
    """One answer's memory from step to step: its own noise, and how often each token was read or said."""

    __slots__ = ("counts", "generator", "length", "sampling")

    def __init__(self, sampling: SamplingParams, prompt: Sequence[int], *, vocab_size: int, device: str) -> None:
        """`prompt`: the ids read, all below `vocab_size`. `device`: where the logits will be."""
        import torch

        self.sampling: SamplingParams = sampling
        self.length: int = len(prompt)
        self.counts: Tensor | None = None  # [vocab_size]
        self.generator: torch.Generator | None = None
        if sampling.has_penalties:
            self.counts = torch.tensor(prompt, device=device).bincount(minlength=vocab_size).float()
        if sampling.do_sample:
            if sampling.seed is None:
                raise ValueError("do_sample without a seed")
            self.generator = torch.Generator(device).manual_seed(fold_seed(sampling.seed))

    def update(self, token: int) -> None:
        """Take note of the token this answer went on with."""
        self.length += 1
        if self.counts is not None:
            self.counts[token] += 1


def fold_seed(seed: int) -> int:
    """A u64 seed as the 32 bits that torch's CPU generator listens to (`manual_seed` takes 64 and ignores the rest).

    A seed of 32 bits stays as it is, so those all differ; of a longer one every bit counts, through a hash.
    """
    if seed < 1 << 32:
        return seed
    return int.from_bytes(blake2b(seed.to_bytes(8, "little"), digest_size=4).digest(), "little")


def sample_tokens(logits: Sequence[Tensor], states: Sequence[SamplerState]) -> list[SampledToken]:
    """The next token of every row. `logits`: pieces of [rows, vocab_size] in row order; `states`: one per row.

    Log-probabilities are of the distribution as warped, as TGI's are. What was chosen must be told with `update`.
    """
    import torch

    scores = torch.cat(list(logits)).float()  # a copy, so what follows may write into it
    _penalise(scores, states)
    sampled = [row for row, state in enumerate(states) if state.generator is not None]
    if sampled:
        scores[sampled] = _warp(scores[sampled], [states[row].sampling for row in sampled])
    logprobs = scores.log_softmax(-1)
    tokens = scores.argmax(-1)  # not of logprobs: rounding there can tie what was not tied
    if sampled:
        tokens[sampled] = _gumbel_max(logprobs[sampled], [states[row] for row in sampled])
    chosen = logprobs.gather(1, tokens[:, None])[:, 0]
    tops = [_top(logprobs[row], state.sampling.top_n_tokens) for row, state in enumerate(states)]
    return [
        SampledToken(*sampled) for sampled in zip(_to_list(tokens), map(_finite, _to_list(chosen)), tops, strict=True)
    ]


def _penalise(scores: Tensor, states: Sequence[SamplerState]) -> None:
    """Repetition penalty, then frequency and presence penalty, written into `scores` [rows, vocab_size].

    TGI's frequency penalty (`HeterogeneousFrequencyPenaltyLogitsProcessor`) is on a token's *share* of all tokens so
    far, prompt included. TGI divides by the longest row of the batch; here by the row's own: neighbours do not matter.

    The presence penalty is taken once from every token that was read or said. TGI's chat makes a repetition penalty of
    p + 2 of it, which punishes hard where p is 0, and leaves all as it is at -1.
    """
    import torch

    rows = [row for row, state in enumerate(states) if state.counts is not None]
    if not rows:
        return
    counts = torch.stack([state.counts for state in states if state.counts is not None])
    repetition = _column(scores, [states[row].sampling.repetition_penalty for row in rows])
    frequency = _column(scores, [states[row].sampling.frequency_penalty / states[row].length for row in rows])
    presence = _column(scores, [states[row].sampling.presence_penalty for row in rows])
    unpenalised = scores[rows]
    penalised = torch.where(unpenalised < 0, unpenalised * repetition, unpenalised / repetition) - presence
    scores[rows] = torch.where(counts > 0, penalised, unpenalised) - frequency * counts


def _warp(scores: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Temperature, then top-k and top-p, of [rows, vocab_size]; excluded tokens become -inf."""
    scores = scores / _column(scores, [param.temperature for param in params])
    rows = [row for row, param in enumerate(params) if param.has_truncation]
    if rows:
        scores[rows] = _top_k_top_p(scores[rows], [params[row] for row in rows])
    return scores


def _top_k_top_p(scores: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Keep each row's `top_k` likeliest, of those the fewest whose probabilities reach `top_p`; ties at the edge too.

    A full sort costs 2 ms a row at 32,000 tokens, so no more than the largest k is sorted.
    """
    import torch

    vocab_size = scores.shape[-1]
    top_ks = [min(param.top_k or vocab_size, vocab_size) for param in params]
    best = scores.topk(max(top_ks)).values  # [rows, max k], falling
    outside = torch.arange(max(top_ks), device=scores.device) >= _column(scores, top_ks)
    probs = best.masked_fill(outside, -math.inf).softmax(-1)
    before = probs.cumsum(-1) - probs  # what the likelier tokens have together
    reach = _column(scores, [math.inf if param.top_p is None else param.top_p for param in params])
    kept = (~outside & (before < reach)).sum(-1, keepdim=True)
    edge = best.gather(1, (kept - 1).clamp_min(0))
    return scores.masked_fill(scores < edge, -math.inf)


def _gumbel_max(logprobs: Tensor, states: Sequence[SamplerState]) -> Tensor:
    """One token per row of [rows, vocab_size], by a race of exponential clocks (TGI's `Sampling`) with its own noise.

    A batch of another size moves logits by a rounding error. Only a photo finish could notice here; one uniform number
    looked up among cumulative probabilities would notice at the edges of all tokens.
    """
    generator = logprobs.new_empty(logprobs.shape)
    for row, state in zip(generator, states, strict=True):
        row.exponential_(generator=state.generator)
    return (logprobs.exp() / generator).argmax(-1)


def _top(logprobs: Tensor, count: int) -> tuple[tuple[int, float | None], ...]:
    """The `count` likeliest of [vocab_size], likeliest first, and all that tie for the last place; none at -inf."""
    if count < 1:
        return ()
    edge = logprobs.topk(min(count, logprobs.shape[0])).values[-1]
    ids = ((logprobs >= edge) & (logprobs > -math.inf)).nonzero()[:, 0]
    order = logprobs[ids].sort(descending=True, stable=True)
    return tuple(zip(_to_list(ids[order.indices]), _to_list(order.values), strict=True))


def _column(like: Tensor, values: Sequence[float]) -> Tensor:
    """One number per row, as [rows, 1], beside `like`."""
    return like.new_tensor(values)[:, None]


def _to_list(column: Any) -> list[Any]:
    """The numbers of a tensor [n]; `Any`, because torch's stubs do not say what `tolist` returns."""
    return list(column.tolist())


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
