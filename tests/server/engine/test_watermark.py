"""TGI's watermark."""

from __future__ import annotations

import torch

from hfstream.server.engine.watermark import add_watermark, favoured_tokens

VOCAB = 1000


def test_half_of_the_vocabulary_gets_two_more() -> None:
    scores = torch.zeros(VOCAB)
    add_watermark(scores, 7)
    assert sorted(set(scores.tolist())) == [0.0, 2.0]
    assert scores.nonzero()[:, 0].tolist() == sorted(favoured_tokens(7, VOCAB).tolist())
    assert int((scores > 0).sum()) == VOCAB // 2


def test_it_is_that_of_tgi() -> None:
    """A permutation by torch's generator on the CPU, its seed 15485863 times the token before."""
    permutation = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(15485863 * 12))
    assert favoured_tokens(12, VOCAB).tolist() == permutation[:500].tolist()
    assert favoured_tokens(13, VOCAB).tolist() != permutation[:500].tolist()
