"""The sampler compared with transformers' own processors, one row at a time, and with TGI where that differs."""

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
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from hfstream.server.engine.protocol import SamplingParams
from hfstream.server.engine.sampler import SampledToken, SamplerState, fold_seed, sample_tokens
from hfstream.server.engine.watermark import favoured_tokens

VOCAB = 50
PROMPT = [3, 4, 4, 7]


def logits_of(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def make_state(prompt: list[int] = PROMPT, **params: Any) -> SamplerState:
    return SamplerState(SamplingParams(**params), prompt, vocab_size=VOCAB, device="cpu")


def make_sampling_state(**params: Any) -> SamplerState:
    return make_state(do_sample=True, **{"seed": 0, **params})


def sample_one(logits: Tensor, state: SamplerState) -> SampledToken:
    (sampled,) = sample_tokens([logits], [state])
    return sampled


def distribution(logits: Tensor, **params: Any) -> dict[int, float | None]:
    """Every token that is possible, with its logprob."""
    return dict(sample_one(logits, make_sampling_state(top_n_tokens=VOCAB, **params)).top)


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
    min_p=st.none() | st.floats(0.001, 1),
    typical_p=st.none() | st.floats(0.01, 0.99),
    penalty=st.none() | st.floats(0.5, 2),
)
def test_the_distribution_is_that_of_transformers(
    seed: int,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    typical_p: float | None,
    penalty: float | None,
) -> None:
    params = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "typical_p": typical_p,
        "repetition_penalty": penalty,
    }  # fmt: skip
    params = {name: value for name, value in params.items() if value is not None}
    makers: dict[str, Any] = {
        "repetition_penalty": RepetitionPenaltyLogitsProcessor,
        "temperature": TemperatureLogitsWarper,
        "top_k": TopKLogitsWarper,
        "top_p": TopPLogitsWarper,
        "min_p": MinPLogitsWarper,
        "typical_p": TypicalLogitsWarper,
    }
    logits = logits_of(1, seed)
    expected = transformers_distribution(logits, *(makers[name](params[name]) for name in makers if name in params))
    assert distribution(logits, **params) == pytest.approx(expected, abs=1e-5)


def test_a_batch_gives_the_same_as_each_row_alone() -> None:
    params: list[dict[str, Any]] = [
        {},
        {"repetition_penalty": 1.5, "top_n_tokens": 4},
        {"do_sample": True, "seed": 1, "temperature": 0.5},
        {"do_sample": True, "seed": 2, "top_k": 3, "frequency_penalty": 1.0},
        {"do_sample": True, "seed": 3, "top_p": 0.5, "top_n_tokens": 1},
        {"do_sample": True, "seed": 4, "top_k": 9, "top_p": 0.9, "repetition_penalty": 0.8},
        {"do_sample": True, "seed": 5, "typical_p": 0.95},
        {"do_sample": True, "seed": 6, "min_p": 0.2, "watermark": True},
        {"logit_bias": ((3, 5.0),), "watermark": True},
    ]
    logits = logits_of(len(params))
    alone = [sample_one(logits[[row]], make_state(**row_params)) for row, row_params in enumerate(params)]
    together = sample_tokens([logits[:2], logits[2:]], [make_state(**row_params) for row_params in params])
    assert [sampled.token for sampled in together] == [sampled.token for sampled in alone]
    assert [sampled.logprob for sampled in together] == pytest.approx([sampled.logprob for sampled in alone], abs=1e-5)
    assert [len(sampled.top) for sampled in together] == [0, 4, 0, 0, 1, 0, 0, 0, 0]


def test_the_given_logits_are_not_changed() -> None:
    logits = logits_of(1)
    sample_one(logits, make_sampling_state(top_k=3, repetition_penalty=2.0))
    assert torch.equal(logits, logits_of(1))


def test_greedy_takes_the_best_after_penalties_and_ignores_temperature() -> None:
    logits = logits_of(1)
    best = int(logits.argmax())
    logits[0, best] = 5.0
    assert sample_one(logits, make_state(temperature=9.0, top_k=1, top_p=0.1)) == sample_one(logits, make_state())
    sampled = sample_one(logits, make_state([best], repetition_penalty=100.0))
    logits[0, best] /= 100
    assert sampled.token == int(logits.argmax()) != best
    assert sampled.logprob == pytest.approx(logits.log_softmax(-1)[0, sampled.token].item(), abs=1e-5)


def test_frequency_penalty_is_multiplied_by_the_share_in_prompt_and_output() -> None:
    penalised = make_state(frequency_penalty=2.0, top_n_tokens=VOCAB)
    penalised.update(4)
    logits = logits_of(1)
    logprobs = dict(sample_one(logits, penalised).top)
    logits[0, [3, 7]] -= 2.0 * 1 / 5
    logits[0, 4] -= 2.0 * 3 / 5
    assert logprobs == pytest.approx(dict(enumerate(logits.log_softmax(-1)[0].tolist())), abs=1e-5)


def test_presence_penalty_is_subtracted_once_from_every_token_that_occurred() -> None:
    logits = logits_of(2)
    penalised, plain = make_state(presence_penalty=1.5, top_n_tokens=VOCAB), make_state(top_n_tokens=VOCAB)
    penalised.update(4)  # it was in the prompt twice
    penalised.update(9)
    sampled, untouched = sample_tokens([logits.clone()], [penalised, plain])
    logits[0, [3, 4, 7, 9]] -= 1.5
    assert dict(sampled.top) == pytest.approx(dict(enumerate(logits.log_softmax(-1)[0].tolist())), abs=1e-5)
    assert dict(untouched.top) == pytest.approx(dict(enumerate(logits.log_softmax(-1)[1].tolist())), abs=1e-5)


def test_penalties_are_combined_in_order() -> None:
    params = {"repetition_penalty": 2.0, "frequency_penalty": 1.0, "presence_penalty": -0.5, "top_n_tokens": VOCAB}
    logits = logits_of(1)
    sampled = dict(sample_one(logits.clone(), make_state([5, 5, 6, 7], **params)).top)
    for token, share in ((5, 0.5), (6, 0.25), (7, 0.25)):
        value = logits[0, token]
        logits[0, token] = (value * 2 if value < 0 else value / 2) + 0.5 - share
    assert sampled == pytest.approx(dict(enumerate(logits.log_softmax(-1)[0].tolist())), abs=1e-5)


def test_biases_come_before_the_penalties() -> None:
    logits = logits_of(1)
    sampled = sample_one(
        logits.clone(), make_state([5], logit_bias=((5, 3.0), (6, -100.0)), repetition_penalty=2.0, top_n_tokens=VOCAB)
    )
    logits[0, 5] += 3
    logits[0, 6] -= 100
    logits[0, 5] = logits[0, 5] * 2 if logits[0, 5] < 0 else logits[0, 5] / 2
    assert dict(sampled.top) == pytest.approx(dict(enumerate(logits.log_softmax(-1)[0].tolist())), abs=1e-4)
    assert sample_one(logits_of(1), make_state(logit_bias=((7, 100.0),))).token == 7


def test_tokens_that_are_not_allowed_are_excluded_whatever_else_is_asked_for() -> None:
    guided = make_sampling_state(
        top_n_tokens=VOCAB, logit_bias=((0, 100.0),), repetition_penalty=0.5, watermark=True, temperature=2.0, top_k=9
    )
    guided.allowed = bytes(200 if token in (4, 7, 9) else 0 for token in range(VOCAB + 3))
    plain = make_state(top_n_tokens=3)
    logits = logits_of(2)
    first, second = sample_tokens([logits], [guided, plain])
    assert {token for token, _ in first.top} == {4, 7, 9}
    assert math.fsum(math.exp(logprob or 0) for _, logprob in first.top) == pytest.approx(1)
    assert first.token in (4, 7, 9)
    assert second == sample_one(logits[1:], plain)


def test_the_watermark_depends_on_the_token_before() -> None:
    state = make_state([1, 2], watermark=True, top_n_tokens=VOCAB)
    for last in (2, 9):
        logits = logits_of(1)
        logits[0, favoured_tokens(last, VOCAB)] += 2
        expected = dict(enumerate(logits.log_softmax(-1)[0].tolist()))
        assert dict(sample_one(logits_of(1), state).top) == pytest.approx(expected, abs=1e-5)
        state.update(9)


def test_top_tokens_are_sorted_with_all_ties_and_without_excluded_tokens() -> None:
    logits = torch.full((1, VOCAB), -1.0)
    logits[0, [5, 9, 11]] = torch.tensor([1.0, 2.0, 1.0])
    assert [token for token, _ in sample_one(logits, make_state(top_n_tokens=2)).top] == [9, 5, 11]
    assert [token for token, _ in sample_one(logits, make_state(top_n_tokens=1)).top] == [9]
    assert sample_one(logits, make_state()).top == ()
    assert len(sample_one(logits, make_sampling_state(top_k=3, top_n_tokens=5)).top) == 3
    assert len(sample_one(logits, make_sampling_state(top_k=2, top_n_tokens=5)).top) == 3, "top_k keeps ties as well"


def test_logprobs_are_of_the_truncated_distribution() -> None:
    sampled = sample_one(logits_of(1), make_sampling_state(top_k=1, top_n_tokens=5))
    [(token, logprob)] = sampled.top
    assert token == sampled.token
    assert [sampled.logprob, logprob] == pytest.approx([0.0, 0.0], abs=1e-5)


@pytest.mark.parametrize("params", [{}, {"do_sample": True, "seed": 1, "top_k": 3, "top_p": 0.5}])
def test_a_logprob_that_is_not_finite_is_none(params: dict[str, Any]) -> None:
    sampled = sample_one(torch.full((1, VOCAB), torch.nan), make_state(**params, top_n_tokens=2))
    assert 0 <= sampled.token < VOCAB
    assert (sampled.logprob, sampled.top) == (None, ())


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05, *[0.0] * (VOCAB - 4)]]).log()
    state = make_sampling_state(seed=11)
    counts = (
        torch.bincount(torch.tensor([sample_one(logits, state).token for _ in range(4000)]), minlength=VOCAB) / 4000
    )
    assert counts[:4].tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    assert counts[4:].sum() == 0


def test_a_seed_gives_the_same_tokens_again_and_another_does_not() -> None:
    def draw(seed: int) -> list[int]:
        state = make_sampling_state(seed=seed)
        return [sample_one(torch.zeros(1, VOCAB), state).token for _ in range(20)]

    seeds = [0, 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1]
    assert [draw(seed) for seed in seeds] == [draw(seed) for seed in seeds]
    assert len({tuple(draw(seed)) for seed in seeds}) == len(seeds)


def test_sampling_needs_a_seed() -> None:
    with pytest.raises(ValueError, match="without a seed"):
        make_state(do_sample=True)


def test_every_bit_of_a_seed_counts() -> None:
    seeds = [0, *(2**bit for bit in range(64)), *(2**64 - 1 - 2**bit for bit in range(64)), 2**64 - 1]
    assert len({fold_seed(seed) for seed in seeds}) == len(seeds)
    assert [fold_seed(seed) for seed in (0, 2**32 - 1)] == [0, 2**32 - 1]
    assert max(map(fold_seed, seeds)) < 2**32
