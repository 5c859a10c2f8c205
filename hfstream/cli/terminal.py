"""Output, retries and a temporary server, shared by all commands."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from typing import TypeVar

from rich.console import Console
from tenacity import RetryCallState, stop_after_delay

from ..errors import AuthenticationError
from ..retry import retry_on_overload

__all__ = ["PACE", "Terminal", "cannot_listen", "count", "printable", "wait_for_interrupt"]

ResultT = TypeVar("ResultT")

PACE = 40.0
"""Tokens per second of a server that a command starts, if stdout is a terminal: slow enough to read along."""

MIN_WIDTH = 20
"""Columns that notes take at least: with COLUMNS=0 nothing would be shown."""

RETRY_SECONDS = 30.0
"""How long a command retries while the server is overloaded or still loading its model."""


def cannot_listen(error: OSError, arguments: argparse.Namespace) -> str:
    """Says that ``--host`` and ``--port`` cannot be used, and why."""
    # Python's own text of an error of bind() repeats the address.
    reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror
    return f"cannot listen on {arguments.host}, port {arguments.port}: {reason}"


def count(number: int, singular: str) -> str:
    """``1 request``, ``2 requests``."""
    return f"{number:,} {singular}" + "s" * (number != 1)


def printable(text: str) -> str:
    """What a client has sent, without the escape codes of a terminal."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def wait_for_interrupt() -> None:
    """Waits until Ctrl-C, or until the process is asked to end as `docker stop` and CI do it (SIGTERM)."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Notes(Console):
    """stderr. Where nothing reads it any more, notes are dropped, and the command goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True  # rich would point stdout to nowhere, and end the thread that has printed the note


class Terminal:
    """Writes generated text to stdout and everything else to stderr."""

    def __init__(self) -> None:
        self.notes: Console = _Notes(stderr=True, highlight=False)
        if self.notes.width < MIN_WIDTH:  # noqa: PLR1730  a width that is set follows the terminal's no more
            self.notes.width = MIN_WIDTH
        self._line_is_open = False

    @property
    def is_interactive(self) -> bool:
        """Whether stdout is a terminal."""
        return sys.stdout.isatty()

    def write(self, text: str) -> None:
        """Writes generated text to stdout and flushes it."""
        if text:
            self._line_is_open = not text.endswith("\n")  # before Ctrl-C may come
        sys.stdout.write(text)
        sys.stdout.flush()

    def end_line(self) -> None:
        """Ends the open line, or the one on which a terminal has shown ``^C``: the shell's prompt gets its own."""
        if self._line_is_open:
            self.close_line()
        elif sys.stdin.isatty() and self.notes.is_terminal:
            self.notes.print()

    def close_line(self) -> None:
        """Ends the line of stdout that generated text has begun, if one is open: what follows gets its own line."""
        if self._line_is_open:
            self.write("\n")

    def print_note(self, text: str, *, style: str = "dim") -> None:
        """Prints a note on stderr, without markup and without wrapping.

        A prompt in it may look like rich's markup, and a wrapped command could not be copied.
        """
        self.notes.print(text, style=style, markup=False, soft_wrap=True)

    def print_error(self, error: Exception) -> int:
        """Prints an error on one line of stderr, and returns the exit code 1."""
        words = str(error)
        if isinstance(error, AuthenticationError) and words.startswith("HTTP 401 without a message"):
            words = "HTTP 401: the API key is missing or wrong: pass --api-key, or set HFSTREAM_API_KEY"
        self.print_note(f"hfstream: {words}", style="red")
        return 1

    @contextlib.contextmanager
    def backend(self, arguments: argparse.Namespace, *, pace: float | None = None) -> Generator[str]:
        """Yields the URL given by ``--url``, or that of a server with the bundled model that runs for this command.

        `pace` is that server's speed in tokens per second per response (None: no limit).

        Raises:
            ValueError: The server cannot start.
            ImportError: ``hfstream[server]`` is not installed.
        """
        if arguments.url is not None:
            yield arguments.url
            return
        from ..server import BackgroundServer, Settings, StartError  # noqa: PLC0415  an optional dependency, and slow to import

        with contextlib.ExitStack() as stack:
            try:
                with self.notes.status("loading the bundled model …"):
                    settings = Settings(tokens_per_second=pace, api_key=arguments.api_key)
                    server = stack.enter_context(BackgroundServer(settings))
            except StartError as error:
                raise ValueError(str(error)) from error
            yield server.url

    def with_retries(self, send: Callable[[], ResultT]) -> ResultT:
        """Calls `send`, and retries while the server is overloaded or loading its model. Prints a note once."""

        def note_first_retry(state: RetryCallState) -> None:
            if state.attempt_number == 1 and state.outcome is not None:
                self.print_note(f"{state.outcome.exception()}; retrying for up to {RETRY_SECONDS:.0f} s")

        return retry_on_overload(stop=stop_after_delay(RETRY_SECONDS), before_sleep=note_first_retry)(send)()
