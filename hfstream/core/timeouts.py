"""The time limits, and the one deadline that is in force.

Only events of the answer move the deadline: keep-alive comments are not progress. Does not depend on how the
waiting is done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Protocol, cast

from ..errors import InferenceError, InferenceTimeoutError, Phase

__all__ = [
    "MIN_TIMEOUT",
    "Clock",
    "Deadline",
    "TimeoutTypes",
    "Timeouts",
    "name_limit",
    "timeout_error",
    "transport_timeout",
]

Clock = Callable[[], float]
"""Monotonic seconds."""

_LONGEST = 2**31 // 1000
"""Seconds that a socket can wait, 24 days: the system counts its milliseconds in 32 bits."""

MIN_TIMEOUT = 0.001
"""Seconds for a read after its deadline, which is enough for what has arrived."""


@dataclass(frozen=True)
class Timeouts:
    """How long to wait, in seconds. None means no limit, and so does more than 24 days.

    A limit that is exceeded raises `InferenceTimeoutError`, whose `phase` is the limit's name.
    """

    connect: float | None = 10.0
    """Until the connection is made, in each attempt."""
    first_token: float | None = 120.0
    """From the request to the first content, in each attempt; without streaming, to the end of the response."""
    between_tokens: float | None = 60.0
    """From one token to the next. Keep-alive comments do not count; a chunk of the answer without a token does, such as
    those that a server sends while it holds back a tool call."""
    total: float | None = None
    """From the call to its end, including all attempts and the waits between them."""
    after_finish: float | None = 2.0
    """From the finish reason to the formal end of the stream. After it the answer is complete without that end; it is
    no error. The usage, if the server sends one, comes in between."""

    def __post_init__(self) -> None:
        for field in fields(self):
            seconds: Any = getattr(self, field.name)
            if not _is_number_or_none(seconds):
                raise TypeError(f"Timeouts.{field.name} must be a number of seconds or None, not {seconds!r}")
            if seconds is not None and (isinstance(seconds, bool) or not seconds > 0):
                raise ValueError(f"Timeouts.{field.name} must be a positive number of seconds or None, not {seconds!r}")
            if seconds is not None and seconds > _LONGEST:
                object.__setattr__(self, field.name, None)
            elif seconds is not None and type(seconds) not in (int, float):  # a socket takes no others
                object.__setattr__(self, field.name, float(seconds))

    @classmethod
    def of(cls, value: TimeoutTypes) -> Timeouts:
        """`value` as Timeouts: a number sets the first three limits, None removes all.

        A pair, as in requests, and an httpx.Timeout have a limit for connecting and one for each wait for data: the
        latter sets `first_token` and `between_tokens`.

        Raises:
            TypeError, ValueError: it is none of these, or a limit is not a positive number.
        """
        if isinstance(value, Timeouts):
            return value
        given: Any = value  # annotations are not checked at run time
        if _is_number_or_none(given):
            return cls(given, given, given)
        if hasattr(given, "connect") and hasattr(given, "read"):
            return cls(given.connect, given.read, given.read)
        if isinstance(given, tuple) and len(cast("tuple[Any, ...]", given)) == 2:
            connect, read = cast("tuple[Any, Any]", given)
            return cls(connect, read, read)
        raise TypeError(
            "timeout must be a number of seconds, Timeouts(...), a pair (connect, read), an httpx.Timeout or None, not "
            f"{value!r}"
        )


def _is_number_or_none(value: Any) -> bool:
    return value is None or isinstance(value, Real)  # numpy's numbers too


class _HTTPXTimeout(Protocol):
    """The part of `httpx.Timeout`, or httpx2's, that has a meaning here."""

    @property
    def connect(self) -> float | None: ...
    @property
    def read(self) -> float | None: ...


TimeoutTypes = Timeouts | float | tuple[float | None, float | None] | _HTTPXTimeout | None
"""What `Timeouts.of` takes."""


class Deadline:
    """The moment at which the present wait ends; shared with whatever reads the socket.

    `at` and `total_at` are seconds of `clock`; infinity is no limit. `total` is in seconds from now.
    """

    __slots__ = ("_clock", "at", "paused_at", "total_at")

    def __init__(self, clock: Clock = time.monotonic, total: float | None = None) -> None:
        self._clock = clock
        self.at: float = math.inf
        """When the present wait ends. Never after `total_at`, unless set by hand."""
        self.total_at: float = math.inf if total is None else clock() + total
        """When the time for the whole exchange is over."""
        self.paused_at: float | None = None
        """Since when the caller, and not the server, has had the next move; None while the server has it."""

    def set(self, now: float, limit: float | None) -> None:
        """The present wait may last `limit` seconds from `now`; None is no limit but the total one."""
        at = self.total_at if limit is None else now + limit
        self.at = at if at < self.total_at else self.total_at  # noqa: FURB136  once a token: min() is a call

    def resume(self) -> None:
        """The caller wants more: the time that it has taken is added, for it is not the server's."""
        if self.paused_at is not None:
            self.set(self.at, self._clock() - self.paused_at)
            self.paused_at = None

    def remaining(self) -> float | None:
        """Seconds left, at least a millisecond, so that what has arrived already can still be read; None: no limit."""
        if self.at == math.inf:
            return None
        seconds = self.at - self._clock()
        return seconds if seconds > MIN_TIMEOUT else MIN_TIMEOUT  # noqa: FURB136  once a token: max() is a call

    def time_to_send(self) -> float:
        """Seconds that a request may still wait to be sent; infinity is no limit.

        Raises:
            InferenceTimeoutError: the time for the whole exchange is over.
        """
        seconds = self.total_at - self._clock()
        if seconds <= 0:
            raise InferenceTimeoutError("not sent in time", phase="total")
        return seconds


def transport_timeout(
    timeouts: Timeouts, seconds_left: float | None
) -> tuple[float | None, float | None, float | None, float | None]:
    """Seconds to connect, read, write and wait for a connection, for a transport that cannot follow a `Deadline`.

    `seconds_left` is what remains of `timeouts.total`; None if there is no such limit.
    """
    connect, first, between = timeouts.connect, timeouts.first_token, timeouts.between_tokens
    read = None if first is None or between is None else max(first, between)

    def within(limit: float | None) -> float | None:
        return limit if seconds_left is None else seconds_left if limit is None else min(limit, seconds_left)

    return within(connect), within(read), within(first), within(connect)


def timeout_error(timeouts: Timeouts, deadline: Deadline, now: float, *, streaming: bool) -> InferenceTimeoutError:
    """The error for the limit that has been exceeded; `streaming` is whether a first token has come."""
    phase: Phase = "between_tokens" if streaming else "first_token"
    if deadline.total_at != math.inf and (now >= deadline.total_at or deadline.at >= deadline.total_at):
        phase = "total"  # a timer may fire a moment early: what counts is which limit was the nearest
    seconds = getattr(timeouts, phase)
    if seconds is None:  # a limit that is not ours: a proxy's, a transport's
        return InferenceTimeoutError("nothing was received in time", phase=phase)
    missing = {"first_token": "no answer", "between_tokens": "no further token", "total": "no end of the answer"}
    return InferenceTimeoutError(f"{missing[phase]} within {seconds:g} s (Timeouts.{phase})", phase=phase)


def name_limit(
    error: InferenceError, timeouts: Timeouts, deadline: Deadline, now: float, *, streaming: bool
) -> InferenceError:
    """`error`, or for a timeout whose limit the transport cannot know, one that names the limit."""
    # The transport knows only whether it was connecting; the limit it ran into may have been the total one.
    if not isinstance(error, InferenceTimeoutError) or (error.phase == "connect" and now < deadline.total_at):
        return error
    timeout = timeout_error(timeouts, deadline, now, streaming=streaming)
    timeout.__cause__ = error.__cause__
    return timeout
