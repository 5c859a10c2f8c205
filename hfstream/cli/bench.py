"""`hfstream bench`: measures the latency and throughput of a server's streams, at one concurrency after the other."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from .. import AsyncInferenceClient, InferenceError, OverloadedError
from .api_keys import api_key
from .bench_plot import plot
from .bench_results import Level, report, table
from .terminal import Terminal

__all__ = ["bench"]


def bench(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Sends the requests, and prints the measurements; also those of a run that Ctrl-C ends.

    Returns 1 if a request failed, 130 after Ctrl-C.
    """
    levels: list[Level] = []
    code = 0
    with _progress(terminal) as progress:
        try:
            asyncio.run(_run(arguments, levels, progress))
        except KeyboardInterrupt:
            code = 130
    for level in levels:
        level.end()
    if "-" in (arguments.json, arguments.plot):  # a program reads stdout
        terminal.print_note(table(levels).rstrip(), style="")
    else:
        terminal.write(table(levels))
    results = report(levels, url=arguments.url, api=arguments.api, max_tokens=arguments.max_new_tokens)
    if arguments.json is not None:
        _save(arguments.json, json.dumps(results, indent=2) + "\n", terminal)
    if arguments.plot is not None:
        _save(arguments.plot, plot(results), terminal)
    return code or int(any(level.failed for level in levels))


def _save(path: str, text: str, terminal: Terminal) -> None:
    if path == "-":
        terminal.write(text)
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error
    terminal.print_note(f"written to {path}")


async def _run(arguments: argparse.Namespace, levels: list[Level], progress: Progress) -> None:
    # Without retries: a request that was refused and came back later would have a time to first token of its own kind.
    async with AsyncInferenceClient(arguments.url, token=api_key(arguments, arguments.url), retry=None) as client:
        await _send(client, arguments, Level(1))  # what is made or loaded once is not a request's
        for concurrency in arguments.concurrency:
            level = Level(concurrency)
            levels.append(level)
            await _measure(client, arguments, level, progress)
            level.end()


async def _measure(
    client: AsyncInferenceClient, arguments: argparse.Namespace, level: Level, progress: Progress
) -> None:
    """Sends the requests of one level."""
    task = progress.add_task(f"{level.concurrency} at a time", total=arguments.requests, level=level)
    remaining = iter(range(arguments.requests))  # shared by all workers

    async def worker() -> None:
        for _ in remaining:
            await _send(client, arguments, level)
            progress.advance(task)

    await asyncio.gather(*(worker() for _ in range(level.concurrency)))


async def _send(client: AsyncInferenceClient, arguments: argparse.Namespace, level: Level) -> None:
    """One request; its measurements or its failure go to `level`."""
    began = time.perf_counter()
    times: list[float] = []
    try:
        async for _ in _contents(client, arguments):
            times.append(time.perf_counter())
            level.tokens += 1
    except InferenceError as error:
        level.add_failure(error, overloaded=isinstance(error, OverloadedError))
    else:
        level.add(began, times)


async def _contents(client: AsyncInferenceClient, arguments: argparse.Namespace) -> AsyncIterator[None]:
    """Yields at each token, or at each chunk of a chat that has content."""
    model, limit = arguments.served_model, arguments.max_new_tokens
    if arguments.api == "chat":
        messages = [{"role": "user", "content": arguments.prompt}]
        async with client.chat_completion(messages, model=model, max_tokens=limit, stream=True) as chunks:
            async for chunk in chunks:
                if any(choice.delta.content or choice.delta.tool_calls for choice in chunk.choices):
                    yield
    else:
        async with client.text_generation(arguments.prompt, model=model, max_new_tokens=limit, stream=True) as tokens:
            async for _ in tokens:
                yield


def _progress(terminal: Terminal) -> Progress:
    """Bars on stderr while the requests run, if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Figures())
    return Progress(*columns, console=terminal.notes, transient=True, disable=not terminal.notes.is_terminal)


class _Figures(ProgressColumn):
    """The figures of a level so far."""

    max_refresh = 0.25

    def render(self, task: Task) -> Text:
        level: Level = task.fields["level"]
        return Text(f"{level.tokens_per_second:.0f} tokens/s" + (f", {level.failed} failed" if level.failed else ""))
