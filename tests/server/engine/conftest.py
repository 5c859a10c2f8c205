"""A checkpoint, its model, and an engine that runs it, for the tests of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hfstream.server.engine.model_runner import ModelRunner
from tests.helpers.tiny_models import ROWS, RunningEngine, is_clean, make_model, save_model


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def model() -> Any:
    """The model of `checkpoint`, for what transformers itself generates."""
    return make_model()


@pytest.fixture
def engine(checkpoint: Path, runners: list[ModelRunner]) -> Iterator[RunningEngine]:
    """An engine with `ROWS` rows, which must all be free in the end."""
    with RunningEngine(checkpoint, max_batch_size=ROWS) as engine:
        yield engine
        engine.wait_until(lambda: engine.running == 0)
        assert is_clean(runners[0]), "every row is free, and its memory is zero"


@pytest.fixture(autouse=True)
def runners(monkeypatch: pytest.MonkeyPatch) -> list[ModelRunner]:
    """The model runner of every engine that is loaded during a test."""
    made: list[ModelRunner] = []
    init = ModelRunner.__init__

    def remember(runner: ModelRunner, *args: Any, **kwargs: Any) -> None:
        init(runner, *args, **kwargs)
        made.append(runner)

    monkeypatch.setattr(ModelRunner, "__init__", remember)
    return made
