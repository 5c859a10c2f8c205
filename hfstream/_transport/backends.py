"""The network backend of each variant: what httpcore connects with."""

from __future__ import annotations

import asyncio
from typing import Any

import httpcore

from .asyncio_streams import AsyncioBackend

__all__ = ["async_backend", "sync_backend"]

sync_backend = httpcore.SyncBackend


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    """That of the library that runs the task: asyncio, or trio."""

    def __init__(self) -> None:
        self._asyncio = AsyncioBackend()
        self._anyio: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()  # type: ignore[assignment,unused-ignore]

    def _current(self) -> httpcore.AsyncNetworkBackend:
        try:
            in_asyncio = asyncio.current_task() is not None  # there is none where trio is the guest of an asyncio loop
        except RuntimeError:
            in_asyncio = False
        return self._asyncio if in_asyncio else self._anyio

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return await self._current().connect_tcp(*args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        await self._current().sleep(seconds)


async_backend = _AsyncBackend
