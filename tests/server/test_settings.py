"""The values that settings accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hfstream.server import Settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_concurrent_requests": 0},
        {"max_batch_size": 0},
        {"tokens_per_second": 0.0},
        {"api_key": ""},
        {"port": 65_536},
        {"port": -1},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Settings(**wrong)


def test_the_bundled_model_is_in_the_package() -> None:
    assert (Settings().model_path / "config.json").is_file()


def test_a_model_is_a_directory_also_relative_to_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(model="~/checkpoint").model_path == tmp_path / "checkpoint"
    assert Settings(model="/models/a").model_path == Path("/models/a")
