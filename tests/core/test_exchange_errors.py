"""Which failures an exchange retries, and what it raises."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

from hfstream.core.retry import RetryPolicy
from hfstream.errors import (
    GenerationError,
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceTimeoutError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.testing import token_event, token_events
from tests.helpers import exchanges
from tests.helpers.exchanges import (
    DONE,
    INVALID,
    KEEP_ALIVE,
    OVERLOADED,
    SILENCE,
    ExchangeDriver,
    Response,
    Step,
    in_turn,
    json_response,
    stream,
)


def drive(*responses: Any, **options: Any) -> ExchangeDriver:
    return exchanges.drive(in_turn(*responses), **options)


# --- Errors that the server tells ------------------------------------------------------------------------------------


def test_an_overload_in_the_first_event_is_retried() -> None:
    driver = drive(stream(OVERLOADED), stream(KEEP_ALIVE, OVERLOADED, DONE), stream(*token_events("a", "b"))).run()
    assert driver.items == ["a", "b"]
    first, second, third = driver.exchange.attempts
    assert isinstance(first.error, OverloadedError)
    assert isinstance(second.error, OverloadedError)
    assert first.error.status_code == 429
    assert (first.status_code, third.error) == (200, None)


@pytest.mark.parametrize("refusal", [stream(INVALID), json_response({"error": "bad", "error_type": "validation"}, 422)])
def test_a_validation_error_is_not_retried(refusal: Response) -> None:
    driver = drive(refusal)
    assert type(driver.error()) is ValidationError
    assert len(driver.exchange.attempts) == 1


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("last", [OVERLOADED, INVALID])
def test_items_before_an_error_are_returned_first(together: bool, last: bytes) -> None:
    pieces = [*token_events("a", "b", "c")[:2], last]
    driver = drive(stream(*([b"".join(pieces)] if together else pieces)))
    error = driver.error()
    assert type(error) is (OverloadedError if last is OVERLOADED else ValidationError)
    assert error.partial_text == "ab"
    assert driver.items == ["a", "b"]
    assert len(driver.exchange.attempts) == 1


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        *((json_response({"error": "x"}, status), 3) for status in (408, 429, 502, 503, 504, 529)),
        *((json_response({"error": "x"}, status), 1) for status in (400, 401, 403, 404, 410, 422, 424, 500, 501)),
        (InferenceConnectionError("no"), 3),
        (InferenceTimeoutError("no", phase="connect"), 3),
        (SILENCE, 3),
        (stream(SILENCE), 3),
        (stream(KEEP_ALIVE, InferenceConnectionError("reset")), 3),
        (GenerationError("x"), 1),
        (UnexpectedResponseError("x"), 1),
        (ServerError("x"), 1),
    ],
)  # fmt: skip
def test_transient_failures_are_retried(failure: Any, tries: int) -> None:
    driver = drive(*[failure] * 3)
    error = driver.error()
    assert [attempt.number for attempt in driver.exchange.attempts] == list(range(1, tries + 1))
    assert all(type(attempt.error) is type(error) for attempt in driver.exchange.attempts)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_counted(attempts: int) -> None:
    driver = drive(*[stream(OVERLOADED)] * 9, retry=RetryPolicy(attempts=attempts, wait=tenacity.wait_none()))
    error = driver.error()
    assert type(error) is OverloadedError
    assert len(driver.exchange.attempts) == attempts
    assert str(error) == "Model is overloaded", "the server's words, and ours beside them"
    notes = getattr(error, "__notes__", [])
    assert [f"tried {attempts} times" in note for note in notes] == [True] * (attempts > 1)


def test_nothing_is_retried_after_content() -> None:
    for failure in (InferenceConnectionError("reset"), SILENCE, OVERLOADED):
        driver = drive(stream(token_event(1, "<s>", special=True), failure))
        driver.error()
        assert len(driver.exchange.attempts) == 1


def test_delays_are_those_of_the_policy_and_are_recorded() -> None:
    retry = RetryPolicy(attempts=3, wait=tenacity.wait_incrementing(1, 2))
    driver = drive(stream(OVERLOADED), stream(OVERLOADED), stream(*token_events("a")), retry=retry).run()
    assert [attempt.delay for attempt in driver.exchange.attempts] == [0, 1, 3]
    assert driver.clock.now == 4


def test_Retry_After_is_honoured() -> None:
    refusal = json_response({"error": "Model is overloaded"}, 429, retry_after="4")
    driver = drive(refusal, stream(*token_events("a")), retry=RetryPolicy()).run()
    assert 4 <= driver.exchange.attempts[1].delay <= 5


def test_the_request_id_of_a_failure_is_kept() -> None:
    named = {"content-type": "text/event-stream", "x-request-id": "r-1"}
    ends: list[Step] = [INVALID, InferenceConnectionError("reset"), SILENCE]
    for end in ends:
        assert drive(Response([token_event(1, "a"), end], headers=named)).error().request_id == "r-1"
    assert drive(Response([INVALID], headers=named)).error().request_id == "r-1"


def test_a_failure_has_no_request_id_of_an_earlier_attempt() -> None:
    driver = drive(
        json_response({"error": "x"}, 429, x_request_id="r-1"),
        InferenceConnectionError("refused"),
        InferenceConnectionError("refused"),
    )
    assert driver.error().request_id is None
    assert driver.exchange.headers == {}


@pytest.mark.parametrize("error", [ValueError("foreign"), RuntimeError("x"), OSError("x")])
def test_an_exception_that_is_not_ours_is_raised_as_it_is(error: Exception) -> None:
    driver = drive(error)
    with pytest.raises(type(error)) as caught:
        try:
            driver.run()
        except Exception as raised:
            driver.exchange.handle_error(raised)
    assert caught.value is error
    assert driver.exchange.closed
    assert not driver.exchange.complete


def test_a_failure_before_the_first_attempt_is_raised_as_it_is() -> None:
    with pytest.raises(ValidationError):
        drive().exchange.handle_error(ValidationError("x"))


def test_incomplete_error_has_the_partial_text() -> None:
    driver = drive(stream(*token_events("a", "b", "c")[:2]))
    driver.error()
    error = driver.exchange.incomplete_error()
    assert type(error) is IncompleteStreamError
    assert (error.partial_text, error.retryable) == ("ab", False)
