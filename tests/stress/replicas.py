"""Replicas on Ray Serve: a storm of clients, replicas that are killed in mid-answer, and two replicas beside one.

    python -m tests.stress.replicas [--clients 200] [--kills 100]

Needs ray. Every greedy answer must be whole, whatever happens to its replica.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import time

from hfstream import AsyncInferenceClient, InferenceError
from hfstream.server import BackgroundServer
from tests.ray_serve.serving import Serving, serving
from tests.stress.greedy_answers import PROMPTS, RETRY, Figures, asking

STREAMS, TOKENS = 8, 150
"""For the speed: streams at once, and the tokens of each."""


async def storm(url: str, clients: int) -> Figures:
    """`clients` at once, with a client of its own each."""
    figures, began = Figures(), time.monotonic()
    async with AsyncInferenceClient(url, retry=RETRY) as client:
        expected = [await client.text_generation(prompt, max_new_tokens=20) for prompt in PROMPTS]

    async def ask(number: int) -> None:
        try:
            async with AsyncInferenceClient(url, retry=RETRY) as client:
                stream = await client.text_generation(PROMPTS[number % 3], max_new_tokens=20, stream=True)
                text = await stream.final()
        except InferenceError as error:
            figures.errors[str(error)] += 1
            return
        figures.answers += 1
        figures.attempts += len(stream.attempts)
        if text != expected[number % 3]:
            figures.wrong.append(text)

    await asyncio.gather(*map(ask, range(clients)))
    figures.seconds = time.monotonic() - began
    return figures


def kill_again_and_again(server: Serving, kills: int, *, threads: int = 4, seed: int = 1) -> Figures:
    """Kills a replica `kills` times, while `threads` ask all the time: once it has answered, and there are two."""
    pauses, killed = random.Random(seed), set[int]()
    with asking(server.url, threads=threads) as figures:
        for kill in range(kills):
            enough = figures.answers + threads
            while figures.answers < enough and not figures.errors:  # so each kill has answers to interrupt
                time.sleep(0.1)
            time.sleep(pauses.uniform(0.1, 0.6))
            # The older one of the two: the newer one may not have loaded its model yet.
            victim = server.wait_for_replicas(2, without=killed)[0]
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
            if kill % 10 == 9:
                print(f"  {kill + 1} kills: {figures}", flush=True)
    return figures


async def tokens_per_second(url: str) -> float:
    """Of `STREAMS` streams at once."""

    async def count(client: AsyncInferenceClient, number: int) -> int:
        stream = await client.text_generation(PROMPTS[number % 3], max_new_tokens=TOKENS, stream=True)
        return len([token async for token in stream])

    async with AsyncInferenceClient(url, retry=RETRY) as client:
        await asyncio.gather(*(count(client, number) for number in range(STREAMS)))  # all replicas have run once
        began = time.monotonic()
        counts = [await asyncio.gather(*(count(client, number) for number in range(STREAMS))) for _ in range(3)]
        return sum(map(sum, counts)) / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--kills", type=int, default=100)
    arguments = parser.parse_args()
    with BackgroundServer() as plain:
        print(f"without Ray: {asyncio.run(tokens_per_second(plain.url)):.0f} tokens/s, {STREAMS} streams", flush=True)
    for replicas in ("1", "2"):
        with serving("--replicas", replicas) as server:
            print(f"{replicas} replicas: {asyncio.run(tokens_per_second(server.url)):.0f} tokens/s", flush=True)
    with serving("--replicas", "2", "--max-concurrent-requests", "4", "--tokens-per-second", "40") as server:
        stormed = asyncio.run(storm(server.url, arguments.clients))
        print(f"storm of {arguments.clients} clients, 2 x 4 permits: {stormed}", flush=True)
    with serving("--replicas", "2", "--tokens-per-second", "60") as server:
        survived = kill_again_and_again(server, arguments.kills)
        print(f"{arguments.kills} kills: {survived}", flush=True)
    for figures in (stormed, survived):
        figures.exit_if_failed()


if __name__ == "__main__":
    main()
