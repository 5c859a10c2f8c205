"""The values that settings accept."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream.server import Settings
from hfstream.server.settings import parse_size


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_concurrent_requests": 0},
        {"max_batch_size": 0},
        {"tokens_per_second": 0.0},
        {"api_key": ""},
        {"port": 65_536},
        {"port": -1},
        {"max_best_of": 0},
        {"max_client_batch_size": 0},
        {"max_stop_sequences": -1},
        {"max_top_n_tokens": -1},
        {"max_input_tokens": 0},
        {"max_total_tokens": 0},
        {"max_input_tokens": 8, "max_total_tokens": 8},
        {"root_path": "llm"},
        {"root_path": "/llm/"},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Settings(**wrong)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("512M", 512 << 20), ("2G", 2 << 30), ("1.5GiB", 3 << 29), ("10 kb", 10_240), (" 1T ", 1 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "0", "-1G", "1X", "1,5G", "0.0001K", "1e3", "nan", "\u0661G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_the_name_for_clients() -> None:
    assert Settings().model_name == "bundled"
    assert Settings(model="/models/a", served_model_name="a").model_name == "a"
