"""Which failures an exchange retries, and what it raises."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

from hfstream.core.decoders import ERROR_BODY_TIMEOUT
from hfstream.core.retry import RetryPolicy
from hfstream.core.timeouts import Timeouts
from hfstream.errors import (
    AuthenticationError,
    GenerationError,
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    NotFoundError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.testing import token_event, token_events
from tests.helpers import exchanges
from tests.helpers.exchanges import (
    AT_ONCE,
    DONE,
    INVALID,
    KEEP_ALIVE,
    LOST,
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


@pytest.mark.parametrize(
    ("body", "noted"),
    [
        (b"", True),
        ({"detail": "Not Found"}, True),
        ({"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, True),
        ({"error": {"message": "The model `x` does not exist", "type": "NotFoundError"}}, False),
        ({"error": "model 'x' not found"}, False),
    ],
    ids=["nothing", "FastAPI", "llama.cpp", "vLLM's model", "Ollama's model"],
)
def test_a_missing_route_is_named(body: Any, noted: bool) -> None:
    error = drive(json_response(body, 404)).error()
    assert type(error) is NotFoundError
    assert any("went to /generate_stream" in note for note in getattr(error, "__notes__", ())) == noted


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


# --- A status before its body ----------------------------------------------------------------------------------------

UNREADABLE = UnexpectedResponseError("the body is encoded as 'br'")


@pytest.mark.parametrize("failure", [UNREADABLE, LOST, SILENCE], ids=["not readable", "lost", "stalled"])
@pytest.mark.parametrize("before", [[], [b"upstream "]], ids=["no body", "half a body"])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_status_decides_although_its_body_cannot_be_read(failure: Step, before: list[Step], streamed: bool) -> None:
    refused = Response([*before, failure], 401)
    driver = drive(refused, streamed=streamed)
    error = driver.error()
    assert type(error) is AuthenticationError
    assert error.status_code == 401
    assert "upstream" in str(error) or not before
    assert isinstance(error.__cause__, InferenceError)
    assert len(driver.requests) == 1
    busy = Response([*before, failure], 503)
    driver = drive(busy, busy, stream(*token_events("a"))).run()
    assert [type(attempt.error) for attempt in driver.exchange.attempts] == [
        OverloadedError,
        OverloadedError,
        type(None),
    ]


def test_the_body_of_an_error_is_not_waited_for_as_long_as_an_answer() -> None:
    driver = drive(Response([b"upstream ", SILENCE], 404))
    assert type(driver.error()) is NotFoundError
    assert driver.clock.now == ERROR_BODY_TIMEOUT
    short = drive(Response([SILENCE], 404), timeouts=Timeouts(first_token=1.0))
    assert type(short.error()) is NotFoundError
    assert short.clock.now == 1
    endless = drive(Response([b"x", 1.0] * 100, 404), timeouts=Timeouts(first_token=None))
    assert type(endless.error()) is NotFoundError
    assert endless.clock.now <= ERROR_BODY_TIMEOUT + 1


# --- Waits that the server asks for ----------------------------------------------------------------------------------


def refused_for(seconds: float) -> Response:
    return json_response({"error": "busy"}, 429, retry_after=f"{seconds:.0f}")


@pytest.mark.parametrize("seconds", [11, 3600, 864000])
def test_a_longer_wait_than_the_policy_allows_is_not_begun(seconds: float) -> None:
    driver = drive(refused_for(seconds), retry=RetryPolicy(attempts=3, max_wait=10))
    error = driver.error()
    assert type(error) is OverloadedError
    assert error.retry_after == seconds
    assert "max_wait (10 s)" in error.__notes__[0]
    assert len(driver.requests) == 1


def test_a_wait_as_long_as_the_policy_allows_is_waited() -> None:
    driver = drive(refused_for(10), stream(*token_events("a")), retry=RetryPolicy(attempts=2, max_wait=10)).run()
    assert 8 <= driver.exchange.attempts[1].delay <= 10


@pytest.mark.parametrize("policy", [RetryPolicy.of(None), AT_ONCE], ids=["no retry", "a wait of the user's"])
def test_what_is_not_about_max_wait_does_not_name_it(policy: RetryPolicy) -> None:
    driver = drive(refused_for(3600), refused_for(3600), refused_for(3600), retry=policy)
    assert not any("max_wait" in note for note in getattr(driver.error(), "__notes__", ()))
    assert len(driver.requests) == policy.attempts


def test_the_reset_of_a_rate_limit_is_no_reason_to_give_up() -> None:
    """It says when the limit is whole again; OpenAI's accept a request as soon as a part of it is."""
    busy = json_response({"error": "busy"}, 429, x_ratelimit_reset_tokens="6m0s", x_ratelimit_remaining_tokens="0")
    driver = drive(busy, stream(*token_events("a")), retry=RetryPolicy(attempts=2, max_wait=10)).run()
    assert 8 <= driver.exchange.attempts[1].delay <= 10
    assert driver.exchange.attempts[0].error is not None
    assert driver.exchange.attempts[0].error.retry_after == 360


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_not_active"])
def test_an_exhausted_quota_is_not_waited_for(code: str) -> None:
    driver = drive(json_response({"error": {"message": "pay", "type": code, "code": code}}, 429, retry_after="1"))
    error = driver.error()
    assert (type(error), error.retryable, error.retry_after) == (OverloadedError, False, 1)
    assert len(driver.requests) == 1
