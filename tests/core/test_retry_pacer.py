"""How the retries of one client's calls are spaced out."""

from __future__ import annotations

import itertools

import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.core.retry import BURST, MAX_INTERVAL, RetryPacer, RetryPolicy
from hfstream.core.timeouts import Timeouts
from hfstream.testing import token_events
from tests.helpers.exchanges import (
    JSON,
    Response,
    error_response,
    in_turn,
    stream,
)
from tests.helpers.resuming import drive

TEXT = token_events("Grüß ", "👩‍🚀", " ", "\n", "e", "nd", finish_reason="eos_token")
BUSY = error_response(429, "Model is overloaded")


# --- The pacer ------------------------------------------------------------------------------------------------------


def test_the_first_few_retries_are_not_spaced_out() -> None:
    pacer = RetryPacer()
    assert [pacer.schedule(0.5, 100.0, overloaded=False) for _ in range(BURST)] == [0.5] * BURST
    assert [pacer.schedule(0.5, 100.0, overloaded=False) for _ in range(5)][-1] > 0.5


def test_many_retries_are_spaced_out_and_none_is_dropped() -> None:
    pacer = RetryPacer()
    delays = [pacer.schedule(0.5, 100.0, overloaded=True) for _ in range(1000)]
    assert delays == sorted(delays)
    gaps = [later - earlier for earlier, later in itertools.pairwise(delays[100:])]
    assert all(0 < gap <= MAX_INTERVAL + 1e-9 for gap in gaps)
    assert delays[-1] <= 0.5 + 1000 * MAX_INTERVAL


def test_a_long_wait_delays_no_other_retry() -> None:
    pacer = RetryPacer()
    assert pacer.schedule(60.0, 100.0, overloaded=True) == 60.0
    assert pacer.schedule(0.1, 100.0, overloaded=True) == 0.1
    for _ in range(50):
        assert pacer.schedule(60.0, 101.0, overloaded=False) < 62.0
    assert pacer.schedule(0.1, 102.0, overloaded=False) == 0.1


def test_time_and_successes_shorten_the_intervals() -> None:
    pacer = RetryPacer()
    for _ in range(1000):
        pacer.schedule(0.0, 100.0, overloaded=True)
    assert pacer.schedule(0.0, 100.0, overloaded=True) > 1
    assert pacer.schedule(0.0, 100.0 + 1001 * MAX_INTERVAL, overloaded=False) == 0.0
    for _ in range(10):
        pacer.record_success()
    after = [pacer.schedule(0.0, 200.0, overloaded=False) for _ in range(100)]
    assert after[-1] < 1


@given(
    st.lists(
        st.tuples(st.floats(0, 60), st.floats(0, 5), st.booleans(), st.booleans()),
        max_size=50,
    )
)
@settings(deadline=None, max_examples=100)
def test_the_pacer_only_adds_to_delays(bookings: list[tuple[float, float, bool, bool]]) -> None:
    pacer, now = RetryPacer(), 1000.0
    for count, (delay, passed, overloaded, answered) in enumerate(bookings, 1):
        now += passed
        booked = pacer.schedule(delay, now, overloaded=overloaded)
        assert delay <= booked <= delay + count * MAX_INTERVAL
        if answered:
            pacer.record_success()


def test_the_pacer_never_prevents_a_retry_within_the_total_limit() -> None:
    pacer = RetryPacer()
    for _ in range(5000):
        pacer.schedule(0.0, 100.0, overloaded=True)
    driver = drive(
        in_turn(BUSY, stream(b"".join(TEXT))),
        retry=RetryPolicy(attempts=2, wait=tenacity.wait_fixed(1)),
        timeouts=Timeouts(total=5),
        pacer=pacer,
    ).run()
    assert driver.result == "Grüß 👩‍🚀 \nend"
    assert driver.exchange.attempts[1].delay == 1.0


def test_a_success_without_streaming_counts_too() -> None:
    pacer = RetryPacer()
    for _ in range(1000):
        pacer.schedule(0.0, 100.0, overloaded=True)
    whole = Response([b'{"generated_text":"ab"}'], 200, JSON)
    for _ in range(10):
        drive(in_turn(BUSY, whole), streamed=False, pacer=pacer).run()
    later = [pacer.schedule(0.0, 1000.0, overloaded=False) for _ in range(100)]
    assert later[-1] < 1
