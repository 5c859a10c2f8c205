"""Retries: how often, and for how long. No test waits: each passes its own times."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import random
import statistics
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

import hfstream.retry
from hfstream.core.retry import RetryPolicy, RetryState, retry_if_overloaded, retry_on_overload, wait_retry_after
from hfstream.errors import InferenceConnectionError, OverloadedError, ValidationError


def overloaded(retry_after: float | None = None) -> OverloadedError:
    return OverloadedError("Model is overloaded", retry_after=retry_after)


def delays(policy: RetryPolicy, errors: Iterator[Exception] | None = None, most: int = 50) -> list[float]:
    """How long one who has state waits, until it is at its end."""
    state = RetryState(policy)
    waits: list[float] = []
    while len(waits) < most and (delay := state.next_delay(next(errors) if errors else overloaded())) is not None:
        waits.append(delay)
    return waits


class Clock:
    """tenacity's clock, in a test's hands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("tenacity", "hfstream.core.retry"):
        monkeypatch.setattr(f"{module}.time", clock)
    return clock


# --- RetryPolicy -----------------------------------------------------------------------------------------------------


def test_the_documented_defaults() -> None:
    policy = RetryPolicy()
    assert (policy.attempts, policy.wait, policy.stop, policy.max_wait) == (3, None, None, 10.0)
    assert repr(policy) == "RetryPolicy(attempts=3, wait=None, stop=None, max_wait=10.0, before_sleep=None)"


def test_a_policy_has_short_forms() -> None:
    policy = RetryPolicy(attempts=7)
    assert RetryPolicy.of(policy) is policy
    assert RetryPolicy.of(5) == RetryPolicy(attempts=5)
    assert RetryPolicy.of(None) == RetryPolicy(attempts=1)


@pytest.mark.parametrize("attempts", [0, -1])
def test_fewer_than_one_attempt_is_refused(attempts: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RetryPolicy(attempts=attempts)
    with pytest.raises(ValueError, match="at least 1"):
        RetryPolicy.of(attempts)


@pytest.mark.parametrize("max_wait", [-1.0, float("nan")])
def test_an_impossible_wait_is_refused(max_wait: float) -> None:
    with pytest.raises(ValueError, match="max_wait"):
        RetryPolicy(max_wait=max_wait)


@pytest.mark.parametrize("value", [True, 2.5])
def test_an_invalid_number_of_attempts_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        RetryPolicy.of(value)


def test_a_policy_is_immutable() -> None:
    with pytest.raises(AttributeError):
        RetryPolicy().attempts = 5  # type: ignore[misc]


# --- Retry limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2, 3, 10])
def test_attempts_include_the_first(attempts: int) -> None:
    assert len(delays(RetryPolicy(attempts=attempts))) == attempts - 1


def test_an_exhausted_state_stays_exhausted() -> None:
    state = RetryState(RetryPolicy(attempts=1))
    assert state.next_delay(overloaded()) is None
    assert state.next_delay(overloaded()) is None


def test_each_state_counts_for_itself() -> None:
    policy = RetryPolicy(attempts=2, wait=tenacity.wait_none())
    assert delays(policy) == delays(policy) == [0]
    first, second = RetryState(policy), RetryState(policy)
    assert [first.next_delay(overloaded()), second.next_delay(overloaded()), first.next_delay(overloaded())] == [
        0,
        0,
        None,
    ]


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (tenacity.wait_none(), [0, 0, 0]),
        (tenacity.wait_fixed(2), [2, 2, 2]),
        (tenacity.wait_incrementing(1, 2), [1, 3, 5]),
        (tenacity.wait_exponential(multiplier=1, max=3), [1, 2, 3]),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [3, 3, 3]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(4)), [1, 4, 4]),
    ],
)
def test_waits_are_tenacity_strategies(wait: Any, expected: list[float]) -> None:
    assert delays(RetryPolicy(attempts=4, wait=wait)) == expected


@pytest.mark.parametrize(
    ("stop", "tries"),
    [
        (tenacity.stop_after_attempt(2), 2),
        (tenacity.stop_after_attempt(5) | tenacity.stop_after_attempt(3), 3),
        (tenacity.stop_after_attempt(5) & tenacity.stop_after_attempt(3), 5),
    ],
)
def test_a_stop_replaces_attempts(stop: Any, tries: int) -> None:
    assert len(delays(RetryPolicy(attempts=9, wait=tenacity.wait_none(), stop=stop))) == tries - 1
    assert len(delays(RetryPolicy(attempts=1, wait=tenacity.wait_none(), stop=stop))) == tries - 1


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (tenacity.stop_after_delay(30), [10, 10, 10, None]),
        (tenacity.stop_before_delay(30), [10, 10, None]),
        (tenacity.stop_after_delay(30) | tenacity.stop_after_attempt(2), [10, None]),
        (tenacity.stop_after_delay(15) | tenacity.stop_after_attempt(9), [10, 10, None]),
        (tenacity.stop_never, [10, 10, 10, 10, 10]),
    ],
)
def test_a_stop_may_look_at_the_clock(stop: Any, expected: list[float | None], clock: Clock) -> None:
    state = RetryState(RetryPolicy(wait=tenacity.wait_fixed(10), stop=stop))
    delays: list[float | None] = []
    while len(delays) < 5 and None not in delays:
        delays.append(state.next_delay(overloaded()))
        clock.now += 10  # the wait itself
    assert delays == expected


def test_a_wait_sees_the_error_and_how_often_there_was_one() -> None:
    class Curious(tenacity.wait.wait_base):
        def __call__(self, retry_state: tenacity.RetryCallState) -> float:
            assert retry_state.outcome is not None
            seen.append((retry_state.attempt_number, type(retry_state.outcome.exception())))
            return 0.0

    seen: list[tuple[int, Any]] = []
    errors = iter([overloaded(), InferenceConnectionError("x"), overloaded()])
    delays(RetryPolicy(attempts=3, wait=Curious()), errors)
    assert seen[:2] == [(1, OverloadedError), (2, InferenceConnectionError)]


# --- How long --------------------------------------------------------------------------------------------------------


def sample(retry_after: float | None, number: int = 0, *, max_wait: float = 10.0, size: int = 2000) -> list[float]:
    """Waits after the try `number`, as many clients that were refused at the same moment draw them."""
    random.seed(5)
    policy = RetryPolicy(attempts=number + 2, max_wait=max_wait)
    return [delays(policy, iter([overloaded(retry_after)] * (number + 2)))[number] for _ in range(size)]


@pytest.mark.parametrize(("number", "ceiling"), [(0, 0.5), (1, 1.0), (2, 2.0), (6, 10.0)])
def test_without_Retry_After_the_jitter_is_full(number: int, ceiling: float) -> None:
    waits = sample(None, number, size=600)
    assert min(waits) < ceiling / 20
    assert ceiling * 0.95 < max(waits) <= ceiling
    assert statistics.mean(waits) == pytest.approx(ceiling / 2, rel=0.1)
    assert len(set(waits)) == len(waits)


@pytest.mark.parametrize("seconds", [0.0, 0.2, 2.0, 7.0])
def test_Retry_After_is_a_minimum_and_spread(seconds: float) -> None:
    waits = sample(seconds, size=600)
    spread = max(0.1, seconds / 4)
    assert min(waits) >= seconds
    assert seconds + spread * 0.9 < max(waits) <= seconds + spread
    assert len(set(waits)) == len(waits)


@pytest.mark.parametrize("seconds", [10.0, 11.0, 3600.0, float("inf")])
def test_the_server_cannot_make_us_wait_longer_than_max_wait(seconds: float) -> None:
    assert max(sample(seconds, size=50)) <= 10.0
    assert min(sample(seconds, size=50)) > 5.0


def test_a_wait_at_its_bound_is_spread_too() -> None:
    assert len(set(sample(3600.0, size=20))) > 1


def test_no_wait_at_all_is_possible() -> None:
    assert set(sample(5.0, max_wait=0.0, size=10)) == set(sample(None, max_wait=0.0, size=10)) == {0.0}


@given(st.none() | st.floats(0, 1e6), st.floats(0, 100), st.integers(2, 6))
@settings(deadline=None, max_examples=100)
def test_every_wait_is_between_nothing_and_max_wait(retry_after: float | None, max_wait: float, attempts: int) -> None:
    errors = iter([overloaded(retry_after)] * attempts)
    waits = delays(RetryPolicy(attempts=attempts, max_wait=max_wait), errors)
    assert len(waits) == attempts - 1
    assert all(0 <= wait <= max_wait for wait in waits)


def test_wait_retry_after_uses_its_fallback_without_Retry_After() -> None:
    wait = wait_retry_after(tenacity.wait_fixed(3), max_wait=8)
    policy = RetryPolicy(attempts=4, wait=wait)
    errors = [overloaded(), overloaded(4.0), ValueError("has no retry_after"), overloaded()]
    silent, requested, other = delays(policy, iter(errors))
    assert silent == other == 3
    assert 4 <= requested <= 5


# --- For wrappers of one's own ---------------------------------------------------------------------------------------

NOW = tenacity.wait_none()


class Server:
    """Overloaded so many times, then well."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def ask(self, prompt: str, *, loud: bool = False) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return prompt.upper() if loud else prompt

    async def ask_async(self, prompt: str, *, loud: bool = False) -> str:
        return self.ask(prompt, loud=loud)


def call(server: Server, variant: str, **options: Any) -> str:
    decorator = retry_on_overload(**{"wait": NOW, **options})
    if variant == "async":
        return asyncio.run(decorator(server.ask_async)("hi", loud=True))
    return decorator(server.ask)("hi", loud=True)


VARIANTS = pytest.mark.parametrize("variant", ["plain", "async"])


@VARIANTS
def test_the_decorator_retries_while_the_server_is_overloaded(variant: str) -> None:
    server = Server(overloaded(), overloaded())
    assert call(server, variant) == "HI"
    assert server.calls == 3


@VARIANTS
def test_the_decorator_raises_the_last_error_itself(variant: str) -> None:
    errors = [overloaded(), overloaded(), overloaded()]
    server = Server(*errors)
    with pytest.raises(OverloadedError) as caught:
        call(server, variant, attempts=3)
    assert caught.value is errors[-1]
    assert server.calls == 3


@VARIANTS
@pytest.mark.parametrize("error", [ValidationError("x"), InferenceConnectionError("x"), ValueError("x")], ids=repr)
def test_the_decorator_retries_nothing_else(variant: str, error: Exception) -> None:
    server = Server(overloaded(), error)
    with pytest.raises(type(error)):
        call(server, variant)
    assert server.calls == 2


@VARIANTS
def test_the_decorator_takes_a_stop(variant: str) -> None:
    server = Server(*[overloaded() for _ in range(9)])
    with pytest.raises(OverloadedError):
        call(server, variant, stop=tenacity.stop_after_attempt(4))
    assert server.calls == 4


@VARIANTS
def test_each_call_of_a_decorated_function_has_its_own_attempts(variant: str) -> None:
    server = Server()
    ask = retry_on_overload(2, wait=NOW)(server.ask if variant == "plain" else server.ask_async)
    for _ in range(3):
        server.failures = [overloaded()]
        answer: Any = ask("hi")
        assert (answer if variant == "plain" else asyncio.run(answer)) == "hi"


async def forgets_to_await(server: Server) -> Any:
    return server.ask_async("hi")


def returns_a_coroutine(server: Server) -> Any:
    return server.ask_async("hi")


@pytest.mark.parametrize("function", [forgets_to_await, returns_a_coroutine])
@pytest.mark.parametrize(
    "decorator", [retry_on_overload(3), tenacity.retry(retry=retry_if_overloaded, wait=NOW)], ids=["ours", "tenacity's"]
)
def test_an_async_call_that_was_not_awaited_is_an_error(function: Any, decorator: Any) -> None:
    """Its request would be sent after the decorated function has returned, and nothing would be retried."""
    server = Server()
    with pytest.raises(TypeError, match=r"return await client\.text_generation"):
        if (result := decorator(function)(server)) is not None:
            asyncio.run(result)
    assert server.calls == 0


def test_other_awaitables_are_refused_too() -> None:
    async def ask() -> Any:
        return asyncio.get_running_loop().create_future()

    with pytest.raises(TypeError, match="that it has not awaited"):
        asyncio.run(retry_on_overload()(ask)())


def test_the_decorator_waits_as_the_server_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    with pytest.raises(OverloadedError) as caught:  # more than its max_wait of 30 seconds
        retry_on_overload()(Server(overloaded(2.0), overloaded(31)).ask)("hi")
    assert caught.value.retry_after == 31
    assert len(waits) == 1
    assert 2 <= waits[0] <= 2.5


def test_a_decorated_function_keeps_its_name() -> None:
    @retry_on_overload()
    def ask() -> str:
        """Asks."""
        return "x"

    assert (ask.__name__, ask.__doc__, ask()) == ("ask", "Asks.", "x")


def test_retry_if_overloaded_is_a_condition_of_tenacitys() -> None:
    server = Server(overloaded(), overloaded())
    assert tenacity.retry(retry=retry_if_overloaded, wait=NOW)(server.ask)("hi") == "hi"
    server = Server(ValidationError("x"))
    with pytest.raises(ValidationError):
        tenacity.retry(retry=retry_if_overloaded, wait=NOW)(server.ask)("hi")
    assert server.calls == 1


def test_hfstream_retry_exports_what_wrappers_need() -> None:
    assert hfstream.retry.__all__ == ["RetryPolicy", "retry_if_overloaded", "retry_on_overload", "wait_retry_after"]
    assert hfstream.retry.RetryPolicy is hfstream.RetryPolicy


# --- Nothing is held -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    """What goes away in here goes by its reference count, not by the collector."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_state_strips_the_error_of_its_traceback(attempts: int) -> None:
    error = overloaded()
    RetryState(RetryPolicy(attempts=attempts)).next_delay(error)
    assert error.__traceback__ is None


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.slow
def test_the_state_keeps_no_reference_to_the_error(attempts: int) -> None:
    state = RetryState(RetryPolicy(attempts=attempts))

    class Stream:
        def fail(self) -> None:
            try:
                raise overloaded()
            except OverloadedError:
                state.next_delay(overloaded())

    with no_collector():
        stream = Stream()
        stream.fail()
        gone = weakref.ref(stream)
        del stream
        assert gone() is None


@VARIANTS
@pytest.mark.slow
def test_a_decorated_function_leaves_no_cycle_behind_its_error(variant: str) -> None:
    def attempt(server: Server) -> None:
        decorator = retry_on_overload(1)
        with contextlib.suppress(OverloadedError):
            if variant == "async":
                decorator(server.ask_async)("hi").send(None)  # by hand: a task would hold the error too
            else:
                decorator(server.ask)("hi")

    with no_collector():
        server = Server(overloaded())
        gone = weakref.ref(server.failures[0])
        attempt(server)
        assert server.calls == 1
        assert gone() is None


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_generator_function_is_refused_when_it_is_decorated(asynchronous: bool) -> None:
    def plain() -> Any:
        yield 1

    async def later() -> Any:
        yield 1

    class Callable_:
        def __call__(self) -> Any:
            yield 1

    function: Any = later if asynchronous else plain
    for refused in (function, functools.partial(function), Callable_()):
        for decorate in (retry_on_overload(2), retry_on_overload):
            with pytest.raises(TypeError, match=r"generator function.*`return client.text_generation\(") as caught:
                decorate(refused)
            assert "await" in str(caught.value)


def test_the_decorator_needs_no_parentheses() -> None:
    calls: list[int] = []

    @retry_on_overload
    def ask() -> str:
        calls.append(1)
        if len(calls) < 2:
            raise OverloadedError("busy", retry_after=0.0)
        return "answer"

    assert ask() == "answer"
    assert len(calls) == 2
    assert ask.__name__ == "ask"
