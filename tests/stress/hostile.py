"""Hostile requests, and overload: what the server answers meanwhile, how fast, and what it keeps.

    python tests/stress/hostile.py [--requests 10000] [--seed 0] [--clients 500] [--permits 16] [--seconds 60]

The first run sends seeded requests of many kinds that no client should send. Then one answer must be exact; no response
may have been a 5xx besides 503, no line of the log a traceback, and `/health` must have answered meanwhile. The second
run sends more requests than there are permits. Each run reports the load generator's own delay: how late its event loop
was.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

__all__ = ["Figures", "hostile", "overload"]

PROMPT = "How do you make cheese?"
JSON = b"content-type: application/json\r\n"


@dataclass
class Figures:
    """What came of one run."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    """Seconds that /health took, one connection after another."""
    delays: list[float] = field(default_factory=list)
    """Seconds by which the load generator itself was late."""
    refusals: list[float] = field(default_factory=list)
    idle_refusals: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """Kilobytes in use, before, after a third, and after the run."""

    def __str__(self) -> str:
        parts = [
            f"{dict(self.statuses)}, {len(self.wrong)} WRONG",
            f"/health p50 {_ms(self.health, 50)}, p99 {_ms(self.health, 99)}, longest {_ms(self.health, 100)}",
            f"the load generator's delay p99 {_ms(self.delays, 99)}, longest {_ms(self.delays, 100)}",
            f"memory {' -> '.join(f'{kilobytes / 1024:.0f}' for kilobytes in self.memory)} MiB",
        ]
        if self.refusals:
            parts.append(f"refusals p50 {_ms(self.refusals, 50)}, p99 {_ms(self.refusals, 99)}")
            parts.append(
                f"beside an idle server's p50 {_ms(self.idle_refusals, 50)}, p99 {_ms(self.idle_refusals, 99)}"
            )
        return "\n    ".join([*parts, *self.wrong[:20]])


def _ms(seconds: list[float], percent: int) -> str:
    ordered = sorted(seconds) or [0.0]
    return f"{1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]:.1f} ms"


# --- kinds of requests ------------------------------------------------------------------------------------------------


def _post(path: str, body: bytes, *extra: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(body)}\r\n".encode()
    return head + JSON + b"".join(extra) + b"\r\n" + body


def _json(path: str, **body: Any) -> bytes:
    return _post(path, json.dumps(body).encode())


_PATHS = (
    "/generate",
    "/generate_stream",
    "/v1/chat/completions",
    "/v1/completions",
    "/tokenize",
    "/chat_tokenize",
    "/",
)


def _parameters(rng: random.Random) -> bytes:
    values: list[Any] = [
        3e38,
        1e-45,
        -1,
        0,
        2**70,
        "a",
        None,
        [],
        {},
        [""],
        ["a" * 5000],
        True,
        float("1e308"),
        "a" * 10_000,
    ]
    names = ["temperature", "top_p", "top_k", "top_n_tokens", "stop", "seed", "repetition_penalty", "max_new_tokens"]
    parameters: dict[str, Any] = {rng.choice(names): rng.choice(values) for _ in range(3)}
    parameters.setdefault("max_new_tokens", 2)
    if rng.random() < 0.5:
        return _json(rng.choice(_PATHS[:2]), inputs="Hi", parameters=parameters)
    contents: list[Any] = ["Hi", None, []]
    fields: dict[str, Any] = {
        "model": rng.choice([None, "a" * 2000]),
        "max_tokens": 2,
        "temperature": rng.choice(values),
    }
    return _json("/v1/chat/completions", messages=[{"role": "user", "content": rng.choice(contents)}], **fields)


def _large(rng: random.Random) -> bytes:
    text = rng.choice(["ab ", "\u00e9", "\U0001f642"]) * rng.choice([10_000, 100_000, 400_000])
    bodies: list[dict[str, Any]] = [
        {"inputs": text},
        {"messages": [{"role": "user", "content": text}]},
        {"model": text},
    ]
    return _json(rng.choice(_PATHS), **rng.choice(bodies))


def _bytes(rng: random.Random) -> bytes:
    request = bytearray(_json(rng.choice(_PATHS), inputs="Hi", parameters={"max_new_tokens": 1}))
    for _ in range(rng.randrange(1, 6)):
        request[rng.randrange(len(request))] = rng.randrange(256)
    return bytes(request)


def _nested(rng: random.Random) -> bytes:
    depth = rng.choice([100, 10_000, 100_000])
    return _post(rng.choice(_PATHS), b'{"inputs":' + b"[" * depth + b"]" * depth * rng.randrange(2))


def _cut(rng: random.Random) -> bytes:
    request = _json(rng.choice(_PATHS), inputs="Hi", parameters={"max_new_tokens": 1})
    return request[: rng.randrange(len(request))]


def _chunked(rng: random.Random) -> bytes:
    method = rng.choice(["GET /health", "POST /generate", "GET /", "DELETE /generate_stream"])
    head = f"{method} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n".encode()
    return (
        head
        + JSON
        + b"\r\n"
        + rng.choice([b"zz\r\n", b"-1\r\n", b"5\r\nab", b"f" * 20 + b"\r\n", b"1\r\naXX0\r\n\r\n"])
    )


def _heads(rng: random.Random) -> bytes:
    extra = rng.choice(
        [
            b"upgrade: websocket\r\nconnection: upgrade\r\n",
            b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n",
            b"content-encoding: gzip\r\n",
            b"expect: 100-continue\r\n",
            b"host: evil.example\r\n",
            b"last-event-id: " + b"9" * 5000 + b"\r\n",
            b"x: " + b"y" * rng.choice([10_000, 200_000]) + b"\r\n",
            b"prefer: resumable\r\n",
        ]
    )
    return _post(rng.choice(_PATHS), b'{"inputs":"Hi","parameters":{"max_new_tokens":2}}', extra)


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    *(_parameters, _parameters, _parameters, _bytes, _bytes, _cut, _cut, _chunked, _heads, _nested, _large),
)


# --- runs -------------------------------------------------------------------------------------------------------------


PROGRAM = """
import logging, sys
from hfstream.server import Settings, serve
logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
serve(Settings(port=0, max_concurrent_requests=int(sys.argv[1])), started=lambda url: print(url, flush=True))
"""


@contextlib.contextmanager
def _server(figures: Figures, permits: int) -> Generator[_Server, None, None]:
    """A server in a process of its own, whose log is read when it has ended."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-c", PROGRAM, str(permits)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process:
            try:
                assert process.stdout
                server = _Server(process.stdout.readline().strip(), process.pid)
                while httpx.get(server.url + "/health").status_code != 200:
                    time.sleep(0.1)
                yield server
                process.send_signal(signal.SIGTERM)
                if process.wait(60):
                    figures.wrong.append(f"the server ended with {process.returncode}")
            finally:
                process.kill()
        log.seek(0)
        lines = log.read().splitlines()
    figures.statuses["lines in the log"] = len(lines)
    figures.wrong += [f"in the log: {line}" for line in lines if not line.startswith(("WARNING ", "ERROR "))]


@dataclass(frozen=True)
class _Server:
    url: str
    pid: int

    def memory(self) -> int:
        """Kilobytes in use, without the model's process."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


async def _send(url: httpx.URL, data: bytes, rng: random.Random, figures: Figures, read_seconds: float) -> None:
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        with contextlib.suppress(ConnectionError, TimeoutError):
            writer.write(data)
            if rng.random() < 0.1:
                return  # gone at once
            async with asyncio.timeout(rng.choice([0.1, read_seconds])):
                status = await reader.readline()
                figures.statuses[status[9:12].decode("latin-1") or "none"] += 1
                if status[9:10] == b"5" and status[9:12] != b"503":
                    figures.wrong.append(f"{status!r} to {data[:300]!r}")
                while await reader.read(65_536):
                    pass
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def _measured(url: str, figures: Figures) -> AsyncGenerator[None, None]:
    """Asks for /health all the time, each time on a kept-alive connection, and measures this event loop's delay."""

    async def ask() -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            while True:
                began = time.perf_counter()
                response = await client.get(url + "/health")
                figures.health.append(time.perf_counter() - began)
                if response.status_code != 200:
                    figures.wrong.append(f"/health: {response.status_code}")
                await asyncio.sleep(0.02)

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            figures.delays.append(time.perf_counter() - began - 0.01)

    tasks = [asyncio.create_task(ask()), asyncio.create_task(tick())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, Exception):
                figures.wrong.append(f"/health: {done!r}")


async def _answer(client: httpx.AsyncClient, url: str) -> httpx.Response:
    return await client.post(url + "/generate", json={"inputs": PROMPT, "parameters": {"max_new_tokens": 12}})


def hostile(*, requests: int, seed: int = 0, at_once: int = 16, read_seconds: float = 30.0) -> Figures:
    """`requests` hostile requests, then one exact answer. `read_seconds`: seconds that a response is waited for."""
    figures = Figures()

    async def run(server: _Server) -> None:
        url = server.url
        numbers = iter(range(requests))

        async def work() -> None:
            for number in numbers:
                if number == requests // 3:
                    figures.memory.append(server.memory())
                rng = random.Random(f"{seed} {number}")
                await _send(httpx.URL(url), rng.choice(KINDS)(rng), rng, figures, read_seconds)

        async with httpx.AsyncClient(timeout=60) as client:
            expected = (await _answer(client, url)).json()
            figures.memory.append(server.memory())
            async with _measured(url, figures):
                await asyncio.gather(*(work() for _ in range(at_once)))
            figures.memory.append(server.memory())
            if (answer := (await _answer(client, url)).json()) != expected:
                figures.wrong.append(f"{answer} is not {expected}")

    with _server(figures, 128) as server:
        asyncio.run(run(server))
    return figures


class _Client:
    """One client with a kept-alive connection. Not httpx: 500 of its clients keep a whole core busy."""

    def __init__(self, url: str) -> None:
        self._url = httpx.URL(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, **body: Any) -> tuple[int, bytes, float]:
        """Status, body, and the seconds that the answer took."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._url.host, self._url.port)
        reader, writer = self._streams
        content = json.dumps(body).encode()
        head = f"POST /generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n".encode()
        began = time.perf_counter()
        writer.write(head + JSON + b"\r\n" + content)
        answer = await reader.readuntil(b"\r\n\r\n")
        size = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        text = await reader.readexactly(size)
        return int(answer[9:12]), text, time.perf_counter() - began

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()


def overload(*, clients: int, permits: int, seconds: float) -> Figures:
    """`clients` that ask again and again, each with a connection of its own and a pause after each answer."""
    figures = Figures()
    question: dict[str, Any] = {"inputs": PROMPT, "parameters": {"max_new_tokens": 12}}

    async def run(server: _Server) -> None:
        first = _Client(server.url)
        _, expected, _ = await first.ask(**question)
        for _ in range(200):  # what a refusal takes when nothing else happens
            figures.idle_refusals.append((await first.ask(inputs=""))[2])
        first.close()
        end = time.monotonic() + seconds

        async def ask() -> None:
            client = _Client(server.url)
            await asyncio.sleep(random.uniform(0, 2))
            while time.monotonic() < end:
                status, body, taken = await client.ask(**question)
                figures.statuses[str(status)] += 1
                if status == 429:
                    figures.refusals.append(taken)
                elif (status, body) != (200, expected):
                    figures.wrong.append(f"{status} {body[:300]!r}")
                await asyncio.sleep(random.uniform(1, 3))
            client.close()

        figures.memory.append(server.memory())
        async with _measured(server.url, figures):
            asking = [asyncio.create_task(ask()) for _ in range(clients)]
            await asyncio.sleep(seconds / 3)
            figures.memory.append(server.memory())
            await asyncio.gather(*asking)
        figures.memory.append(server.memory())

    with _server(figures, permits) as server:
        asyncio.run(run(server))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--permits", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    runs: dict[str, Callable[[], Figures]] = {
        f"{arguments.requests} hostile requests": partial(hostile, requests=arguments.requests, seed=arguments.seed),
        f"{arguments.clients} clients, {arguments.permits} permits": partial(
            overload, clients=arguments.clients, permits=arguments.permits, seconds=arguments.seconds
        ),
    }
    wrong = 0
    for name, run in runs.items():
        figures = run()
        print(f"{name}: {figures}", flush=True)
        wrong += len(figures.wrong)
    if wrong:
        raise SystemExit(f"{wrong} wrong")


if __name__ == "__main__":
    main()
