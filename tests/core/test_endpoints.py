"""Which endpoint gets the next request, and which rests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hfstream.core.dispatch import Dispatch
from hfstream.core.endpoints import MAX_REST, MIN_REST, EndpointPool, EndpointState
from hfstream.core.exchange import Exchange
from hfstream.core.request_spec import PreparedRequest, RequestSpec
from hfstream.core.retry import RetryPolicy
from hfstream.core.text_generation import relocated, text_generation
from hfstream.core.timeouts import Timeouts
from hfstream.core.urls import text_generation_endpoint
from hfstream.errors import (
    GenerationError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    OverloadedError,
    ValidationError,
)
from hfstream.testing import token_events
from tests.helpers.exchanges import (
    AT_ONCE,
    LOST,
    ExchangeDriver,
    ManualClock,
    Response,
    error_response,
    lost,
    numbered,
    stream,
    tokenized,
)

A, B = "http://a", "http://b"
FAILURE = InferenceConnectionError("refused")


def pool_of(*urls: str) -> EndpointPool:
    return EndpointPool([EndpointState(url) for url in urls])


def chosen(pool: EndpointPool, now: float = 0.0, count: int = 1) -> list[str]:
    """The endpoints of so many new calls, whose requests do not end."""
    return [pool.choose(object(), now).url for _ in range(count)]


# --- The pool --------------------------------------------------------------------------------------------------------


def test_the_fewest_outstanding_requests_and_then_the_one_that_was_not_chosen_for_longest() -> None:
    pool = pool_of(A, B)
    assert chosen(pool, count=4) == [A, B, A, B]
    first, second = pool.endpoints
    call = next(iter(second.outstanding))
    pool.leave(second, call)
    pool.leave(second, call)
    assert chosen(pool, count=3) == [B, A, B]
    assert len(first.outstanding) == 3


def test_one_that_fails_rests_and_is_then_tried_by_one_call() -> None:
    pool = pool_of(A, B)
    pool.record_failure(pool.endpoints[0], FAILURE, 0.0, 1.0)
    assert chosen(pool, 1.0 + MIN_REST / 2, 3) == [B, B, B]
    assert chosen(pool, 1.0 + MIN_REST, 3) == [A, B, B]  # the others wait for what becomes of the trial
    pool.record_success(pool.endpoints[0])
    assert chosen(pool, 1.0 + MIN_REST, 3) == [A, A, A]


def test_it_rests_longer_each_time_until_it_answers() -> None:
    pool = pool_of(A, B)
    [first, _] = pool.endpoints
    now, rests = 0.0, list[float]()
    for _ in range(8):
        pool.record_failure(first, FAILURE, now, now)
        rests.append(first.rests_until - now)
        now = first.rests_until
    assert rests == [0.5, 1, 2, 4, 8, 16, MAX_REST, MAX_REST]
    pool.record_success(first)
    pool.record_failure(first, FAILURE, now, now)
    assert first.rests_until == now + MIN_REST


def test_of_requests_that_fail_together_one_counts() -> None:
    pool = pool_of(A)
    for now in (2.0, 2.1, 2.2):
        pool.record_failure(pool.endpoints[0], FAILURE, 1.0, now)
    assert (pool.endpoints[0].failures, pool.endpoints[0].rests_until) == (1, 2.0 + MIN_REST)


@pytest.mark.parametrize(
    ("error", "rest"),
    [
        (OverloadedError("busy"), MIN_REST),
        (OverloadedError("busy", retry_after=7), 7),
        (OverloadedError("busy", retry_after=3600), MAX_REST),
        (OverloadedError("no quota left", retryable=False), 0),
        (InferenceTimeoutError("late", phase="first_token"), MIN_REST),
        (InferenceTimeoutError("late", phase="total"), 0),
        (InferenceConnectionError("no certificate", retryable=False), 0),
        (ValidationError("bad"), 0),
        (GenerationError("the model failed"), 0),
    ],
)
def test_what_an_endpoint_rests_for(error: InferenceError, rest: float) -> None:
    pool = pool_of(A)
    pool.record_failure(pool.endpoints[0], error, 1.0, 1.0)
    assert max(0.0, pool.endpoints[0].rests_until - 1.0) == rest


def test_if_all_rest_the_first_to_end_is_asked() -> None:
    pool = pool_of(A, B)
    pool.record_failure(pool.endpoints[0], FAILURE, 0.0, 1.0)
    pool.record_failure(pool.endpoints[1], FAILURE, 0.0, 0.9)
    assert not pool.has_open(1.1)
    assert chosen(pool, 1.1) == [B]


def test_a_trial_that_is_given_up_lets_another_call_try() -> None:
    pool = pool_of(A)
    pool.record_failure(pool.endpoints[0], FAILURE, 0.0, 0.0)
    call = object()
    pool.choose(call, 9.0)
    assert not pool.has_open(9.0)
    pool.leave(pool.endpoints[0], call)
    assert pool.has_open(9.0)


# --- In an exchange --------------------------------------------------------------------------------------------------

TEXT = token_events("a", "b", "c", finish_reason="length")
Servers = dict[str, Callable[[PreparedRequest], Any]]


class Dispatched(ExchangeDriver):
    """Leaves the endpoint after each attempt, as the clients do."""

    def step(self) -> None:
        try:
            super().step()
        finally:
            assert self.exchange.dispatch is not None
            self.exchange.dispatch.leave()


def drive(servers: Servers, *, resume: bool = False, retry: RetryPolicy = AT_ONCE) -> Dispatched:
    """A call that finds the servers by their URLs."""

    def make(url: str) -> RequestSpec[Any, Any, Any]:
        endpoint = text_generation_endpoint(url, stream=True)
        parameters = {"max_new_tokens": 3}
        return text_generation(endpoint, "p", parameters, stream=True, details=False, headers={}, resume=resume)

    def relocate(url: str) -> RequestSpec[Any, Any, Any]:
        target = make(url)
        return relocated(spec, target.url, {"x-of": url}, relocate)

    spec = replace(make(A), relocate=relocate)
    pool, clock = pool_of(A, B), ManualClock()
    exchange: Exchange[Any, Any] = Exchange(
        spec, retry=retry, timeouts=Timeouts(), dispatch=Dispatch(None, pool), clock=clock
    )
    return Dispatched(exchange, lambda request: servers[request.url[: len(A)]](request), clock)


def scripted(*responses: Any) -> Callable[[PreparedRequest], Any]:
    remaining = list(responses)
    return lambda request: remaining.pop(0)


def sent(driver: ExchangeDriver) -> list[str]:
    return [request.url for request in driver.requests]


@pytest.mark.parametrize("failure", [LOST, error_response(429, "busy", retry_after="60"), error_response(503, "busy")])
def test_a_retry_goes_to_another_endpoint_at_once(failure: Any) -> None:
    """Also where the first server asks for a longer wait than the policy allows."""
    driver = drive({A: scripted(failure), B: scripted(stream(*TEXT))}, retry=RetryPolicy(attempts=2)).run()
    assert driver.result == "abc"
    assert sent(driver) == [f"{A}/generate_stream", f"{B}/generate_stream"]
    assert [(attempt.url, attempt.delay) for attempt in driver.exchange.attempts] == [(A, 0.0), (B, 0.0)]
    assert driver.requests[1].headers == {"x-of": B}
    assert driver.exchange.attempts[0].error is not None
    assert driver.exchange.attempts[0].error.url == A


def test_if_both_fail_the_policy_decides_how_long_to_wait() -> None:
    busy = error_response(429, "busy")
    driver = drive({A: scripted(busy, stream(*TEXT)), B: scripted(busy)}, retry=RetryPolicy(attempts=3)).run()
    assert [attempt.url for attempt in driver.exchange.attempts] == [A, B, A]
    assert [attempt.delay > 0 for attempt in driver.exchange.attempts] == [False, False, True]


def test_the_error_says_which_were_tried() -> None:
    busy = error_response(429, "busy")
    error = drive({A: scripted(busy), B: scripted(busy)}, retry=RetryPolicy(attempts=2)).error()
    assert error.url == B
    assert error.__notes__ == [f"tried 2 times ({A}, {B}); the client's `retry=` sets how often"]


def test_a_refused_request_is_not_sent_elsewhere() -> None:
    driver = drive({A: scripted(error_response(422, "bad", error_type="validation"))})
    assert isinstance(driver.error(), ValidationError)


def test_a_reconnect_stays_with_its_server() -> None:
    events = numbered(TEXT)
    servers = {A: scripted(lost(*events[:1]), LOST_ONCE, stream(*events[1:])), B: scripted()}
    driver = drive(servers, resume=True).run()
    assert driver.result == "abc"
    assert [attempt.url for attempt in driver.exchange.attempts] == [A, A, A]


LOST_ONCE = InferenceTimeoutError("no answer", phase="first_token")


def test_a_text_goes_on_at_another_server_where_that_is_sound() -> None:
    rest = token_events("b", "c", finish_reason="length")
    servers = {A: scripted(lost(TEXT[0])), B: scripted(tokenized(7), tokenized(7, 101), stream(*rest))}
    driver = drive(servers, resume=True).run()
    assert driver.items == ["a", "b", "c"]
    assert sent(driver) == [f"{A}/generate_stream", f"{B}/tokenize", f"{B}/tokenize", f"{B}/generate_stream"]
    assert driver.body(3) == {
        "inputs": "pa",
        "parameters": {"max_new_tokens": 2, "details": True, "return_full_text": False},
    }
    assert (driver.exchange.metrics.resumed, driver.exchange.metrics.continued) == (1, 1)
    assert all(request.headers["x-of"] == B for request in driver.requests[1:])


def test_a_server_that_numbers_its_events_and_is_gone_is_left_where_that_is_sound() -> None:
    rest = token_events("b", "c", finish_reason="length")
    servers = {
        A: scripted(lost(numbered(TEXT)[0]), LOST),
        B: scripted(tokenized(7), tokenized(7, 101), stream(*rest)),
    }
    driver = drive(servers, resume=True).run()
    assert driver.items == ["a", "b", "c"]
    assert [attempt.url for attempt in driver.exchange.attempts] == [A, A, B, B, B]


def test_probes_begin_again_at_another_server() -> None:
    """Both probes and the rest of the answer are one server's."""
    rest = token_events("b", "c", finish_reason="length")
    servers = {
        A: scripted(lost(TEXT[0]), tokenized(8), tokenized(8, 101), stream(*rest)),
        B: scripted(tokenized(7), LOST),
    }
    driver = drive(servers, resume=True, retry=RetryPolicy(attempts=9)).run()
    assert driver.items == ["a", "b", "c"]
    assert [attempt.url for attempt in driver.exchange.attempts] == [A, B, B, A, A, A]


def test_a_stream_that_cannot_go_on_elsewhere_waits_for_its_server() -> None:
    events = numbered(TEXT)
    servers = {A: scripted(lost(*events[:1]), LOST, stream(*events[1:])), B: scripted(Response())}
    driver = drive(servers, resume=True)
    driver.exchange.spec = replace(driver.exchange.spec, continuation=None)
    relocate = driver.exchange.spec.relocate
    assert relocate is not None
    driver.exchange.spec = replace(driver.exchange.spec, relocate=lambda url: replace(relocate(url), continuation=None))
    assert driver.run().result == "abc"
    assert [attempt.url for attempt in driver.exchange.attempts] == [A, A, A]
