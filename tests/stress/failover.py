"""Two reference servers behind one client, of which one is killed in mid-answer again and again.

    python tests/stress/failover.py [--kills 100]

Threads stream greedy answers all the time. Reports how many were whole, and how many went on at the other server.
"""

from __future__ import annotations

import argparse
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from tenacity import stop_after_delay

from hfstream import InferenceClient, InferenceError, RetryPolicy

__all__ = ["Failover", "failover"]

PROMPTS = ("How do you make cheese?", "What is Deep Learning?", "Why is the sky blue?")
TOKENS = 60
SECONDS_TO_START = 120


@dataclass
class Failover:
    """How one run went."""

    kills: int = 0
    answers: int = 0
    continued: int = 0
    """Answers whose server was killed, and that went on at the other one."""
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        failed = "".join(f", {count} x {message}" for message, count in self.errors.items())
        return (
            f"{self.kills} kills, {self.answers} answers, {len(self.wrong)} wrong{failed}; "
            f"{self.continued} went on at the other server, {self.seconds:.0f} s"
        ) + "".join(f"\n    {wrong}" for wrong in self.wrong[:5])


class _Server:
    """A reference server in a process of its own, on a port that it keeps."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port: int = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Returns when it is ready."""
        command = [sys.executable, "-m", "hfstream.cli", "serve", "--port", str(self._port)]
        command += ["--tokens-per-second", "150"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + SECONDS_TO_START
        with InferenceClient(self.url, retry=None, timeout=5) as client:
            while time.monotonic() < deadline:
                try:
                    if client.health_check():
                        return
                except InferenceError:
                    pass
                time.sleep(0.1)
        raise TimeoutError(f"the server is not ready after {SECONDS_TO_START} s")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def failover(*, kills: int, threads: int = 6, seed: int = 1) -> Failover:
    """Kills one of two servers `kills` times, in turn, and starts it again; `threads` ask both all the time."""
    figures, stop, lock = Failover(kills), threading.Event(), threading.Lock()
    servers = [_Server(), _Server()]

    def ask(number: int) -> None:
        policy = RetryPolicy(stop=stop_after_delay(60))
        with InferenceClient([server.url for server in servers], resume=True, retry=policy) as client:
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
                    figures.continued += stream.metrics.continued
                    if text != expected[prompt]:
                        figures.wrong.append(f"{prompt}: {text!r}")

    began = time.monotonic()
    try:
        with InferenceClient(servers[0].url) as client:
            expected = {prompt: client.text_generation(prompt, max_new_tokens=TOKENS) for prompt in PROMPTS}
        workers = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        pauses = random.Random(seed)
        for kill in range(kills):
            time.sleep(pauses.uniform(0.3, 1.0))
            servers[kill % 2].kill()
            servers[kill % 2].start()
        stop.set()
        for worker in workers:
            worker.join()
    finally:
        stop.set()
        for server in servers:
            server.kill()
    figures.seconds = time.monotonic() - began
    return figures


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=100)
    figures = failover(kills=arguments.parse_args().kills)
    print(figures)
    if figures.wrong or figures.errors:
        raise SystemExit("an answer is missing, or wrong")


if __name__ == "__main__":
    main()
