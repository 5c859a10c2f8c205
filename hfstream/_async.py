"""The asynchronous driver: wait, send, read, close. Every decision is the exchange's.

`_sync.py` is this file without its ``await``; a test turns the one into the other.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, Unpack, overload

import httpx

from ._opening import Opening
from ._settings import Settings
from ._transport import AsyncWire, translated
from ._transport.wires import AsyncLine
from .core.calls import TextGenerationOptions
from .core.exchange import Exchange
from .core.retry import RetryPolicy
from .core.stream import StreamView
from .core.timeouts import Timeouts
from .errors import InferenceConnectionError
from .types import StreamResponse, TextGenerationResponse

__all__ = ["AsyncInferenceClient", "AsyncTokenStream"]

I = TypeVar("I")  # noqa: E741  an item of the stream


class AsyncTokenStream(StreamView[I, Any], AsyncIterator[I], Generic[I]):
    """An answer that is still being written: iterate over it, or ask it for `final()`.

    Also a context manager, which closes it. It stands on its own: it lives on when its client's variable is gone.
    Closing it before its end, in whatever way, closes the connection, and the server stops generating.
    """

    def __init__(self, wire: AsyncWire, exchange: Exchange[I, Any]) -> None:
        super().__init__(exchange)
        self._line: AsyncLine | None = None
        self._closed = False
        self._wire = wire
        self._ready: Iterator[I] = iter(())
        self._alarm = wire.alarm()
        self._reading = threading.Lock()  # only ever tried, never waited for
        wire.adopt(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> I:
        for item in self._ready:
            return item
        await self._read()
        for item in self._ready:
            return item
        raise StopAsyncIteration

    async def open(self) -> Self:
        """Sends the request, and again as the retry policy allows, until the first content is in hand."""
        await self._read(until_speaking=True)
        if self._closed:
            raise InferenceConnectionError("the client was closed while the call was opening", retryable=False)
        return self

    @overload
    async def final(self: AsyncTokenStream[str]) -> str: ...

    @overload
    async def final(self: AsyncTokenStream[StreamResponse]) -> TextGenerationResponse: ...

    async def final(self) -> Any:
        """Reads to the end; returns the same object as the call without ``stream=True``.

        Raises:
            IncompleteStreamError: the stream was closed before its end.
            InferenceError: whatever ends the stream before its end.
        """
        async for _ in self:
            pass
        if not self._exchange.answered:
            raise self._exchange.unfinished()
        return self._exchange.transcript.final()

    async def aclose(self) -> None:
        """Ends the stream, also while it is being read elsewhere: that reader sees its loop end."""
        self.abandon()
        await self._let_go()

    def abandon(self) -> None:
        """Ends the stream without waiting: its reader, if there is one, lets go of the connection."""
        self._closed = True
        self._ready = iter(())
        self._alarm.set()
        line = self._line  # its reader may let go of it at any moment
        if line is not None and not self._exchange.answered:
            line.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if (line := getattr(self, "_line", None)) is not None:
            line.orphan()

    async def _read(self, until_speaking: bool = False) -> None:
        """Reads until there is an item, or (`until_speaking`) content of any kind, or nothing more to come."""
        if not self._reading.acquire(False):
            raise RuntimeError("this stream is being read already: one loop for one stream")
        exchange = self._exchange
        exchange.listen()
        items: list[I] = []
        try:
            while not (items or exchange.over or self._closed or (until_speaking and exchange.speaking)):
                items = await self._step()
            if not self._closed:
                self._ready = iter(items)
        finally:
            self._reading.release()
            if exchange.over or self._closed:
                await self._let_go()

    async def _step(self) -> list[I]:
        exchange = self._exchange
        try:
            if self._line is None:
                if exchange.delay:
                    await self._alarm.wait(exchange.delay)
                    if self._closed:
                        return []
                self._line = await self._wire.send(exchange)
                exchange.begin(self._line.status_code, self._line.headers)
                if self._closed:
                    return []
            if not exchange.hungry:
                return exchange.finish()
            piece = await anext(self._line.pieces, None)
            if piece is not None:
                return exchange.feed(piece)
            self._line.ended = True
            return exchange.finish()
        except Exception as error:  # noqa: BLE001  raised again, unless it is one that the exchange forgives
            try:
                await self._release()
            except BaseException:  # cancelled or interrupted meanwhile: the same end as below
                self._closed = True
                raise
            if not self._closed:
                exchange.forgive(translated(error, exchange.call))
            return []
        except BaseException:  # cancelled or interrupted: whoever does that wants an end
            self._closed = True
            raise

    async def _let_go(self) -> None:
        """Gives the connection back, unless a reader has it, who will."""
        if self._reading.acquire(False):
            try:
                if self._line is not None and self._exchange.answered:
                    line, self._line = self._line, None
                    await line.drain(self._exchange.deadline)
                else:
                    await self._release()
            finally:
                self._reading.release()

    async def _release(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.release()


class AsyncInferenceClient:
    """A client for a server that generates text, token by token."""

    def __init__(
        self,
        model: str | None = None,
        *,
        token: str | bool | None = None,
        timeout: Timeouts | float | None = Timeouts(),  # noqa: B008  immutable, and the signature shows the limits
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        bill_to: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        retry: RetryPolicy | int | None = RetryPolicy(),  # noqa: B008
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        """Makes a client. It connects when it is first used.

        Args:
            model: a URL, or the id of a model on the Hugging Face hub; a `model` given to a call wins.
            token: sent as a bearer token. Without one, `HF_TOKEN` from the environment goes to huggingface.co and
                nowhere else; False sends none there either.
            timeout: limits in seconds; a number sets the first three of `Timeouts`, None lifts them all.
            headers: sent with every request, and win over ours.
            cookies: sent with every request.
            bill_to: organisation to bill, on huggingface.co.
            base_url: another name for `model`, as in openai's client.
            api_key: another name for `token`, as in openai's client.
            retry: how often and how patiently to ask again until the first content has come; an int is the number of
                attempts in all, None is never again.
            http_client: your own httpx client, for proxies, TLS or transports. Used as it is, and never closed by us.
                Its sockets know one read limit, the larger of `first_token` and `between_tokens`; the smaller is
                checked whenever bytes arrive.

        Raises:
            ValueError: a value that cannot be, or both names of one thing.
        """
        self._settings = Settings.of(
            model,
            token=token,
            timeout=timeout,
            headers=headers,
            bill_to=bill_to,
            base_url=base_url,
            api_key=api_key,
            retry=retry,
            cookies=cookies,
        )
        self._wire = AsyncWire(http_client)

    @property
    def model(self) -> str | None:
        """The URL or model id that calls go to if they name no other."""
        return self._settings.model

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[False] | None = None,
        stream: Literal[False] | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> Coroutine[Any, Any, str]: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[True],
        stream: Literal[False] | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> Coroutine[Any, Any, TextGenerationResponse]: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[False] | None = None,
        stream: Literal[True],
        **options: Unpack[TextGenerationOptions],
    ) -> Opening[str]: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[True],
        stream: Literal[True],
        **options: Unpack[TextGenerationOptions],
    ) -> Opening[StreamResponse]: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: bool | None = None,
        stream: bool | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> Coroutine[Any, Any, str | TextGenerationResponse] | Opening[str] | Opening[StreamResponse]: ...

    def text_generation(
        self,
        prompt: str,
        *,
        details: bool | None = None,
        stream: bool | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> Any:
        """Generates text after `prompt`.

        Args:
            prompt: what the text shall follow on.
            details: typed objects with token ids, log probabilities and the finish reason, instead of text.
            stream: the tokens one by one, as they are made, instead of the whole text.
            options: the server's parameters (`TextGenerationParameters`), and `model`, `timeout`, `extra_body`,
                `extra_headers` for this call.

        Returns:
            Without `stream` a `str`, or with `details` a `TextGenerationResponse`. With it a stream: of `str`, one for
            each token that is text, or with `details` of `StreamResponse`, one for each token.

            With ``stream=True`` the request has been sent and the first token is there when the stream is: a server
            that is overloaded, or refuses the request, raises here and not in the loop.

        Raises:
            OverloadedError: the server has too much to do, and the retry policy is used up.
            ValidationError: the server does not take these values.
            InferenceTimeoutError, InferenceConnectionError: the server is too slow, or not there.
            InferenceError: anything else that went wrong; see `hfstream.errors`.
            TypeError: a parameter that does not exist.
            ValueError: there is no model to ask.
        """
        exchange = self._settings.text_generation(prompt, stream=bool(stream), details=bool(details), options=options)
        answer: AsyncTokenStream[Any] = AsyncTokenStream(self._wire, exchange)
        return Opening(answer) if stream else self._whole(answer)

    async def _whole(self, answer: AsyncTokenStream[Any]) -> Any:
        async with answer:
            return await answer.final()

    async def aclose(self) -> None:
        """Closes the client, and ends its calls and streams, those too that are still opening."""
        await self._wire.close()

    close = aclose  # as huggingface_hub names it

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self._settings.shown_model!r})"
