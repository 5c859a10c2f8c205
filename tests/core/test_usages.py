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
