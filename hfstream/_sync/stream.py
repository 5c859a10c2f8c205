"""The synchronous driver of an exchange: waits, sends, reads, closes.

Does not depend on what the bytes mean, or on whether a request is retried: `core.exchange` decides both.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from .. import _transport
from .._transport.forking import keep_forever
from ..core.base_stream import BaseStream
from ..core.dispatch import Dispatch
from ..core.exchange import Exchange
from ..errors import InferenceConnectionError
from ..types import ChatCompletion, ChatCompletionChunk, StreamResponse, TextGenerationResponse

if TYPE_CHECKING:
    from .._transport import SyncHTTP, SyncStreamedResponse

__all__ = ["TokenStream"]

ItemT = TypeVar("ItemT")

MAX_WAIT = 3600.0
"""Seconds; a longer wait for a slot is several waits, because threads cannot wait for ever in one."""


class TokenStream(BaseStream[ItemT, Any], Iterator[ItemT], Generic[ItemT]):
    """A response that is still being generated: iterate over it, or call `final()` for the whole.

    Also a context manager, which closes it. It stays usable when the variable of its client is gone. Closing it before
    its end closes the connection, and the server stops generating; so does breaking out of the loop and dropping it.

    A loop ends normally at the end of the response, and where the stream is closed. One that goes on after an error, or
    after a read that was cancelled or interrupted, raises IncompleteStreamError: what has come is not the whole.
    """

    def __init__(self, http: SyncHTTP, exchange: Exchange[ItemT, Any]) -> None:
        super().__init__(exchange)
        self._response: SyncStreamedResponse | None = None
        self._closed = False
        self._http = http
        self._ready: Iterator[ItemT] = iter(())
        self._wakeup = http.Wakeup()
        self._read_lock = threading.Lock()  # only ever tried, never waited for
        self._inherited = False
        http.register(self)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ItemT:
        for item in self._ready:
            return item
        self._read()
        for item in self._ready:
            return item
        if not (self._closed or self._exchange.complete):
            raise self._exchange.incomplete_error()
        raise StopIteration

    def open(self) -> Self:
        """Sends the request, again where the retry policy allows it, until the first content has been received."""
        self._read(until_content=True)
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
            InferenceError: the stream failed.
        """
        for _ in self:
            pass
        if not self._exchange.complete:
            raise self._exchange.incomplete_error()
        return self._exchange.accumulator.result()

    def close(self) -> None:
        """Ends the stream, also while it is read in another task or thread: the loop there ends."""
        self._mark_closed()
        self._return_connection()
        if (cancel := self._exchange.cancel_request()) is not None:
            self._http.send_cancel(cancel)

    def _mark_closed(self) -> None:
        """Ends the stream without waiting: a reader, if there is one, releases the connection."""
        self._closed = True
        self._ready = iter(())
        self._wakeup.set()
        self._exchange.report_end()
        response = self._response  # a reader in another thread may release it at any moment
        if response is not None and (self._read_lock.locked() or not self._exchange.complete):
            response.abort()

    def _after_fork(self) -> None:
        """In a forked child: a response that is being received belongs to the parent."""
        self._inherited = self._inherited or self._response is not None or self._read_lock.locked()
        keep_forever(self._response, self._wakeup)
        self._response, self._ready = None, iter(())
        self._wakeup, self._read_lock = self._http.Wakeup(), threading.Lock()
        if self._inherited:
            self._exchange.drop_observers()
            self._exchange.cancel_request()  # due once: here it will not be sent
            self._read_lock.acquire()  # for good: nothing is read, and `_read` raises

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if (response := getattr(self, "_response", None)) is not None:
            response.detach()
        if (exchange := getattr(self, "_exchange", None)) is not None:
            exchange.report_end()
            if exchange.dispatch is not None:
                exchange.dispatch.leave()

    def _read(self, until_content: bool = False) -> None:
        """Reads until there is an item, or with `until_content` content of any kind, or the end."""
        if not self._read_lock.acquire(False):
            if self._closed:
                return  # close(), in another thread, is releasing the connection
            if self._inherited:
                raise InferenceConnectionError(
                    "this stream belongs to the process from which this one was forked: make the call here",
                    retryable=False,
                    partial_text=self.text,
                )
            raise RuntimeError("this stream is being read already: one loop for one stream")
        exchange = self._exchange
        exchange.deadline.resume()
        items: list[ItemT] = []
        try:
            while not (items or exchange.closed or self._closed or (until_content and exchange.has_content)):
                items = self._step()
            if not self._closed:
                self._ready = iter(items)
        except BaseException:
            exchange.interrupt()
            raise
        finally:
            self._read_lock.release()
            if exchange.closed or self._closed:
                exchange.report_end()
                self._return_connection()

    def _step(self) -> list[ItemT]:
        exchange = self._exchange
        try:
            if self._response is None:
                if exchange.delay:
                    self._wait(exchange.delay)
                if exchange.dispatch is not None:
                    self._enter(exchange.dispatch)
                if self._closed:
                    return []
                self._response = self._http.send(exchange.next_request())
                exchange.receive_headers(self._response.status_code, self._response.headers)
                if self._closed:
                    return []
            if exchange.needs_data:
                for chunk in self._response.chunks:
                    return exchange.feed(chunk)
                self._response.at_end = True
            items = exchange.finish()
            if not exchange.closed:  # a resumed stream: the next request follows
                self._release()
            return items  # noqa: TRY300  what is raised here is handled below
        except Exception as error:  # noqa: BLE001  the exchange raises it again, or makes another attempt
            redirection = None if self._response is None else self._response.redirection
            self._release()
            if not self._closed:
                exchange.handle_error(_transport.map_exception(error, exchange.spec.url, redirection))
            return []

    def _wait(self, seconds: float) -> None:
        """Waits, unless the stream is or will be closed."""
        wakeup = self._wakeup = self._http.Wakeup()  # one that has been set stays so
        if not self._closed:
            wakeup.wait(seconds)

    def _enter(self, dispatch: Dispatch) -> None:
        """Waits until the request may be sent, or the stream is closed."""
        wakeup = self._wakeup = self._http.Wakeup()
        dispatch.enter(wakeup.set)
        while not (dispatch.granted or self._closed):
            wakeup.wait(min(self._exchange.deadline.time_to_send(), MAX_WAIT))

    def _return_connection(self) -> None:
        """Releases the connection, unless it is being read: then the reader does it."""
        if self._read_lock.acquire(False):
            try:
                if self._response is not None and self._exchange.complete:
                    response, self._response = self._response, None
                    self._leave()
                    response.drain(self._exchange.deadline)
                else:
                    self._release()
            finally:
                self._read_lock.release()

    def _release(self) -> None:
        response, self._response = self._response, None
        try:
            if response is not None:
                response.close()
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._exchange.dispatch is not None:
            self._exchange.dispatch.leave()


TokenStream.__module__ = "hfstream"  # where users import it from
