"""One question, however many attempts it takes. Everything about a call that does not wait.

A driver knows four verbs: wait, send, read, close. It asks the exchange how long to wait and what to send, hands it
what was read, and tells it of every failure; whether to ask again is decided here. The exchange refuses to know the
network.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from .. import errors
from ..errors import IncompleteStreamError, InferenceError, InferenceTimeoutError, OverloadedError, Phase
from .accumulators import Accumulator
from .decoders import ResponseDecoder, select_decoder
from .metrics import Metrics
from .request_spec import PreparedRequest, RequestSpec
from .resume import CannotResumeError, Resumption
from .retry import RetryPacer, RetryPolicy, RetryState
from .retry_decisions import Decision, decide
from .timeouts import Clock, Deadline, Timeouts

__all__ = ["Attempt", "Exchange"]

logger: logging.Logger = logging.getLogger("hfstream")

I = TypeVar("I")  # noqa: E741  an item of the stream
W = TypeVar("W")


@dataclass
class Attempt:
    """One try, as it went."""

    number: int
    """Counts from 1."""
    delay: float
    """Seconds waited before it."""
    status_code: int | None = None
    """HTTP status, once there is one."""
    error: InferenceError | None = None
    """What ended it, unless it succeeded."""


class Exchange(Generic[I, W]):
    """All the tries for one call, and what came of them."""

    def __init__(
        self,
        call: RequestSpec[Any, I, W],
        *,
        retry: RetryPolicy,
        timeouts: Timeouts,
        budget: RetryPacer | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        now = clock()
        self.call = call
        self.timeouts = timeouts
        self.transcript: Accumulator[Any, I, W] = call.transcript()
        self.metrics: Metrics = Metrics(now)
        self.attempts: list[Attempt] = []
        self.headers: Mapping[str, str] = {}
        self.deadline: Deadline = Deadline(clock)
        self.delay: float = 0.0
        """Seconds to wait before the next attempt."""
        self.hungry: bool = False
        """Whether the reply wants to be fed; if not, it wants to `finish`."""
        self.over: bool = False
        """The last word has been said, by the server or by us."""
        self._clock = clock
        self._finished = False
        self._whole = False  # whatever may still follow
        self._parted = False
        self._heard = 0  # of the present reply
        self._handed: float | None = None  # when the caller got what came last
        self._retry = retry
        self._patience = RetryState(retry)
        self._budget = budget
        self._reply: ResponseDecoder[Any] | None = None
        self._asked: RequestSpec[Any, Any, Any] = call
        self._return = Resumption(call)
        self._disappointed = False  # since content came last
        self._hopeless = False  # there is no way back
        self._ends = math.inf if timeouts.total is None else now + timeouts.total

    # What a driver does, in this order ----------------------------------------------------------

    def ask(self) -> RequestSpec[Any, Any, Any]:
        """Begins an attempt: what to send, now that the wait is over."""
        self.attempts.append(Attempt(len(self.attempts) + 1, self.delay))
        self._asked = self._return.next()
        self._reply = None
        self.headers = {}
        self._handed = None
        self._expect(self._clock(), self.timeouts.first_token)
        return self._asked

    def next_request(self) -> PreparedRequest:
        """Begins an attempt: the request to send, now that the wait before it is over."""
        spec = self.ask()
        return PreparedRequest(spec.method, spec.url, spec.headers, spec.body, self.limits(), self.deadline)

    def limits(self) -> tuple[float | None, float | None, float | None, float | None]:
        """Seconds to connect, read, write and wait for a connection: bounds for a client that asks no deadline."""
        connect, first, between = self.timeouts.connect, self.timeouts.first_token, self.timeouts.between_tokens
        rest = None if self._ends == math.inf else max(0.001, self._ends - self._clock())
        read = None if first is None or between is None else max(first, between)
        return _least(connect, rest), _least(read, rest), _least(first, rest), _least(connect, rest)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The response's head has come."""
        self.attempts[-1].status_code = status
        self.headers = headers
        self._reply = select_decoder(status, headers, self._asked.reply, streamed=self._asked.streamed)
        self._heard = self._reply.heard
        self.hungry = True

    @property
    def answered(self) -> bool:
        """Whether the answer is complete, even if its body is not yet at its end."""
        return self._finished or self._whole or (self._reply is not None and self._reply.whole)

    @property
    def speaking(self) -> bool:
        """Whether content has come."""
        return self.metrics.tokens > 0

    def listen(self) -> None:
        """The caller has come back for more: the time that it took is not the server's."""
        if self._handed is not None:
            self._expect(self.deadline.at, self._clock() - self._handed)
            self._handed = None

    def feed(self, chunk: bytes) -> list[I]:
        """Takes a piece of the body; returns what the caller shall see."""
        assert self._reply is not None  # noqa: S101  a driver that feeds before it begins is a bug
        said = self._reply.feed(chunk)
        self.hungry = not self._reply.done
        now = self._clock()
        heard = self._reply.heard
        if heard > self._heard:
            self.metrics.tick(now, heard - self._heard)
            self._heard = heard
            if self._disappointed:
                self._recover()
            self._expect(now, self.timeouts.between_tokens)
        if now > self.deadline.at and self.hungry:
            if not said:
                raise self._timeout(now)
            self.hungry = False  # what has come is handed over first; `finish` raises
        if not said:
            return []
        self._handed = now
        return self.transcript.hear(said)

    def finish(self) -> list[I]:
        """Takes the body's end, or the reply's: the exchange is over, or another attempt is due, or this raises."""
        assert self._reply is not None  # noqa: S101  a driver that feeds before it begins is a bug
        if not (self.hungry or self._reply.done):
            raise self._timeout(self._clock())
        said = self._reply.finish()
        if self._return.lost is not None and self._return.asks:
            self._learn(said)
            return []
        if self._disappointed:
            self._recover()
        self.over = self._finished = True
        return self.transcript.hear(said)

    def forgive(self, failure: Exception) -> None:
        """Judges what ended an attempt: returns if another one is due after `delay`, else raises `failure`.

        It returns, too, where nothing is missing but a formal end: the answer is complete, and the exchange over. What
        may come before that end, the usage, is come back for, but is not worth an error.
        """
        self.over = True  # unless all goes well, a user's hook included
        self._whole = self.answered
        done = self._reply is not None and self._reply.done
        try:
            delay = None
            if isinstance(failure, InferenceError) and not (self._whole and (done or not self.call.resume)):
                failure = self._explained(failure)
                verdict, failure = self._judged(failure)
                delay = self._delay(failure, verdict)
            if delay is not None and self._clock() + delay < self._ends:
                self._patience.announce(delay)
                self.delay, self.over = delay, False
            elif self._whole and isinstance(failure, InferenceError):
                self._finished = True
            else:
                if len(self.attempts) > 1 and not self.speaking:
                    failure.add_note(f"tried {len(self.attempts)} times; the client's `retry=` sets how often")
                raise failure
        finally:
            del failure  # or this frame, which the traceback of what it raises holds, would hold that too

    def farewell(self) -> RequestSpec[Any, Any, Any] | None:
        """What to send when an answer is given up that its server would wait with; None if none does. Once."""
        call = None if self.answered or self._parted else self._return.farewell(self._reply)
        self._parted = self._parted or call is not None
        return call

    def _judged(self, error: InferenceError) -> tuple[Decision, InferenceError]:
        """What to do about `error`, and what to raise if that is to raise."""
        if self.attempts:
            self.attempts[-1].error = _bare(error)
        verdict = decide(error, speaking=self.speaking)
        if verdict is Decision.RETRY:
            return verdict, error
        out_of_time = isinstance(error, InferenceTimeoutError) and error.phase == "total"
        if self._hopeless or out_of_time or not (self.call.resume and self.speaking):
            return Decision.RAISE, error
        lost = self._return.lost
        if verdict is Decision.RAISE:
            goes_on = self._reply is not None and self._reply.heard > 0  # only to end in an error
            return verdict, error if lost is None or goes_on else _unresumable(lost, str(error))
        try:
            self._return.prepare(_bare(error), self._reply, self.transcript)
        except CannotResumeError as why:
            return Decision.RAISE, _unresumable(lost or error, str(why))
        return verdict, error

    def _delay(self, error: InferenceError, verdict: Decision) -> float | None:
        """Seconds until the next attempt; None if there is to be none."""
        if verdict is Decision.RAISE:
            return None
        if self.speaking and not self._disappointed:  # after content patience begins anew: streams may last for hours
            once = self._retry.attempts == 1 and self._retry.stop is None
            self._patience = RetryState(replace(self._retry, attempts=RetryPolicy.attempts) if once else self._retry)
        self._disappointed = True
        delay = self._patience.after(_bare(error))
        if delay is None:
            return None
        if self._budget is not None:
            now = self._clock()
            booked = self._budget.book(delay, now, overloaded=isinstance(error, OverloadedError))
            delay = booked if now + booked < self._ends else delay
        kind, number = type(error).__name__, len(self.attempts)
        logger.info("attempt %d of %s failed, next in %.2f s: %s", number, self.call, delay, kind)
        return delay

    def _recover(self) -> None:
        """Content has come after a failure."""
        self._disappointed = False
        if self._budget is not None:
            self._budget.answered()
        if self._return.lost is not None:
            self._return.arrived()
            self.metrics.resumed += 1
            self.metrics.continued += self._return.continues

    def _learn(self, said: list[Any]) -> None:
        """Takes the answer to a question on the way back: the next one is due at once."""
        lost = self._return.lost
        self.delay = 0.0
        try:
            self._return.take(said[0])
        except CannotResumeError as why:
            self._hopeless = True
            if lost is not None:
                error = _unresumable(lost, str(why))
                raise error from error.__cause__

    # Time --------------------------------------------------------------------------------------

    def _expect(self, now: float, limit: float | None) -> None:
        until = self._ends if limit is None else now + limit
        self.deadline.at = until if until < self._ends else self._ends  # noqa: FURB136  once a token: min() is a call

    def _timeout(self, now: float) -> InferenceTimeoutError:
        phase: Phase = "between_tokens" if self.speaking and not self._disappointed else "first_token"
        if self._ends != math.inf and (now >= self._ends or self.deadline.at >= self._ends):
            phase = "total"  # a timer may ring a moment early: what counts is which limit was the nearest
        seconds = getattr(self.timeouts, phase)
        if seconds is None:  # somebody else's: a proxy's, a transport's
            return InferenceTimeoutError("nothing came in time", phase=phase)
        said = {"first_token": "no answer", "between_tokens": "no further token", "total": "no end of the answer"}
        return InferenceTimeoutError(f"{said[phase]} within {seconds:g} s (Timeouts.{phase})", phase=phase)

    # Failure -----------------------------------------------------------------------------------

    def _explained(self, error: InferenceError) -> InferenceError:
        """`error`, told what only the exchange knows."""
        now = self._clock()
        unsaid = isinstance(error, InferenceTimeoutError) and (error.phase != "connect" or now >= self._ends)
        if unsaid and not self._hopeless:
            timeout = self._timeout(now)
            timeout.__cause__ = error.__cause__
            error = timeout
        error.partial_text = self.transcript.text
        error.request_id = error.request_id or errors.request_id(self.headers)
        return error

    def unfinished(self) -> IncompleteStreamError:
        """The error for an answer that was given up before its end, or has ended in an error."""
        ended = self.attempts[-1].error if self.attempts else None
        why = "was closed before its end" if ended is None else f"has ended in an error: {ended}"
        error = IncompleteStreamError(f"the stream {why}", retryable=False)
        error.__cause__ = ended
        error.partial_text = self.transcript.text
        return error


def _bare(error: InferenceError) -> InferenceError:
    """A copy without a traceback, which would lead back to the stream."""
    return copy.copy(error)


def _unresumable(lost: InferenceError, why: str) -> IncompleteStreamError:
    error = IncompleteStreamError(f"{lost.message}; the answer cannot be gone on with: {why}")
    vars(error).update(vars(lost), retryable=False)
    error.__cause__ = _bare(lost)
    return error


def _least(limit: float | None, rest: float | None) -> float | None:
    return limit if rest is None else rest if limit is None else min(limit, rest)
