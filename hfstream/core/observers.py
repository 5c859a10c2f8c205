"""Observers: told what happens to a client's calls, for logs, traces and metrics.

Does not depend on how a call is made, or on what is done with what is observed (`otel`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from ..types import FinishReason
from .attempts import Attempt
from .base_stream import BaseStream
from .exchange import Exchange
from .exchange_states import Event
from .headers import check_header
from .request_spec import PreparedRequest, RequestSpec

__all__ = ["Call", "CallObserver", "ObservedExchange"]

logger: logging.Logger = logging.getLogger("hfstream")

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Call(BaseStream[Any, Any]):
    """One call of `text_generation` or `chat_completion`, streamed or not, as an observer sees it.

    What the server sends is there as far as it has come: `text`, `finish_reason`, `usage`, `metrics` and the rest.
    """

    @property
    def operation(self) -> str:
        """The client's method: "text_generation" or "chat_completion"."""
        return self._exchange.spec.operation

    @property
    def url(self) -> str:
        """Where the request goes, without user and password. Its query may be secret."""
        return self._exchange.spec.url

    @property
    def model(self) -> str | None:
        """The model's name; None where the request names none, as at TGI's own routes."""
        return self._exchange.spec.model

    @property
    def streamed(self) -> bool:
        """Whether the response is a stream."""
        return self._exchange.spec.streamed

    @property
    def body(self) -> dict[str, Any]:
        """The request's body, with the prompt or the messages; decoded anew each time."""
        body: dict[str, Any] = json.loads(self._exchange.spec.body or b"{}")
        return body

    @property
    def complete(self) -> bool:
        """Whether the whole content has been received."""
        return self._exchange.complete

    @property
    def finish_reasons(self) -> Sequence[FinishReason | str]:
        """Why each choice of the response ended, of those that have."""
        return self._exchange.accumulator.finish_reasons

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the server says of the response: `id`, `model`, `created`, `system_fingerprint`. Empty for TGI's API."""
        return self._exchange.accumulator.metadata

    def result(self) -> Any:
        """What the call returns without ``stream=True``. Only for one that is `complete`."""
        return self._exchange.accumulator.result()


class CallObserver:
    """Watches one call. Make a subclass with the methods that you need: ``InferenceClient(observers=[MyObserver])``.

    An object is made for each call, when its first request is about to be sent, in the task or thread that makes the
    call. Its methods are called in the order of events, `on_end` once and last. They must be quick, because the call
    waits for them. What they raise is logged, and the call goes on. Nothing is called for each token: `call.metrics`
    has their number and times.
    """

    def __init__(self, call: Call) -> None:
        self.call: Call = call

    def on_request(self, attempt: Attempt) -> Mapping[str, str] | None:
        """A request will be sent. May return headers to send with it; those of the client and of the call win."""

    def on_first_token(self) -> None:
        """The first content of a stream has come. Not called again for a stream that is resumed."""

    def on_attempt_failed(self, attempt: Attempt, delay: float | None) -> None:
        """`attempt.error` has ended an attempt. Another follows after `delay` seconds; None: there will be no other."""

    def on_end(self, error: BaseException | None) -> None:
        """The call has ended: in `error`, or because its response is complete or, if not, the caller has left it.

        Is called when a stream is closed, cancelled or garbage-collected, maybe in another thread.
        """


class ObservedExchange(Exchange[ItemT, ResultT]):
    """An exchange that tells observers of its life."""

    def __init__(
        self,
        spec: RequestSpec[Any, ItemT, ResultT],
        *,
        observers: Iterable[Callable[[Call], CallObserver]],
        **options: Any,
    ) -> None:
        super().__init__(spec, **options)
        self._factories = tuple(observers)
        self._observers: list[CallObserver] = []
        self._has_told_first_token = False

    def next_request(self) -> PreparedRequest:
        request = super().next_request()
        self._start()
        taken = {name.lower() for name in request.headers}
        headers = dict(request.headers)
        for observer in self._observers:
            added: dict[str, str] = _guarded(_headers_of, observer, self.attempts[-1]) or {}
            headers |= {name: value for name, value in added.items() if name.lower() not in taken}
            taken.update(name.lower() for name in added)
        return replace(request, headers=headers)

    def finish(self) -> list[ItemT]:
        items = super().finish()
        self._end_if_closed()
        return items

    def handle_error(self, error: Exception) -> None:
        try:
            super().handle_error(error)
        except BaseException as final:
            self._start()  # it may have failed while it waited to send its first request
            if self.attempts and self.attempts[-1].error is not None:
                self._tell("on_attempt_failed", self.attempts[-1], None)
            self._end(final)
            raise
        self._end_if_closed()

    def _end_if_closed(self) -> None:
        if self.closed:
            self._end(None)

    def report_end(self) -> None:
        self._end(None)

    def drop_observers(self) -> None:
        self._factories, self._observers = (), []

    def _move(self, event: Event) -> None:
        super()._move(event)
        if event is Event.CONTENT and not self._has_told_first_token:
            self._has_told_first_token = True
            self._tell("on_first_token")
        elif event is Event.RETRY:
            self._tell("on_attempt_failed", self.attempts[-1], self.delay)

    def _start(self) -> None:
        """Makes the observers. Not earlier, because a call that is never awaited is none."""
        factories, self._factories = self._factories, ()
        for factory in factories:
            observer = _guarded(factory, Call(self))
            if observer is not None:
                self._observers.append(observer)

    def _end(self, error: BaseException | None) -> None:
        self._tell("on_end", error)
        self.drop_observers()  # they know the exchange: no cycle remains

    def _tell(self, method: str, *arguments: Any) -> None:
        for observer in self._observers:
            _guarded(getattr(observer, method), *arguments)


def _headers_of(observer: CallObserver, attempt: Attempt) -> dict[str, str]:
    """What an observer adds to a request.

    Raises:
        TypeError, ValueError: it is no mapping of headers, or has one that cannot be sent.
    """
    added: Any = observer.on_request(attempt)
    if added is None:
        return {}
    if not isinstance(added, Mapping):
        raise TypeError(f"on_request returned an object of type {type(added).__name__}, not a mapping of headers")
    for name, value in cast("Mapping[Any, Any]", added).items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"on_request returned the header {name!r}: {value!r}, which are not two strings")
        check_header(name, value)
    return dict(cast("Mapping[str, str]", added))


def _guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns; None if it raises: what observes a call does not end it."""
    try:
        return function(*arguments)
    except Exception:
        logger.exception("an observer of a call has failed")
        return None
