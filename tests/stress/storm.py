"""A storm: many clients at once, half of them sync and half async, against a backend of a few permits.

    python tests/stress/storm.py [--clients 200] [--permits 8]

Every client asks once, for a stream. Reports for each policy how many got their whole answer, how many requests the
server refused, and how long it took.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import tenacity

from hfstream import AsyncInferenceClient, InferenceClient, InferenceError, RetryPolicy
from hfstream.server import BackgroundServer, Settings

__all__ = ["POLICIES", "Storm", "storm"]

TWO_MINUTES = tenacity.stop_after_delay(120)
POLICIES: dict[str, RetryPolicy] = {
    "patient: Retry-After with jitter": RetryPolicy(stop=TWO_MINUTES),
    "fixed: again after 0.25 s": RetryPolicy(stop=TWO_MINUTES, wait=tenacity.wait_fixed(0.25)),
    "no backoff: again at once": RetryPolicy(stop=TWO_MINUTES, wait=tenacity.wait_none()),
    "default: three attempts": RetryPolicy(),
}
"""The first is patient enough for all: the default waits, but two minutes of them instead of three attempts."""

PROMPTS = ("How do you make cheese?", "What is Deep Learning?", "Wie macht man Käse?", "Which emoji do you like?")


@dataclass
class Storm:
    """How one went."""

    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    generated: int = 0
    """Answers that the server made."""
    attempts: int = 0
    most_attempts: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        failed = "".join(f", {count} {kind}" for kind, count in self.errors.items())
        return (
            f"{self.answered} answered ({len(self.wrong)} wrong{failed}), {self.generated} generated, "
            f"{self.refused} refused, at most {self.most_attempts} attempts, {self.seconds:.1f} s"
            + "".join(f"\n    {wrong}" for wrong in self.wrong[:5])
        )


def storm(policy: RetryPolicy, *, clients: int, permits: int, tokens: int = 20, pace: float | None = 40.0) -> Storm:
    """`clients` callers at once, each with a client of its own, against `permits`."""
    result = Storm()
    options: Any = {"max_new_tokens": tokens, "stream": True}
    settings = Settings(max_concurrent_requests=permits, tokens_per_second=pace)
    with BackgroundServer(settings) as server:
        with InferenceClient(server.url) as alone:
            expected = {prompt: list(alone.text_generation(prompt, **options)) for prompt in PROMPTS}
        before = _counts(server.url)
        lock = threading.Lock()

        def note(prompt: str, stream: Any, received: list[str]) -> None:
            with lock:
                result.answered += 1
                if received != expected[prompt] or stream.text != "".join(received):
                    result.wrong.append(f"{received} (text {stream.text!r}) is not {expected[prompt]}")
                result.attempts += len(stream.attempts)
                result.most_attempts = max(result.most_attempts, len(stream.attempts))

        def fail(error: InferenceError) -> None:
            with lock:
                result.errors[type(error).__name__] += 1

        def ask(number: int) -> None:
            prompt = PROMPTS[number % len(PROMPTS)]
            try:
                with InferenceClient(server.url, retry=policy) as client:
                    stream = client.text_generation(prompt, **options)
                    note(prompt, stream, list(stream))
            except InferenceError as error:
                fail(error)

        async def ask_async(number: int) -> None:
            prompt = PROMPTS[number % len(PROMPTS)]
            try:
                async with AsyncInferenceClient(server.url, retry=policy) as client:
                    stream = await client.text_generation(prompt, **options)
                    note(prompt, stream, [token async for token in stream])
            except InferenceError as error:
                fail(error)

        async def ask_all() -> None:
            await asyncio.gather(*(ask_async(number) for number in range(clients // 2, clients)))

        began = time.monotonic()
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients // 2)]
        for thread in threads:
            thread.start()
        asyncio.run(ask_all())
        for thread in threads:
            thread.join()
        result.seconds = time.monotonic() - began
        after = _counts(server.url)
        result.refused = after["refused"] - before["refused"]
        result.generated = after["generated"] - before["generated"]
        assert after["permits"] == 0, "a permit is still held"
    return result


def _counts(url: str) -> Counter[str]:
    names = {
        'tgi_request_failure{err="overloaded"}': "refused",
        "tgi_request_success": "generated",
        "hfstream_permits_taken": "permits",
    }
    found: Counter[str] = Counter()
    for line in httpx.get(url + "/metrics").text.splitlines():
        name, _, value = line.rpartition(" ")
        if name in names:
            found[names[name]] = int(value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--permits", type=int, default=8)
    arguments = parser.parse_args()
    print(f"{arguments.clients} clients, {arguments.permits} permits, 20 tokens at 40 a second: at best", end=" ")
    print(f"{arguments.clients / arguments.permits * 0.5:.1f} s")
    first = next(iter(POLICIES))
    for name, policy in POLICIES.items():
        result = storm(policy, clients=arguments.clients, permits=arguments.permits)
        print(f"{name:34} {result}", flush=True)
        if name == first and (result.answered, result.wrong, result.generated) != (
            arguments.clients,
            [],
            arguments.clients,
        ):
            raise SystemExit("a client of the patient policy has no whole answer")


if __name__ == "__main__":
    main()
