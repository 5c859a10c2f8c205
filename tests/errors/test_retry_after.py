"""How long a server asks to wait: every header, and every value that it may have."""

from __future__ import annotations

import json
import math
import time
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.errors.response_bodies import from_response
from hfstream.errors.retry_after import loading_time, rate_limit_reset, retry_after, retry_after_in_body


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 2 "}, 2.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "3600"}, 3600.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "9" * 400}, math.inf),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({"retry-after": "Sunday, 06-Nov-94 08:49:37 GMT"}, 0.0),
        ({"retry-after": "Sun Nov  6 08:49:37 1994"}, 0.0),
        *(({"retry-after": garbage}, None) for garbage in (
            "", " ", ".", "-5", "+5", "soon", "1_0", "٣", "²", "inf", "nan", "1e3", "1,2", "0x10", "5 s", "\0", "Wed",
            "Wed, 99 Foo 2099 99:99:99 GMT", "Wed, 21 Oct 99999 07:28:00 GMT", "1 2 3 4 5",
        )),
    ],
)  # fmt: skip
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
    raw = {name.encode(): value.encode() for name, value in headers.items()}
    assert from_response(429, httpx.Headers(raw), b"").retry_after == seconds


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_retry_after_may_be_a_date(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        seconds = retry_after({"retry-after": formatdate(time.time() + 90, usegmt=True)})
    finally:
        monkeypatch.undo()
        time.tzset()
    assert seconds is not None
    assert 30 < seconds <= 90


def test_retry_after_in_the_oldest_format_is_GMT_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        seconds = retry_after({"retry-after": time.asctime(time.gmtime(time.time() + 90))})
    finally:
        monkeypatch.undo()
        time.tzset()
    assert seconds is not None
    assert 30 < seconds <= 90


@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+( GMT| [+-]\d{4})?"))
@settings(deadline=None, max_examples=300)
@pytest.mark.slow
def test_any_retry_after_can_be_read(value: str) -> None:
    seconds = retry_after({"retry-after": value, "retry-after-ms": value})
    assert seconds is None or seconds >= 0


NOW = 1_750_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-reset": "20"}, 20.0),
        ({"x-ratelimit-reset": "1.5"}, 1.5),
        ({"x-ratelimit-reset": "0"}, None),
        ({"x-ratelimit-reset": "120ms"}, 0.12),
        ({"x-ratelimit-reset": "6m0s"}, 360.0),
        ({"x-ratelimit-reset": "1d2h3m4.5s"}, 93_784.5),
        ({"x-ratelimit-reset": str(NOW + 30)}, 30.0),
        ({"x-ratelimit-reset": f"{(NOW + 30) * 1000:.0f}"}, 30.0),
        ({"x-ratelimit-reset": str(NOW - 30)}, None),
        *(({"x-ratelimit-reset": garbage}, None) for garbage in ("", "soon", "-5", "5 s", "s", "1h1d", "٣")),
        ({"x-ratelimit-reset": "20", "x-ratelimit-remaining": "3"}, None),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        (
            {
                "x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "149",
            },
            1.0,
        ),
    ],
)  # fmt: skip
def test_the_reset_of_an_exhausted_rate_limit_is_read(
    headers: dict[str, str], seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    assert rate_limit_reset(headers) == (seconds if seconds is None else pytest.approx(seconds))
    assert from_response(429, headers, b"").retry_after == rate_limit_reset(headers)


def test_Retry_After_takes_precedence_over_the_reset() -> None:
    assert from_response(429, {"x-ratelimit-reset": "20", "retry-after": "2"}, b"").retry_after == 2


LONG = ["1" * 20_000, "1" * 20_000 + "x", "1m" * 10_000, "9." * 10_000, "1d1h" + "1" * 20_000]
ODD: list[Any] = [-1, True, "soon", None, [], 10**400]
ODD_DETAILS: list[Any] = [{}, "x", [1], [{"retryDelay": 5}], [{"retryDelay": "x"}]]


@pytest.mark.parametrize("value", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize("name", ["x-ratelimit-reset", "x-ratelimit-reset-tokens", "retry-after", "retry-after-ms"])
def test_a_long_header_takes_no_time(name: str, value: str) -> None:
    """The regular expression of durations took seconds for 20 kB, and its time grew with the third power."""
    started = time.process_time()
    from_response(429, {name: value}, b"")
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": {"code": 429, "details": [{"@type": "x"}, {"@type": "RetryInfo", "retryDelay": "38s"}]}}, 38.0),
        ([{"error": {"code": 429, "details": [{"retryDelay": "1.5s"}]}}], 1.5),
        ({"error": "busy", "retry_after": 3}, 3.0),
        ({"message": "busy", "retry_after": 0.25, "global": False}, 0.25),
        *(({"error": "busy", "retry_after": odd}, None) for odd in ODD),
        *(({"error": {"details": odd}}, None) for odd in ODD_DETAILS),
        ("busy", None),
        ([], None),
    ],
)
def test_the_body_may_say_how_long_to_wait(body: Any, seconds: float | None) -> None:
    assert retry_after_in_body(body) == seconds
    assert from_response(429, {}, json.dumps(body).encode()).retry_after == seconds


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": "Model x/y is currently loading", "estimated_time": 20.5}, 20.5),
        ({"error": {"message": "loading", "estimated_time": 3}}, 3.0),
        *(({"error": "loading", "estimated_time": odd}, None) for odd in ODD),
        ({"error": "loading"}, None),
        ("loading", None),
    ],
)
def test_the_time_until_a_model_is_loaded_is_read(body: Any, seconds: float | None) -> None:
    assert loading_time(body) == seconds
    assert from_response(503, {}, json.dumps(body).encode()).retry_after == seconds


def test_an_estimate_is_no_wait_that_was_asked_for() -> None:
    """`estimated_time` of another status is a field like any other."""
    assert from_response(500, {}, b'{"error":"x","estimated_time":20}').retry_after is None
    assert from_response(503, {"retry-after": "7"}, b'{"error":"x","estimated_time":20}').retry_after == 7
