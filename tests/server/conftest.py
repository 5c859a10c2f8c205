"""Model directories that tests of the server share. They are only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.scripted_engine import save_chat_model, save_tokenizer


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a chat template."""
    return save_tokenizer(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a chat template."""
    return save_chat_model(tmp_path_factory.mktemp("chat-model"))
