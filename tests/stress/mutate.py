"""Mutated responses through the whole client: a right answer or a typed error with the exact prefix, nothing else.

    python tests/stress/mutate.py [--runs 100000] [--seed 0]

Half of the runs go through `httpx.MockTransport`, half over a port; half are sync, half async. Each run takes a whole
response (text, details, chat, tool calls, completions), changes it (bytes, events, compression, headers, framing, the
end), and compares what the client returns with what a plain reader finds in the same bytes: what was received is the
beginning of that, an answer is complete only where the reader finds an end, `partial_text` is the text that was
received, every error is an InferenceError, and no run lasts longer than its limits. Run n of a seed is always the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import httpx

from hfstream import AsyncInferenceClient, InferenceClient, InferenceError
from tests.stress.mutants import LIMITS, FirstChoice, Mutant, mutant

__all__ = ["Figures", "check", "run"]

SLACK = 20.0
"""Seconds beyond the limits that a busy machine may take."""
MEMORY = 96 * 1024
"""Kilobytes by which the process may grow after the first tenth of its runs."""

# Runs ----------------------------------------------------------------------------------------------------------------


@dataclass
class Figures:
    """What came of the runs."""

    runs: int = 0
    complete: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])
    longest: float = 0.0
    seconds: float = 0.0
    grown: int = 0
    """Kilobytes."""

    def __str__(self) -> str:
        head = (
            f"{self.runs} runs: {self.complete} complete, {self.errors.total()} errors {dict(self.errors)}, "
            f"{len(self.faults)} FAULTS; longest {self.longest:.2f} s, {self.grown} KiB more, {self.seconds:.0f} s"
        )
        return "\n    ".join([head, *self.faults[:30]])


def check(case: Mutant, items: list[Any], stream: Any, error: BaseException | None, *, framed: bool) -> str | None:
    """What is wrong with a result; None if nothing is. `framed`: damage of the wire has been in the way."""
    received, text = _texts(items)
    if error is not None:
        if not isinstance(error, InferenceError):
            return f"a foreign error: {error!r}"
        if stream is not None and error.partial_text != text:
            return f"partial_text {error.partial_text!r} after {text!r}"
    elif stream is not None and stream.text != text:
        return f"text {stream.text!r} after {text!r}"
    if framed and case.damage is not None:
        return None  # which bytes of the body have come, only an HTTP parser could tell
    if not case.expected.text.startswith(received):
        return f"received {received!r}, sent {case.expected.text!r} ({error!r})"
    if error is None and received not in case.expected.ends:
        return f"complete with {received!r}, of {case.expected.text!r}"
    if error is None and not 200 <= case.status < 300:
        return f"complete with status {case.status}"
    return None


def _texts(items: list[Any]) -> tuple[str, str]:
    """What was received, with what tool calls hold and without."""
    received, text, is_first = "", "", FirstChoice()
    for item in items:
        if isinstance(item, str):
            received, text = received + item, text + item
        elif hasattr(item, "token"):
            new = "" if item.token.special else str(item.token.text)
            received, text = received + new, text + new
        else:
            for choice in item.choices:
                delta = choice.delta
                has_more = bool(delta.content or delta.tool_calls or choice.finish_reason)
                if is_first(choice.index, begins=delta.role is not None and not has_more):
                    text += delta.content or ""
                    received += delta.content or ""
                    for call in delta.tool_calls or ():
                        if call.function:
                            received += (call.function.name or "") + (call.function.arguments or "")
    return received, text


def _ask(client: Any, case: Mutant) -> Any:
    if case.kind in ("chat", "tools"):
        return client.chat_completion([{"role": "user", "content": "Hi"}], stream=True, timeout=case.limits)
    model = {"model": f"{client.model}/v1/completions"} if case.kind == "completions" else {}
    details = case.kind == "details"
    return client.text_generation("Hi", stream=True, details=details, timeout=case.limits, **model)


class Port:
    """A server that sends to each connection what is due next."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.wire = b""
        self.stalls = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError):
                sock.settimeout(10)
                while self._answer(sock):
                    pass

    def _answer(self, sock: socket.socket) -> bool:
        """Answers one request; returns whether another one may come on the same connection."""
        head = b""
        while b"\r\n\r\n" not in head:
            got = sock.recv(65536)
            if not got:
                return False
            head += got
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        missing = length - len(head.partition(b"\r\n\r\n")[2])
        while missing > 0 and (got := sock.recv(65536)):
            missing -= len(got)
        stalls = self.stalls
        sock.sendall(self.wire)
        if not stalls:
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):  # the client closes first: so nothing is reset
                pass
        return stalls

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class _Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, case: Mutant) -> None:
        self._case = case

    def __iter__(self) -> Iterator[bytes]:
        return self._case.chunks()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._case.chunks():
            yield chunk


class _Run:
    def __init__(self, seed: int, *, port: bool) -> None:
        self.figures = Figures()
        self._seed = seed
        self._port = Port() if port else None
        self._case: Mutant = mutant(seed, 0)
        self.url = self._port.url if self._port else "http://mock"

    def next(self, number: int) -> Mutant:
        self._case = mutant(self._seed, number)
        if self._port:
            self._port.wire, self._port.stalls = self._case.wire(random.Random(number)), self._case.stalls
        return self._case

    def settings(self, kind: Any) -> dict[str, Any]:
        """Of a client, with an httpx client of `kind`, if it needs one."""
        if self._port:
            return {"timeout": LIMITS, "retry": None}
        return {"timeout": LIMITS, "retry": None, "http_client": kind(transport=httpx.MockTransport(self._respond))}

    def _respond(self, request: httpx.Request) -> httpx.Response:
        case = self._case
        headers = [(name.encode(), value.encode()) for name, value in case.headers]
        return httpx.Response(case.status, headers=headers, stream=_Chunks(case))

    def ended(self, number: int, items: list[Any], stream: Any, error: BaseException | None, seconds: float) -> None:
        figures = self.figures
        figures.runs += 1
        figures.longest = max(figures.longest, seconds)
        if error is None:
            figures.complete += 1
        else:
            figures.errors[type(error).__name__] += 1
        fault = check(self._case, items, stream, error, framed=self._port is not None)
        if seconds > cast("float", LIMITS.total) + SLACK:
            fault = fault or f"took {seconds:.1f} s"
        if fault is not None:
            figures.faults.append(f"{number} ({self._case.kind}, {self._case.name}): {fault}")

    def close(self) -> None:
        if self._port:
            self._port.close()

    def sync(self, numbers: range) -> None:
        with InferenceClient(self.url, **self.settings(httpx.Client)) as client:
            for number in numbers:
                case, began = self.next(number), time.monotonic()
                items: list[Any] = []
                stream: Any = None
                error: Exception | None = None
                try:
                    stream = _ask(client, case)
                    for item in stream:
                        items.append(item)  # noqa: PERF402  what came before an error counts
                except Exception as caught:
                    error = caught
                self.ended(number, items, stream, error, time.monotonic() - began)

    async def asynchronous(self, numbers: range) -> None:
        async with AsyncInferenceClient(self.url, **self.settings(httpx.AsyncClient)) as client:
            for number in numbers:
                case, began = self.next(number), time.monotonic()
                items: list[Any] = []
                stream: Any = None
                error: Exception | None = None
                try:
                    stream = await _ask(client, case)
                    async for item in stream:
                        items.append(item)  # noqa: PERF401  what came before an error counts
                except Exception as caught:
                    error = caught
                self.ended(number, items, stream, error, time.monotonic() - began)
                await asyncio.sleep(0)  # nothing else lets the loop close what was dropped, in a MockTransport's runs


def run(numbers: range, *, port: bool, variant: str, seed: int = 0) -> Figures:
    """The mutants of these numbers, over a port or through a MockTransport; `variant`: "sync" or "async"."""
    one = _Run(seed, port=port)
    began, before = time.monotonic(), 0
    warm = numbers[: len(numbers) // 10]
    try:
        for part in (warm, numbers[len(warm) :]):
            if variant == "sync":
                one.sync(part)
            else:
                asyncio.run(one.asynchronous(part))
            before = before or _resident()
    finally:
        one.close()
    figures = one.figures
    figures.seconds = time.monotonic() - began
    figures.grown = _resident() - before
    if figures.grown > MEMORY:
        figures.faults.append(f"{figures.grown} KiB more memory")
    return figures


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    faults, start = 0, 0
    for port in (False, True):
        for variant in ("sync", "async"):
            figures = run(range(start, start + arguments.runs // 4), port=port, variant=variant, seed=arguments.seed)
            start += arguments.runs // 4
            print(f"{'port' if port else 'MockTransport'}, {variant}: {figures}", flush=True)
            faults += len(figures.faults)
    if faults:
        raise SystemExit(f"{faults} faults")


if __name__ == "__main__":
    main()
