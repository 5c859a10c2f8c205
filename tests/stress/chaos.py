"""Chaos: streams through a network that cuts, resets, delays, splits and stalls at random bytes.

    python tests/stress/chaos.py [--streams 4000] [--seed 0] [--workers 16]

With ``resume=True``, against a backend that numbers its events, each text must equal the undisturbed one. Without it,
each stream must end with the whole answer, or with a typed error whose `partial_text` is the exact beginning. Half of
the workers are sync, half async; half of the streams are text, half chats. Each worker has a proxy of its own, so its
seed is its fate.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hfstream import AsyncInferenceClient, InferenceClient, InferenceError, RetryPolicy, Timeouts
from hfstream.server import BackgroundServer, Settings
from hfstream.testing import ChaosProxy, FaultRates

__all__ = ["NETWORK", "Figures", "chaos"]

PROMPTS = ("How do you make cheese?", "What is Deep Learning?", "Which emoji do you like?", "こんにちは")
LIMITS = Timeouts(connect=5, first_token=2, between_tokens=0.5)
PATIENT = RetryPolicy(attempts=25, max_wait=0.1)
NETWORK = FaultRates(mean_bytes_between=600)
"""Worse than any that one would keep: of some three kilobytes one connection in two is lost."""


@dataclass
class Figures:
    """What came of one run."""

    whole: int = 0
    disturbed: int = 0
    """Whole answers that took more than one attempt."""
    resumed: int = 0
    """How often an answer was gone on with."""
    errors: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """What must not be."""
    fault_counts: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        head = (
            f"{self.whole} whole ({self.disturbed} after more than one attempt, resumed {self.resumed} times), "
            f"{self.errors.total()} errors {dict(self.errors)}, {len(self.faults)} FAULTS, {self.seconds:.0f} s"
        )
        lines = [
            head,
            f"    {self.connections} connections: {dict(self.fault_counts)}",
            *(f"    {fault}" for fault in self.faults[:20]),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class StreamRequest:
    """One stream of a run."""

    name: str
    prompt: str
    chat: bool
    tokens: int

    @property
    def options(self) -> dict[str, Any]:
        if self.chat:  # OpenAI samples unless it is told not to
            return {"stream": True, "max_tokens": self.tokens, "temperature": 0}
        return {"stream": True, "max_new_tokens": self.tokens}

    def send(self, client: Any) -> Any:
        if self.chat:
            return client.chat_completion([{"role": "user", "content": self.prompt}], **self.options)
        return client.text_generation(self.prompt, **self.options)


class Run:
    """Many streams of one kind, with or without `resume`."""

    def __init__(self, url: str, *, resume: bool, network: FaultRates) -> None:
        self.figures = Figures()
        self._url = url
        self._resume = resume
        self._network = network
        self._lock = threading.Lock()
        self._expected: dict[tuple[str, bool, int], str] = {}
        self._tokens = [5, 20, 40]
        with InferenceClient(url) as undisturbed:
            for prompt in PROMPTS:
                for kind in (False, True):
                    for tokens in self._tokens:
                        request = StreamRequest("", prompt, kind, tokens)
                        with request.send(undisturbed) as stream:
                            for _ in stream:
                                pass
                            self._expected[prompt, kind, tokens] = stream.text

    def work(self, seed: int, streams: int) -> None:
        """One worker: its streams one after the other, through its own proxy."""
        rng = random.Random(seed)
        requests = [
            StreamRequest(f"seed {seed}, stream {number}", rng.choice(PROMPTS), rng.random() < 0.5, tokens)
            for number in range(streams)
            for tokens in [rng.choice(self._tokens)]
        ]
        settings: dict[str, Any] = {"resume": self._resume, "timeout": LIMITS, "retry": PATIENT}
        with ChaosProxy(self._url, seed=seed, rates=self._network) as proxy:
            if seed % 2:
                asyncio.run(self._read_async(proxy.url, requests, settings))
            else:
                self._read(proxy.url, requests, settings)
        with self._lock:
            self.figures.fault_counts.update(proxy.fault_counts)
            self.figures.connections += proxy.connections

    def _read(self, url: str, requests: list[StreamRequest], settings: dict[str, Any]) -> None:
        with InferenceClient(url, **settings) as client:
            for request in requests:
                received: list[str] = []
                stream = None
                try:
                    stream = request.send(client)
                    for item in stream:
                        received.append(_text(item))  # noqa: PERF401  what came before an error counts
                    self._ended(request, received, stream, None)
                except Exception as error:
                    self._ended(request, received, stream, error)

    async def _read_async(self, url: str, requests: list[StreamRequest], settings: dict[str, Any]) -> None:
        async with AsyncInferenceClient(url, **settings) as client:
            for request in requests:
                received: list[str] = []
                stream = None
                try:
                    stream = await request.send(client)
                    async for item in stream:
                        received.append(_text(item))  # noqa: PERF401
                    self._ended(request, received, stream, None)
                except Exception as error:
                    self._ended(request, received, stream, error)

    def _ended(self, request: StreamRequest, received: list[str], stream: Any, error: Exception | None) -> None:
        text = "".join(received)
        expected = self._expected[request.prompt, request.chat, request.tokens]
        figures = self.figures
        with self._lock:
            if error is None:
                figures.whole += 1
                figures.disturbed += len(stream.attempts) > 1
                figures.resumed += stream.metrics.resumed
                if text != expected or stream.text != text:
                    figures.faults.append(f"{request}: {text!r} is not {expected!r}")
                return
            figures.errors[type(error).__name__] += 1
            if not isinstance(error, InferenceError):
                figures.faults.append(f"{request}: a foreign error, {error!r}")
            elif (error.partial_text or "") != text or not expected.startswith(text):
                figures.faults.append(f"{request}: {error.partial_text!r} after {text!r}, of {expected!r}: {error!r}")
            elif self._resume:
                tried = [] if stream is None else [(a.status_code, repr(a.error)) for a in stream.attempts[-4:]]
                figures.faults.append(f"{request}: not resumed after {len(text)} characters: {error!r}, after {tried}")


def _text(item: Any) -> str:
    return item if isinstance(item, str) else "".join(choice.delta.content or "" for choice in item.choices)


def chaos(
    *, resume: bool, streams: int, seed: int = 0, workers: int = 16, network: FaultRates = NETWORK, grace: float = 5.0
) -> Figures:
    """`streams` streams, by so many workers at once."""
    with BackgroundServer(Settings(resume_grace=grace)) as server:
        run = Run(server.url, resume=resume, network=network)
        began = time.monotonic()
        threads = [
            threading.Thread(target=run.work, args=(seed + number, streams // workers)) for number in range(workers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run.figures.seconds = time.monotonic() - began
        lost = streams // workers * workers - run.figures.whole - run.figures.errors.total()
        if lost:
            run.figures.faults.append(f"{lost} streams have no end at all")
    return run.figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=16)
    arguments = parser.parse_args()
    faults = 0
    for resume in (True, False):
        figures = chaos(resume=resume, streams=arguments.streams, seed=arguments.seed, workers=arguments.workers)
        print(f"{'with' if resume else 'without'} resume: {figures}", flush=True)
        faults += len(figures.faults)
    if faults:
        raise SystemExit(f"{faults} faults")


if __name__ == "__main__":
    main()
