"""How many prompt tokens a step reads, from measured times; and who gets them."""

from __future__ import annotations

import pytest

from hfstream.server.engine.prefill_budget import (
    FIRST_CHUNK,
    MAX_CHUNK,
    MAX_GAP,
    MIN_CHUNK,
    MIN_CHUNK_ALONE,
    PrefillBudget,
    share_out,
)


def measure(*, decode: float, per_token: float, steps: int = 10) -> PrefillBudget:
    """A budget after some steps of a machine with these times."""
    budget = PrefillBudget()
    for _ in range(steps):
        budget.record(decode, decoding=True, tokens=0)
        tokens = budget.tokens(decoding=True)
        budget.record(decode + tokens * per_token, decoding=True, tokens=tokens)
    return budget


def test_the_first_chunk_is_small() -> None:
    assert PrefillBudget().tokens(decoding=True) == PrefillBudget().tokens(decoding=False) == FIRST_CHUNK


@pytest.mark.parametrize(("decode", "per_token"), [(0.005, 0.0002), (0.05, 0.004), (0.02, 0.001)])
def test_a_step_takes_the_time_that_is_aimed_at(decode: float, per_token: float) -> None:
    tokens = measure(decode=decode, per_token=per_token).tokens(decoding=True)
    assert decode + tokens * per_token == pytest.approx(MAX_GAP, rel=0.1)


def test_a_slow_model_reads_as_long_as_it_decodes() -> None:
    assert measure(decode=1.0, per_token=0.01).tokens(decoding=True) == pytest.approx(100, abs=3)


def test_large_chunks_without_a_stream_do_not_make_the_first_one_beside_a_stream_too_long() -> None:
    budget = PrefillBudget()
    budget.record(0.05, decoding=True, tokens=0)
    budget.record(0.5, decoding=False, tokens=500)  # a millisecond each, and up to three in a small chunk
    tokens = budget.tokens(decoding=True)
    assert 0.05 + tokens * 0.003 <= MAX_GAP
    assert budget.tokens(decoding=False) == 500


def test_a_token_that_costs_more_is_believed_at_once() -> None:
    budget = measure(decode=0.05, per_token=0.001)
    tokens = budget.tokens(decoding=True)
    budget.record(0.05 + tokens * 0.002, decoding=True, tokens=tokens)
    assert 0.05 + budget.tokens(decoding=True) * 0.002 == pytest.approx(MAX_GAP, rel=0.1)


def test_more_is_read_if_no_stream_waits() -> None:
    budget = measure(decode=0.05, per_token=0.004)
    assert budget.tokens(decoding=False) > 3 * budget.tokens(decoding=True)


def test_there_are_a_least_and_a_most() -> None:
    slow = measure(decode=0.05, per_token=10.0)
    assert slow.tokens(decoding=True) == MIN_CHUNK
    assert slow.tokens(decoding=False) == MIN_CHUNK_ALONE
    assert measure(decode=0.001, per_token=1e-7).tokens(decoding=True) == MAX_CHUNK


def test_a_step_that_is_faster_than_those_before_does_not_make_tokens_free() -> None:
    budget = PrefillBudget()
    budget.record(0.5, decoding=True, tokens=0)
    budget.record(0.1, decoding=True, tokens=100)
    assert budget.tokens(decoding=True) < MAX_CHUNK


def test_one_slow_step_is_forgotten() -> None:
    budget = measure(decode=0.05, per_token=0.004)
    before = budget.tokens(decoding=True)
    budget.record(5.0, decoding=True, tokens=before)
    assert budget.tokens(decoding=True) < before
    for _ in range(12):
        tokens = budget.tokens(decoding=True)
        budget.record(0.05 + tokens * 0.004, decoding=True, tokens=tokens)
    assert budget.tokens(decoding=True) == pytest.approx(before, rel=0.1)


@pytest.mark.parametrize(
    ("budget", "remaining", "shares"),
    [
        (64, [], []),
        (64, [10], [10]),
        (64, [1000], [64]),
        (64, [1000, 1000], [32, 32]),
        (64, [1000, 10, 1000], [32, 10, 22]),
        (64, [1000, 30, 10], [32, 22, 10]),
        (64, [5, 1000, 20], [5, 39, 20]),
        (64, [1000, 3], [61, 3]),
        (17, [1000, 1000], [9, 8]),
        (64, [12, 12, 12, 12], [12, 12, 12, 12]),
    ],
)
def test_the_first_gets_half_and_short_prompts_the_rest(budget: int, remaining: list[int], shares: list[int]) -> None:
    assert share_out(budget, remaining) == shares
