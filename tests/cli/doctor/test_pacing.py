"""Tests of how the times of tokens are judged: computed times, so that no machine is too slow for them."""

from __future__ import annotations

import pytest

from hfstream.cli.doctor.pacing import Pace, judge_pacing


def steady(tokens: int, gap: float, first: float = 0.05) -> list[float]:
    return [first + number * gap for number in range(tokens)]


def lumps(number: int, size: int, gap: float, first: float) -> list[float]:
    return [first + lump * gap + token * 0.00001 for lump in range(number) for token in range(size)]


@pytest.mark.parametrize("gap", [0.001, 0.025, 0.5])
def test_steady_tokens_come_one_by_one(gap: float) -> None:
    pacing = judge_pacing(steady(64, gap))
    assert pacing.pace is Pace.ONE_BY_ONE
    assert (pacing.tokens, pacing.lumps) == (64, 64)
    assert pacing.median_gap == pytest.approx(gap)


def test_two_or_three_tokens_at_a_time_are_no_lumps() -> None:
    """Speculative decoding makes several tokens in one step."""
    assert judge_pacing(lumps(20, 3, 0.06, 0.1)).pace is Pace.ONE_BY_ONE


def test_lumps_have_pauses_that_a_reader_sees() -> None:
    pacing = judge_pacing(lumps(4, 16, 0.4, 0.4))
    assert (pacing.pace, pacing.lumps) == (Pace.LUMPS, 4)
    assert judge_pacing(lumps(4, 16, 0.01, 0.01)).pace is Pace.SEVERAL


def test_all_at_once_needs_a_baseline() -> None:
    arrivals = lumps(1, 64, 0, 2.0)
    assert judge_pacing(arrivals).pace is Pace.AT_ONCE
    assert judge_pacing(arrivals, baseline=0.05).pace is Pace.HELD_BACK


def test_a_server_that_is_slow_to_begin_and_fast_after_it_holds_nothing_back() -> None:
    """One token took as long as all 64: it was the prompt, or a queue, that took the time."""
    arrivals = lumps(1, 64, 0, 2.0)
    assert judge_pacing(arrivals, baseline=1.95).pace is Pace.AT_ONCE
    assert judge_pacing(steady(64, 0.005, first=2.0)).pace is Pace.ONE_BY_ONE


def test_a_baseline_that_took_longer_proves_nothing() -> None:
    """The first request loaded the model."""
    assert judge_pacing(lumps(1, 64, 0, 0.5), baseline=8.0).pace is Pace.AT_ONCE


def test_what_was_held_back_may_take_several_reads() -> None:
    arrivals = [3.0 + read * 0.00002 for read in range(8) for _ in range(8)]
    assert judge_pacing(arrivals, baseline=0.05).pace is Pace.HELD_BACK


@pytest.mark.parametrize("tokens", range(4))
def test_a_few_tokens_say_nothing(tokens: int) -> None:
    pacing = judge_pacing(steady(tokens, 0.1))
    assert pacing.pace is Pace.TOO_FEW
    assert pacing.tokens == tokens
