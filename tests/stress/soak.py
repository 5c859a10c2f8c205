"""Soak: many streams at once, very many in a row, and a very long one, in one process that must not grow.

    python tests/stress/soak.py [--at-once 1000] [--in-a-row 100000] [--tokens 1000000]

The server is a `ScriptedServer` in a process of its own. Reports memory, sockets, tasks, threads and objects, before
and after.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfstream import AsyncInferenceClient, InferenceClient

__all__ = ["State", "at_once", "in_a_row", "long_stream", "scripted", "state"]

SERVER = """
import sys, time
from hfstream.testing import Response, ScriptedServer, token_events

pace, tokens = float(sys.argv[1]), int(sys.argv[2])
events = token_events(*[f" {number}" for number in range(tokens)])
answer = Response([step for event in events for step in ((pace, event) if pace else (event,))])
def next_answer(request):
    server.requests.clear()
    return answer
server = ScriptedServer(next_answer).start()
print(server.url, flush=True)
sys.stdin.read()
"""

TOKENS = 10
WHOLE = "".join(f" {number}" for number in range(TOKENS))


@dataclass(frozen=True)
class State:
    """What this process holds."""

    kilobytes: int
    """Resident memory."""
    sockets: int
    tasks: int
    threads: int
    objects: int

    def __str__(self) -> str:
        return (
            f"{self.kilobytes / 1024:.1f} MiB, {self.sockets} sockets, {self.tasks} tasks, {self.threads} threads, "
            f"{self.objects} objects"
        )


def state(loop: asyncio.AbstractEventLoop | None = None) -> State:
    """What is held now, after a collection; tasks are those of `loop`, or of the one that runs."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    sockets = 0
    for name in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the directory's own descriptor is gone by now
            sockets += str(name.readlink()).startswith("socket:")
    try:
        tasks = len(asyncio.all_tasks(loop))
    except RuntimeError:
        tasks = 0
    return State(
        pages * os.sysconf("SC_PAGE_SIZE") // 1024, sockets, tasks, threading.active_count(), len(gc.get_objects())
    )


@contextlib.contextmanager
def scripted(pace: float = 0.0, tokens: int = TOKENS) -> Iterator[str]:
    """A server in a process of its own that says so many tokens, `pace` seconds apart."""
    command = [sys.executable, "-c", SERVER, str(pace), str(tokens)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


async def at_once(url: str, count: int) -> tuple[State, State, State]:
    """So many async streams at the same time: before, while all are open, and after."""
    opened = 0
    all_open = asyncio.Event()
    async with AsyncInferenceClient(url) as client:
        await _read(client)
        before = state()

        async def read() -> None:
            nonlocal opened
            async with client.text_generation("Hi", stream=True) as stream:
                opened += 1
                if opened == count:
                    all_open.set()
                await all_open.wait()
                async for _ in stream:
                    pass
                assert stream.text == WHOLE

        tasks = [asyncio.create_task(read()) for _ in range(count)]
        await asyncio.wait_for(all_open.wait(), 120)
        during = state()
        await asyncio.gather(*tasks)
        del tasks
    await asyncio.sleep(0.1)
    return before, during, state()


async def _read(client: AsyncInferenceClient) -> None:
    text = [token async for token in client.text_generation("Hi", stream=True)]
    assert "".join(text) == WHOLE


def in_a_row(url: str, count: int, *, warm: int, every: int, variant: str = "async") -> Iterator[tuple[int, State]]:
    """So many streams one after the other: how many there were, and what is held then; the first when it is warm."""
    loop = None
    with contextlib.ExitStack() as held:
        if variant == "sync":
            client = held.enter_context(InferenceClient(url))

            def read() -> None:
                assert "".join(client.text_generation("Hi", stream=True)) == WHOLE
        else:
            runner = held.enter_context(asyncio.Runner())
            loop = runner.get_loop()
            async_client = AsyncInferenceClient(url)
            held.callback(lambda: runner.run(async_client.aclose()))

            def read() -> None:
                runner.run(_read_many(async_client, every))

        step = 1 if variant == "sync" else every
        for _ in range(0, warm, step):
            read()
        for number in range(0, count, step):
            if number % every == 0:
                yield number, state(loop)
            read()
        yield count, state(loop)


async def _read_many(client: AsyncInferenceClient, count: int) -> None:
    for _ in range(count):
        await _read(client)


def long_stream(url: str, tokens: int, *, details: bool, every: int) -> Iterator[tuple[int, State]]:
    """One stream of so many tokens: how many have come, and what is held then."""
    with InferenceClient(url, timeout=600) as client:
        stream: Any = client.text_generation("Hi", stream=True, details=details)
        number = 0
        for number, _ in enumerate(stream, 1):
            if number % every == 0:
                yield number, state()
        assert number == tokens
        assert stream.text == "".join(f" {number}" for number in range(tokens))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=int, default=1000)
    parser.add_argument("--in-a-row", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    arguments = parser.parse_args()
    began = time.monotonic()
    with scripted(0.05) as url:
        before, during, after = asyncio.run(at_once(url, arguments.at_once))
    each = (during.kilobytes - before.kilobytes) / arguments.at_once
    print(f"{arguments.at_once} async streams at once, {time.monotonic() - began:.1f} s; {each:.1f} KiB each")
    print(f"    before: {before}\n    during: {during}\n    after:  {after}", flush=True)
    with scripted(0.05) as url:
        _, _, again = asyncio.run(at_once(url, arguments.at_once))
    print(f"    again:  {again}")
    grown = [(before.sockets, before.tasks) < (after.sockets, after.tasks)]
    grown.append(again.kilobytes > 1.1 * after.kilobytes)
    for variant, count in (("async", arguments.in_a_row), ("sync", arguments.in_a_row)):
        began = time.monotonic()
        with scripted() as url:
            print(f"{count} {variant} streams in a row")
            states: list[State] = []
            for number, now in in_a_row(url, count, warm=2000, every=count // 10, variant=variant):
                states.append(now)
                print(f"    {number:7}: {now}", flush=True)
        first, last = states[0], states[-1]
        bytes_each = (last.kilobytes - first.kilobytes) * 1024 / count
        print(
            f"    {time.monotonic() - began:.0f} s, {bytes_each:.2f} bytes for each stream",
            flush=True,
        )
        grown.append((last.sockets, last.tasks, last.threads) > (first.sockets, first.tasks, first.threads))
        grown.append(bytes_each > 50)
    for kind in ("text", "details"):
        print(f"a stream of {arguments.tokens} tokens, {kind}")
        with scripted(tokens=arguments.tokens) as url:
            states = []
            details = kind == "details"
            for number, now in long_stream(url, arguments.tokens, details=details, every=arguments.tokens // 10):
                states.append(now)
                print(f"    {number:7}: {now}", flush=True)
        bytes_each = (states[-1].kilobytes - states[0].kilobytes) * 1024 / (arguments.tokens * 0.9)
        print(f"    {bytes_each:.1f} bytes for each token", flush=True)
        # Of a text, each token's part, seven bytes, and a copy of all of them while they are joined.
        grown.append(kind == "text" and bytes_each > 20)
    if any(grown):
        raise SystemExit("it grows")


if __name__ == "__main__":
    main()
