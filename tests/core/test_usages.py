"""Where servers put the usage of a stream."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream.core.usages import latest_usage, usage_in
from hfstream.types import Usage

COUNTS = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
USAGE, ZEROS = Usage(**COUNTS), Usage()


def test_zeros_do_not_replace_a_usage() -> None:
    assert latest_usage(None, None) is None
    assert latest_usage(None, ZEROS) is ZEROS
    assert latest_usage(ZEROS, USAGE) is USAGE
    assert latest_usage(USAGE, ZEROS) is USAGE
    assert latest_usage(USAGE, None) is USAGE
    assert latest_usage(USAGE, other := Usage(total_tokens=4)) is other


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        (None, None),
        ({}, None),
        ({"usage": COUNTS}, USAGE),
        ({"x_groq": {"id": "a", "usage": COUNTS}}, USAGE),
        ({"usage": {**COUNTS, "prompt_tokens": "1"}}, USAGE),
        ({"usage": {**COUNTS, "prompt_tokens": []}}, Usage(**{**COUNTS, "prompt_tokens": 0})),
        ({"usage": []}, None),
        ({"x_groq": None}, None),
        ({"x_groq": 5}, None),
    ],
)
def test_a_usage_is_found_beside_what_is_documented(extra: Any, found: Usage | None) -> None:
    assert usage_in(extra) == found


def test_counts_may_be_named_as_in_other_apis() -> None:
    usage = Usage.model_validate({"input_tokens": 1, "output_tokens": 2})
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (1, 2, 3)
    assert (usage["input_tokens"], usage["output_tokens"]) == (1, 2)
    assert usage_in({"usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 9}}) == Usage.model_validate(
        {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 9, "input_tokens": 1, "output_tokens": 2}
    )


@pytest.mark.parametrize(
    ("value", "count"), [("12", 12), (12.0, 12), ("12.0", 12), (None, 0), (True, 0), ([], 0), ({}, 0), ("many", 0)]
)
def test_a_count_may_be_text_or_a_float(value: Any, count: int) -> None:
    for names in (("input_tokens", "output_tokens"), ("prompt_tokens", "completion_tokens")):
        usage = Usage.validate_lenient(dict(zip(names, (value, 2), strict=True)))
        if value is not True:
            assert (usage.prompt_tokens, usage.completion_tokens) == (count, 2)


def test_the_documented_names_count_before_the_others() -> None:
    assert Usage.model_validate({**COUNTS, "input_tokens": 8, "output_tokens": 9}).prompt_tokens == 1
