"""The sampler beside transformers' own processors, one row at a time, and what TGI says beyond those."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from hfstream.server.engine.protocol import SamplingParams
from hfstream.server.engine.sampler import SampledToken, SamplerState, fold_seed, sample_tokens

VOCAB = 50
PROMPT = [3, 4, 4, 7]


def logits_of(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def chooser(prompt: list[int] = PROMPT, **wishes: Any) -> SamplerState:
    return SamplerState(SamplingParams(**wishes), prompt, vocab_size=VOCAB, device="cpu")


def sampler(**wishes: Any) -> SamplerState:
    return chooser(do_sample=True, **{"seed": 0, **wishes})


def one(logits: Tensor, chooser: SamplerState) -> SampledToken:
    (choice,) = sample_tokens([logits], [chooser])
    return choice


def distribution(logits: Tensor, **wishes: Any) -> dict[int, float | None]:
    """Every token that is possible, with its logprob."""
    return dict(one(logits, sampler(top_n_tokens=VOCAB, **wishes)).top)


def transformers_distribution(logits: Tensor, *processors: Any) -> dict[int, float]:
    prompt: Any = torch.tensor([PROMPT])
    scores: Any = logits
    logprobs = LogitsProcessorList(processors)(prompt, scores).log_softmax(-1)[0]
    return {token: value for token, value in enumerate(logprobs.tolist()) if value > -math.inf}


@settings(deadline=None)
@given(
    seed=st.integers(0, 999),
    temperature=st.none() | st.floats(0.1, 3),
    top_k=st.none() | st.integers(1, 2 * VOCAB),
    top_p=st.none() | st.floats(0.01, 0.99),
    penalty=st.none() | st.floats(0.5, 2),
)
def test_warping_is_that_of_transformers(
    seed: int, temperature: float | None, top_k: int | None, top_p: float | None, penalty: float | None
) -> None:
    wishes = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "repetition_penalty": penalty}
    wishes = {name: value for name, value in wishes.items() if value is not None}
    makers: dict[str, Any] = {
        "repetition_penalty": RepetitionPenaltyLogitsProcessor,
        "temperature": TemperatureLogitsWarper,
        "top_k": TopKLogitsWarper,
        "top_p": TopPLogitsWarper,
    }
    logits = logits_of(1, seed)
    expected = transformers_distribution(logits, *(makers[name](wishes[name]) for name in makers if name in wishes))
    assert distribution(logits, **wishes) == pytest.approx(expected, abs=1e-5)


def test_a_crowd_is_treated_as_each_alone() -> None:
    wishes: list[dict[str, Any]] = [
        {},
        {"repetition_penalty": 1.5, "top_n_tokens": 4},
        {"do_sample": True, "seed": 1, "temperature": 0.5},
        {"do_sample": True, "seed": 2, "top_k": 3, "frequency_penalty": 1.0},
        {"do_sample": True, "seed": 3, "top_p": 0.5, "top_n_tokens": 1},
        {"do_sample": True, "seed": 4, "top_k": 9, "top_p": 0.9, "repetition_penalty": 0.8},
    ]
    logits = logits_of(len(wishes))
    alone = [one(logits[[row]], chooser(**wish)) for row, wish in enumerate(wishes)]
    together = sample_tokens([logits[:2], logits[2:]], [chooser(**wish) for wish in wishes])
    assert [choice.token for choice in together] == [choice.token for choice in alone]
    assert [choice.logprob for choice in together] == pytest.approx([choice.logprob for choice in alone], abs=1e-5)
    assert [len(choice.top) for choice in together] == [0, 4, 0, 0, 1, 0]


def test_the_logits_given_stay_as_they_are() -> None:
    logits = logits_of(1)
    one(logits, sampler(top_k=3, repetition_penalty=2.0))
    assert torch.equal(logits, logits_of(1))


def test_greedy_takes_the_best_of_the_penalised_and_minds_no_temperature() -> None:
    logits = logits_of(1)
    best = int(logits.argmax())
    logits[0, best] = 5.0
    assert one(logits, chooser(temperature=9.0, top_k=1, top_p=0.1)) == one(logits, chooser())
    choice = one(logits, chooser([best], repetition_penalty=100.0))
    logits[0, best] /= 100
    assert choice.token == int(logits.argmax()) != best
    assert choice.logprob == pytest.approx(logits.log_softmax(-1)[0, choice.token].item(), abs=1e-5)


def test_frequency_penalty_is_on_the_share_of_prompt_and_answer() -> None:
    penalised = chooser(frequency_penalty=2.0, top_n_tokens=VOCAB)
    penalised.update(4)
    logits = logits_of(1)
    logprobs = dict(one(logits, penalised).top)
    logits[0, [3, 7]] -= 2.0 * 1 / 5
    logits[0, 4] -= 2.0 * 3 / 5
    assert logprobs == pytest.approx(dict(enumerate(logits.log_softmax(-1)[0].tolist())), abs=1e-5)


def test_presence_penalty_is_taken_once_from_all_that_was_read_or_said() -> None:
    logits = logits_of(2)
    penalised, plain = chooser(presence_penalty=1.5, top_n_tokens=VOCAB), chooser(top_n_tokens=VOCAB)
    penalised.update(4)  # it was in the prompt twice
    penalised.update(9)
    told, untouched = sample_tokens([logits.clone()], [penalised, plain])
    logits[0, [3, 4, 7, 9]] -= 1.5
    assert dict(told.top) == pytest.approx(dict(enumerate(logits.log_softmax(-1)[0].tolist())), abs=1e-5)
    assert dict(untouched.top) == pytest.approx(dict(enumerate(logits.log_softmax(-1)[1].tolist())), abs=1e-5)


def test_penalties_go_together_in_their_order() -> None:
    wishes = {"repetition_penalty": 2.0, "frequency_penalty": 1.0, "presence_penalty": -0.5, "top_n_tokens": VOCAB}
    logits = logits_of(1)
    told = dict(one(logits.clone(), chooser([5, 5, 6, 7], **wishes)).top)
    for token, share in ((5, 0.5), (6, 0.25), (7, 0.25)):
        value = logits[0, token]
        logits[0, token] = (value * 2 if value < 0 else value / 2) + 0.5 - share
    assert told == pytest.approx(dict(enumerate(logits.log_softmax(-1)[0].tolist())), abs=1e-5)


def test_top_tokens_come_sorted_with_all_ties_and_nothing_impossible() -> None:
    logits = torch.full((1, VOCAB), -1.0)
    logits[0, [5, 9, 11]] = torch.tensor([1.0, 2.0, 1.0])
    assert [token for token, _ in one(logits, chooser(top_n_tokens=2)).top] == [9, 5, 11]
    assert [token for token, _ in one(logits, chooser(top_n_tokens=1)).top] == [9]
    assert one(logits, chooser()).top == ()
    assert len(one(logits, sampler(top_k=3, top_n_tokens=5)).top) == 3
    assert len(one(logits, sampler(top_k=2, top_n_tokens=5)).top) == 3, "top_k keeps ties as well"


def test_logprobs_follow_the_warping() -> None:
    choice = one(logits_of(1), sampler(top_k=1, top_n_tokens=5))
    [(token, logprob)] = choice.top
    assert token == choice.token
    assert [choice.logprob, logprob] == pytest.approx([0.0, 0.0], abs=1e-5)


@pytest.mark.parametrize("wishes", [{}, {"do_sample": True, "seed": 1, "top_k": 3, "top_p": 0.5}])
def test_what_is_no_number_is_none(wishes: dict[str, Any]) -> None:
    choice = one(torch.full((1, VOCAB), torch.nan), chooser(**wishes, top_n_tokens=2))
    assert 0 <= choice.token < VOCAB
    assert (choice.logprob, choice.top) == (None, ())


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05, *[0.0] * (VOCAB - 4)]]).log()
    drawing = sampler(seed=11)
    counts = torch.bincount(torch.tensor([one(logits, drawing).token for _ in range(4000)]), minlength=VOCAB) / 4000
    assert counts[:4].tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    assert counts[4:].sum() == 0


def test_a_seed_repeats_itself_and_another_does_not() -> None:
    def said(seed: int) -> list[int]:
        drawing = sampler(seed=seed)
        return [one(torch.zeros(1, VOCAB), drawing).token for _ in range(20)]

    seeds = [0, 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1]
    assert [said(seed) for seed in seeds] == [said(seed) for seed in seeds]
    assert len({tuple(said(seed)) for seed in seeds}) == len(seeds)


def test_sampling_needs_a_seed() -> None:
    with pytest.raises(ValueError, match="without a seed"):
        chooser(do_sample=True)


def test_every_bit_of_a_seed_counts() -> None:
    seeds = [0, *(2**bit for bit in range(64)), *(2**64 - 1 - 2**bit for bit in range(64)), 2**64 - 1]
    assert len({fold_seed(seed) for seed in seeds}) == len(seeds)
    assert [fold_seed(seed) for seed in (0, 2**32 - 1)] == [0, 2**32 - 1]
    assert max(map(fold_seed, seeds)) < 2**32
