"""How many requests run at once, and which is next."""

from __future__ import annotations

import heapq
import itertools
import statistics

import pytest

from hfstream.core.concurrency import INITIAL_LIMIT, MIN_ROUND, AdaptiveLimit, FixedLimit, RequestLimiter, RequestSlot
from hfstream.core.dispatch import Dispatch
from hfstream.errors import GenerationError, InferenceTimeoutError, OverloadedError

# --- Slots -----------------------------------------------------------------------------------------------------------


def entered(limiter: RequestLimiter, woken: list[int], count: int) -> list[RequestSlot]:
    slots = [limiter.slot() for _ in range(count)]
    for slot in slots:
        slot.enter(lambda number=slot.order: woken.append(number))  # type: ignore[misc]
    return slots


def test_slots_are_granted_up_to_the_limit_and_then_in_order() -> None:
    limiter, woken = RequestLimiter(FixedLimit(2)), list[int]()
    slots = entered(limiter, woken, 5)
    assert [slot.granted for slot in slots] == [True, True, False, False, False]
    slots[1].leave()
    slots[0].leave()
    assert [slot.granted for slot in slots] == [False, False, True, True, False]
    assert (woken, limiter.running) == ([0, 1, 2, 3], 2)


def test_a_call_that_is_retried_keeps_its_place() -> None:
    limiter = RequestLimiter(FixedLimit(1))
    first, second, third = entered(limiter, [], 3)
    first.leave()
    assert second.granted
    first.enter(lambda: None)
    second.leave()
    assert (first.granted, third.granted) == (True, False)


def test_one_that_waits_can_leave_and_leaving_again_has_no_effect() -> None:
    limiter = RequestLimiter(FixedLimit(1))
    first, second, third = entered(limiter, [], 3)
    second.leave()
    second.leave()
    first.leave()
    first.leave()
    assert (third.granted, limiter.running) == (True, 1)
    third.leave()
    assert limiter.running == 0


def test_a_higher_limit_grants_those_that_wait() -> None:
    limiter = RequestLimiter(AdaptiveLimit(1))
    first, second, third = entered(limiter, [], 3)
    first.record_success(0.0, None)
    assert (second.granted, third.granted, limiter.limit) == (True, False, 2)


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (OverloadedError("busy"), 6),
        (OverloadedError("no quota left", retryable=False), 8),
        (InferenceTimeoutError("no answer", phase="first_token"), 6),
        (InferenceTimeoutError("no further token", phase="between_tokens"), 8),
        (GenerationError("the model failed"), 8),
    ],
)
def test_only_overload_lowers_the_limit(error: OverloadedError, limit: int) -> None:
    limiter = RequestLimiter(AdaptiveLimit(8))
    Dispatch(limiter.slot(), None).record_failure(error, 1.0)
    assert limiter.limit == limit


# --- The adaptive limit ----------------------------------------------------------------------------------------------


def test_it_doubles_in_each_round_until_the_first_decrease_and_then_grows_by_one() -> None:
    limit = AdaptiveLimit(4)
    for _ in range(4):
        limit.record_success(0.0, None, at_limit=True)
    assert limit.value == 8
    limit.record_overload(0.0, 1.0)
    assert limit.value == 6
    for _ in range(6):
        limit.record_success(1.0, None, at_limit=True)
    assert 6.9 < limit.value <= 7


def test_it_does_not_grow_while_fewer_run() -> None:
    limit = AdaptiveLimit(4)
    limit.record_success(0.0, 0.1, at_limit=False)
    assert limit.value == 4


def test_refusals_of_requests_from_before_the_last_decrease_count_once() -> None:
    limit = AdaptiveLimit(16)
    for now in range(1, 9):
        limit.record_overload(0.5, float(now))
    limit.record_success(0.5, 0.9, at_limit=True)
    assert limit.value == 12


def test_it_stays_within_its_bounds() -> None:
    limit = AdaptiveLimit(maximum=10)
    for _ in range(20):
        limit.record_success(0.0, None, at_limit=True)
    assert limit.value == 10
    for now in range(20):
        limit.record_overload(now, now + 0.5)
    assert limit.value == 1


def rounds(limit: AdaptiveLimit, seconds: float, count: int, *, now: float = 0.0) -> None:
    for _ in range(count):
        for _ in range(max(MIN_ROUND, int(limit.value))):
            limit.record_success(now, now + seconds, at_limit=False)


def test_a_rising_time_to_first_token_lowers_it() -> None:
    limit = AdaptiveLimit(8)
    rounds(limit, 0.1, 2)
    rounds(limit, 0.2, 3)
    assert limit.value == 8  # within the tolerance
    rounds(limit, 0.5, 1)
    assert limit.value == 6


def test_single_slow_requests_do_not() -> None:
    limit = AdaptiveLimit(8)
    rounds(limit, 0.1, 1)
    for number in range(80):
        limit.record_success(0.0, 5.0 if number % 4 == 0 else 0.1, at_limit=False)
    assert limit.value == 8


def test_a_server_that_got_slower_for_good_is_measured_by_its_new_times_after_a_while() -> None:
    limit = AdaptiveLimit(32)
    rounds(limit, 0.1, 1)
    for now in range(1, 100):
        rounds(limit, 1.0, 1, now=10.0 * now)
    lowest = limit.value
    limit.record_success(2000.0, 2001.0, at_limit=True)
    assert limit.value > lowest


# --- With a server that is simulated ---------------------------------------------------------------------------------


def simulate(capacity: int, *, refuses: bool, seconds: float = 300.0, service: float = 1.0) -> tuple[list[int], float]:
    """The limits over time, and the share of requests that were refused. First tokens take 50 ms, answers `service`.

    A server beyond its capacity refuses, or lets requests wait in a queue.
    """
    limiter = RequestLimiter(AdaptiveLimit())
    events: list[tuple[float, int, str, RequestSlot]] = []
    numbers, queue, running, sent, refused, now = itertools.count(), list[RequestSlot](), 0, 0, 0, 0.0
    limits: list[int] = []
    sent_at: dict[RequestSlot, float] = {}

    def later(delay: float, what: str, slot: RequestSlot) -> None:
        heapq.heappush(events, (now + delay, next(numbers), what, slot))

    def send() -> None:
        slot = limiter.slot()
        slot.enter(lambda: None)
        if slot.granted:
            sent_at[slot] = now
            later(0.01, "arrive", slot)
        else:
            slot.leave()

    while now < seconds:
        while limiter.running < limiter.limit:
            send()
        now, _, what, slot = heapq.heappop(events)
        if what == "arrive":
            sent += 1
            if running < capacity:
                running += 1
                later(0.04, "first token", slot)
            elif refuses:
                refused += 1
                slot.record_overload(sent_at[slot], now)
                slot.leave()
            else:
                queue.append(slot)
        elif what == "first token":
            slot.record_success(sent_at[slot], now)
            later(service, "end", slot)
        else:
            slot.leave()
            running -= 1
            if queue:
                running += 1
                later(0.04, "first token", queue.pop(0))
        if now > seconds / 3:
            limits.append(limiter.limit)
    return limits, refused / sent


@pytest.mark.parametrize("capacity", [1, 8, 60])
def test_it_finds_the_capacity_of_a_server_that_refuses(capacity: int) -> None:
    limits, refused = simulate(capacity, refuses=True)
    assert 0.7 * capacity <= statistics.mean(limits) <= capacity + 1
    assert refused < (0.6 if capacity == 1 else 0.05)


@pytest.mark.parametrize("capacity", [8, 60])
def test_it_finds_the_capacity_of_a_server_that_queues(capacity: int) -> None:
    limits, _ = simulate(capacity, refuses=False)
    assert 0.7 * capacity <= statistics.mean(limits) <= 1.6 * capacity


def test_it_begins_with_a_few() -> None:
    assert AdaptiveLimit().value == INITIAL_LIMIT
