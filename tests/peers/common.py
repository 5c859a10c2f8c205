"""What the rows share: text generation and chat behind one interface, and waiting for a server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import tenacity

from hfstream import InferenceError, RetryPolicy
from hfstream.testing import (
    Fault,
    Response,
    ScriptedServer,
    Step,
    chat_event,
    chat_events,
    token_event,
    token_events,
)
from tests.helpers.variants import Clients, Variant

WORDS = ["Hello", ",", " you"]
SOON = 60
"""Seconds within which what must happen does, on a busy machine too. Only a failure takes so long."""


class Task:
    """Text generation or chat, asked and answered in the same words."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = name == "text"

    def __repr__(self) -> str:
        return self.name

    def whole(self, *texts: str) -> list[bytes]:
        """A stream from its first event to its last."""
        return token_events(*texts, finish_reason="eos_token") if self.text else chat_events(*texts)

    def event(self, text: str) -> bytes:
        """One event in the middle."""
        return token_event(1, text) if self.text else chat_event(text)

    def document(self, text: str) -> Response:
        """A whole answer in one piece."""
        message = {"role": "assistant", "content": text}
        chat = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        return Response.json({"generated_text": text} if self.text else chat)

    async def open(self, variant: Variant, client: Any, **options: Any) -> Any:
        return await (variant.open(client, **options) if self.text else variant.open_chat(client, **options))

    async def ask(self, variant: Variant, client: Any, **options: Any) -> Any:
        return await (variant.whole(client, **options) if self.text else variant.chat(client, **options))

    def opened(self, client: Any, **options: Any) -> Any:
        """What the call with ``stream=True`` itself returns."""
        if self.text:
            return client.text_generation("Hi", stream=True, **options)
        return client.chat_completion([{"role": "user", "content": "Hi"}], stream=True, **options)

    def texts(self, items: Iterable[Any]) -> list[str]:
        """The texts of a stream's items."""
        texts = (item if isinstance(item, str) else item.choices[0].delta.content for item in items)
        return [text for text in texts if text]


async def read_chat(variant: Variant, clients: Clients, events: Iterable[Step], **options: Any) -> tuple[str, Any]:
    """The text of a streamed chat, as the loops of the field's tutorials read it, and the stream that was read.

    One of these loops asks first whether a chunk has choices, the other does not.
    """
    with ScriptedServer(Response(events)) as server:
        stream = await variant.open_chat(clients(server.url, retry=None), **options)
        checked = unchecked = ""
        for chunk in await variant.rest(stream):
            if chunk.choices:
                checked += chunk.choices[0].delta.content or ""
            unchecked += chunk.choices[0].delta.content or ""
        await variant.final(stream)
    assert checked == unchecked == stream.text
    return checked, stream


async def fail_chat(variant: Variant, clients: Clients, events: Iterable[Step]) -> InferenceError:
    """The error that ends a streamed chat."""
    with pytest.raises(InferenceError) as caught:
        await read_chat(variant, clients, events)
    return caught.value


async def ask_chat(variant: Variant, clients: Clients, response: Any) -> Any:
    """The chat whose response is this JSON, not streamed."""
    with ScriptedServer(Response.json(response)) as server:
        return await variant.chat(clients(server.url, retry=None))


async def until(condition: Callable[[], bool]) -> None:
    """Waits until `condition()`, which asks a server: there is nothing but asking that would tell."""
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.005)


def endless(task: Task) -> Response:
    """One token, and then nothing: only a client that leaves ends it."""
    return Response([task.event("Hello"), Fault.STALL])


AGAIN = RetryPolicy(attempts=3, wait=tenacity.wait_none())
PAUSES = [pytest.param("asyncio", id="asyncio"), pytest.param("trio", id="trio")]


@contextlib.contextmanager
def loaded() -> Iterator[None]:
    """Spares the garbage collector the model and its libraries: going through them takes it a fifth of a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
