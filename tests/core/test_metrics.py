"""The times of a stream, against the exact ones."""

from __future__ import annotations

import itertools
import math
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream import InterTokenLatency, Metrics


def measured(times: list[float], started: float = 0.0) -> Metrics:
    metrics = Metrics(started)
    for now in times:
        metrics._record(now, 1)
    return metrics


def test_before_the_first_token_all_metrics_are_empty() -> None:
    metrics = Metrics(5.0)
    assert metrics.time_to_first_token is None
    assert (metrics.tokens, metrics.duration, metrics.tokens_per_second) == (0, 0.0, 0.0)
    assert metrics.inter_token == InterTokenLatency(0.0, 0.0, 0.0)
    assert "time_to_first_token=None, tokens=0" in repr(metrics)


def test_one_token_has_no_gap() -> None:
    metrics = measured([7.0], started=5.0)
    assert (metrics.time_to_first_token, metrics.duration, metrics.tokens) == (2.0, 2.0, 1)
    assert metrics.tokens_per_second == 0.0
    assert metrics.inter_token == InterTokenLatency(0.0, 0.0, 0.0)


def test_the_rate_counts_the_tokens_after_the_first() -> None:
    metrics = measured([110.0, 110.5, 111.0, 112.0], started=100.0)
    assert (metrics.time_to_first_token, metrics.duration, metrics.tokens) == (10.0, 12.0, 4)
    assert metrics.tokens_per_second == 1.5
    assert metrics.inter_token.max == 1.0
    assert re.fullmatch(
        r"Metrics\(time_to_first_token=10.000, tokens=4, tokens_per_second=1.5, duration=12.000, "
        r"inter_token=InterTokenLatency\(p50=0\.\d{4}, p95=\d\.\d{4}, max=1.0000\)\)",
        repr(metrics),
    )


def test_tokens_of_one_chunk_have_no_gap() -> None:
    metrics = Metrics(0.0)
    metrics._record(1.0, 40)
    assert (metrics.tokens, metrics.duration, metrics.tokens_per_second) == (40, 1.0, 0.0)
    metrics._record(2.0, 1)
    assert metrics.inter_token == InterTokenLatency(0.0, 0.0, 1.0)
    assert metrics.tokens_per_second == 40.0


def test_gaps_within_a_chunk_count_as_gaps() -> None:
    metrics = Metrics(0.0)
    for now in range(1, 11):
        metrics._record(float(now), 2)  # 10 gaps within, 9 between
    assert metrics.inter_token.p50 == 0.0
    assert metrics.inter_token.p95 == pytest.approx(1.0, rel=0.03)


@given(st.lists(st.floats(1e-4, 900), min_size=1, max_size=60))
@settings(deadline=None, max_examples=200)
def test_percentiles_are_exact_to_3_percent(gaps: list[float]) -> None:
    times = [0.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    exact = sorted(after - before for before, after in itertools.pairwise(times))
    found = measured(times).inter_token
    for share, value in ((0.50, found.p50), (0.95, found.p95)):
        assert value == pytest.approx(exact[math.ceil(share * len(exact)) - 1], rel=0.03)
    assert found.max == exact[-1]
    assert found.p50 <= found.p95 <= found.max


@given(st.lists(st.floats(0, 1e9), max_size=30), st.integers(1, 5))
@settings(deadline=None, max_examples=200)
def test_any_gap_can_be_counted(gaps: list[float], tokens: int) -> None:
    metrics, now = Metrics(0.0), 0.0
    for gap in gaps:
        now += gap
        metrics._record(now, tokens)
    found = metrics.inter_token
    assert 0 <= found.p50 <= found.p95 <= found.max <= max(gaps, default=0) * 1.001
    assert metrics.tokens == tokens * len(gaps)
    assert repr(metrics)


def test_metrics_do_not_grow_with_the_stream() -> None:
    def size(metrics: Metrics) -> int:
        return sum(sys.getsizeof(getattr(metrics, slot)) for slot in Metrics.__slots__)

    short, long = measured([1.0, 2.0]), measured([n / 100 for n in range(5000)])
    assert size(long) < size(short) + 200
    assert long.inter_token.p50 == pytest.approx(0.01, rel=0.03)
