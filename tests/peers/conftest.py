"""Fixtures of the rows: text generation or chat, and the reference backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hfstream.server import BackgroundServer, Settings
from tests.helpers.shared_engine import SharedEngine
from tests.peers.common import Task, loaded


@pytest.fixture(params=[Task("text"), Task("chat")], ids=repr)
def task(request: pytest.FixtureRequest) -> Task:
    found: Task = request.param
    return found


@pytest.fixture(scope="module")
def backend(shared_engine: SharedEngine) -> Iterator[str]:
    """The reference backend, at a pace that makes a long answer last for minutes."""
    with BackgroundServer(Settings(tokens_per_second=100), engine=shared_engine.connect()) as server, loaded():
        yield server.url
