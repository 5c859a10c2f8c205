"""The asynchronous driver of a conversation with tools: sends the requests, calls the functions.

Does not depend on what is asked next, or on what an error means: `core.tool_run` decides both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._tool_calling import async_call_tool
from ..core.tool_run import ToolRun
from ..errors import IncompleteStreamError
from ..types import ChatCompletionChunk, ChatCompletionMessage, ToolRunCompletion
from .stream import AsyncTokenStream

if TYPE_CHECKING:
    from .._request_factory import RequestFactory
    from .._transport import AsyncHTTP

__all__ = ["AsyncToolRunStream"]


class AsyncToolRunStream(AsyncIterator[ChatCompletionChunk]):
    """The chunks of all rounds of `run_tools`: iterate over it, or call `final()` for the last completion.

    The functions are called in between, when a round has ended with calls. Also a context manager, which closes it. A
    loop that goes on after an error raises IncompleteStreamError.
    """

    def __init__(self, http: AsyncHTTP, requests: RequestFactory, run: ToolRun, *, streamed: bool) -> None:
        self._http = http
        self._requests = requests
        self._run = run
        self._streamed = streamed
        self._current: AsyncTokenStream[ChatCompletionChunk] | None = None
        self._over = False  # no round follows: after the last one, and unless what comes between two rounds succeeds
        self._closed = False

    @property
    def messages(self) -> list[ChatCompletionMessage | Mapping[str, Any]]:
        """The conversation so far, with the results of the tools; also after an error."""
        return list(self._run.messages)

    @property
    def rounds(self) -> int:
        """How many requests have been made."""
        return self._run.rounds

    @property
    def current(self) -> AsyncTokenStream[ChatCompletionChunk] | None:
        """The stream of the latest round, with its `text`, `usage` and `metrics`; None before the first one."""
        return self._current

    async def open(self) -> Self:
        """Sends the first request, and returns when its first content has been received.

        Before that it makes the calls in the last of the messages that were passed, if those have no results yet.
        """
        if self._current is None and not self._over:
            self._over = True
            current = await self._next_round()
            self._over = False
            await current.open()
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        return self.open().__await__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        await self.open()
        while self._current is not None and not self._over:
            async for chunk in self._current:
                return chunk
            await self._end_round(self._current)
        if not self._closed:
            self._ensure_complete()
        raise StopAsyncIteration

    async def final(self) -> ToolRunCompletion:
        """Reads to the end; returns the last completion.

        Raises:
            ToolError: a tool failed, with ``on_tool_error="raise"``, or there were more than `max_rounds` rounds.
            IncompleteStreamError: the stream was closed before its end, or has failed before.
            InferenceError: a request failed.
        """
        async for _ in self:
            pass
        return self._ensure_complete()

    def _ensure_complete(self) -> ToolRunCompletion:
        if self._run.completion is None:
            raise IncompleteStreamError("the stream was closed before its end, or has failed", retryable=False)
        return self._run.completion

    async def aclose(self) -> None:
        """Ends the stream. A function that is being called is waited for, and no request follows."""
        self._closed = True
        if self._current is not None:
            await self._current.aclose()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _end_round(self, ended: AsyncTokenStream[ChatCompletionChunk]) -> None:
        """Takes the completion of a round, and begins the next one if there are calls."""
        self._over = True
        if self._closed:
            return
        self._run.receive(await ended.final())
        if self._run.completion is None:
            await self._next_round()
            self._over = False

    async def _next_round(self) -> AsyncTokenStream[ChatCompletionChunk]:
        """Makes the calls that are due; the stream of the next request, which has not been sent yet."""
        run = self._run
        for call in run.take_calls():
            try:
                run.add_result(call, await async_call_tool(run.prepare(call)))
            except Exception as error:  # noqa: BLE001  the run raises it, or tells the model
                run.add_error(call, error)
        exchange = self._requests.chat_completion(run.messages, stream=self._streamed, options=run.next_options())
        current = self._current = AsyncTokenStream(self._http, exchange)
        if self._closed:  # while a function was called
            await current.aclose()
        return current


AsyncToolRunStream.__module__ = "hfstream"  # where users import it from
