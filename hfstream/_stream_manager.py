"""What an async call with ``stream=True`` returns. Does not depend on how the stream is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

if TYPE_CHECKING:
    from ._async.stream import AsyncTokenStream

__all__ = ["AsyncStreamManager"]

ItemT = TypeVar("ItemT")


class AsyncStreamManager(Coroutine[Any, Any, "AsyncTokenStream[ItemT]"], Generic[ItemT]):
    """An `AsyncTokenStream` whose request has not been sent yet: ``client.text_generation(..., stream=True)``.

    It can be used in four ways, each of which sends the request:

        stream = await client.text_generation(prompt, stream=True)            # a stream, whose loop follows
        async for token in client.text_generation(prompt, stream=True): ...   # the loop at once
        async with client.text_generation(prompt, stream=True) as stream: ... # closed on leaving the block
        task = asyncio.create_task(client.text_generation(prompt, stream=True))

    One that is dropped unused sends no request, and Python does not warn about it. `ItemT` is the type of an item, for
    annotations: ``AsyncStreamManager[str]`` for text, ``AsyncStreamManager[StreamResponse]`` with ``details=True``,
    ``AsyncStreamManager[ChatCompletionChunk]`` for chat.

    Raises, where the request is sent: what the client's method lists.
    """

    # Not a coroutine itself but an object with its methods: Python warns about a coroutine that is never awaited, and
    # one that has been made only to be iterated over is never awaited.

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

    if not TYPE_CHECKING:  # type checkers report such a loop by themselves

        def __iter__(self) -> NoReturn:
            raise TypeError(
                "an async call is not iterable: write `async for item in client...(stream=True)`, or await it"
            )

        def __enter__(self) -> NoReturn:
            raise TypeError("an async call takes `async with`: write `async with client...(stream=True) as stream`")

        def __exit__(self, *error: object) -> None:
            """Never called; without it Python would not call `__enter__`."""

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
