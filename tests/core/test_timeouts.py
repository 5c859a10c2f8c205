"""Time limits, the deadline, and what is left of them for a transport."""

from __future__ import annotations

import math
import socket
import sys
from datetime import timedelta
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from hfstream.core.timeouts import Deadline, Timeouts, transport_timeout
from tests.helpers.exchanges import (
    ManualClock,
)

FOREVER = Timeouts(None, None, None, None)


class _Float(float):
    """As numpy's."""


# --- Timeouts --------------------------------------------------------------------------------------------------------


def test_timeouts_have_short_forms() -> None:
    timeouts = Timeouts(connect=1)
    assert Timeouts.of(timeouts) is timeouts
    assert Timeouts.of(5) == Timeouts(5, 5, 5, None)
    assert Timeouts.of(0.5) == Timeouts(0.5, 0.5, 0.5, None)
    assert Timeouts.of(None) == FOREVER
    assert Timeouts.of(Fraction(1, 2)) == Timeouts(0.5, 0.5, 0.5, None)  # type: ignore[arg-type]
    assert Timeouts.of((5, 60)) == Timeouts(5, 60, 60, None)
    assert Timeouts.of((None, 60)) == Timeouts(None, 60, 60, None)
    assert Timeouts.of(httpx.Timeout(60, connect=5)) == Timeouts(5, 60, 60, None)
    assert Timeouts.of(httpx.Timeout(None)) == FOREVER
    assert Timeouts.of(SimpleNamespace(connect=5, read=60)) == Timeouts(5, 60, 60, None)  # as httpx2's
    limits = "connect=10.0, first_token=120.0, between_tokens=60.0, total=None, after_finish=2.0"
    assert repr(Timeouts()) == f"Timeouts({limits})"


@pytest.mark.parametrize("seconds", [1e7, 1e10, sys.maxsize, 10**400, Fraction(10**400), math.inf])
def test_a_limit_that_no_socket_can_keep_is_none(seconds: Any) -> None:
    assert Timeouts.of(seconds) == FOREVER
    assert Timeouts(total=seconds, after_finish=seconds) == Timeouts(total=None, after_finish=None)


@pytest.mark.parametrize("seconds", [2, 2.5, 2_147_483, Fraction(5, 2), _Float(2.5)])
def test_a_limit_is_a_number_that_a_socket_takes(seconds: Any) -> None:
    limit = Timeouts.of(seconds).connect
    assert type(limit) in (int, float)
    assert limit == seconds
    with socket.socket() as one:
        one.settimeout(limit)


@pytest.mark.parametrize("name", ["connect", "first_token", "between_tokens", "total", "after_finish"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), -math.inf, True, False])
def test_an_impossible_limit_is_refused_by_name(name: str, seconds: Any) -> None:
    with pytest.raises(ValueError, match=f"Timeouts.{name}"):
        Timeouts(**{name: seconds})


@pytest.mark.parametrize("seconds", ["5", b"5", ("5", 60), (1, 2, 3), [1, 2], {}, 1j, timedelta(seconds=5), object()])
def test_a_limit_that_is_not_a_number_is_refused(seconds: Any) -> None:
    with pytest.raises(TypeError, match="must be a number of seconds"):
        Timeouts.of(seconds)


def test_remaining_is_how_long_a_socket_may_wait() -> None:
    clock = ManualClock()
    deadline = Deadline(clock)
    assert deadline.remaining() is None
    deadline.at, clock.now = 10.0, 4.0
    assert deadline.remaining() == 6.0
    clock.now = 99.0
    assert deadline.remaining() == 0.001  # what has arrived can still be read


def test_a_wait_never_ends_after_the_total() -> None:
    clock = ManualClock()
    clock.now = 1.0
    deadline = Deadline(clock, total=10.0)
    assert deadline.total_at == 11.0
    deadline.set(clock.now, 5.0)
    assert deadline.at == 6.0
    for limit in (20.0, None):
        deadline.set(clock.now, limit)
        assert deadline.at == 11.0


def test_the_time_that_a_caller_takes_is_not_the_servers() -> None:
    clock = ManualClock()
    deadline = Deadline(clock, total=10.0)
    deadline.set(clock.now, 5.0)
    deadline.resume()
    assert deadline.at == 5.0, "nothing was paused"
    deadline.paused_at, clock.now = 1.0, 3.0
    deadline.resume()
    assert deadline.at == 7.0
    assert deadline.paused_at is None
    deadline.paused_at, clock.now = 3.0, 9.0
    deadline.resume()
    assert deadline.at == 10.0, "but the total goes on"


@pytest.mark.parametrize(
    ("timeouts", "seconds_left", "expected"),
    [
        (Timeouts(), None, (10, 120, 120, 10)),
        (Timeouts(connect=1, first_token=2, between_tokens=3), 2.5, (1, 2.5, 2, 1)),
        (FOREVER, None, (None, None, None, None)),
        (FOREVER, 4, (4, 4, 4, 4)),
    ],
)
def test_a_transport_without_deadlines_gets_fixed_limits(
    timeouts: Timeouts, seconds_left: float | None, expected: tuple[Any, ...]
) -> None:
    """To connect, to read, to write, and to wait for a connection: reading has the longer of its two limits."""
    assert transport_timeout(timeouts, seconds_left) == expected
