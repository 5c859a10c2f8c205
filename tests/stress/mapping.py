"""Many prompts through `client.map` with a journal, in a process that is killed again and again.

    python tests/stress/mapping.py [--prompts 100000] [--kills 5]

Sync and async clients take turns. Reports how many results the last run has, whether each prompt has its own answer
once, how many requests the server got, and how the memory of a run changes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hfstream import AsyncInferenceClient, InferenceClient
from hfstream.testing import Request, Response, ScriptedServer, token_events

__all__ = ["Mapping", "mapping"]

ROOT = Path(__file__).parents[2]
REPORTS = 20
"""How often a run reports its memory."""


@dataclass
class Mapping:
    """How the runs went."""

    results: int = 0
    """Of the last run."""
    wrong: list[str] = field(default_factory=list)
    asked: int = 0
    """Requests of all runs."""
    most_at_once: int = 0
    kills: int = 0
    kilobytes: list[int] = field(default_factory=list)
    """Resident memory of the last run, at equal distances."""
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.results} results after {self.kills} kills, {len(self.wrong)} wrong; {self.asked} requests, at most "
            f"{self.most_at_once} at once, {self.seconds:.0f} s; resident memory of the last run "
            f"{self.kilobytes[0] / 1024:.1f} to {max(self.kilobytes) / 1024:.1f} MiB"
        ) + "".join(f"\n    {wrong}" for wrong in self.wrong[:5])


class _Server:
    """Answers each prompt with its own number, and counts the requests for each."""

    def __init__(self, prompts: int) -> None:
        self.counts = array("H", [0]) * prompts
        self.asked = 0
        self.running = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response:
        number = int(request.json()["inputs"].removeprefix("prompt "))
        with self._lock:
            self.counts[number] += 1
            self.asked += 1
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
        return Response(self._events(number))

    def _events(self, number: int) -> Iterator[bytes]:
        try:
            yield b"".join(token_events("answer ", str(number), finish_reason="eos_token"))
        finally:
            with self._lock:
                self.running -= 1


def mapping(*, prompts: int, kills: int, seed: int = 1) -> Mapping:
    """Kills `kills` runs with SIGKILL, at places that `seed` determines; the last one ends by itself."""
    figures = Mapping(kills=kills)
    places = sorted(random.Random(seed).sample(range(1, prompts), kills))
    answers = _Server(prompts)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ScriptedServer(answers) as server:
        for run, place in enumerate([*places, prompts]):
            command = [
                sys.executable,
                __file__,
                "--run",
                "async" if run % 2 else "sync",
                str(prompts),
                server.url,
                folder,
            ]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
                while place < prompts and process.poll() is None and answers.asked < place + run:
                    time.sleep(0.001)
                    server.requests.clear()
                if place < prompts:
                    process.send_signal(signal.SIGKILL)
                while process.poll() is None and place == prompts:
                    time.sleep(0.01)
                    server.requests.clear()
                assert process.stdout is not None
                output = process.stdout.read()
            if process.returncode != (-signal.SIGKILL if place < prompts else 0):
                figures.wrong.append(f"run {run} ended with {process.returncode}")
        figures.kilobytes = [int(line) for line in output.split()]
        _check(Path(folder) / "answers", prompts, figures)
    figures.wrong += [f"prompt {number} was not asked" for number, count in enumerate(answers.counts) if not count]
    figures.asked, figures.most_at_once = answers.asked, answers.most_at_once
    figures.seconds = time.monotonic() - began
    return figures


def _check(path: Path, prompts: int, figures: Mapping) -> None:
    with path.open() as lines:
        for number, line in enumerate(lines):
            figures.results += 1
            if line != f"{number} answer {number}\n":
                figures.wrong.append(f"line {number}: {line!r}")
    if figures.results != prompts:
        figures.wrong.append(f"{figures.results} results for {prompts} prompts")


# One run, in a process of its own -------------------------------------------------------------------------------------


def _resident() -> int:
    """Kilobytes of this process that are in memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def _prompts(count: int) -> Iterator[str]:
    return (f"prompt {number}" for number in range(count))


def _run(variant: str, prompts: int, url: str, folder: Path) -> None:
    with (folder / "answers").open("w") as answers:

        def write(index: int, output: str | None) -> None:
            answers.write(f"{index} {output}\n")
            if index % max(1, prompts // REPORTS) == 0:
                print(_resident(), flush=True)

        async def run_async() -> None:
            async with AsyncInferenceClient(url) as client:
                async for result in client.map(_prompts(prompts), journal=folder / "journal"):
                    write(result.index, result.output)

        if variant == "async":
            asyncio.run(run_async())
        else:
            with InferenceClient(url) as client:
                for result in client.map(_prompts(prompts), journal=folder / "journal"):
                    write(result.index, result.output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=5)
    given = parser.parse_args()
    figures = mapping(prompts=given.prompts, kills=given.kills)
    print(figures)
    if figures.wrong:
        raise SystemExit("an answer is missing, wrong or doubled")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        _run(sys.argv[2], int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
    else:
        main()
