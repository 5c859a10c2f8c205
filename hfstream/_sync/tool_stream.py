"""The synchronous driver of a conversation with tools: sends the requests, calls the functions.

Does not depend on what is asked next, or on what an error means: `core.tool_run` decides both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._tool_calling import sync_call_tool
from ..core.tool_run import ToolRun
from ..errors import IncompleteStreamError
from ..types import ChatCompletionChunk, ChatCompletionMessage, ToolRunCompletion
from .stream import TokenStream

if TYPE_CHECKING:
    from .._request_factory import RequestFactory
    from .._transport import SyncHTTP

__all__ = ["ToolRunStream"]


class ToolRunStream(Iterator[ChatCompletionChunk]):
    """The chunks of all rounds of `run_tools`: iterate over it, or call `final()` for the last completion.

    The functions are called in between, when a round has ended with calls. Also a context manager, which closes it. A
    loop that goes on after an error raises IncompleteStreamError.
    """

    def __init__(self, http: SyncHTTP, requests: RequestFactory, run: ToolRun, *, streamed: bool) -> None:
        self._http = http
        self._requests = requests
        self._run = run
        self._streamed = streamed
        self._current: TokenStream[ChatCompletionChunk] | None = None
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
    def current(self) -> TokenStream[ChatCompletionChunk] | None:
        """The stream of the latest round, with its `text`, `usage` and `metrics`; None before the first one."""
        return self._current

    def open(self) -> Self:
        """Sends the first request, and returns when its first content has been received.

        Before that it makes the calls in the last of the messages that were passed, if those have no results yet.
        """
        if self._current is None and not self._over:
            self._over = True
            current = self._next_round()
            self._over = False
            current.open()
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ChatCompletionChunk:
        self.open()
        while self._current is not None and not self._over:
            for chunk in self._current:
                return chunk
            self._end_round(self._current)
        if not self._closed:
            self._ensure_complete()
        raise StopIteration

    def final(self) -> ToolRunCompletion:
        """Reads to the end; returns the last completion.

        Raises:
            ToolError: a tool failed, with ``on_tool_error="raise"``, or there were more than `max_rounds` rounds.
            IncompleteStreamError: the stream was closed before its end, or has failed before.
            InferenceError: a request failed.
        """
        for _ in self:
            pass
        return self._ensure_complete()

    def _ensure_complete(self) -> ToolRunCompletion:
        if self._run.completion is None:
            raise IncompleteStreamError("the stream was closed before its end, or has failed", retryable=False)
        return self._run.completion

    def close(self) -> None:
        """Ends the stream. A function that is being called is waited for, and no request follows."""
        self._closed = True
        if self._current is not None:
            self._current.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _end_round(self, ended: TokenStream[ChatCompletionChunk]) -> None:
        """Takes the completion of a round, and begins the next one if there are calls."""
        self._over = True
        if self._closed:
            return
        self._run.receive(ended.final())
        if self._run.completion is None:
            self._next_round()
            self._over = False

    def _next_round(self) -> TokenStream[ChatCompletionChunk]:
        """Makes the calls that are due; the stream of the next request, which has not been sent yet."""
        run = self._run
        for call in run.take_calls():
            try:
                run.add_result(call, sync_call_tool(run.prepare(call)))
            except Exception as error:  # noqa: BLE001  the run raises it, or tells the model
                run.add_error(call, error)
        exchange = self._requests.chat_completion(run.messages, stream=self._streamed, options=run.next_options())
        current = self._current = TokenStream(self._http, exchange)
        if self._closed:  # while a function was called
            current.close()
        return current


ToolRunStream.__module__ = "hfstream"  # where users import it from
