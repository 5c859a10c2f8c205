"""`hfstream bench`: measures the latency and throughput of a server's streams."""

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
    """Measurements of all successful streams, one list item per stream, and the failures by message."""

    first_token: list[float] = field(default_factory=list[float])
    """Seconds to the first token."""
    between_tokens: list[float] = field(default_factory=list[float])
    """95th percentile of the seconds between two tokens."""
    rates: list[float] = field(default_factory=list[float])
    """Tokens per second."""
    tokens: int = 0
    attempts: int = 0
    failures: Counter[str] = field(default_factory=Counter[str])


def bench(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Sends the requests, prints the measurements, and returns 1 if any request failed.

    After a Ctrl-C it prints those of the requests that have ended until then, and returns 130.
    """
    results = _Results()
    started = time.monotonic()
    interrupted = False
    try:
        asyncio.run(_run(arguments, results))
    except KeyboardInterrupt:
        interrupted = True
    seconds = time.monotonic() - started
    terminal.write(_report(arguments, results, seconds))
    return 130 if interrupted else 1 if results.failures else 0


async def _run(arguments: argparse.Namespace, results: _Results) -> None:
    remaining = iter(range(arguments.requests))  # shared by all workers
    async with AsyncInferenceClient(arguments.url, token=arguments.api_key) as client:

        async def worker() -> None:
            for _ in remaining:
                await _measure(client, arguments, results)

        await asyncio.gather(*(worker() for _ in range(arguments.concurrency)))


async def _measure(client: AsyncInferenceClient, arguments: argparse.Namespace, results: _Results) -> None:
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
    results.first_token.append(metrics.time_to_first_token or 0.0)
    results.between_tokens.append(metrics.inter_token.p95)
    results.rates.append(metrics.tokens_per_second)
    results.tokens += metrics.tokens
    results.attempts += len(stream.attempts)


def _report(arguments: argparse.Namespace, results: _Results, seconds: float) -> str:
    first, between = results.first_token, results.between_tokens
    ended = len(first) + results.failures.total()
    requests = (
        f"{arguments.requests} requests" if ended == arguments.requests else f"{ended} of {arguments.requests} requests"
    )
    lines = [
        f"{requests}, concurrency {arguments.concurrency}, {seconds:.2f} s",
        f"  tokens            {results.tokens} ({results.tokens / seconds:.0f} tokens/s in total)",
    ]
    if first:
        lines += [
            f"  first token       median {_quantile(first, 0.5):.3f} s, p95 {_quantile(first, 0.95):.3f} s",
            f"  between tokens    p95 per stream: median {_quantile(between, 0.5):.3f} s, max {max(between):.3f} s",
            f"  tokens/s          per stream: median {_quantile(results.rates, 0.5):.0f}, min {min(results.rates):.0f}",
            f"  attempts          {results.attempts} for {len(first)} responses",
        ]
    lines += [f"  failed            {count} x {message}" for message, count in results.failures.most_common()]
    return "\n".join(lines) + "\n"


def _quantile(values: list[float], q: float) -> float:
    """The `q` quantile of `values`, always one of them; `q` is between 0 and 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
