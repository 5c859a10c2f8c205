"""What all commands do in a terminal: say, write, complain, and have a server to ask."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Generator
from typing import TypeVar

from rich.console import Console
from tenacity import RetryCallState, stop_after_delay

from ..retry import retry_on_overload

__all__ = ["PACE", "Terminal"]

T = TypeVar("T")

PACE = 40.0
"""Tokens per second of the backend that a command starts for a person: the bundled model outruns any reader."""

PATIENCE = 30.0
"""Seconds for which a command asks again while the server is overloaded or still loading its model."""


class Terminal:
    """stdout for answers, stderr for everything else."""

    def __init__(self) -> None:
        self.notes: Console = Console(stderr=True, highlight=False)

    @property
    def shows(self) -> bool:
        """Whether a person is looking, and not a pipe."""
        return sys.stdout.isatty()

    def write(self, text: str) -> None:
        """A piece of an answer, at once."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def say(self, text: str, *, style: str = "dim") -> None:
        """A note, as it is: a prompt may look like rich's markup, and a line that is copied must not be broken."""
        self.notes.print(text, style=style, markup=False, soft_wrap=True)

    def complain(self, error: Exception) -> int:
        """One line, and the exit code."""
        self.say(f"hfstream: {error}", style="red")
        return 1

    @contextlib.contextmanager
    def backend(self, arguments: argparse.Namespace, *, pace: float | None = None) -> Generator[str]:
        """The URL to ask: the one that was given, or a backend of our own for as long as it takes."""
        if arguments.url is not None:
            yield arguments.url
            return
        from ..server import BackgroundServer, Settings, StartError  # noqa: PLC0415  an extra, and slow to import

        with contextlib.ExitStack() as stack:
            try:
                with self.notes.status("loading the bundled model …"):
                    settings = Settings(tokens_per_second=pace, api_key=arguments.api_key)
                    server = stack.enter_context(BackgroundServer(settings))
            except StartError as error:
                raise ValueError(str(error)) from error
            yield server.url

    def patiently(self, ask: Callable[[], T]) -> T:
        """Asks, and again while the server is overloaded or loads its model; the first time it says so."""

        def tell(state: RetryCallState) -> None:
            if state.attempt_number == 1 and state.outcome is not None:
                self.say(f"{state.outcome.exception()}; asking again for up to {PATIENCE:.0f} s ...")

        return retry_on_overload(stop=stop_after_delay(PATIENCE), before_sleep=tell)(ask)()
