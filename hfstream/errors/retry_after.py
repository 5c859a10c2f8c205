"""How long a server asks to wait before the next request: Retry-After, rate limits, and fields of an error's body.

Does not depend on the exceptions. Parsing is linear in the size of a header, and looks only at what can be valid.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, cast

__all__ = ["loading_time", "rate_limit_reset", "retry_after", "retry_after_in_body"]


MAX_HEADER_SIZE = 128
"""Characters of a date or a duration that are looked at: a longer one is neither."""


MAX_SECONDS = 1e12
"""A larger number in a body is no time."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait before the next request, or None if it does not ask.

    From `retry-after-ms`, else from `Retry-After` in seconds or as a date (RFC 9110).
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if value.replace(".", "", 1).isdecimal() and value.isascii():
            return float(value) * unit
    return _seconds_until(headers.get("retry-after", ""))


def _seconds_until(value: str) -> float | None:
    if not 0 < len(value) <= MAX_HEADER_SIZE:
        return None
    try:
        date = parsedate_to_datetime(value)
        # The oldest date format has no time zone; HTTP dates are in UTC.
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def rate_limit_reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until the rate limit that is exhausted is at its start again; a request may be accepted before.

    From `x-ratelimit-reset`, and OpenAI's with `-requests` and `-tokens`; None without them.
    """
    kinds = [kind for kind in ("", "-requests", "-tokens") if headers.get(f"x-ratelimit-remaining{kind}", "0") == "0"]
    resets = [_parse_duration(headers.get(f"x-ratelimit-reset{kind}", "").strip()) for kind in kinds]
    return max(filter(None, resets), default=None)


def retry_after_in_body(payload: Any) -> float | None:
    """Seconds that the body of an error asks to wait: Google's `retryDelay`, or a field `retry_after`."""
    for fields in _error_objects(payload):
        for name in ("retry_after", "retryAfter", "retry_after_seconds"):
            if (seconds := _number(fields.get(name))) is not None:
                return seconds
        details = fields.get("details")
        for entry in cast("list[Any]", details)[:20] if isinstance(details, list) else []:
            delay = cast("dict[str, Any]", entry).get("retryDelay") if isinstance(entry, dict) else None
            if isinstance(delay, str):
                return _parse_duration(delay)
    return None


def loading_time(payload: Any) -> float | None:
    """Seconds until the server expects its model to be loaded (Hugging Face's `estimated_time`); None if not said."""
    found = (_number(fields.get("estimated_time")) for fields in _error_objects(payload))
    return next((seconds for seconds in found if seconds is not None), None)


def _error_objects(payload: Any) -> list[dict[str, Any]]:
    if isinstance(payload, list):
        payload = next(iter(cast("list[Any]", payload)), None)
    if not isinstance(payload, dict):
        return []
    fields = cast("dict[str, Any]", payload)
    error = fields.get("error")
    return [fields, cast("dict[str, Any]", error)] if isinstance(error, dict) else [fields]


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < MAX_SECONDS else None


_DURATION = re.compile(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+\.?\d*)s)?(?:(\d+\.?\d*)ms)?", re.ASCII)
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_EPOCH = 1e9
"""A larger number is not a duration in seconds, but a time: seconds since 1970, or milliseconds."""


def _parse_duration(value: str) -> float | None:
    """``20``, ``6m0s``, ``120ms`` or a Unix time, as seconds from now; None if it is none of these."""
    if len(value) > MAX_HEADER_SIZE:
        return None
    if value.isascii() and value.replace(".", "", 1).isdecimal():
        number = float(value)
        seconds = number / 1000 if number > 1000 * _EPOCH else number
        return max(0.0, seconds - time.time()) if seconds > _EPOCH else seconds
    parts = match.groups() if (match := _DURATION.fullmatch(value)) else ()
    return sum(float(part) * unit for part, unit in zip(parts, _UNITS, strict=False) if part) if parts else None
