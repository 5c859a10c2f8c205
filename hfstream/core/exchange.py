"""One call, however many attempts it takes: the part of it that does no I/O (sans-I/O, as in h11).

A driver (`AsyncTokenStream`, `TokenStream`) waits, sends, reads and closes; it decides nothing::

    while not exchange.closed:
        sleep(exchange.delay)  # and, if there is a `dispatch`, wait until it has granted the request; then leave it
        request = exchange.next_request()
        try:
            response = send(request)
            exchange.receive_headers(response.status_code, response.headers)
            while exchange.needs_data and (chunk := response.read()):
                items += exchange.feed(chunk)
            items += exchange.finish()
        except Exception as error:
            exchange.handle_error(error)

What can happen in which state is a table (`exchange_states`), and so is what a failure means (`retry_decisions`). Does
not depend on the network, nor on whether the driver is synchronous.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from ..errors import IncompleteStreamError, InferenceConnectionError, InferenceError, InferenceTimeoutError
from ..errors.response_bodies import request_id
from .accumulators import Accumulator
from .attempts import Attempt, add_notes, cannot_resume, incomplete_error, without_traceback
from .decoders import ERROR_BODY_TIMEOUT, ErrorDecoder, ResponseDecoder, select_decoder, status_first
from .dispatch import Dispatch
from .exchange_states import FINAL_STATES, Event, State, next_state
from .metrics import Metrics
from .request_spec import PreparedRequest, RequestSpec
from .resume import CannotResumeError, Resumption, events_are_gone
from .retry import RetryPacer, RetryPolicy, RetryState
from .retry_decisions import Decision, decide
from .timeouts import Clock, Deadline, Timeouts, name_limit, timeout_error, transport_timeout
from .urls import origin

__all__ = ["Exchange"]

logger: logging.Logger = logging.getLogger("hfstream")

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

STREAMING = State.STREAMING  # compared once a chunk: a global is looked up faster than an attribute of a class


class Exchange(Generic[ItemT, ResultT]):
    """All attempts of one call, and what they have brought so far."""

    def __init__(
        self,
        spec: RequestSpec[Any, ItemT, ResultT],
        *,
        retry: RetryPolicy,
        timeouts: Timeouts,
        pacer: RetryPacer | None = None,
        dispatch: Dispatch | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.spec: RequestSpec[Any, ItemT, ResultT] = spec
        self.timeouts = timeouts
        self.state: State = State.WAITING
        self.closed: bool = False
        """Whether `state` is final: the response is complete, or an error ended the exchange. Read for each token."""
        self.accumulator: Accumulator[Any, ItemT, ResultT] = spec.make_accumulator()
        self.metrics: Metrics = Metrics(clock())
        self.attempts: list[Attempt] = []
        self.headers: Mapping[str, str] = {}
        """Of the latest response."""
        self.deadline: Deadline = Deadline(clock, timeouts.total)
        self.delay: float = 0.0
        """Seconds to wait before the next attempt."""
        self.dispatch: Dispatch | None = dispatch
        """To enter before each request, and to leave after it; None for a call that needs no permission to send."""
        self.needs_data: bool = False
        """Whether to read more of the response's body; if not, call `finish`."""
        self._clock = clock
        self._decoder: ResponseDecoder[Any] | None = None
        self._content_count = 0  # the decoder's count so far; a resumed decoder does not start at 0
        self._stays = False  # whether the next request goes to the same endpoint, because it belongs to the last one
        self._retry_state = RetryState(retry, pacer)
        self._resumption = Resumption(spec)

    # What a driver reads ------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether all content has been received; the end of the body, or the usage, may still be missing."""
        if self.state is State.COMPLETE or (self._decoder is not None and self._decoder.complete):
            return True
        # While an attempt is made only to get the missing usage, the content of the attempt before is complete.
        return self._resumption.decoder is not None and self._resumption.decoder.complete

    @property
    def has_content(self) -> bool:
        """Whether any attempt has brought content."""
        return self.metrics.tokens > 0

    # What a driver calls, in this order ---------------------------------------------------------

    def next_request(self) -> PreparedRequest:
        """Begins an attempt: returns the request to send, now that the wait before it is over."""
        self._move(Event.REQUEST)
        now = self._clock()
        if self.dispatch is not None:
            stays = self._stays or self._resumption.is_reconnect
            self.spec = self.dispatch.send(self.spec, now, stay=stays)
            self._resumption.move(self.spec)
        spec = self._resumption.spec
        self.attempts.append(Attempt(len(self.attempts) + 1, self.delay, origin(spec.url)))
        self._decoder, self.headers = None, {}
        self.deadline.paused_at = None
        self.deadline.set(now, self.timeouts.first_token)
        seconds_left = None if self.deadline.total_at == math.inf else max(0.001, self.deadline.total_at - now)
        timeout = transport_timeout(self.timeouts, seconds_left)
        return PreparedRequest(spec.method, spec.url, spec.headers, spec.body, timeout, self.deadline)

    def receive_headers(self, status: int, headers: Mapping[str, str]) -> None:
        """Takes the response's status and headers, which determine how its body is decoded."""
        self._move(Event.PROBE_HEADERS if self._resumption.probing else Event.HEADERS)
        self.attempts[-1].status_code = status
        self.headers = headers
        spec = self._resumption.spec
        self._decoder = select_decoder(status, headers, spec.make_decoder, streamed=spec.streamed)
        self._content_count = self._decoder.content_count
        self.needs_data = True
        if isinstance(self._decoder, ErrorDecoder):  # the status is known: its body is only worth a short wait
            self.deadline.set(self._clock(), min(ERROR_BODY_TIMEOUT, self.timeouts.first_token or math.inf))

    def feed(self, chunk: bytes) -> list[ItemT]:
        """Takes a chunk of the body; returns the items for the caller that it completed.

        Raises:
            InferenceTimeoutError: the deadline has passed, and the chunk completed nothing.
        """
        decoder = self._decoder
        assert decoder is not None  # noqa: S101  a driver that feeds before there are headers is a bug
        decoded = decoder.feed(chunk)
        self.needs_data = not decoder.done
        now = self._clock()
        count = decoder.content_count
        if count > self._content_count:
            self.metrics._record(now, count - self._content_count)  # pyright: ignore[reportPrivateUsage]
            self._content_count = count
            if self.state is not STREAMING:
                self._move(Event.CONTENT)
                self._on_success(now)
            self.deadline.set(now, self.timeouts.after_finish if decoder.complete else self.timeouts.between_tokens)
        elif decoded and self.state is STREAMING and not decoder.complete:  # empty chunks: the server is at work
            self.deadline.set(now, self.timeouts.between_tokens)
        if now > self.deadline.at and self.needs_data:
            if not decoded:
                raise self._timeout_error(now)
            self.needs_data = False  # what has come is returned first; `finish` raises
        if not decoded:
            return []
        self.deadline.paused_at = now  # the time that the caller takes for the items is not the server's
        return self.accumulator.add(decoded)

    def finish(self) -> list[ItemT]:
        """Takes the end of the body, or of what is needed of it.

        The exchange is then complete, or another attempt is due, or this raises the error that the response carries.
        """
        decoder = self._decoder
        assert decoder is not None  # noqa: S101  as above
        if not (self.needs_data or decoder.done):  # `feed` stopped because of the deadline
            raise self._timeout_error(self._clock())
        decoded = decoder.finish()
        if self.state is State.PROBING:
            self._on_probe_response(decoded[0])
            return []
        if self.state is not STREAMING:  # a JSON document, or a resumed stream that only lacked its end
            self._on_success(None)
        self._move(Event.END)
        return self.accumulator.add(decoded)

    def handle_error(self, error: Exception) -> None:
        """Takes what ended an attempt: returns if another one is due after `delay`, else raises it.

        Also returns if all content has been received: the exchange is then complete. A missing usage is worth another
        attempt, but if that fails too, no error is raised.
        """
        try:
            delay = None
            if isinstance(error, InferenceError) and self._is_unfinished():
                self._stays = False
                error = self._annotate(status_first(self._decoder, error))
                decision, error = self._decide(error)
                if decision is Decision.CONTINUE:
                    self.delay = 0.0
                    self._move(Event.RETRY)
                    return
                delay = self._next_delay(error, decision)
            if delay is not None and self._clock() + delay < self.deadline.total_at:
                self._retry_state.notify(delay)  # the user's hook, which may raise
                self.delay = delay
                self._move(Event.RETRY)
            elif self.complete and isinstance(error, InferenceError):
                self._move(Event.END)
            else:
                add_notes(error, self.attempts, self.spec.url, after_content=self.has_content)
                raise error  # noqa: TRY301  so that the state becomes CLOSED below, as after what a hook raises
        except BaseException:
            self.interrupt()
            raise
        finally:
            del error  # or this frame, which the traceback of what it raises holds, would hold that too

    def interrupt(self) -> None:
        """The driver was cancelled or interrupted: there is no other attempt. Without effect after an error."""
        if not self.closed:
            self._move(Event.FAILURE)

    def report_end(self) -> None:
        """Tells observers, if there are any, that no more is read: the stream was closed, or the call cancelled."""

    def drop_observers(self) -> None:
        """Observers, if there are any, are told nothing more: in a forked child, the call is the parent's."""

    def cancel_request(self) -> RequestSpec[Any, Any, Any] | None:
        """The request that tells the server to drop a stream it keeps for a reconnect; None if it keeps none.

        Returned once: a second call returns None.
        """
        return None if self.complete else self._resumption.cancel_request(self._decoder)

    def incomplete_error(self) -> IncompleteStreamError:
        """The error for an answer that was closed before its end, or that an error or an interruption has ended."""
        return incomplete_error(self.attempts, self.accumulator.text, interrupted=self.state is State.CLOSED)

    # Success ------------------------------------------------------------------------------------

    def _move(self, event: Event) -> None:
        self.state = next_state(self.state, event)
        self.closed = self.state in FINAL_STATES

    def _on_success(self, first_token_at: float | None) -> None:
        """An attempt has brought what was asked for, or a stream its first content at `first_token_at`."""
        if self.dispatch is not None:
            self.dispatch.record_success(first_token_at if self.spec.streamed else None)
        if len(self.attempts) == 1:
            return
        self._retry_state.record_success()
        if self._resumption.lost is not None:
            self._resumption.succeeded()
            self.metrics.resumed += 1
            self.metrics.continued += self._resumption.is_continuation

    def _on_probe_response(self, tokens: Any) -> None:
        """Takes a probe's answer: the next request is due at once.

        Raises:
            IncompleteStreamError: the stream cannot be continued.
        """
        lost = self._resumption.lost
        assert lost is not None  # noqa: S101  nothing else is probed for
        try:
            self._resumption.receive_tokens(tokens)
        except CannotResumeError as reason:
            self._move(Event.FAILURE)  # so that `handle_error` raises the error below
            error = cannot_resume(lost, str(reason))
            raise error from error.__cause__  # the lost connection, not `reason`
        self.delay = 0.0
        self._stays = True
        self._move(Event.PROBED)

    # Failure ------------------------------------------------------------------------------------

    def _is_unfinished(self) -> bool:
        """Whether an error matters: the answer is incomplete, or its usage is missing and worth another attempt."""
        return not self.complete or (self.spec.resume and not (self._decoder is not None and self._decoder.done))

    def _annotate(self, error: InferenceError) -> InferenceError:
        """`error` with what only the exchange knows: which time limit it was, the text so far, the request's id."""
        error = name_limit(error, self.timeouts, self.deadline, self._clock(), streaming=self.state is STREAMING)
        error.partial_text = self.accumulator.text or error.partial_text  # of a whole answer, its decoder knows it
        error.request_id = error.request_id or request_id(self.headers)
        error.url = self.attempts[-1].url if self.attempts else None
        return error

    def _decide(self, error: InferenceError) -> tuple[Decision, InferenceError]:
        """What to do about `error`, and what to raise if that is to raise."""
        if self.attempts:
            self.attempts[-1].error = without_traceback(error)
        if self.state is State.CLOSED:  # by `_on_probe_response`: the stream cannot be continued
            return Decision.RAISE, error
        if self.dispatch is not None:
            self.dispatch.record_failure(error, self._clock())
        decision = decide(error, after_content=self.has_content)
        if decision is Decision.RETRY:
            return decision, error
        out_of_time = isinstance(error, InferenceTimeoutError) and error.phase == "total"
        if out_of_time or not (self.spec.resume and self.has_content):
            return Decision.RAISE, error
        return self._decide_how_to_resume(decision, error)

    def _decide_how_to_resume(self, decision: Decision, error: InferenceError) -> tuple[Decision, InferenceError]:
        lost = self._resumption.lost
        if lost is not None and self._resumption.is_reconnect and self.state is not STREAMING:
            if events_are_gone(error, self.attempts[-1].status_code):
                return self._continue_from_text(lost, error)
            if isinstance(error, InferenceConnectionError) and self._has_other_endpoint():
                with contextlib.suppress(CannotResumeError):  # then the server may come back
                    self._resumption.plan_without_events(self.accumulator)
                    return Decision.CONTINUE, error
        if decision is Decision.RAISE:
            # After content, this is the error in which generation ended. Without content on a new connection, the
            # server refuses to resume the stream; then the error that lost it is reported too.
            after_content = self._decoder is not None and self._decoder.content_count > 0
            return decision, error if lost is None or after_content else cannot_resume(lost, str(error))
        try:
            self._resumption.plan(without_traceback(error), self._decoder, self.accumulator)
        except CannotResumeError as reason:
            return Decision.RAISE, cannot_resume(lost or error, str(reason))
        return decision, error

    def _has_other_endpoint(self) -> bool:
        return self.dispatch is not None and self.dispatch.has_other(self._clock())

    def _continue_from_text(self, lost: InferenceError, error: InferenceError) -> tuple[Decision, InferenceError]:
        try:
            self._resumption.plan_without_events(self.accumulator)
        except CannotResumeError as reason:
            return Decision.RAISE, cannot_resume(lost, f"{error.message}; nor can a new request continue it: {reason}")
        logger.info("attempt %d of %s failed, continuing from the text so far", len(self.attempts), self.spec)
        return Decision.CONTINUE, error

    def _next_delay(self, error: InferenceError, decision: Decision) -> float | None:
        """Seconds until the next attempt; None if there will be none."""
        if decision is Decision.RAISE:
            return None
        if self.state is STREAMING:  # new content resets the retry limits: a stream may last for hours
            self._retry_state.restart()
        elsewhere = not self._resumption.is_reconnect and self._has_other_endpoint()
        if not elsewhere and (reason := self._retry_state.reason_not_to_retry(error)) is not None:
            error.add_note(reason)
            return None
        delay = self._retry_state.next_delay(without_traceback(error), now=self._clock(), latest=self.deadline.total_at)
        if delay is not None:
            delay = 0.0 if elsewhere else delay  # the wait is for a server that has failed, and not for another
            kind, number = type(error).__name__, len(self.attempts)
            logger.info("attempt %d of %s failed, next in %.2f s: %s", number, self.spec, delay, kind)
        return delay

    def _timeout_error(self, now: float) -> InferenceTimeoutError:
        return timeout_error(self.timeouts, self.deadline, now, streaming=self.state is STREAMING)
