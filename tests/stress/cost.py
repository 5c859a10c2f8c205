"""Cost: microseconds of CPU for each streamed token, of this client and of others, beside bare httpx.

    python tests/stress/cost.py [--tokens 20000] [--rounds 5] [--one-send-per-event]

The server, in a process of its own, has the whole answer ready: one event a token, one HTTP chunk an event. Chunks are
not reads: one read of the socket brings as many as have come, and no reader waits for one. With
``--one-send-per-event`` each chunk is a `send` of its own, and fewer come together. Contenders take turns,
each makes a list of all texts, and what counts is its best round: CPU time of this process alone. Reports a Markdown
table; in brackets how many times hfstream's cost. The socket, aiohttp and httpx hand on bytes and read none of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import importlib.metadata
import multiprocessing
import platform
import socket
import socketserver
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import httpx

from hfstream import AsyncInferenceClient, InferenceClient
from hfstream.testing import chat_events, token_events

__all__ = ["Answers", "Contender", "contenders", "measured", "run", "serving", "table"]

COLUMNS = ("text", "details", "chat")
END = b"\r\n0\r\n\r\n"
PATHS = {"text": "/generate_stream", "details": "/generate_stream", "chat": "/v1/chat/completions"}
MESSAGES = [{"role": "user", "content": "Hi"}]

Openers = Mapping[str, Callable[[], Any]]
"""For each column what opens a stream: a plain one, or the promise of an async one."""


class Answers:
    """What the server says, to be known on both sides."""

    def __init__(self, tokens: int) -> None:
        self.texts: list[str] = [f" {number}" for number in range(tokens)]
        self.events: dict[str, list[bytes]] = {"text": token_events(*self.texts), "chat": chat_events(*self.texts)}
        self.events["details"] = self.events["text"]

    def response(self, column: str) -> list[bytes]:
        """Head, chunks and end, ready to be sent."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in self.events[column]]
        return [head, *chunks, b"0\r\n\r\n"]


def serve(tokens: int, one_send_per_event: bool, pipe: Connection) -> None:
    """Answers every request with all that there is to say; never returns."""
    answers = Answers(tokens)
    chat, text = answers.response("chat"), answers.response("text")
    if not one_send_per_event:
        chat, text = [b"".join(chat)], [b"".join(text)]

    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            while line := self.rfile.readline():
                size = 0
                for header in iter(self.rfile.readline, b"\r\n"):
                    name, _, value = header.partition(b":")
                    size = int(value) if name.lower() == b"content-length" else size
                self.rfile.read(size)
                with contextlib.suppress(ConnectionError):  # one that stops reading at [DONE] may hang up
                    for part in chat if b"chat" in line else text:
                        self.wfile.write(part)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        pipe.send(f"http://127.0.0.1:{server.server_address[1]}")
        server.serve_forever()


@contextlib.contextmanager
def serving(tokens: int, one_send_per_event: bool = False) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(tokens, one_send_per_event, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


# The contenders -------------------------------------------------------------------------------------------------------


def raw_socket(url: str) -> tuple[Openers, Openers]:
    """What the system and asyncio's own streams cost: bytes as they come, with the chunks' sizes among them."""
    address = httpx.URL(url)

    def request(column: str) -> bytes:
        return f"POST {PATHS[column]} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n".encode()

    def opened(column: str) -> Iterator[bytes]:
        with socket.create_connection((address.host, address.port)) as connection:
            connection.sendall(request(column))
            last = b""
            while not last.endswith(END):
                data = connection.recv(65_536)
                last = last[-len(END) :] + data[-len(END) :]
                yield data

    async def opening(column: str) -> AsyncIterator[bytes]:
        async def read() -> AsyncIterator[bytes]:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(request(column))
            last = b""
            while not last.endswith(END):
                data = await reader.read(65_536)
                last = last[-len(END) :] + data[-len(END) :]
                yield data
            writer.close()

        return read()

    return (
        {"text": lambda: opened("text"), "chat": lambda: opened("chat")},
        {"text": lambda: opening("text"), "chat": lambda: opening("chat")},
    )


def aiohttp(url: str) -> tuple[Openers, Openers]:
    """aiohttp alone, which is async only: bytes as they come."""
    package = importlib.import_module("aiohttp")

    async def opening(column: str) -> AsyncIterator[bytes]:
        async def read() -> AsyncIterator[bytes]:
            async with package.ClientSession() as session, session.post(url + PATHS[column]) as response:
                async for data in response.content.iter_any():
                    yield data

        return read()

    return {}, {"text": lambda: opening("text"), "chat": lambda: opening("chat")}


def bare(url: str) -> tuple[Openers, Openers]:
    """The floor: httpx alone, one piece a chunk."""
    client, async_client = httpx.Client(), httpx.AsyncClient()

    def opened(column: str) -> Any:
        return client.send(client.build_request("POST", url + PATHS[column]), stream=True).iter_raw()

    async def opening(column: str) -> Any:
        return (
            await async_client.send(async_client.build_request("POST", url + PATHS[column]), stream=True)
        ).aiter_raw()

    return (
        {"text": lambda: opened("text"), "chat": lambda: opened("chat")},
        {"text": lambda: opening("text"), "chat": lambda: opening("chat")},
    )


def hfstream(url: str) -> tuple[Openers, Openers]:
    """This client."""
    return _like_hub(InferenceClient(url)), _like_hub(AsyncInferenceClient(url))


def hfstream_with_otel(url: str) -> tuple[Openers, Openers]:
    """This client, its calls recorded by OpenTelemetry's SDK, which exports nothing."""
    return _observed(url, [])


def hfstream_with_otel_chunk_times(url: str) -> tuple[Openers, Openers]:
    """The same, with the time of each chunk in a histogram of the SDK's that is read."""
    export = importlib.import_module("opentelemetry.sdk.metrics.export")
    return _observed(url, [export.InMemoryMetricReader()], chunk_times=True)


def _observed(url: str, readers: list[Any], **options: Any) -> tuple[Openers, Openers]:
    tracers, meters = map(importlib.import_module, ("opentelemetry.sdk.trace", "opentelemetry.sdk.metrics"))
    observer = importlib.import_module("hfstream.otel").OpenTelemetry(
        tracer_provider=tracers.TracerProvider(), meter_provider=meters.MeterProvider(readers), **options
    )
    return (
        _like_hub(InferenceClient(url, observers=[observer])),
        _like_hub(AsyncInferenceClient(url, observers=[observer])),
    )


def huggingface_hub(url: str) -> tuple[Openers, Openers]:
    """The client that this one can stand for."""
    hub = importlib.import_module("huggingface_hub")
    return _like_hub(hub.InferenceClient(url)), _like_hub(hub.AsyncInferenceClient(url))


def _like_hub(client: Any) -> Openers:
    return {
        "text": lambda: client.text_generation("Hi", stream=True),
        "details": lambda: client.text_generation("Hi", stream=True, details=True),
        "chat": lambda: client.chat_completion(MESSAGES, stream=True),
    }


def text_generation(url: str) -> tuple[Openers, Openers]:
    """TGI's own client."""
    package = importlib.import_module("text_generation")
    client, async_client = package.Client(url), package.AsyncClient(url)

    async def opening() -> Any:
        return async_client.generate_stream("Hi")

    return {"details": lambda: client.generate_stream("Hi")}, {"details": opening}


def openai(url: str) -> tuple[Openers, Openers]:
    """OpenAI's own client, which knows chats only."""
    package = importlib.import_module("openai")

    def variant(client: Any) -> Openers:
        return {"chat": lambda: client.chat.completions.create(model="any", messages=MESSAGES, stream=True)}

    options = {"base_url": f"{url}/v1", "api_key": "none"}
    return variant(package.OpenAI(**options)), variant(package.AsyncOpenAI(**options))


# What is done with a stream: as little as a caller can, and the same with all_contenders's.

READ: Mapping[str, Callable[[Any], list[Any]]] = {
    "pieces": list,
    "text": list,
    "details": lambda stream: [response.token.text for response in stream],
    "chat": lambda stream: [
        choice.delta.content for chunk in stream for choice in chunk.choices if choice.delta.content
    ],
}


async def _items(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def _tokens(stream: Any) -> list[Any]:
    return [response.token.text async for response in stream]


async def _contents(stream: Any) -> list[Any]:
    return [choice.delta.content async for chunk in stream for choice in chunk.choices if choice.delta.content]


READ_ASYNC: Mapping[str, Callable[[Any], Awaitable[list[Any]]]] = {
    "pieces": _items,
    "text": _items,
    "details": _tokens,
    "chat": _contents,
}


@dataclass(frozen=True)
class Contender:
    """One of those that take turns."""

    name: str
    variant: str
    column: str
    read: Callable[[], list[Any]]
    """Opens a stream and reads it to its end."""
    expected: list[Any]
    """What that must be."""


def contenders(url: str, answers: Answers, runner: asyncio.Runner) -> Iterator[Contender]:
    """All whose packages are there; the async ones read in `runner`."""
    ours = (hfstream, hfstream_with_otel, hfstream_with_otel_chunk_times)
    for make in (raw_socket, aiohttp, bare, *ours, huggingface_hub, text_generation, openai):
        name = make.__name__
        try:
            openers = make(url)
        except ModuleNotFoundError as error:
            print(f"{name} is left out: {error}")
            continue
        package, _, extra = name.partition("_with_")
        title = TITLES.get(name) or f"{package} {importlib.metadata.version(package)}"
        if extra:
            title += f" with {extra.replace('_', ' ')}"
        for variant, its_openers in zip(("sync", "async"), openers, strict=True):
            for column, opener in its_openers.items():
                is_bytes = name in ("raw_socket", "aiohttp", "bare")
                way = "pieces" if is_bytes else column
                expected: list[Any] = answers.texts
                if is_bytes:
                    expected = [b"".join(answers.response(column))] if name == "raw_socket" else answers.events[column]
                reader = partial(READ[way]) if variant == "sync" else partial(_run, runner, READ_ASYNC[way])
                yield Contender(title, variant, column, partial(_read, reader, opener), expected)


TITLES = {
    "raw_socket": f"socket, asyncio.open_connection (Python {platform.python_version()})",
    "bare": f"httpx {httpx.__version__}",
}


def _read(reader: Callable[[Any], list[Any]], opener: Callable[[], Any]) -> list[Any]:
    return reader(opener())


def _run(runner: asyncio.Runner, read: Callable[[Any], Awaitable[list[Any]]], opening: Any) -> list[Any]:
    async def wait() -> list[Any]:
        return await read(await opening)

    return runner.run(wait())


# What it costs --------------------------------------------------------------------------------------------------------


def measured(contender: Contender, tokens: int) -> float:
    """Microseconds of CPU for each token, once."""
    gc.collect()
    gc.freeze()  # what the other contenders have imported is not looked through again and again
    began = time.process_time()
    received = contender.read()
    spent = time.process_time() - began
    gc.unfreeze()
    if received and isinstance(received[0], bytes):  # those that hand on bytes divide them as they like
        assert b"".join(received) == b"".join(contender.expected), f"{contender.name} read something else"
    else:
        assert len(received) == len(contender.expected), (
            f"{contender.name}: {len(received)} of {len(contender.expected)}"
        )
        assert received == contender.expected, f"{contender.name} says something else"
    return spent / tokens * 1e6


Costs = Mapping[tuple[str, str, str], float]
"""Microseconds by name, variant and column."""


def table(costs: Costs) -> str:
    """The costs in Markdown; in brackets how many times hfstream's."""
    rows = list(dict.fromkeys((name, variant) for name, variant, _ in costs))
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---|---|---|---|"]
    lines += [
        f"| {name}, {variant} | {' | '.join(_cell(costs, name, variant, c) for c in COLUMNS)} |"
        for name, variant in rows
    ]
    return "\n".join(lines)


def _cell(costs: Costs, name: str, variant: str, column: str) -> str:
    if (name, variant, column) not in costs:
        return ""
    cost = costs[name, variant, column]
    (ours,) = [
        known
        for (other, *where), known in costs.items()
        if other.startswith("hfstream") and " with " not in other and where == [variant, column]
    ]
    return f"{cost:.1f}" if ours == cost else f"{cost:.1f} ({cost / ours:.2f})"


def run(tokens: int, rounds: int, *, one_send_per_event: bool = False) -> Costs:
    """All contenders, by turns: the best of so many rounds."""
    costs: dict[tuple[str, str, str], float] = {}
    with serving(tokens, one_send_per_event) as url, asyncio.Runner() as runner:
        all_contenders = list(contenders(url, Answers(tokens), runner))
        for _ in range(rounds):
            for contender in all_contenders:
                key = contender.name, contender.variant, contender.column
                costs[key] = min(costs.get(key, float("inf")), measured(contender, tokens))
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one-send-per-event", action="store_true")
    arguments = parser.parse_args()
    costs = run(arguments.tokens, arguments.rounds, one_send_per_event=arguments.one_send_per_event)
    print(f"Python {platform.python_version()}, {arguments.tokens} tokens, the best of {arguments.rounds} rounds\n")
    print(table(costs))


if __name__ == "__main__":
    main()
