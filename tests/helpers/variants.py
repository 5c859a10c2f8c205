"""Both faces of the client behind one interface, so that each behaviour is tested once and run on both.

The sync face runs in a thread of its own, where it may block as it does in an application.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import pytest

from hfstream import AsyncInferenceClient, AsyncTokenStream, InferenceClient, TokenStream

__all__ = ["HI", "VARIANTS", "AsyncVariant", "Clients", "SyncVariant", "Variant"]

HI = ({"role": "user", "content": "Hi"},)


class Variant(Protocol):
    """What a test does with a client."""

    name: str

    def client(self, model: Any, **settings: Any) -> Any: ...
    async def open(self, client: Any, prompt: str = "Hi", **options: Any) -> Any: ...
    async def whole(self, client: Any, prompt: str = "Hi", **options: Any) -> Any: ...
    async def open_chat(self, client: Any, messages: Any = HI, **options: Any) -> Any: ...
    async def chat(self, client: Any, messages: Any = HI, **options: Any) -> Any: ...
    async def ask(self, client: Any, task: str, *args: Any, **options: Any) -> Any: ...
    async def next(self, stream: Any) -> Any: ...
    async def rest(self, stream: Any) -> list[Any]: ...
    async def final(self, stream: Any) -> Any: ...
    async def close(self, thing: Any) -> None: ...


class SyncVariant:
    name = "sync"

    def client(self, model: Any, **settings: Any) -> InferenceClient:
        return InferenceClient(model, **settings)

    async def open(self, client: InferenceClient, prompt: str = "Hi", **options: Any) -> TokenStream[Any]:
        ask: Any = client.text_generation
        stream: TokenStream[Any] = await asyncio.to_thread(ask, prompt, stream=True, **options)
        return stream

    async def whole(self, client: InferenceClient, prompt: str = "Hi", **options: Any) -> Any:
        ask: Any = client.text_generation
        return await asyncio.to_thread(ask, prompt, **options)

    async def open_chat(self, client: InferenceClient, messages: Any = HI, **options: Any) -> TokenStream[Any]:
        stream: TokenStream[Any] = await self.ask(client, "chat_completion", messages, stream=True, **options)
        return stream

    async def chat(self, client: InferenceClient, messages: Any = HI, **options: Any) -> Any:
        return await self.ask(client, "chat_completion", messages, **options)

    async def ask(self, client: InferenceClient, task: str, *args: Any, **options: Any) -> Any:
        return await asyncio.to_thread(getattr(client, task), *args, **options)

    async def next(self, stream: TokenStream[Any]) -> Any:
        return await asyncio.to_thread(next, stream, None)

    async def rest(self, stream: TokenStream[Any]) -> list[Any]:
        return await asyncio.to_thread(list, stream)

    async def final(self, stream: TokenStream[Any]) -> Any:
        return await asyncio.to_thread(stream.final)

    async def close(self, thing: InferenceClient | TokenStream[Any]) -> None:
        await asyncio.to_thread(thing.close)


class AsyncVariant:
    name = "async"

    def client(self, model: Any, **settings: Any) -> AsyncInferenceClient:
        return AsyncInferenceClient(model, **settings)

    async def open(self, client: AsyncInferenceClient, prompt: str = "Hi", **options: Any) -> AsyncTokenStream[Any]:
        stream: AsyncTokenStream[Any] = await client.text_generation(prompt, stream=True, **options)
        return stream

    async def whole(self, client: AsyncInferenceClient, prompt: str = "Hi", **options: Any) -> Any:
        return await client.text_generation(prompt, **options)

    async def open_chat(
        self, client: AsyncInferenceClient, messages: Any = HI, **options: Any
    ) -> AsyncTokenStream[Any]:
        stream: AsyncTokenStream[Any] = await self.ask(client, "chat_completion", messages, stream=True, **options)
        return stream

    async def chat(self, client: AsyncInferenceClient, messages: Any = HI, **options: Any) -> Any:
        return await self.ask(client, "chat_completion", messages, **options)

    async def ask(self, client: AsyncInferenceClient, task: str, *args: Any, **options: Any) -> Any:
        return await getattr(client, task)(*args, **options)

    async def next(self, stream: AsyncTokenStream[Any]) -> Any:
        return await anext(stream, None)

    async def rest(self, stream: AsyncTokenStream[Any]) -> list[Any]:
        return [item async for item in stream]

    async def final(self, stream: AsyncTokenStream[Any]) -> Any:
        return await stream.final()

    async def close(self, thing: AsyncInferenceClient | AsyncTokenStream[Any]) -> None:
        await thing.aclose()


VARIANTS = [pytest.param(SyncVariant(), id="sync"), pytest.param(AsyncVariant(), id="async")]


class Clients:
    """Makes clients of one face, and closes them after the test."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.made: list[Any] = []

    def __call__(self, model: Any, **settings: Any) -> Any:
        self.made.append(self.variant.client(model, **settings))
        return self.made[-1]
