"""Retry limits: tenacity's own `stop` and `wait`, driven as a state machine.

tenacity decides, the drivers wait: given a `sleep` that only records the seconds, its public iterator is a pure state
machine. So one implementation serves both clients, and users configure retries with tenacity's strategies. Does not
depend on what a failure means; `retry_decisions` says that.
"""

from __future__ import annotations

import copy
import inspect
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

import tenacity
from tenacity.retry import retry_base
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from ..errors import InferenceError, OverloadedError
from .model_loading import LoadingWait

__all__ = ["RetryPacer", "RetryPolicy", "RetryState", "retry_if_overloaded", "retry_on_overload", "wait_retry_after"]

F = TypeVar("F", bound=Callable[..., Any])


def _is_overload(error: BaseException) -> bool:
    return isinstance(error, OverloadedError) and error.retryable


class _RetryIfOverloaded(retry_base):
    """The strategy below; `max_wait` is the longest wait, in seconds, that a server may ask for."""

    def __init__(self, max_wait: float = math.inf) -> None:
        self._max_wait = max_wait

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        outcome = retry_state.outcome
        assert outcome is not None  # noqa: S101  tenacity calls this after an attempt
        if not outcome.failed:
            _refuse_awaitable(outcome.result())
            return False
        error = outcome.exception()
        return error is not None and _is_overload(error) and not _asks_for_longer_than(self._max_wait, error)


retry_if_overloaded: retry_base = _RetryIfOverloaded()
"""tenacity's ``retry=`` for a wrapper of your own: retries if the server was overloaded, and only then.

Not if the account has no quota left, which is an `OverloadedError` too, but not `retryable`. A function that returns an
async call without awaiting it is a TypeError: its request would be sent after the wrapper, and never sent again.
"""


def _asks_for_longer_than(max_wait: float, error: BaseException) -> bool:
    """Whether the server asks for a longer wait: after `max_wait` seconds it would refuse the request again."""
    seconds = error.retry_after if isinstance(error, InferenceError) else None
    if seconds is None or error._retry_after_is_estimate:  # type: ignore[attr-defined]
        return False
    return seconds > max_wait


class wait_retry_after(wait_base):  # noqa: N801  tenacity's strategies are classes with function names
    """tenacity's ``wait=``: as long as the server asked for (Retry-After), else as `fallback` says.

    The server's seconds are a minimum: up to a quarter more is added at random, because all clients that were refused
    at the same moment got the same number. `max_wait` bounds the sum, in seconds.
    """

    def __init__(self, fallback: wait_base, max_wait: float = 60.0) -> None:
        self.fallback = fallback
        self.max_wait = max_wait

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        outcome = retry_state.outcome
        seconds = getattr(outcome.exception(), "retry_after", None) if outcome else None
        if seconds is None:
            return float(self.fallback(retry_state))
        if seconds >= self.max_wait:  # spread too, or all clients that got "an hour" would come back together
            return float(random.uniform(0.8, 1.0) * self.max_wait)  # noqa: S311
        return float(min(seconds + random.uniform(0, max(0.1, seconds / 4)), self.max_wait))  # noqa: S311


@dataclass(frozen=True)
class RetryPolicy:
    """How often and for how long a client retries until the first content has come.

    `attempts` counts all attempts, the first included. `stop` and `wait` are tenacity strategies that replace it and
    the default wait: Retry-After where the server sends it, else exponential with full jitter
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), never more than `max_wait` seconds. A
    server that asks for a longer wait is not asked again, because it would refuse again: its error is raised at once,
    with the seconds in `retry_after`. While a server says that it is loading its model, attempts do not count until
    the time that it has estimated is over, or a minute if it has not.
    `before_sleep` is tenacity's hook of that name: called with a `tenacity.RetryCallState` before each wait, from the
    thread or task that makes the call.
    """

    attempts: int = 3
    wait: wait_base | None = None
    stop: stop_base | None = None
    max_wait: float = 10.0
    before_sleep: Callable[[tenacity.RetryCallState], object] | None = None

    def __post_init__(self) -> None:
        # Annotations are not checked at run time: True would count as one attempt, 2.5 as three.
        if type(self.attempts) is not int or self.attempts < 1:
            raise ValueError(f"RetryPolicy.attempts counts all attempts and must be at least 1, not {self.attempts!r}")
        if not self.max_wait >= 0:
            raise ValueError(f"RetryPolicy.max_wait must be a number of seconds, not {self.max_wait!r}")

    @classmethod
    def of(cls, value: RetryPolicy | int | None) -> RetryPolicy:
        """`value` as a policy: an int is the number of all attempts, None is one attempt."""
        return value if isinstance(value, RetryPolicy) else cls(attempts=1 if value is None else value)


class RetryState:
    """How far one call has used up its policy. Not for several threads."""

    def __init__(self, policy: RetryPolicy, pacer: RetryPacer | None = None) -> None:
        self._policy = policy
        self._pacer = pacer
        self._start(policy)

    def _start(self, policy: RetryPolicy) -> None:
        self._current = policy
        self._began = time.monotonic()
        self._attempt: tenacity.AttemptManager | None = None

    def _first_attempt(self) -> tenacity.AttemptManager:
        """Made by the first failure, because most calls have none, and there may be thousands of open streams."""
        policy = self._current
        self._delays: list[float] = []
        self._states: list[tenacity.RetryCallState] = []
        self._loading = loading = LoadingWait(policy.max_wait)
        backoff = wait_retry_after(
            tenacity.wait_random_exponential(multiplier=0.5, max=policy.max_wait), policy.max_wait
        )
        self._attempts = iter(
            tenacity.Retrying(
                sleep=self._delays.append,  # the list's method, not ours: no reference cycle
                wait=policy.wait or (lambda state: backoff(state) if loading.delay is None else loading.delay),
                stop=policy.stop
                or (lambda state: loading.delay is None and state.attempt_number - loading.count >= policy.attempts),
                retry=tenacity.retry_if_exception_type(BaseException),
                before_sleep=_recording_hook(self._states),
                retry_error_callback=_stop_iteration,
            )
        )
        attempt = next(self._attempts)
        attempt.retry_state.start_time = self._began  # tenacity's strategies count the seconds from the first request
        return attempt

    def restart(self) -> None:
        """Content has come since the last failure: counts and waits begin again.

        A policy of one attempt is about getting an answer; to resume one it would be of no use, so that has the default
        number of attempts.
        """
        only_one = self._policy.attempts == 1 and self._policy.stop is None
        self._start(replace(self._policy, attempts=RetryPolicy.attempts) if only_one else self._policy)

    def reason_not_to_retry(self, error: BaseException) -> str | None:
        """Why there will be no further attempt, whatever the policy's count: the server asks for too long a wait."""
        policy = self._current
        only_one = policy.attempts == 1 and policy.stop is None
        if only_one or policy.wait is not None or not _asks_for_longer_than(policy.max_wait, error):
            return None
        return f"not retried: the server asks to wait longer than RetryPolicy.max_wait ({policy.max_wait:g} s)"

    def next_delay(self, error: BaseException, *, now: float = 0.0, latest: float = math.inf) -> float | None:
        """Seconds to wait before the next attempt, or None if there will be none.

        `now` and `latest` are monotonic seconds; the pacer may add to the delay, but not beyond `latest`.
        """
        attempt = self._attempt or self._first_attempt()
        if self._current.attempts > 1 and self._current.wait is None and self._current.stop is None:
            self._loading.observe(error)
        self._delays.clear()
        self._states.clear()
        with attempt:
            raise error  # tenacity's context manager keeps the error for `stop` and `wait`, and suppresses it
        error.__traceback__ = error.__context__ = None  # they lead back here, and to the stream
        following = next(self._attempts, None)
        if following is None:
            return None
        self._attempt = following
        delay = sum(self._delays)
        if self._pacer is None:
            return delay
        paced = self._pacer.schedule(delay, now, overloaded=isinstance(error, OverloadedError))
        return paced if now + paced < latest else delay

    def record_success(self) -> None:
        """A retry was answered."""
        if self._pacer is not None:
            self._pacer.record_success()

    def notify(self, delay: float) -> None:
        """Calls the policy's `before_sleep`: there will be another attempt, `delay` seconds from now."""
        hook = self._policy.before_sleep
        if hook is None:
            return
        for state in self._states:
            state.upcoming_sleep = delay
            state.next_action = tenacity.RetryAction(delay)
            hook(state)


def _recording_hook(states: list[tenacity.RetryCallState]) -> Callable[[tenacity.RetryCallState], None]:
    """A `before_sleep` for tenacity that keeps a copy of each state.

    tenacity calls it before the time that is left has been looked at, and uses its state again.
    """

    def record(state: tenacity.RetryCallState) -> None:
        states.append(copy.copy(state))

    return record


class RetryPacer:
    """Spaces out the retries of all calls of one client, so that they do not all reach a busy server at once.

    It forbids none: a call whose own policy allows another attempt gets it, perhaps later. The first few retries leave
    at once; after them one follows the other, further apart the more of them found the server overloaded.
    """

    def __init__(self) -> None:
        self._interval = MIN_INTERVAL
        self._due = 0.0  # when the last scheduled retry would leave if there were no burst

    def schedule(self, delay: float, now: float, *, overloaded: bool) -> float:
        """Seconds to wait for a retry that wants to wait for `delay` seconds: so long, or longer. `now` is monotonic.

        Retries queue in the order in which they ask, not in which they leave: one that waits for a minute, as its
        server asked, delays no other.
        """
        queue = max(0.0, self._due - BURST * self._interval - now)
        self._due = max(self._due, now) + self._interval
        if overloaded:
            self._interval = min(1.25 * self._interval, MAX_INTERVAL)
        return delay + queue

    def record_success(self) -> None:
        """A retry was answered: the server has capacity."""
        self._interval = max(self._interval / 2, MIN_INTERVAL)


BURST = 10
"""Retries that leave without being spaced out."""
MIN_INTERVAL = 0.001
MAX_INTERVAL = 0.05
"""Seconds between two retries of one client."""


def _stop_iteration(_: tenacity.RetryCallState) -> None:
    """Ends tenacity's iteration, which would raise otherwise."""


@overload
def retry_on_overload(attempts: F, /) -> F: ...


@overload
def retry_on_overload(
    attempts: int = 5,
    *,
    wait: wait_base | None = None,
    stop: stop_base | None = None,
    max_wait: float = 30.0,
    before_sleep: Callable[[tenacity.RetryCallState], None] | None = None,
) -> Callable[[F], F]: ...


def retry_on_overload(
    attempts: Any = 5,
    *,
    wait: wait_base | None = None,
    stop: stop_base | None = None,
    max_wait: float = 30.0,
    before_sleep: Callable[[tenacity.RetryCallState], None] | None = None,
) -> Any:
    """A decorator for plain and async functions: calls again while the server is overloaded.

    Use it with a client that has ``retry=None``, or the attempts multiply. The function must return the stream, not
    iterate over it in a generator: a generator's body runs only when the caller's loop does, outside of the decorator.
    `before_sleep` is tenacity's hook, called before each wait. ``@retry_on_overload`` is ``@retry_on_overload()``.

    Raises:
        TypeError: on decorating a generator function, or when the function returns an async call that was not awaited.
        OverloadedError: the last one, when `attempts` (or `stop`) are used up.
    """
    if callable(attempts):
        return retry_on_overload()(attempts)
    backoff = tenacity.wait_random_exponential(multiplier=0.5, max=max_wait)

    retry = tenacity.retry(
        retry=_RetryIfOverloaded(max_wait if wait is None else math.inf),
        wait=wait or wait_retry_after(backoff, max_wait),
        stop=stop or tenacity.stop_after_attempt(attempts),
        before_sleep=before_sleep,
        retry_error_callback=_raise_last,
    )

    def decorate(function: F) -> F:
        _refuse_generator(function)
        return retry(function)  # type: ignore[return-value]  # it has the signature of `function`

    return decorate


def _refuse_generator(function: Callable[..., Any]) -> None:
    for each in (function, getattr(function, "__call__", None)):  # noqa: B004  of an object
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            name = getattr(function, "__qualname__", repr(function))
            raise TypeError(
                f"{name} is a generator function: its body runs in the caller's loop, where nothing is retried. Let it "
                "`return client.text_generation(..., stream=True)` (`return await ...` if async) instead of `yield`"
            )


def _refuse_awaitable(result: object) -> None:
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()  # or Python warns that it was never awaited
        raise TypeError(
            "the function returns an async call that it has not awaited, so the request is sent after it has returned, "
            "and nothing is retried: write `async def` and `return await client.text_generation(..., stream=True)`"
        )


def _raise_last(state: tenacity.RetryCallState) -> None:
    """Does what tenacity's ``reraise=True`` does, but leaves no frame that holds the error whose traceback holds it."""
    outcome, state.outcome = state.outcome, None
    assert outcome is not None  # noqa: S101  tenacity calls this after an attempt
    try:
        outcome.result()
    finally:
        del outcome
