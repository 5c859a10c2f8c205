"""A reference server with the bundled model for the tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hfstream.server import BackgroundServer
from tests.helpers.shared_engine import SharedEngine


@pytest.fixture(scope="package")
def backend(shared_engine: SharedEngine) -> Iterator[str]:
    with BackgroundServer(engine=shared_engine.connect()) as server:
        yield server.url
