"""The pytest plugin: fixtures for scripted servers and for the reference server.

    def test_mine(scripted_server):
        server = scripted_server(faults.drop(token_events("Hello", ",", " you"), after=2))
        ...

Every pytest run in an environment with hfstream imports this module, so it imports the server only when a test
requests it. torch is never imported: the reference server's model runs in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .mock import MockServer
from .request import Request
from .response import Response
from .scripted import ScriptedServer

if TYPE_CHECKING:
    from ..server import BackgroundServer, Settings

__all__ = ["mock_server", "reference_backend", "reference_settings", "scripted_server"]


@pytest.fixture
def scripted_server() -> Generator[Callable[..., ScriptedServer]]:
    """A function ``scripted_server(*responses)`` that starts a `ScriptedServer`, which is stopped after the test."""
    with ExitStack() as servers:

        def start(*responses: Response | Callable[[Request], Response]) -> ScriptedServer:
            return servers.enter_context(ScriptedServer(*responses))

        yield start


@pytest.fixture
def mock_server() -> Generator[Callable[..., MockServer]]:
    """A function ``mock_server(rules, **options)`` that starts a `MockServer`, which is stopped after the test.

    `rules` is a dict of rules, or the path of a file of rules or of a tape.
    """
    with ExitStack() as servers:

        def start(rules: Mapping[str, Any] | str | Path, **options: Any) -> MockServer:
            server = (
                MockServer(rules, **options) if isinstance(rules, Mapping) else MockServer.from_file(rules, **options)
            )
            return servers.enter_context(server)

        yield start


@pytest.fixture(scope="session")
def reference_settings() -> Settings | None:
    """The reference server's `Settings`, or None for the defaults of `hfstream serve`.

    Define a session fixture with this name to change them.
    """
    return None


@pytest.fixture(scope="session")
def reference_backend(reference_settings: Settings | None) -> Generator[BackgroundServer]:
    """The reference server with its model at `reference_backend.url`, started once per session.

    Tests that use it are skipped if ``hfstream[server]`` is not installed.
    """
    with ExitStack() as stack:
        try:
            from ..server import BackgroundServer  # noqa: PLC0415  an extra, and slow to import

            server = stack.enter_context(BackgroundServer(reference_settings))
        except ImportError as error:
            pytest.skip(str(error))
        yield server
