"""TGI's watermark: half of the vocabulary, a half that the token before selects, becomes likelier.

"A Watermark for Large Language Models", https://arxiv.org/abs/2301.10226, with TGI's numbers
(`server/text_generation_server/utils/watermark.py`): a detector that knows them can tell by the share of such tokens
that a model has written a text. The halves are those of TGI on a CPU; torch's generators of other devices give others.

Does not depend on requests or on how tokens are drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor

GAMMA = 0.5
"""The share of the vocabulary."""
DELTA = 2.0
"""What is added to the logits."""
HASH_KEY = 15_485_863
"""Times the id of the token before: the seed of the selection."""


def favoured_tokens(previous: int, vocab_size: int) -> Tensor:
    """Ids of the tokens that become likelier after the token `previous`; on the CPU."""
    generator = torch.Generator("cpu").manual_seed(HASH_KEY * previous)
    return torch.randperm(vocab_size, generator=generator)[: int(vocab_size * GAMMA)]


def add_watermark(scores: Tensor, previous: int) -> None:
    """Marks the token after `previous`; writes into `scores` [vocab_size]."""
    scores[favoured_tokens(previous, scores.shape[0]).to(scores.device)] += DELTA
