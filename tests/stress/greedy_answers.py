"""Greedy answers, asked for all the time while a program kills the servers: how many came, and whether each was whole.

Does not depend on how the servers are run.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tenacity import stop_after_delay

from hfstream import InferenceClient, InferenceError, RetryPolicy

PROMPTS = ("How do you make cheese?", "What is Deep Learning?", "Why is the sky blue?")
RETRY = RetryPolicy(stop=stop_after_delay(300))
"""Longer than a server takes to start on a busy machine."""
TOKENS = 60


@dataclass
class Figures:
    """How one run went."""

    answers: int = 0
    attempts: int = 0
    continued: int = 0
    """Answers whose server was killed, and that went on at another one."""
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        failed = "".join(f", {count} x {message}" for message, count in self.errors.items())
        return (
            f"{self.answers} answers with {self.attempts} requests, {len(self.wrong)} wrong{failed}; "
            f"{self.continued} went on at another server, {self.seconds:.1f} s"
        ) + "".join(f"\n    {wrong}" for wrong in self.wrong[:5])

    def exit_if_failed(self) -> None:
        """Raises SystemExit if an answer was not whole, or did not come."""
        if self.wrong or self.errors or not self.answers:
            raise SystemExit("an answer is missing, or wrong")


@contextmanager
def asking(*urls: str, threads: int) -> Generator[Figures, None, None]:
    """Until the block is left, `threads` ask the servers with ``resume=True``. None of them may be killed before it."""
    figures, stop, lock, began = Figures(), threading.Event(), threading.Lock(), time.monotonic()
    with InferenceClient(urls[0]) as client:
        expected = {prompt: client.text_generation(prompt, max_new_tokens=TOKENS) for prompt in PROMPTS}

    def ask(number: int) -> None:
        with InferenceClient(urls, resume=True, retry=RETRY) as client:
            while not stop.is_set():
                prompt, number = PROMPTS[number % len(PROMPTS)], number + 1
                try:
                    stream = client.text_generation(prompt, max_new_tokens=TOKENS, stream=True)
                    text = "".join(stream)
                except InferenceError as error:
                    with lock:
                        figures.errors[f"{type(error).__name__}: {error}"] += 1
                    continue
                with lock:
                    figures.answers += 1
                    figures.attempts += len(stream.attempts)
                    figures.continued += stream.metrics.continued
                    if text != expected[prompt]:
                        figures.wrong.append(f"{prompt}: {text!r}")

    workers = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield figures
    finally:
        stop.set()
        for worker in workers:
            worker.join()
        figures.seconds = time.monotonic() - began
