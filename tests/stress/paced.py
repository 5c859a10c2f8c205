"""Paced streams: what a token costs when it comes alone, as in a gateway that holds many streams at once.

    python tests/stress/paced.py [--streams 100 400 1000] [--rate 10] [--seconds 10] [--uvloop]

A server, in a process of its own, sends `--rate` events a second on each stream, each with the time of its `write`.
Each contender, in a process of its own, reads all of its streams on one event loop; those that count bytes show what
the sockets alone cost. Reports a Markdown table: microseconds of CPU for each token, how many times hfstream's that is,
the delay from the server's `write` to the caller's loop (median and 99th percentile), and memory for each stream.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import importlib.metadata
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import httpx

from hfstream.testing import DONE, chat_event, final_event, token_event

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
MESSAGES = [{"role": "user", "content": "Hi"}]
WARM_UP = 1.0
"""Seconds after its request until a stream's first token: by then all streams are open."""


class Paced(asyncio.Protocol):
    """One connection of the server; its first request gets `tokens` events, one every `interval` seconds."""

    tokens = 0
    interval = 0.0
    _request = b""
    _sent = 0

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        waiting = b"\r\n\r\n" not in self._request
        self._request += data
        if waiting and b"\r\n\r\n" in self._request:
            self._is_chat = b"/chat/" in self._request[:100]
            self._transport.write(HEAD)
            spread = id(self) // 64 % 1000 / 1000 * self.interval  # or all streams would get theirs at the same time
            asyncio.get_running_loop().call_later(WARM_UP + spread, self._send)

    def _send(self) -> None:
        if self._transport.is_closing():
            return
        self._sent += 1
        last = self._sent == self.tokens
        event = self._make_event(f" {time.monotonic_ns()}", last)
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event) + b"0\r\n\r\n" * last)
        if last:
            self._transport.close()
        else:
            asyncio.get_running_loop().call_later(self.interval, self._send)

    def _make_event(self, text: str, last: bool) -> bytes:
        if self._is_chat:
            return chat_event(text, finish_reason="stop" if last else None) + DONE * last
        return final_event(self._sent, text, text) if last else token_event(self._sent, text)


def serve(tokens: int, interval: float, pipe: Connection) -> None:
    """Never returns."""

    async def main() -> None:
        Paced.tokens, Paced.interval = tokens, interval
        server = await asyncio.get_running_loop().create_server(Paced, "127.0.0.1", 0, backlog=4096)
        pipe.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await asyncio.Event().wait()

    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("uvloop").install()
    asyncio.run(main())


# The contenders: each yields texts, with the time in them, or nothing where it counts bytes ---------------------------


def asyncio_streams(url: str) -> dict[str, Callable[[], AsyncIterator[str]]]:
    """asyncio's own streams, which are read and counted."""
    address = httpx.URL(url)

    async def count() -> AsyncIterator[str]:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"POST /generate_stream HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
        while not (await reader.read(65_536)).endswith(b"\r\n0\r\n\r\n"):
            yield ""
        writer.close()

    return {"bytes": count}


def bare_httpx(url: str) -> dict[str, Callable[[], AsyncIterator[str]]]:
    """httpx alone, whose bytes are counted."""
    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=60)

    async def count() -> AsyncIterator[str]:
        async with client.stream("POST", url + "/generate_stream") as response:
            async for _ in response.aiter_raw():
                yield ""

    return {"bytes": count}


def aiohttp(url: str) -> dict[str, Callable[[], AsyncIterator[str]]]:
    """aiohttp alone, whose bytes are counted."""
    package: Any = importlib.import_module("aiohttp")

    async def count() -> AsyncIterator[str]:
        connector = package.TCPConnector(limit=0)
        async with package.ClientSession(connector=connector) as session, session.post(url + "/generate_stream") as got:
            async for _ in got.content.iter_any():
                yield ""

    return {"bytes": count}


def hfstream(url: str) -> dict[str, Callable[[], AsyncIterator[str]]]:
    """This client."""
    return _like_hub(importlib.import_module("hfstream").AsyncInferenceClient(url))


def huggingface_hub(url: str) -> dict[str, Callable[[], AsyncIterator[str]]]:
    """The client that this one can stand for; its pool would hold 100 connections."""
    hub: Any = importlib.import_module("huggingface_hub")
    limits = httpx.Limits(max_connections=None)
    hub.set_async_client_factory(lambda: httpx.AsyncClient(limits=limits, timeout=60))
    return _like_hub(hub.AsyncInferenceClient(url))


def _like_hub(client: Any) -> dict[str, Callable[[], AsyncIterator[str]]]:
    async def text() -> AsyncIterator[str]:
        async for token in await client.text_generation("Hi", stream=True):
            yield token

    async def details() -> AsyncIterator[str]:
        async for response in await client.text_generation("Hi", stream=True, details=True):
            yield response.token.text

    async def chat() -> AsyncIterator[str]:
        async for chunk in await client.chat_completion(MESSAGES, stream=True):
            yield chunk.choices[0].delta.content

    return {"text": text, "details": details, "chat": chat}


def openai(url: str) -> dict[str, Callable[[], AsyncIterator[str]]]:
    """OpenAI's own client, which knows chats only."""
    client = importlib.import_module("openai").AsyncOpenAI(base_url=f"{url}/v1", api_key="none")

    async def chat() -> AsyncIterator[str]:
        async for chunk in await client.chat.completions.create(model="any", messages=MESSAGES, stream=True):
            yield chunk.choices[0].delta.content

    return {"chat": chat}


CONTENDERS = (asyncio_streams, bare_httpx, aiohttp, hfstream, huggingface_hub, openai)
KINDS = {
    "asyncio_streams": ["bytes"],
    "bare_httpx": ["bytes"],
    "aiohttp": ["bytes"],
    "hfstream": ["text", "details", "chat"],
    "huggingface_hub": ["text", "details", "chat"],
    "openai": ["chat"],
}


# What they cost -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What one contender needed."""

    cpu: float
    """Microseconds for each token."""
    delays: tuple[float, float] | None
    """Milliseconds: median and 99th percentile."""
    memory: float
    """KiB for each stream."""


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  a number of the kernel's
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


async def read_all(open_stream: Callable[[], AsyncIterator[str]], streams: int, tokens: int) -> Cost:
    """Reads all streams at once; raises if one is not whole."""
    delays: list[int] = []

    async def read(expected: int) -> None:
        seen = 0
        async for text in open_stream():
            seen += 1
            if text:
                delays.append(time.monotonic_ns() - int(text))
        if text:
            assert seen == expected

    await read(tokens)  # what is imported or made once is not a stream's
    delays.clear()
    gc.collect()
    before = _resident()
    tasks = [asyncio.create_task(read(tokens)) for _ in range(streams)]
    await asyncio.sleep(WARM_UP * 0.9)
    memory = (_resident() - before) / streams
    began = time.process_time()
    await asyncio.gather(*tasks)
    cpu = (time.process_time() - began) / streams / tokens * 1e6
    ordered = sorted(delays)
    percentiles = (ordered[len(ordered) // 2] / 1e6, ordered[len(ordered) * 99 // 100] / 1e6) if ordered else None
    return Cost(cpu, percentiles, memory)


def contend(name: str, kind: str, url: str, streams: int, tokens: int, uvloop: bool, pipe: Connection) -> None:
    """In a process of its own: sends a `Cost`, or None where the package is missing."""
    make = next(each for each in CONTENDERS if each.__name__ == name)

    async def main() -> Cost:
        return await read_all(make(url)[kind], streams, tokens)

    try:
        run: Callable[[Coroutine[Any, Any, Cost]], Cost] = (
            importlib.import_module("uvloop").run if uvloop else asyncio.run
        )
        pipe.send(run(main()))
    except ModuleNotFoundError:
        pipe.send(None)


@contextlib.contextmanager
def process_of(function: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    """What a process that runs `function` sends first."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=function, args=(*arguments, there), daemon=True)
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def row(name: str, kind: str, cost: Cost, ours: dict[str, float]) -> str:
    """A line of the table."""
    package = name.replace("bare_", "").replace("asyncio_streams", "")
    version = importlib.metadata.version(package) if package else platform.python_version()
    times = f"{cost.cpu / ours[kind]:.1f}" if kind in ours else f"{cost.cpu / ours['text']:.1f}"
    delays = "" if cost.delays is None else f"{cost.delays[0]:.1f}, {cost.delays[1]:.1f}"
    return f"| {name.replace('_', ' ')} {version}, {kind} | {cost.cpu:.1f} | {times} | {delays} | {cost.memory:.0f} |"


def run(streams: int, *, rate: float, seconds: float, rounds: int, uvloop: bool = False) -> dict[tuple[str, str], Cost]:
    """All contenders with so many streams, by turns: the best of so many rounds, by name and kind."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    tokens = round(rate * seconds)
    costs: dict[tuple[str, str], Cost] = {}
    for _ in range(rounds):
        for name, kinds in KINDS.items():
            for kind in kinds:
                with (
                    process_of(serve, tokens, 1 / rate) as url,
                    process_of(contend, name, kind, url, streams, tokens, uvloop) as cost,
                ):
                    best = costs.get((name, kind))
                    if cost is not None and (best is None or cost.cpu < best.cpu):
                        costs[name, kind] = cost
    return costs


def table(costs: dict[tuple[str, str], Cost]) -> str:
    """The costs in Markdown."""
    ours = {kind: cost.cpu for (name, kind), cost in costs.items() if name == "hfstream"}
    head = ["| | CPU, us a token | times hfstream's | delay, ms: p50, p99 | KiB a stream |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(row(name, kind, cost, ours) for (name, kind), cost in costs.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 400, 1000])
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uvloop", action="store_true")
    arguments = parser.parse_args()
    print(f"{arguments.rate:g} tokens a second on each stream, {os.cpu_count()} processors, best of {arguments.rounds}")
    for streams in arguments.streams:
        costs = run(
            streams,
            rate=arguments.rate,
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            uvloop=arguments.uvloop,
        )
        print(f"\n{streams} streams:\n\n{table(costs)}", flush=True)


if __name__ == "__main__":
    main()
