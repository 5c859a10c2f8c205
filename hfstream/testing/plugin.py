"""Fixtures for pytest, which finds them by itself: servers that say their lines, and the reference backend.

    def test_mine(scripted_server):
        server = scripted_server(faults.drop(token_events("Hello", ",", " you"), after=2))
        ...

Every run of pytest imports this module, so it imports neither the server nor torch before a test asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from .scripted import Request, Response, ScriptedServer

if TYPE_CHECKING:
    from ..server import BackgroundServer, Settings

__all__ = ["reference_backend", "reference_settings", "scripted_server"]


@pytest.fixture
def scripted_server() -> Generator[Callable[..., ScriptedServer]]:
    """Makes servers that run until the test ends: ``scripted_server(*answers)``, with answers as `ScriptedServer`'s."""
    with ExitStack() as servers:

        def start(*answers: Response | Callable[[Request], Response]) -> ScriptedServer:
            return servers.enter_context(ScriptedServer(*answers))

        yield start


@pytest.fixture(scope="session")
def reference_settings() -> Settings | None:
    """The reference backend's `Settings`, or None for what `hfstream serve` has; define your own to change them."""
    return None


@pytest.fixture(scope="session")
def reference_backend(reference_settings: Settings | None) -> Generator[BackgroundServer]:
    """The reference backend with its model, one for all tests, at `reference_backend.url`.

    Tests that want it are skipped where ``hfstream[server]`` is not installed.
    """
    try:
        from ..server import BackgroundServer  # noqa: PLC0415  an extra, and slow to import
    except ImportError as error:
        pytest.skip(str(error))
    with BackgroundServer(reference_settings) as server:
        yield server
