"""How long a server asks to wait before the next request: Retry-After, and the rate limit headers of several vendors.

Does not depend on the exceptions. Parsing is linear in the size of a header.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["retry_after"]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait before the next request, or None if no header says so.

    From `retry-after-ms`, else from `Retry-After` in seconds or as a date (RFC 9110), else from the reset of the rate
    limit that is exhausted: `x-ratelimit-reset`, and OpenAI's with `-requests` and `-tokens`.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if value.replace(".", "", 1).isdecimal() and value.isascii():
            return float(value) * unit
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        date = (
            date if date.tzinfo else date.replace(tzinfo=UTC)
        )  # the oldest date format has no time zone; HTTP dates are in UTC
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, OverflowError):
        return _rate_limit_reset(headers)


def _rate_limit_reset(headers: Mapping[str, str]) -> float | None:
    kinds = [kind for kind in ("", "-requests", "-tokens") if headers.get(f"x-ratelimit-remaining{kind}", "0") == "0"]
    resets = [_parse_duration(headers.get(f"x-ratelimit-reset{kind}", "").strip()) for kind in kinds]
    return max(filter(None, resets), default=None)


_DURATION = re.compile(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+\.?\d*)s)?(?:(\d+\.?\d*)ms)?", re.ASCII)
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_EPOCH = 1e9
"""A larger number is not a duration in seconds, but a time: seconds since 1970, or milliseconds."""


def _parse_duration(value: str) -> float | None:
    """``20``, ``6m0s``, ``120ms`` or a Unix time, as seconds from now; None if it is none of these."""
    if value.isascii() and value.replace(".", "", 1).isdecimal():
        number = float(value)
        seconds = number / 1000 if number > 1000 * _EPOCH else number
        return max(0.0, seconds - time.time()) if seconds > _EPOCH else seconds
    parts = match.groups() if (match := _DURATION.fullmatch(value)) else ()
    return sum(float(part) * unit for part, unit in zip(parts, _UNITS, strict=False) if part) if parts else None
