"""Worker processes forked from a parent that has used its client, as gunicorn's are with `preload_app`.

    python tests/stress/prefork.py [--workers 8] [--answers 1000]

Parent and workers stream at the same time with the same client object, half of the calls sync and half async. Reports
how many got their own answer and not another's.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hfstream import AsyncInferenceClient, InferenceClient
from hfstream.testing import Request, Response, ScriptedServer, token_events
from tests.helpers.forks import Child

__all__ = ["Prefork", "prefork"]

TOKENS = 8


@dataclass
class Prefork:
    """How one run went."""

    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        failed = "".join(f", {count} {kind}" for kind, count in self.errors.items())
        return (
            f"{self.answered} answered ({len(self.wrong)} wrong{failed}) over {self.connections} connections, "
            f"{self.seconds:.1f} s"
        ) + "".join(f"\n    {wrong}" for wrong in self.wrong[:5])


def prefork(*, workers: int, answers: int) -> Prefork:
    """`answers` in all, by `workers` processes and their parent."""
    figures = Prefork()
    with ScriptedServer(_echo) as server, InferenceClient(server.url) as client:
        calls = _Calls(client, AsyncInferenceClient(server.url))
        with asyncio.Runner() as runner:
            kept = client.text_generation("kept open", stream=True)
            runner.run(calls.run_async("before the fork", 8))  # leaves idle connections of both kinds
            share = answers // (workers + 1)
            began = time.monotonic()
            children = [Child(functools.partial(calls.run, f"worker {number}", share)) for number in range(workers)]
            parts = [runner.run(calls.run_async("parent", answers - workers * share))]
            parts += [child.result() for child in children]
            figures.seconds = time.monotonic() - began
            runner.run(calls.asynchronous.aclose())
        if "".join(kept) != _words("kept open"):
            figures.wrong.append("the stream that was open at the fork")
        figures.connections = server.connections
    for part in parts:
        figures.answered += part.answered
        figures.wrong += part.wrong
        figures.errors += part.errors
    return figures


class _Calls:
    """The calls of one process, with the client objects that all of them share."""

    def __init__(self, synchronous: InferenceClient, asynchronous: AsyncInferenceClient) -> None:
        self.synchronous = synchronous
        self.asynchronous = asynchronous

    def ask(self, prompt: str) -> str:
        return "".join(self.synchronous.text_generation(prompt, stream=True))

    async def ask_async(self, prompt: str) -> str:
        return "".join([token async for token in self.asynchronous.text_generation(prompt, stream=True)])

    def run(self, name: str, count: int) -> Prefork:
        """In a worker, which has an event loop of its own."""
        return asyncio.run(self.run_async(name, count))

    async def run_async(self, name: str, count: int) -> Prefork:
        """Sync and async calls at the same time, in turn."""
        figures = Prefork()

        async def ask(number: int) -> None:
            prompt = f"{name}, call {number}"
            call: Any = self.ask_async(prompt) if number % 2 else asyncio.to_thread(self.ask, prompt)
            try:
                text = await call
            except Exception as error:
                figures.errors[type(error).__name__] += 1
                return
            figures.answered += 1
            if text != _words(prompt):
                figures.wrong.append(f"{prompt}: {text!r}")

        for start in range(0, count, 4):
            await asyncio.gather(*(ask(number) for number in range(start, min(start + 4, count))))
        return figures


def _words(prompt: str) -> str:
    return "".join(f"{prompt}#{number} " for number in range(TOKENS))


def _echo(request: Request) -> Response:
    prompt = request.json()["inputs"]
    steps: list[Any] = []
    for event in token_events(*(f"{prompt}#{number} " for number in range(TOKENS)), finish_reason="eos_token"):
        steps += [event, 0.002]
    return Response(steps)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--workers", type=int, default=8)
    arguments.add_argument("--answers", type=int, default=1000)
    given = arguments.parse_args()
    figures = prefork(workers=given.workers, answers=given.answers)
    print(f"{given.workers} workers and their parent: {figures}")
    if (figures.answered, figures.wrong) != (given.answers, []):
        raise SystemExit("an answer is missing, or another process's")


if __name__ == "__main__":
    main()
