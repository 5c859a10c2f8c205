"""`hfstream demo`: the same prompt without and with streaming, side by side, with timers."""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .. import InferenceClient, InferenceError
from .api_keys import api_key
from .terminal import Terminal

__all__ = ["demo"]

PACE = 30.0
"""Tokens per second of a server started for the demo: typical of real servers, and faster than most people read."""

FRAMES_PER_SECOND = 15
"""How often the panes are redrawn."""

MAX_ROWS = 18
"""Height of a pane; smaller in a small terminal."""


@dataclass
class _Pane:
    """The state of one request. Its own thread writes it; the main thread draws it."""

    title: str
    text: str = ""
    first_text_at: float | None = None
    """Seconds from the start to the first text; None until then."""
    complete_at: float | None = None
    """Seconds from the start to the complete response; None until then."""
    error: str | None = None
    started: float = field(default_factory=time.monotonic)

    def append(self, text: str) -> None:
        if self.first_text_at is None:
            self.first_text_at = time.monotonic() - self.started
        self.text += text

    def finish(self) -> None:
        self.complete_at = time.monotonic() - self.started

    def render(self, rows: int | None) -> Panel:
        """The pane in its current state, `rows` lines high; None: as high as the text."""
        now = time.monotonic() - self.started if self.complete_at is None else self.complete_at
        timers = Table.grid(padding=(0, 1))
        for name, at in (("first text", self.first_text_at), ("complete", self.complete_at)):
            timer = Text(f"{now:.1f} s …", style="dim") if at is None else Text(_seconds(at), style="bold green")
            timers.add_row(Text(name, style="dim"), timer)
        if self.error:
            body = Text(self.error, style="red")
        else:
            body = Text(self.text.lstrip()) if self.text else Text("waiting …", style="dim")
        return Panel(
            Group(timers, Text(), body if rows is None else _Tail(body, rows - 5)), title=self.title, height=rows
        )


@dataclass
class _Tail:
    """The last `rows` lines of a text, so that the newest text is always visible."""

    text: Text
    rows: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.text.wrap(console, options.max_width)[-self.rows :]


def demo(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Shows both requests side by side, and prints their times at the end."""
    with (
        terminal.backend(arguments, pace=arguments.tokens_per_second or PACE) as url,
        InferenceClient(url, token=api_key(arguments, url)) as client,
    ):
        # Not measured: waits until the server has loaded its model.
        terminal.with_retries(lambda: client.text_generation("Hi", max_new_tokens=1))
        waiting, streaming = _Pane("waiting: stream=False"), _Pane("streaming: stream=True")
        threads = [
            threading.Thread(target=_run_waiting, args=(client, arguments.prompt, waiting), daemon=True),
            threading.Thread(target=_run_streaming, args=(client, arguments.prompt, streaming), daemon=True),
        ]
        for thread in threads:
            thread.start()
        if terminal.is_interactive:
            terminal.print_note(arguments.prompt, style="bold")
            _show(waiting, streaming, threads)
        for thread in threads:
            thread.join()
    for pane in (waiting, streaming):
        if pane.error:
            raise ValueError(pane.error)
    for name, pane in (("waiting:", waiting), ("streaming:", streaming)):
        first_text, complete = _seconds(pane.first_text_at), _seconds(pane.complete_at)
        terminal.write(f"{name:<10} first text after {first_text}, complete after {complete}\n")
    return 0


def _show(waiting: _Pane, streaming: _Pane, threads: list[threading.Thread]) -> None:
    with Live(auto_refresh=False) as live:
        # Leave room below the panes for the summary and the shell's prompt.
        rows: int | None = max(7, min(MAX_ROWS, live.console.height - 3))
        while True:
            finished = not any(thread.is_alive() for thread in threads)
            if finished:
                rows, live.vertical_overflow = None, "visible"  # the complete responses, however long
            panes = Table.grid(expand=True)
            panes.add_column(ratio=1)
            panes.add_column(ratio=1)
            panes.add_row(waiting.render(rows), streaming.render(rows))
            live.update(panes, refresh=True)
            if finished:
                return
            time.sleep(1 / FRAMES_PER_SECOND)


def _run_waiting(client: InferenceClient, prompt: str, pane: _Pane) -> None:
    try:
        pane.append(client.text_generation(prompt))
        pane.finish()
    except InferenceError as error:
        pane.error = str(error)


def _run_streaming(client: InferenceClient, prompt: str, pane: _Pane) -> None:
    try:
        for token in client.text_generation(prompt, stream=True):
            pane.append(token)
        pane.finish()
    except InferenceError as error:
        pane.error = str(error)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
