"""How many functions of Python are called for a token that comes alone: cost, without a clock."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
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


NOT_OURS = frozenset(map(str, [threading.__file__, __file__, *Path(asyncio.__file__).parent.glob("*.py")]))


def count_calls(read: Callable[[], None]) -> int:
    """Calls of functions written in Python, and generators and coroutines that go on, in this thread.

    Without those of this file, of threading and asyncio, and of pydantic, whose older versions have more.
    """
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        name = frame.f_code.co_filename
        calls += event == "call" and name not in NOT_OURS and "/pydantic/" not in name

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        read()
    finally:
        sys.setprofile(before)
    return calls


class Consumed:
    """How many items the client's user has got: the server sends an event when those before it have been read."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def reset(self) -> None:
        self._count = 0

    def add(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify()

    def one_by_one(self, events: list[bytes]) -> Response:
        """Each event in a read of its own. The first may be no content, and comes to the user with the second."""

        def steps() -> Iterator[Step]:
            for number, event in enumerate(events, 1):
                yield event
                seconds = 0.05 if number in {1, len(events)} else 10
                with self._changed:
                    self._changed.wait_for(partial(self._has, number), seconds)

        return Response(steps())

    def _has(self, number: int) -> bool:
        return self._count >= number


def read_sync(kind: str, url: str, consumed: Consumed) -> None:
    consumed.reset()
    with InferenceClient(url) as client:
        for _ in CALLS[kind](client):
            consumed.add()


def read_async(kind: str, url: str, consumed: Consumed) -> None:
    async def main() -> None:
        async with AsyncInferenceClient(url) as client:
            async for _ in CALLS[kind](client):
                consumed.add()

    consumed.reset()
    asyncio.run(main())


@pytest.mark.parametrize(
    ("read", "kind", "most"),
    [
        (read_sync, "text", 29),
        (read_sync, "details", 29),
        (read_sync, "chat", 31),
        (read_async, "text", 37),
        (read_async, "details", 37),
        (read_async, "chat", 39),
    ],
)
def test_a_token_costs_so_many_calls(read: Callable[[str, str, Consumed], None], kind: str, most: int) -> None:
    """The figures are those of Python 3.11, and three more; a change that needs more of them says why."""
    make = chat_events if kind == "chat" else token_events
    consumed = Consumed()
    answers = [make(*TEXTS), make(*TEXTS), make(*TEXTS * 2)]
    with ScriptedServer(*map(consumed.one_by_one, answers)) as server:
        read(kind, server.url, consumed)  # what is imported or made once is not a token's
        one = count_calls(lambda: read(kind, server.url, consumed))
        two = count_calls(lambda: read(kind, server.url, consumed))
    assert (two - one) / TOKENS <= most
