"""Warpers: what makes sampled tokens likelier or excludes them, for all rows of a batch at once.

Temperature, top-k, top-p, min-p and typical decoding, in this order, which is that of TGI's server and of transformers'
`generate()`; TGI has no min-p. Excluded tokens become -inf. No row's result depends on the other rows.

Does not depend on how tokens are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, arange

from .protocol import SamplingParams


def warp(scores: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """The warped scores [rows, vocab_size]; `params`: one per row."""
    scores = scores / column(scores, [param.temperature for param in params])
    for warper, applies in _WARPERS:
        rows = [row for row, param in enumerate(params) if applies(param)]
        if rows:
            scores[rows] = warper(scores[rows], [params[row] for row in rows])
    return scores


def column(like: Tensor, values: Sequence[float]) -> Tensor:
    """One number per row as [rows, 1], with the dtype and device of `like`."""
    return like.new_tensor(values)[:, None]


def _top_k_top_p(scores: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Keep each row's `top_k` likeliest tokens, and of those the fewest whose probabilities sum to `top_p`.

    Tokens that tie with the last one kept are kept too. A full sort costs 2 ms a row at 32,000 tokens, so no more than
    the largest `top_k` is sorted.
    """
    vocab_size = scores.shape[-1]
    top_ks = [min(param.top_k or vocab_size, vocab_size) for param in params]
    best = scores.topk(max(top_ks)).values  # [rows, largest top_k], descending
    outside = arange(max(top_ks), device=scores.device) >= column(scores, top_ks)
    probs = best.masked_fill(outside, -math.inf).softmax(-1)
    likelier = probs.cumsum(-1) - probs  # the sum of all likelier tokens' probabilities
    top_ps = column(scores, [math.inf if param.top_p is None else param.top_p for param in params])
    kept = (~outside & (likelier < top_ps)).sum(-1, keepdim=True)
    edge = best.gather(1, (kept - 1).clamp_min(0))
    return scores.masked_fill(scores < edge, -math.inf)


def _min_p(scores: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Keep the tokens that are at least `min_p` times as likely as the likeliest one."""
    distance = column(scores, [math.log(param.min_p) for param in params])
    return scores.masked_fill(scores < scores.amax(-1, keepdim=True) + distance, -math.inf)


def _typical_p(scores: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Keep the fewest tokens whose probabilities sum to `typical_p`, of those nearest to the expected surprise.

    "Locally Typical Sampling", https://arxiv.org/abs/2202.00666. The token that reaches the sum is kept, and those that
    are as near as it.
    """
    logprobs = scores.log_softmax(-1)
    entropy = -(logprobs * logprobs.exp()).nansum(-1, keepdim=True)  # an excluded token is -inf * 0: not a number
    distances, order = (-logprobs - entropy).abs().sort(-1)
    sums = logprobs.exp().gather(1, order).cumsum(-1)
    masses = column(scores, [1.0 if param.typical_p is None else param.typical_p for param in params])
    last = (sums < masses).sum(-1, keepdim=True).clamp_max(scores.shape[-1] - 1)
    return scores.masked_fill((-logprobs - entropy).abs() > distances.gather(1, last), -math.inf)


_WARPERS: tuple[tuple[Callable[[Tensor, Sequence[SamplingParams]], Tensor], Callable[[SamplingParams], bool]], ...] = (
    (_top_k_top_p, lambda param: param.top_k is not None or param.top_p is not None),
    (_min_p, lambda param: param.min_p > 0),
    (_typical_p, lambda param: param.typical_p is not None),
)
"""Each with the parameters that switch it on."""
