"""`hfstream demo`: the same question twice, side by side: waiting for the whole answer, and reading it as it comes."""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import dataclass, field

from rich.console import Group
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from .. import InferenceClient, InferenceError
from .terminal import Terminal, patiently

__all__ = ["demo"]

FRAMES = 15
"""A second."""


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

    def shown(self) -> Panel:
        now = time.monotonic() - self.started if self.whole is None else self.whole
        clock = Text.assemble(
            ("first token ", "dim"),
            (_seconds(self.first) if self.first is not None else f"{now:.1f} s …", "bold green" if self.first else ""),
            ("   whole answer ", "dim"),
            (_seconds(self.whole) if self.whole is not None else f"{now:.1f} s …", "bold" if self.whole else ""),
        )
        body = (
            Text(self.error, style="red")
            if self.error
            else Text(self.text or "waiting …", style="" if self.text else "dim")
        )
        return Panel(Group(clock, Text(), body), title=self.title)


def demo(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Shows both, and then the four times."""
    with (
        terminal.backend(arguments, pace=arguments.tokens_per_second) as url,
        InferenceClient(url, token=arguments.api_key) as client,
    ):
        patiently(lambda: client.text_generation("Hi", max_new_tokens=1))  # a model that still loads is no part of it
        waiting, streaming = _Pane("waiting: stream=False"), _Pane("streaming: stream=True")
        threads = [
            threading.Thread(target=_wait, args=(client, arguments.prompt, waiting), daemon=True),
            threading.Thread(target=_stream, args=(client, arguments.prompt, streaming), daemon=True),
        ]
        for thread in threads:
            thread.start()
        if terminal.shows:
            _show(waiting, streaming, threads)
        for thread in threads:
            thread.join()
    for pane in (waiting, streaming):
        if pane.error:
            raise ValueError(pane.error)
    for name, pane in (("waiting:", waiting), ("streaming:", streaming)):
        first, whole = _seconds(pane.first), _seconds(pane.whole)
        terminal.write(f"{name:<10} the first word after {first}, the whole answer after {whole}\n")
    return 0


def _show(waiting: _Pane, streaming: _Pane, threads: list[threading.Thread]) -> None:
    layout = Layout()
    layout.split_row(Layout(name="left"), Layout(name="right"))
    with Live(layout, refresh_per_second=FRAMES, screen=False, auto_refresh=False) as live:
        while True:
            over = not any(thread.is_alive() for thread in threads)
            layout["left"].update(waiting.shown())
            layout["right"].update(streaming.shown())
            live.refresh()
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
