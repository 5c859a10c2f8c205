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
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .. import errors
from ..errors import IncompleteStreamError, InferenceError, InferenceTimeoutError, Phase
from .calls import Call
from .metrics import Metrics
from .replies import Reply, reply_to
from .retry import Patience, RetryPolicy
from .timeouts import Clock, Deadline, Timeouts
from .verdicts import Verdict, judge

__all__ = ["Attempt", "Exchange"]

logger = logging.getLogger("hfstream")

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
        self, call: Call[Any, I, W], *, retry: RetryPolicy, timeouts: Timeouts, clock: Clock = time.monotonic
    ) -> None:
        now = clock()
        self.call = call
        self.timeouts = timeouts
        self.transcript = call.transcript()
        self.metrics = Metrics(now)
        self.attempts: list[Attempt] = []
        self.headers: Mapping[str, str] = {}
        self.deadline = Deadline(clock)
        self.delay = 0.0
        """Seconds to wait before the next attempt."""
        self.hungry = False
        """Whether the reply wants to be fed; if not, it wants to `finish`."""
        self.over = False
        """The last word has been said, by the server or by us."""
        self._clock = clock
        self._finished = False
        self._patience = Patience(retry)
        self._reply: Reply[Any] | None = None
        self._ends = math.inf if timeouts.total is None else now + timeouts.total

    # What a driver does, in this order ----------------------------------------------------------

    def ask(self) -> Call[Any, I, W]:
        """Begins an attempt: what to send, now that the wait is over."""
        self.attempts.append(Attempt(len(self.attempts) + 1, self.delay))
        self._reply = None
        self.headers = {}
        self._expect(self._clock(), self.timeouts.first_token)
        return self.call

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
        self._reply = reply_to(status, headers, self.call.reply, streamed=self.call.streamed)
        self.hungry = True

    @property
    def answered(self) -> bool:
        """Whether the answer is complete, even if its body is not yet at its end."""
        return self._finished or (self._reply is not None and self._reply.whole)

    @property
    def speaking(self) -> bool:
        """Whether content has come."""
        return self.metrics.tokens > 0

    def listen(self) -> None:
        """The caller has come back for more: the time that it took is not the server's."""
        if self.speaking:
            self._expect(self._clock(), self.timeouts.between_tokens)

    def feed(self, chunk: bytes) -> list[I]:
        """Takes a piece of the body; returns what the caller shall see."""
        assert self._reply is not None  # noqa: S101  a driver that feeds before it begins is a bug
        said = self._reply.feed(chunk)
        self.hungry = not self._reply.done
        now = self._clock()
        if said:
            self.metrics.tick(now, len(said))
            self._expect(now, self.timeouts.between_tokens)
            if now > self._ends:
                self.hungry = False  # what has come is handed over first; `finish` raises
            return self.transcript.hear(said)
        if now > self.deadline.at and self.hungry:
            raise self._timeout(now)
        return []

    def finish(self) -> list[I]:
        """Takes the body's end, or the reply's: the exchange is over, or this raises."""
        assert self._reply is not None  # noqa: S101  a driver that feeds before it begins is a bug
        if not (self.hungry or self._reply.done):
            raise self._timeout(self._clock())
        said = self._reply.finish()
        self.over = self._finished = True
        return self.transcript.hear(said)

    def forgive(self, failure: Exception) -> None:
        """Judges what ended an attempt: returns if another one is due after `delay`, else raises `failure`."""
        try:
            delay = None
            if isinstance(failure, InferenceError):
                failure = self._explained(failure)
                delay = self._patience_with(failure)
            if delay is None or self._clock() + delay >= self._ends:
                self.over = True
                raise failure
            self.delay = delay
        finally:
            del failure  # or this frame, which the traceback of what it raises holds, would hold that too

    def _patience_with(self, error: InferenceError) -> float | None:
        if self.attempts:
            self.attempts[-1].error = copy.copy(error)  # the copy has no traceback, which leads back to the stream
        if judge(error, speaking=self.speaking) is not Verdict.RETRY:
            return None
        delay = self._patience.after(copy.copy(error))
        if delay is not None:
            kind, number = type(error).__name__, len(self.attempts)
            logger.info("attempt %d of %s failed, next in %.2f s: %s", number, self.call, delay, kind)
        return delay

    # Time --------------------------------------------------------------------------------------

    def _expect(self, now: float, limit: float | None) -> None:
        until = self._ends if limit is None else now + limit
        self.deadline.at = until if until < self._ends else self._ends  # noqa: FURB136  once a token: min() is a call

    def _timeout(self, now: float) -> InferenceTimeoutError:
        phase: Phase = "between_tokens" if self.speaking else "first_token"
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
        if isinstance(error, InferenceTimeoutError) and (error.phase != "connect" or now >= self._ends):
            timeout = self._timeout(now)
            timeout.__cause__ = error.__cause__
            error = timeout
        error.partial_text = self.transcript.text
        error.request_id = error.request_id or errors.request_id(self.headers)
        return error

    def unfinished(self) -> IncompleteStreamError:
        """The error for an answer that was given up before its end."""
        error = IncompleteStreamError("the stream was closed before its end", retryable=False)
        error.partial_text = self.transcript.text
        return error


def _least(limit: float | None, rest: float | None) -> float | None:
    return limit if rest is None else rest if limit is None else min(limit, rest)
