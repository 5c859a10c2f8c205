"""`hfstream bench`: how fast a server's streams are, some at a time."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from .. import AsyncInferenceClient, AsyncTokenStream, InferenceError
from .terminal import Terminal

__all__ = ["bench"]


@dataclass
class _Results:
    first: list[float] = field(default_factory=list[float])
    gaps: list[float] = field(default_factory=list[float])
    rates: list[float] = field(default_factory=list[float])
    tokens: int = 0
    attempts: int = 0
    failures: Counter[str] = field(default_factory=Counter[str])


def bench(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Runs the requests, and prints what a person who waits would notice."""
    results = _Results()
    started = time.monotonic()
    asyncio.run(_run(arguments, results))
    seconds = time.monotonic() - started
    terminal.write(_report(arguments, results, seconds))
    return 1 if results.failures else 0


async def _run(arguments: argparse.Namespace, results: _Results) -> None:
    left = iter(range(arguments.requests))
    async with AsyncInferenceClient(arguments.url, token=arguments.api_key) as client:

        async def work() -> None:
            for _ in left:
                await _one(client, arguments, results)

        await asyncio.gather(*(work() for _ in range(arguments.concurrency)))


async def _one(client: AsyncInferenceClient, arguments: argparse.Namespace, results: _Results) -> None:
    stream: AsyncTokenStream[str] | None = None
    try:
        async with client.text_generation(
            arguments.prompt, model=arguments.served_model, max_new_tokens=arguments.max_new_tokens, stream=True
        ) as stream:
            async for _ in stream:
                pass
    except InferenceError as error:
        results.failures[f"{type(error).__name__}: {error}"] += 1
        return
    metrics = stream.metrics
    results.first.append(metrics.time_to_first_token or 0.0)
    results.gaps.append(metrics.inter_token.p95)
    results.rates.append(metrics.tokens_per_second)
    results.tokens += metrics.tokens
    results.attempts += len(stream.attempts)


def _report(arguments: argparse.Namespace, results: _Results, seconds: float) -> str:
    lines = [
        f"{arguments.requests} streams, {arguments.concurrency} at a time, in {seconds:.2f} s",
        f"  tokens            {results.tokens}, {results.tokens / seconds:.0f} a second over all",
    ]
    if results.first:
        lines += [
            f"  first token       median {_at(results.first, 0.5):.3f} s, 95 % within {_at(results.first, 0.95):.3f} s",
            f"  between tokens    95 % in {_at(results.gaps, 0.5):.3f} s (median), {max(results.gaps):.3f} s (worst)",
            f"  tokens a second   median stream {_at(results.rates, 0.5):.0f}, slowest {min(results.rates):.0f}",
            f"  attempts          {results.attempts} for {len(results.first)} answers",
        ]
    lines += [f"  failed            {count} x {words}" for words, count in results.failures.most_common()]
    return "\n".join(lines) + "\n"


def _at(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
