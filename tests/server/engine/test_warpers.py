"""The warpers; that they are transformers' own is in `test_sampler`."""

from __future__ import annotations

import math

import torch

from hfstream.server.engine.protocol import SamplingParams
from hfstream.server.engine.warpers import warp

LOGITS = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()


def kept(**params: float) -> list[int]:
    warped = warp(LOGITS[None], [SamplingParams(do_sample=True, seed=0, **params)])  # type: ignore[arg-type]
    return (warped[0] > -math.inf).nonzero()[:, 0].tolist()


def test_min_p_is_a_share_of_the_likeliest_tokens_probability() -> None:
    assert kept(min_p=0.51) == [0]
    assert kept(min_p=0.49) == [0, 1]
    assert kept(min_p=0.24) == [0, 1, 2, 3]
    assert kept(min_p=1.0) == [0]


def test_typical_p_keeps_what_is_least_surprising() -> None:
    """The entropy is 1.75 bits; the surprises are 1, 2, 3 and 3 bits: the second token is the most typical one."""
    assert kept(typical_p=0.2) == [1]
    assert kept(typical_p=0.5) == [0, 1]
    assert kept(typical_p=0.9) == [0, 1, 2, 3]
    assert kept(typical_p=0.999999) == [0, 1, 2, 3]


def test_rows_with_other_parameters_do_not_matter() -> None:
    params = [SamplingParams(), SamplingParams(typical_p=0.2), SamplingParams(min_p=0.49), SamplingParams(top_k=1)]
    warped = warp(LOGITS.repeat(4, 1), params)
    assert (warped > -math.inf).sum(-1).tolist() == [4, 1, 2, 1]
