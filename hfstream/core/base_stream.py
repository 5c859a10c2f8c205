"""The attributes that synchronous and asynchronous streams share. Does not depend on how a stream is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from pydantic_core import from_json

from ..errors.response_bodies import request_id
from ..types import FinishReason, Usage
from .attempts import Attempt
from .exchange import Exchange
from .metrics import Metrics

__all__ = ["BaseStream"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class BaseStream(Generic[ItemT, ResultT]):
    """The part of a stream that does not wait."""

    def __init__(self, exchange: Exchange[ItemT, ResultT]) -> None:
        self._exchange = exchange

    @property
    def text(self) -> str:
        """The text that has come so far."""
        return self._exchange.accumulator.text

    @property
    def parsed(self) -> Any:
        """The JSON that has come so far, as far as it can be read: dictionaries, lists, numbers, text.

        None before there is any, and for text that does not begin as JSON. A name without its value is not there yet,
        the last string or number may go on, and nothing is validated. `final()` returns a response whose own `parsed`
        is complete, an instance of the type that was asked for. Each use reads all of `text`.
        """
        try:
            return from_json(self.text, allow_partial="trailing-strings")
        except ValueError:  # the beginning is not JSON
            return None

    @property
    def finish_reason(self) -> FinishReason | str | None:
        """Why the answer ended; None before the last event."""
        return self._exchange.accumulator.finish_reason

    @property
    def usage(self) -> Usage | None:
        """Tokens of the prompt and of the answer; None before the last event.

        In a chat None after it too, unless ``stream_options={"include_usage": True}`` was asked for.
        """
        return self._exchange.accumulator.usage

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers; empty before there is a response."""
        return self._exchange.headers

    @property
    def request_id(self) -> str | None:
        """The server's id for this request, if it gave one."""
        return request_id(self._exchange.headers)

    @property
    def metrics(self) -> Metrics:
        """Times so far, in seconds: time to first token, gaps between tokens, tokens per second."""
        return self._exchange.metrics

    @property
    def attempts(self) -> Sequence[Attempt]:
        """All attempts so far: the delay, status and error of each."""
        return tuple(self._exchange.attempts)

    def __repr__(self) -> str:
        exchange = self._exchange
        state = "complete" if exchange.complete else "closed" if exchange.closed else "open"
        return f"<{type(self).__name__} of {exchange.spec}: {state}, {exchange.metrics.tokens} tokens>"
