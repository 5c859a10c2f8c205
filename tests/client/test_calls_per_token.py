"""How many functions of Python are called for a token that comes alone: cost, without a clock."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from hfstream import AsyncInferenceClient, InferenceClient
from hfstream.testing import Response, ScriptedServer, Step, chat_events, token_events

TOKENS = 50
TEXTS = [f" {number}" for number in range(TOKENS)]
HI = [{"role": "user", "content": "Hi"}]

CALLS: dict[str, Callable[[Any], Any]] = {
    "text": lambda client: client.text_generation("Hi", stream=True),
    "details": lambda client: client.text_generation("Hi", stream=True, details=True),
    "chat": lambda client: client.chat_completion(HI, stream=True),
}


def count_calls(read: Callable[[], None]) -> int:
    """Calls of functions written in Python, and generators and coroutines that go on, in this thread."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call" and "/asyncio/" not in frame.f_code.co_filename

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        read()
    finally:
        sys.setprofile(before)
    return calls


def paced(events: list[bytes]) -> Response:
    """Each event in a read of its own, except where two come before the client has read the first."""
    steps: list[Step] = [step for event in events for step in (event, 0.001)]
    return Response(steps)


def read_sync(kind: str, url: str) -> None:
    with InferenceClient(url) as client:
        assert sum(1 for _ in CALLS[kind](client)) >= TOKENS


def read_async(kind: str, url: str) -> None:
    async def main() -> None:
        async with AsyncInferenceClient(url) as client:
            assert len([item async for item in CALLS[kind](client)]) >= TOKENS

    asyncio.run(main())


@pytest.mark.parametrize(
    ("read", "kind", "most"),
    [
        (read_sync, "text", 28),
        (read_sync, "details", 28),
        (read_sync, "chat", 33),
        (read_async, "text", 38),
        (read_async, "details", 38),
        (read_async, "chat", 42),
    ],
)
def test_a_token_costs_so_many_calls(read: Callable[[str, str], None], kind: str, most: int) -> None:
    """The figures are those of Python 3.11, and one more; a change that needs more of them says why."""
    make = chat_events if kind == "chat" else token_events
    with ScriptedServer(paced(make(*TEXTS)), paced(make(*TEXTS)), paced(make(*TEXTS * 2))) as server:
        read(kind, server.url)  # what is imported or made once is not a token's
        one = count_calls(lambda: read(kind, server.url))
        two = count_calls(lambda: read(kind, server.url))
    assert (two - one) / TOKENS <= most
