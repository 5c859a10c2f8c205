"""What a stream shows of itself, whether it is read with `for` or `async for`. Refuses to know how it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from .. import errors
from ..types import FinishReason, Usage
from .exchange import Attempt, Exchange
from .metrics import Metrics

__all__ = ["BaseStream"]

I = TypeVar("I")  # noqa: E741  an item of the stream
W = TypeVar("W")


class BaseStream(Generic[I, W]):
    """The part of a stream that waits for nothing."""

    def __init__(self, exchange: Exchange[I, W]) -> None:
        self._exchange = exchange

    @property
    def text(self) -> str:
        """The text that has come so far."""
        return self._exchange.transcript.text

    @property
    def finish_reason(self) -> FinishReason | str | None:
        """Why the answer ended; None before the last event."""
        return self._exchange.transcript.finish_reason

    @property
    def usage(self) -> Usage | None:
        """Tokens of the prompt and of the answer; None before the last event.

        In a chat None after it too, unless ``stream_options={"include_usage": True}`` was asked for.
        """
        return self._exchange.transcript.usage

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers; empty before there is a response."""
        return self._exchange.headers

    @property
    def request_id(self) -> str | None:
        """The server's id for this request, if it gave one."""
        return errors.request_id(self._exchange.headers)

    @property
    def metrics(self) -> Metrics:
        """Times so far, in seconds: time to first token, gaps between tokens, tokens per second."""
        return self._exchange.metrics

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Every try so far: its delay, its status, its error."""
        return tuple(self._exchange.attempts)

    def __repr__(self) -> str:
        exchange = self._exchange
        state = "complete" if exchange.answered else "over" if exchange.over else "open"
        return f"<{type(self).__name__} of {exchange.call}: {state}, {exchange.metrics.tokens} tokens>"
