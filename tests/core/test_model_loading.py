"""A model that is being loaded is waited for, and the waits are no attempts."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

from hfstream.core.model_loading import DEFAULT_ESTIMATE, MAX_ESTIMATE
from hfstream.core.retry import RetryPolicy
from hfstream.errors import OverloadedError
from hfstream.testing import token_events
from tests.helpers.exchanges import ExchangeDriver, Response, drive, json_response, stream

POLICY = RetryPolicy(attempts=2, max_wait=10)
LLAMA_CPP = json_response({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503)


def loading(seconds: float | None) -> Response:
    """As Hugging Face's endpoints say it."""
    estimate = {} if seconds is None else {"estimated_time": seconds}
    return json_response({"error": "Model org/name is currently loading", **estimate}, 503)


def drive_loading(response: Response, loaded_at: float, **options: Any) -> ExchangeDriver:
    """A call to a server that gives this response for `loaded_at` seconds."""
    answer = stream(*token_events("a", "b"))
    driver: ExchangeDriver = drive(
        lambda _: answer if driver.clock.now >= loaded_at else response, retry=options.pop("retry", POLICY), **options
    )
    return driver


@pytest.mark.parametrize(
    ("response", "estimate"),
    [(loading(0.2), 0.2), (loading(20), 20), (loading(305.5), 305.5), (LLAMA_CPP, DEFAULT_ESTIMATE)],
    ids=["a moment", "seconds", "minutes", "no estimate"],
)
def test_a_loading_model_is_waited_for(response: Response, estimate: float) -> None:
    driver = drive_loading(response, loaded_at=0.9 * estimate).run()
    assert driver.items == ["a", "b"]
    assert driver.clock.now <= max(1.2 * estimate, 0.9 * estimate + 10)
    assert all(0 < attempt.delay <= 10 for attempt in driver.exchange.attempts[1:])
    assert len(driver.requests) <= 3 + estimate / 8


def test_a_retry_after_says_when_to_ask_again_and_not_how_long_it_takes() -> None:
    answer = json_response({"error": "Model is loading", "error_type": "loading"}, 503, retry_after="1")
    driver = drive_loading(answer, loaded_at=0.9 * DEFAULT_ESTIMATE).run()
    assert driver.items == ["a", "b"]
    assert all(1 <= attempt.delay <= 1.25 for attempt in driver.exchange.attempts[1:])


def test_a_retry_after_that_is_longer_than_a_minute_is_waited_for() -> None:
    policy = RetryPolicy(attempts=2, max_wait=200)
    answer = json_response({"error": "Model is loading"}, 503, retry_after="100")
    driver = drive_loading(answer, loaded_at=75, retry=policy).run()
    assert driver.items == ["a", "b"]
    assert len(driver.requests) == 2


def test_after_the_estimated_time_attempts_count() -> None:
    driver = drive_loading(loading(60), loaded_at=1e9)
    error = driver.error()
    assert type(error) is OverloadedError
    assert error.retry_after == 60
    assert 60 <= driver.clock.now <= 80
    assert len(driver.requests) <= 15


def test_an_estimate_that_decreases_is_not_halved() -> None:
    driver: ExchangeDriver = drive(
        lambda _: loading(60 - driver.clock.now) if driver.clock.now < 55 else stream(*token_events("a")), retry=POLICY
    )
    assert driver.run().items == ["a"]


@pytest.mark.parametrize("seconds", [MAX_ESTIMATE + 1, 1e9])
def test_the_wait_has_a_limit(seconds: float) -> None:
    driver = drive_loading(loading(seconds), loaded_at=1e12)
    assert driver.error().retry_after == seconds
    assert len(driver.requests) == 2


def test_an_estimate_that_grows_ends_too() -> None:
    driver: ExchangeDriver = drive(lambda _: loading(driver.clock.now + 30), retry=POLICY)
    driver.error()
    assert driver.clock.now <= MAX_ESTIMATE + 50


@pytest.mark.parametrize(
    ("retry", "requests"),
    [
        (RetryPolicy.of(None), 1),
        (RetryPolicy(attempts=3, wait=tenacity.wait_none()), 3),
        (RetryPolicy(stop=tenacity.stop_after_attempt(4)), 4),
        (RetryPolicy(attempts=3, max_wait=0), 3),
    ],
    ids=["no retry", "a wait of the user's", "a stop of the user's", "no wait"],
)
def test_what_the_user_has_decided_holds(retry: RetryPolicy, requests: int) -> None:
    driver = drive_loading(loading(30), loaded_at=1e9, retry=retry)
    assert isinstance(driver.error(), OverloadedError)
    assert len(driver.requests) == requests


def test_each_wait_calls_before_sleep() -> None:
    seen: list[float] = []
    policy = RetryPolicy(attempts=2, before_sleep=lambda state: seen.append(state.upcoming_sleep))
    driver = drive_loading(loading(25), loaded_at=20, retry=policy).run()
    assert seen == [attempt.delay for attempt in driver.exchange.attempts[1:]]
