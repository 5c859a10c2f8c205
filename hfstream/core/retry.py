"""How long we keep asking: tenacity's own `stop` and `wait`, driven as a state machine.

tenacity decides, the drivers wait: given a `sleep` that only notes the seconds, its public iterator is a pure state
machine, so one controller serves both clients and users configure retries in tenacity's words. This module refuses to
know what a failure means; that is judged in `verdicts`.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import tenacity
from tenacity.retry import retry_base
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from ..errors import OverloadedError

__all__ = ["RetryPacer", "RetryPolicy", "RetryState", "retry_if_overloaded", "retry_on_overload", "wait_retry_after"]

F = TypeVar("F", bound=Callable[..., Any])

retry_if_overloaded: retry_base = tenacity.retry_if_exception_type(OverloadedError)
"""tenacity's ``retry=`` for a wrapper of your own: again if the server was overloaded, and only then."""


class wait_retry_after(wait_base):  # noqa: N801  tenacity's strategies are classes with function names
    """tenacity's ``wait=``: as long as the server asked for (Retry-After), else as `fallback` says.

    The server's seconds are a least wait: up to a quarter more is added at random, because everyone who was refused at
    the same moment was told the same number. `max_wait` bounds the sum, in seconds.
    """

    def __init__(self, fallback: wait_base, max_wait: float = 60.0) -> None:
        self.fallback = fallback
        self.max_wait = max_wait

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        outcome = retry_state.outcome
        seconds = getattr(outcome.exception(), "retry_after", None) if outcome else None
        if seconds is None:
            return float(self.fallback(retry_state))
        if seconds >= self.max_wait:  # spread all the same, or everyone who is told "an hour" comes back together
            return float(random.uniform(0.8, 1.0) * self.max_wait)  # noqa: S311
        return float(min(seconds + random.uniform(0, max(0.1, seconds / 4)), self.max_wait))  # noqa: S311


@dataclass(frozen=True)
class RetryPolicy:
    """How patient a client is until the first content has come.

    `attempts` counts all tries, the first included; `stop` and `wait` are tenacity strategies that replace it and the
    default wait: Retry-After where the server says, else exponential with full jitter
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), never more than `max_wait` seconds.
    `before_sleep` is tenacity's hook of that name: called with a `tenacity.RetryCallState` before each wait, while the
    call still lasts, from the thread or task that makes it.
    """

    attempts: int = 3
    wait: wait_base | None = None
    stop: stop_base | None = None
    max_wait: float = 10.0
    before_sleep: Callable[[tenacity.RetryCallState], object] | None = None

    def __post_init__(self) -> None:
        # What comes from outside may be anything: True would count as one attempt, 2.5 as three.
        if type(self.attempts) is not int or self.attempts < 1:
            raise ValueError(f"RetryPolicy.attempts counts all tries and must be at least 1, not {self.attempts!r}")
        if not self.max_wait >= 0:
            raise ValueError(f"RetryPolicy.max_wait must be a number of seconds, not {self.max_wait!r}")

    @classmethod
    def of(cls, value: RetryPolicy | int | None) -> RetryPolicy:
        """`value` as a policy: an int is the number of attempts in all, None is one attempt."""
        return value if isinstance(value, RetryPolicy) else cls(attempts=1 if value is None else value)


class RetryState:
    """The state of one policy: how often we were disappointed, and for how long."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._hook = policy.before_sleep
        self._waits: list[float] = []
        self._states: list[tenacity.RetryCallState] = []
        backoff = tenacity.wait_random_exponential(multiplier=0.5, max=policy.max_wait)
        self._tries = iter(
            tenacity.Retrying(
                sleep=self._waits.append,  # the list's method, not ours: no reference cycle
                wait=policy.wait or wait_retry_after(backoff, policy.max_wait),
                stop=policy.stop or tenacity.stop_after_attempt(policy.attempts),
                retry=tenacity.retry_if_exception_type(BaseException),
                before_sleep=_noting(self._states),
                retry_error_callback=_give_up,
            )
        )
        self._try = next(self._tries)

    def after(self, error: BaseException) -> float | None:
        """Seconds to wait before the next attempt, or None if patience is at its end."""
        self._waits.clear()
        self._states.clear()
        with self._try:
            raise error  # the manager notes the error for `stop` and `wait`, and swallows it
        error.__traceback__ = error.__context__ = None  # they lead back here, and to the stream
        another = next(self._tries, None)
        if another is None:
            return None
        self._try = another
        return sum(self._waits)

    def announce(self, seconds: float) -> None:
        """Calls the policy's hook: there will be another attempt, and this is the wait before it."""
        if self._hook is None:
            return
        for state in self._states:
            state.upcoming_sleep = seconds
            state.next_action = tenacity.RetryAction(seconds)
            self._hook(state)


def _noting(states: list[tenacity.RetryCallState]) -> Callable[[tenacity.RetryCallState], None]:
    """For tenacity, which calls before anybody has looked at the time that is left, and uses its state again."""

    def note(state: tenacity.RetryCallState) -> None:
        states.append(copy.copy(state))

    return note


class RetryPacer:
    """Spaces out the retries of all the calls of one client, so that a thousand callers are not a thousand herds.

    It never forbids one: a call whose own policy allows another attempt gets it, perhaps later. The first few are free;
    beyond them they leave one after the other, the further apart the more of them found the server overloaded.
    """

    def __init__(self) -> None:
        self._pause = MIN_INTERVAL
        self._due = 0.0  # when the queue would be over if none were free

    def book(self, delay: float, now: float, *, overloaded: bool) -> float:
        """How long a retry that wants to wait for `delay` shall wait: so long, or longer. Seconds, and monotonic ones.

        They queue by when they ask, not by when they leave: one that was told to wait for a minute is in nobody's way.
        """
        queue = max(0.0, self._due - BURST * self._pause - now)
        self._due = max(self._due, now) + self._pause
        if overloaded:
            self._pause = min(1.25 * self._pause, MAX_INTERVAL)
        return delay + queue

    def answered(self) -> None:
        """A retry has been answered: there is room at the server."""
        self._pause = max(self._pause / 2, MIN_INTERVAL)


BURST = 10
MIN_INTERVAL = 0.001
MAX_INTERVAL = 0.05
"""Seconds between two retries of one client."""


def _give_up(_: tenacity.RetryCallState) -> None:
    """Ends tenacity's iteration, which would raise otherwise."""


def retry_on_overload(
    attempts: int = 5,
    *,
    wait: wait_base | None = None,
    stop: stop_base | None = None,
    max_wait: float = 30.0,
    before_sleep: Callable[[tenacity.RetryCallState], None] | None = None,
) -> Callable[[F], F]:
    """A decorator for plain and async functions: calls again while the server is overloaded.

    Use it with a client that has ``retry=None``, or the attempts multiply. The function must return the stream, not
    iterate over it in a generator: a generator's body runs only when the caller's loop does, outside of the decorator.
    `before_sleep` is tenacity's hook, called before each wait.

    Raises:
        OverloadedError: the last one, when `attempts` (or `stop`) are used up.
    """
    backoff = tenacity.wait_random_exponential(multiplier=0.5, max=max_wait)
    return tenacity.retry(  # type: ignore[return-value]  # what it returns has `F`'s signature
        retry=retry_if_overloaded,
        wait=wait or wait_retry_after(backoff, max_wait),
        stop=stop or tenacity.stop_after_attempt(attempts),
        before_sleep=before_sleep,
        retry_error_callback=_raise_last,
    )


def _raise_last(state: tenacity.RetryCallState) -> None:
    """Does what tenacity's ``reraise=True`` does, but leaves no frame that holds the error whose traceback holds it."""
    outcome, state.outcome = state.outcome, None
    try:
        if outcome is not None:
            outcome.result()
    finally:
        del outcome
