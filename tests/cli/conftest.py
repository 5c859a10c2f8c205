"""A reference server with the bundled model for the tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hfstream.server import BackgroundServer


@pytest.fixture(scope="package")
def backend() -> Iterator[str]:
    with BackgroundServer() as server:
        yield server.url
