"""The time limits of an exchange, on a clock that only the test moves."""

from __future__ import annotations

import math
from typing import Any

import pytest
import tenacity

from hfstream.core.retry import RetryPolicy
from hfstream.core.timeouts import Timeouts
from hfstream.errors import (
    InferenceTimeoutError,
    OverloadedError,
    ValidationError,
)
from hfstream.testing import chat_event, token_event, token_events
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
    stream,
)


def slowly(chunk: bytes, *, times: int, every: float = 5.0) -> list[Step]:
    """The same chunk several times, with a pause before each."""
    return [every, chunk] * times


def drive(*responses: Any, **options: Any) -> ExchangeDriver:
    return exchanges.drive(in_turn(*responses), **options)


FOREVER = Timeouts(None, None, None, None)

# --- Time ------------------------------------------------------------------------------------------------------------

ONCE = RetryPolicy.of(None)


def phase_of(driver: ExchangeDriver) -> str:
    error = driver.error()
    assert isinstance(error, InferenceTimeoutError)
    assert f"Timeouts.{error.phase}" in error.message
    return error.phase


def test_keep_alives_do_not_extend_the_first_token_limit() -> None:
    driver = drive(stream(*slowly(KEEP_ALIVE, times=100)), retry=ONCE, timeouts=Timeouts(first_token=20))
    assert phase_of(driver) == "first_token"
    assert driver.clock.now == 25


def test_keep_alives_do_not_extend_the_limit_between_tokens() -> None:
    driver = drive(stream(token_event(1, "a"), *slowly(KEEP_ALIVE, times=100)), timeouts=Timeouts(between_tokens=20))
    error = driver.error()
    assert isinstance(error, InferenceTimeoutError)
    assert (error.phase, error.partial_text, driver.clock.now) == ("between_tokens", "a", 25)
    assert "20 s" in error.message


@pytest.mark.parametrize("crumbs", [b"data: {", b"event: ping\n\n", b"data:\n\n", b": \n", b"id: 1\n\n"])
def test_only_content_moves_the_deadline(crumbs: bytes) -> None:
    driver = drive(stream(token_event(1, "a"), *slowly(crumbs, times=100)), timeouts=Timeouts(between_tokens=20))
    assert phase_of(driver) == "between_tokens"


HI, FINISHED = chat_event("Hi"), chat_event(finish_reason="stop")


def test_empty_chunks_of_an_answer_are_signs_of_life() -> None:
    """A server that holds back a tool call sends them for minutes. But the first content must come in its time."""
    limits = Timeouts(first_token=20, between_tokens=20)
    empty = slowly(chat_event(""), times=50)
    assert drive(stream(HI, *empty, FINISHED, DONE), chat=True, timeouts=limits).run().clock.now == 250
    assert phase_of(drive(stream(*empty), chat=True, retry=ONCE, timeouts=limits)) == "first_token"
    passed_over = slowly(b'data: {"type":"ping"}\n\n', times=50)
    assert phase_of(drive(stream(HI, *passed_over), chat=True, timeouts=limits)) == "between_tokens"


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "rest",
    [
        [SILENCE],
        slowly(KEEP_ALIVE, times=100, every=0.75),
        slowly(chat_event(""), times=100, every=0.75),
        slowly(b'data: {"type":"ping"}\n\n', times=100, every=0.75),
    ],
    ids=["silence", "comments", "empty chunks", "pings"],
)
def test_after_the_finish_there_is_little_to_wait_for(rest: list[Step], resume: bool) -> None:
    driver = drive(stream(HI, FINISHED, *rest), chat=True, resume=resume).run()
    assert driver.result.choices[0].message.content == "Hi"
    assert driver.clock.now == pytest.approx(2, abs=0.3)
    assert [attempt.error for attempt in driver.exchange.attempts if not resume] in ([None], [])


def total_tokens(driver: Any) -> int:
    return driver.exchange.accumulator.usage.total_tokens  # type: ignore[no-any-return]


def test_a_usage_may_come_after_the_finish() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
    driver = drive(stream(HI, FINISHED, 1.5, usage, SILENCE), chat=True).run()
    assert total_tokens(driver) == 3
    late = drive(stream(HI, FINISHED, 9.0, usage), chat=True, timeouts=Timeouts(after_finish=10)).run()
    assert total_tokens(late) == 3


def test_content_after_a_finish_has_the_usual_limit_again() -> None:
    """It was no finish: a server sends one with every chunk."""
    each = chat_event("Hi", finish_reason="stop")
    driver = drive(stream(each, each, SILENCE), chat=True, timeouts=Timeouts(between_tokens=30))
    assert phase_of(driver) == "between_tokens"
    assert driver.clock.now == 30


def test_every_token_restarts_the_limit() -> None:
    steps: list[Step] = [19.0, KEEP_ALIVE, token_event(1, "a"), 19.0, KEEP_ALIVE, *token_events("b")]
    timeouts = Timeouts(first_token=20, between_tokens=20)
    assert drive(stream(*steps), timeouts=timeouts).run().items == ["a", "b"]


def test_each_attempt_has_the_whole_first_limit() -> None:
    timeouts = Timeouts(first_token=20)
    driver = drive(stream(15.0, OVERLOADED), stream(15.0, KEEP_ALIVE, *token_events("a")), timeouts=timeouts)
    assert driver.run().items == ["a"]
    driver = drive(SILENCE, SILENCE, stream(*token_events("a")), timeouts=timeouts)
    assert driver.run().clock.now == 40


@pytest.mark.parametrize(
    ("before", "expected"),
    [([], "first_token"), ([token_event(1, "a")], "between_tokens"), ([KEEP_ALIVE], "first_token")],
)
def test_a_silent_socket_runs_into_the_present_limit(before: list[Step], expected: str) -> None:
    timeouts = Timeouts(first_token=20, between_tokens=5)
    driver = drive(stream(*before, SILENCE), retry=ONCE, timeouts=timeouts)
    assert phase_of(driver) == expected
    assert driver.clock.now == (5 if expected == "between_tokens" else 20)


@pytest.mark.parametrize("before", [[], [KEEP_ALIVE], [token_event(1, "a")]])
def test_the_total_limit_ends_every_wait_and_is_not_retried(before: list[Step]) -> None:
    driver = drive(stream(*before, SILENCE), timeouts=Timeouts(total=3))
    assert phase_of(driver) == "total"
    assert driver.clock.now == 3
    assert len(driver.exchange.attempts) == 1


def test_the_total_limit_spans_attempts_and_waits() -> None:
    retry = RetryPolicy(attempts=9, wait=tenacity.wait_fixed(4))
    driver = drive(
        stream(OVERLOADED), stream(3.0, OVERLOADED), stream(OVERLOADED), retry=retry, timeouts=Timeouts(total=10)
    )
    error = driver.error()
    assert type(error) is OverloadedError  # another attempt would begin after the total: the error is raised instead
    assert (len(driver.exchange.attempts), driver.clock.now) == (2, 7)
    assert driver.exchange.deadline.at == 10


def test_keep_alives_do_not_extend_the_total_limit() -> None:
    assert (
        phase_of(
            drive(stream(token_event(1, "a"), *slowly(KEEP_ALIVE, times=30, every=1.0)), timeouts=Timeouts(total=10))
        )
        == "total"
    )


def test_the_total_limit_ends_a_stream_that_never_pauses() -> None:
    driver = drive(stream(*slowly(token_event(1, "a"), times=30, every=1.0)), timeouts=Timeouts(total=10))
    assert phase_of(driver) == "total"
    assert driver.clock.now <= 12


def test_a_complete_answer_is_never_late() -> None:
    timeouts = Timeouts(first_token=1, between_tokens=1, total=2)
    assert drive(stream(9.0, *token_events("a")), timeouts=timeouts).run().items == ["a"]
    assert drive(stream(token_event(1, "a"), 9.0, *token_events("b")), timeouts=timeouts).run().items == ["a", "b"]


def test_a_servers_error_wins_over_a_limit() -> None:
    driver = drive(stream(9.0, INVALID), timeouts=Timeouts(first_token=1))
    assert type(driver.error()) is ValidationError


def test_without_streaming_the_first_limit_lasts_to_the_end() -> None:
    timeouts = Timeouts(first_token=20)
    driver = drive(Response([b'{"generated', 30.0, b'_text":']), streamed=False, retry=ONCE, timeouts=timeouts)
    assert phase_of(driver) == "first_token"
    late = drive(Response([b'{"generated', 15.0, b'_text": "a"}']), streamed=False, timeouts=timeouts)
    assert late.run().result == "a"


def test_a_connect_timeout_keeps_its_phase() -> None:
    error = drive(InferenceTimeoutError("no connection in time", phase="connect"), retry=ONCE).error()
    assert isinstance(error, InferenceTimeoutError)
    assert (error.phase, error.message) == ("connect", "no connection in time")


def test_the_total_limit_can_end_the_wait_for_a_connection() -> None:
    driver = drive(timeouts=Timeouts(connect=10, total=5))
    assert driver.exchange.next_request().timeout[0] == 5
    driver.clock.now = 5
    with pytest.raises(InferenceTimeoutError) as caught:
        driver.exchange.handle_error(InferenceTimeoutError("no connection in time", phase="connect"))
    assert caught.value.phase == "total"


@pytest.mark.parametrize("before", [[], [token_event(1, "a")]])
def test_a_timeout_of_somebody_else_is_a_timeout_error_too(before: list[bytes]) -> None:
    theirs = InferenceTimeoutError("nothing in time", phase="first_token")  # such as a proxy's, or a transport's own
    driver = drive(stream(*before, theirs), retry=ONCE, timeouts=FOREVER)
    assert isinstance(driver.error(), InferenceTimeoutError)


def test_a_timer_that_fires_early_stands_for_the_nearest_limit() -> None:
    driver = drive(timeouts=Timeouts(first_token=120, total=5))
    driver.exchange.next_request()
    driver.clock.now = 4.9999  # asyncio's timers may be early by a tick of its clock: 16 ms on Windows
    with pytest.raises(InferenceTimeoutError) as caught:
        driver.exchange.handle_error(InferenceTimeoutError("nothing in time", phase="first_token"))
    assert caught.value.phase == "total"


def test_the_cause_of_a_timeout_is_kept() -> None:
    theirs = InferenceTimeoutError("x", phase="first_token")
    theirs.__cause__ = cause = OSError("x")
    driver = drive(theirs, retry=ONCE)
    assert driver.error().__cause__ is cause


@pytest.mark.parametrize(
    ("timeouts", "limits"),
    [
        (Timeouts(), (10, 120, 120, 10)),
        (Timeouts(connect=1, first_token=2, between_tokens=3), (1, 3, 2, 1)),
        (Timeouts(connect=1, first_token=None, between_tokens=3), (1, None, None, 1)),
        (Timeouts(connect=None, first_token=2, between_tokens=None), (None, None, 2, None)),
        (FOREVER, (None, None, None, None)),
        (Timeouts(total=5), (5, 5, 5, 5)),
        (Timeouts(None, None, None, 5), (5, 5, 5, 5)),
        (Timeouts(connect=1, total=5), (1, 5, 5, 1)),
    ],
)
def test_limits_for_a_transport_without_deadlines(timeouts: Timeouts, limits: tuple[Any, ...]) -> None:
    assert drive(timeouts=timeouts).exchange.next_request().timeout == limits


def test_limits_shrink_with_the_remaining_total_but_stay_positive() -> None:
    for now, lowest, highest in ((45, 5, 5), (99, 0.0001, 0.1)):
        driver = drive(timeouts=Timeouts(total=50))
        driver.clock.now = now
        assert all(limit is not None and lowest <= limit <= highest for limit in driver.exchange.next_request().timeout)


def test_infinity_is_no_limit() -> None:
    driver = drive(timeouts=Timeouts(math.inf, math.inf, math.inf, math.inf))
    assert driver.exchange.next_request().timeout == (None, None, None, None)


def test_the_deadline_moves_with_the_content() -> None:
    driver = drive(timeouts=Timeouts(first_token=20, between_tokens=5, total=23))
    exchange, clock = driver.exchange, driver.clock
    exchange.next_request()
    assert exchange.deadline.at == 20
    exchange.receive_headers(200, {})
    clock.now = 10
    exchange.feed(KEEP_ALIVE)
    assert exchange.deadline.at == 20
    exchange.feed(token_event(1, "a"))
    assert exchange.deadline.at == 15
    clock.now = 21
    exchange.feed(token_event(2, "a"))
    assert exchange.deadline.at == 23
