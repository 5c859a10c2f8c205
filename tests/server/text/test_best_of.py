"""TGI's choice among several generations."""

from __future__ import annotations

from hfstream.server.text.best_of import best_first
from hfstream.types import StreamResponse, Token


def generation(*logprobs: float | None) -> list[StreamResponse]:
    return [StreamResponse(token=Token(text="a", logprob=logprob)) for logprob in logprobs]


def test_the_mean_counts_and_not_the_sum() -> None:
    assert best_first([generation(-1.0), generation(-0.4, -0.4, -0.4), generation(-0.9, -0.8)]) == [1, 2, 0]


def test_the_first_of_equals_is_chosen_and_numbers_that_are_not_finite_last() -> None:
    assert best_first([generation(-1.0, None), generation(-2.0), generation(-2.0)]) == [1, 2, 0]
