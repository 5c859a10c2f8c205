"""The plain driver: wait, send, read, close. Every decision is the exchange's.

`_async` is this package with ``await``; a test turns the one into the other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from .._transport import SyncHTTP, map_exception
from .._transport.responses import SyncStreamedResponse
from ..core.base_stream import BaseStream
from ..core.exchange import Exchange
from ..errors import InferenceConnectionError
from ..types import ChatCompletion, ChatCompletionChunk, StreamResponse, TextGenerationResponse

__all__ = ["TokenStream"]

ItemT = TypeVar("ItemT")


class TokenStream(BaseStream[ItemT, Any], Iterator[ItemT], Generic[ItemT]):
    """An answer that is still being written: iterate over it, or ask it for `final()`.

    Also a context manager, which closes it. It stands on its own: it lives on when its client's variable is gone.
    Closing it before its end, in whatever way, closes the connection, and the server stops generating.
    """

    def __init__(self, wire: SyncHTTP, exchange: Exchange[ItemT, Any]) -> None:
        super().__init__(exchange)
        self._line: SyncStreamedResponse | None = None
        self._closed = False
        self._wire = wire
        self._ready: Iterator[ItemT] = iter(())
        self._alarm = wire.alarm()
        self._reading = threading.Lock()  # only ever tried, never waited for
        wire.adopt(self)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ItemT:
        for item in self._ready:
            return item
        self._read()
        for item in self._ready:
            return item
        raise StopIteration

    def open(self) -> Self:
        """Sends the request, and again as the retry policy allows, until the first content is in hand."""
        self._read(until_speaking=True)
        if self._closed:
            raise InferenceConnectionError("the client was closed while the call was opening", retryable=False)
        return self

    @overload
    def final(self: TokenStream[str]) -> str: ...

    @overload
    def final(self: TokenStream[StreamResponse]) -> TextGenerationResponse: ...

    @overload
    def final(self: TokenStream[ChatCompletionChunk]) -> ChatCompletion: ...

    def final(self) -> Any:
        """Reads to the end; returns the same object as the call without ``stream=True``.

        Raises:
            IncompleteStreamError: the stream was closed before its end.
            InferenceError: whatever ends the stream before its end.
        """
        for _ in self:
            pass
        if not self._exchange.complete:
            raise self._exchange.incomplete_error()
        return self._exchange.accumulator.result()

    def close(self) -> None:
        """Ends the stream, also while it is being read elsewhere: that reader sees its loop end."""
        self.abandon()
        self._let_go()
        if (cancel := self._exchange.cancel_request()) is not None:
            self._wire.part(cancel)

    def abandon(self) -> None:
        """Ends the stream without waiting: its reader, if there is one, lets go of the connection."""
        self._closed = True
        self._ready = iter(())
        self._alarm.set()
        line = self._line  # its reader may let go of it at any moment
        if line is not None and (self._reading.locked() or not self._exchange.complete):
            line.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if (line := getattr(self, "_line", None)) is not None:
            line.orphan()

    def _read(self, until_speaking: bool = False) -> None:
        """Reads until there is an item, or (`until_speaking`) content of any kind, or nothing more to come."""
        if not self._reading.acquire(False):
            if self._closed:
                return  # whoever closes it, in another thread, is letting go of the connection
            raise RuntimeError("this stream is being read already: one loop for one stream")
        exchange = self._exchange
        exchange.deadline.resume()
        items: list[ItemT] = []
        try:
            while not (items or exchange.closed or self._closed or (until_speaking and exchange.has_content)):
                items = self._step()
            if not self._closed:
                self._ready = iter(items)
        finally:
            self._reading.release()
            if exchange.closed or self._closed:
                self._let_go()

    def _step(self) -> list[ItemT]:
        exchange = self._exchange
        try:
            if self._line is None:
                if exchange.delay:
                    self._alarm.wait(exchange.delay)
                    if self._closed:
                        return []
                self._line = self._wire.send(exchange.next_request())
                exchange.receive_headers(self._line.status_code, self._line.headers)
                if self._closed:
                    return []
            if exchange.needs_data:
                for piece in self._line.pieces:
                    return exchange.feed(piece)
                self._line.ended = True
            items = exchange.finish()
            if not exchange.closed:  # an answer on the way back to the one that was lost
                self._release()
            return items  # noqa: TRY300  what is raised here is handled below
        except Exception as error:  # noqa: BLE001  raised again, unless it is one that the exchange forgives
            try:
                self._release()
            except BaseException:  # cancelled or interrupted meanwhile: the same end as below
                self._closed = True
                raise
            if not self._closed:
                exchange.handle_error(map_exception(error, exchange.spec.url))
            return []
        except BaseException:  # cancelled or interrupted: whoever does that wants an end
            self._closed = True
            raise

    def _let_go(self) -> None:
        """Gives the connection back, unless a reader has it, who will."""
        if self._reading.acquire(False):
            try:
                if self._line is not None and self._exchange.complete:
                    line, self._line = self._line, None
                    line.drain(self._exchange.deadline)
                else:
                    self._release()
            finally:
                self._reading.release()

    def _release(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.release()
