"""`hfstream demo`: the same question twice, side by side: waiting for the whole answer, and reading it as it comes."""

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
from .terminal import Terminal

__all__ = ["demo"]

PACE = 30.0
"""Tokens per second: as fast as many servers are, and faster than most people read."""

FRAMES = 15
"""A second."""

ROWS = 18
"""Of a pane, where the terminal has as many."""


@dataclass
class _Pane:
    """One way of asking, and how far it is. Written by its thread, read by the screen's."""

    title: str
    text: str = ""
    first: float | None = None
    whole: float | None = None
    error: str | None = None
    started: float = field(default_factory=time.monotonic)

    def hear(self, piece: str) -> None:
        if self.first is None:
            self.first = time.monotonic() - self.started
        self.text += piece

    def end(self) -> None:
        self.whole = time.monotonic() - self.started

    def shown(self, rows: int | None) -> Panel:
        """The pane as it is now, `rows` high, or as high as the text."""
        now = time.monotonic() - self.started if self.whole is None else self.whole
        clocks = Table.grid(padding=(0, 1))
        for name, at in (("first text", self.first), ("whole answer", self.whole)):
            clock = Text(f"{now:.1f} s …", style="dim") if at is None else Text(_seconds(at), style="bold green")
            clocks.add_row(Text(name, style="dim"), clock)
        if self.error:
            body = Text(self.error, style="red")
        else:
            body = Text(self.text.lstrip()) if self.text else Text("waiting …", style="dim")
        return Panel(
            Group(clocks, Text(), body if rows is None else _Tail(body, rows - 5)), title=self.title, height=rows
        )


@dataclass
class _Tail:
    """The last lines of a text that grows: what is new is never below the edge."""

    text: Text
    rows: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.text.wrap(console, options.max_width)[-self.rows :]


def demo(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Shows both, and then the four times."""
    with (
        terminal.backend(arguments, pace=arguments.tokens_per_second or PACE) as url,
        InferenceClient(url, token=arguments.api_key) as client,
    ):
        # A model that still loads is no part of it.
        terminal.patiently(lambda: client.text_generation("Hi", max_new_tokens=1))
        waiting, streaming = _Pane("waiting: stream=False"), _Pane("streaming: stream=True")
        threads = [
            threading.Thread(target=_wait, args=(client, arguments.prompt, waiting), daemon=True),
            threading.Thread(target=_stream, args=(client, arguments.prompt, streaming), daemon=True),
        ]
        for thread in threads:
            thread.start()
        if terminal.shows:
            terminal.say(arguments.prompt, style="bold")
            _show(waiting, streaming, threads)
        for thread in threads:
            thread.join()
    for pane in (waiting, streaming):
        if pane.error:
            raise ValueError(pane.error)
    for name, pane in (("waiting:", waiting), ("streaming:", streaming)):
        first, whole = _seconds(pane.first), _seconds(pane.whole)
        terminal.write(f"{name:<10} first text {first}, whole answer {whole}\n")
    return 0


def _show(waiting: _Pane, streaming: _Pane, threads: list[threading.Thread]) -> None:
    with Live(auto_refresh=False) as live:
        # The shell's prompt and our summary stay below it.
        rows: int | None = max(7, min(ROWS, live.console.height - 3))
        while True:
            over = not any(thread.is_alive() for thread in threads)
            if over:
                rows, live.vertical_overflow = None, "visible"  # the whole answers, however long
            panes = Table.grid(expand=True)
            panes.add_column(ratio=1)
            panes.add_column(ratio=1)
            panes.add_row(waiting.shown(rows), streaming.shown(rows))
            live.update(panes, refresh=True)
            if over:
                return
            time.sleep(1 / FRAMES)


def _wait(client: InferenceClient, prompt: str, pane: _Pane) -> None:
    try:
        pane.hear(client.text_generation(prompt))
        pane.end()
    except InferenceError as error:
        pane.error = str(error)


def _stream(client: InferenceClient, prompt: str, pane: _Pane) -> None:
    try:
        for token in client.text_generation(prompt, stream=True):
            pane.hear(token)
        pane.end()
    except InferenceError as error:
        pane.error = str(error)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
