"""What an async call with ``stream=True`` returns: a stream that is about to open.

All the ways in which people write it work: ``await`` it, iterate over it, enter it, make a task of it. Dropped without
any of these it is silent, because no coroutine exists before one is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from ._async import AsyncTokenStream

__all__ = ["AsyncStreamManager"]

ItemT = TypeVar("ItemT")


class AsyncStreamManager(Coroutine[Any, Any, "AsyncTokenStream[ItemT]"], Generic[ItemT]):
    """A coroutine, an async iterator and an async context manager in one."""

    def __init__(self, stream: AsyncTokenStream[ItemT]) -> None:
        self._stream = stream
        self._coroutine: Coroutine[Any, Any, AsyncTokenStream[ItemT]] | None = None

    def _open(self) -> Coroutine[Any, Any, AsyncTokenStream[ItemT]]:
        if self._coroutine is None:
            self._coroutine = self._stream.open()
        return self._coroutine

    def __await__(self) -> Generator[Any, Any, AsyncTokenStream[ItemT]]:
        return self._open().__await__()

    def send(self, value: Any, /) -> Any:
        return self._open().send(value)

    def throw(self, *error: Any) -> Any:
        return self._open().throw(*error)

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()

    def __aiter__(self) -> AsyncIterator[ItemT]:
        return self._stream

    async def __anext__(self) -> ItemT:
        return await self._stream.__anext__()

    async def __aenter__(self) -> AsyncTokenStream[ItemT]:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stream.aclose()
